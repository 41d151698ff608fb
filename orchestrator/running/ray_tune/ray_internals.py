"""Private APIs of Ray; the only module that imports them. Tested with Ray 2.60.

Each provides something that Ray's public API does not:

- `Node`, `ray_services`, `ray_utils`: the start and the processes of a private cluster's head;
- `canonicalize_bootstrap_address`, `find_node_ids`: whether this machine is a node of a cluster;
- `draining_nodes`: nodes that are alive but take no new work;
- `ray_constants`, `AuthenticationTokenLoader`, `Config`, `ensure_token_if_auth_enabled`,
  `maybe_enable_token_auth_if_token_available`: tokens, and the interface of a local cluster;
- `GcsClient`, `ping_client_server`, `authentication_headers`: requests that time out after seconds;
  `ray.init` retries for minutes;
- `is_being_reset`: whether a process was lost while it was being reused for other work.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ray._private import ray_constants
from ray._private import services as ray_services
from ray._private import utils as ray_utils
from ray._private.authentication.authentication_token_setup import (
    ensure_token_if_auth_enabled,
    maybe_enable_token_auth_if_token_available,
)
from ray._private.node import Node
from ray._private.services import canonicalize_bootstrap_address, find_node_ids
from ray._private.state import state
from ray._raylet import (  # type: ignore[attr-defined]  # compiled, without annotations
    AuthenticationTokenLoader,
    Config,
    GcsClient,
)
from ray.exceptions import AuthenticationError

if TYPE_CHECKING:  # the head of a cluster starts before Tune is imported
    from ray.tune.experiment import Trial

__all__ = [
    "AuthenticationTokenLoader",
    "Config",
    "GcsClient",
    "Node",
    "authentication_headers",
    "canonicalize_bootstrap_address",
    "draining_nodes",
    "ensure_token_if_auth_enabled",
    "find_node_ids",
    "is_being_reset",
    "maybe_enable_token_auth_if_token_available",
    "ping_client_server",
    "ray_constants",
    "ray_services",
    "ray_utils",
]

TALKATIVE_LOGGERS = ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging")
"""Loggers that log every file sent with a job."""

AUTHENTICATION_LOGGER = "ray._private.authentication"


def draining_nodes() -> Collection[str]:
    """Hexadecimal ids of the nodes that are about to leave the cluster."""
    found: Collection[str] = state.get_draining_nodes()
    return found


def ping_client_server(address: str, *, timeout_s: float) -> None:
    """Ping the server for Ray's clients.

    Args:
        address: `host:port` of the server.
        timeout_s: timeout in seconds.

    Raises:
        ray.exceptions.AuthenticationError: the server refuses the request without a valid token.
        grpc.RpcError: the server does not answer.
    """
    import grpc  # installed with ray[client]
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc

    server = ray_client_pb2_grpc.RayletDriverStub(init_grpc_channel(address))
    ping = ray_client_pb2.ClusterInfoRequest(type=ray_client_pb2.ClusterInfoType.PING)
    try:
        server.ClusterInfo(ping, timeout=timeout_s)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise AuthenticationError(error.details()) from error
        raise


def authentication_headers() -> dict[str, str]:
    """HTTP headers with this process's token, for a dashboard; empty without a token."""
    from ray._private.authentication.http_token_authentication import (  # with ray[default]
        get_auth_headers_if_auth_enabled,
    )

    headers: dict[str, str] = get_auth_headers_if_auth_enabled({})
    return headers


def is_being_reset(tune_controller: Any, trial: Trial) -> bool:
    """Whether Tune is preparing a reused process for this trial."""
    return trial in tune_controller._resetting_trials
