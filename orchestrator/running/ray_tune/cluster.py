"""Starting a private Ray cluster, or joining a running one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
from ray.job_config import JobConfig

from orchestrator.errors import StorageError, UsageError
from orchestrator.processors import usable_processors
from orchestrator.running.cluster import SESSIONS, TOKEN_PATH, sessions_folder, token_file
from orchestrator.running.ray_tune.access_check import CLIENT, Access, check_access
from orchestrator.running.ray_tune.authentication import (
    MODE,
    TOKEN,
    Mode,
    authenticating,
    authenticating_own_cluster,
    protect_token,
)
from orchestrator.running.ray_tune.private_head import private_head
from orchestrator.running.ray_tune.ray_internals import (
    AUTHENTICATION_LOGGER,
    canonicalize_bootstrap_address,
    find_node_ids,
)
from orchestrator.text import last_line
from trainable.stdout import stdout_to_stderr

LOCAL = "local"

OPEN = (
    "this cluster is open: whoever reaches it can run code on it. Start it with "
    "RAY_AUTH_MODE=token on every node; see docs/security.md"
)

_log = logging.getLogger("sft_sweep")

CLIENT_ATTEMPTS = 3
"""Tries to connect through Ray's client server. It forks a process per client from a
multi-threaded parent, and that process occasionally dies at its start."""

CONNECT_TIMEOUT_S = 10.0
"""Timeout of a connection to a cluster's address, in seconds."""


class _WithoutDriverPaths(JobConfig):
    """A job config without the driver's folders on the import path of workers.

    Ray puts the driver's working directory and the folder of its script first on the import path of
    every worker, where a file `random.py` would shadow Python's own module. Workers import
    installed packages and the modules sent to them.
    """

    def _get_proto_job_config(self) -> Any:
        self._py_driver_sys_path.clear()
        return super()._get_proto_job_config()


@contextlib.contextmanager
def cluster(
    address: str, *, num_cpus: int | None = None, modules: Sequence[ModuleType] = ()
) -> Iterator[bool]:
    """Start a private Ray cluster on this machine, or join the one at `address`.

    A private cluster listens on loopback alone, asks for this user's token, runs none of the
    services of shared clusters, gives its processes this program's priority, and ends with the
    block. An open cluster is warned of. In both cases the working directory is not on the import
    path of workers, and Ray's output goes to stderr.

    Args:
        address: `local`, `auto`, `host:port` or `ray://host:port`.
        num_cpus: CPUs of the private cluster; None for those that this process may use.
        modules: packages and modules to send to every node.

    Yields:
        Whether the cluster serves requests without a token.

    Raises:
        UsageError: `RAY_AUTH_MODE` has an unknown value, or a package for `ray://` is missing.
        StorageError: no cluster answers at the address, it refuses access, or this machine is not
            one of its nodes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's future default; without it, Ray warns of the change at every start.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own = address == LOCAL
    if own:
        # At Ray's default of 15, trials get a thirtieth of a CPU beside any busy program.
        os.environ.setdefault("RAY_worker_niceness", "0")
        _make_folders_absolute()
    _check_reachable(address)
    options: dict[str, Any] = {}
    if own:
        processors = usable_processors() if num_cpus is None else num_cpus
        options = {"include_dashboard": False, "num_cpus": processors}
    if modules and not _in_a_job_with_files():
        options["runtime_env"] = {"py_modules": list(modules)}
    logging.getLogger(AUTHENTICATION_LOGGER).setLevel(logging.ERROR)
    warning = protect_token()
    if warning is not None:
        _log.warning("%s", warning)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stdout_to_stderr())
        with _translating_errors(address):
            if own:
                is_open, joined = False, address
                stack.enter_context(authenticating_own_cluster())
            else:
                is_open = stack.enter_context(
                    admitted(address, access_address=_access_address(address))
                )
                joined = _resolve_client_address(address) if address.startswith(CLIENT) else address
                _check_member(address)
            stack.callback(ray.shutdown)  # also after a Ctrl-C during the start
            with private_head() if own else contextlib.nullcontext():
                ray.init(
                    address=joined,
                    log_to_driver=False,
                    configure_logging=True,
                    logging_level=logging.ERROR,
                    job_config=_WithoutDriverPaths(),
                    **options,
                )
        yield is_open


def _make_folders_absolute() -> None:
    """Make the session folders in the environment absolute, and unset empty ones.

    Ray takes an empty name for a folder, and passes relative paths on to processes with another
    working directory.
    """
    for name in (SESSIONS, "TMPDIR"):
        given = os.environ.pop(name, "")
        if given:
            os.environ[name] = str(Path(given).absolute())


@contextlib.contextmanager
def admitted(address: str, *, access_address: str) -> Iterator[bool]:
    """Use the authentication mode that a cluster requires, within the block.

    An open cluster is warned of, and the user's token is not sent to it.

    Args:
        address: address of the cluster as the user gave it, for messages.
        access_address: address for `check_access`.

    Yields:
        Whether the cluster serves requests without a token.

    Raises:
        UsageError: `RAY_AUTH_MODE` has an unknown value.
        StorageError: see `mode_of`.
    """
    Mode.chosen()  # an unknown mode is an error before any request
    mode = mode_of(address, check_access(access_address))
    is_open = mode is Mode.DISABLED
    if is_open:
        _log.warning("--address %s: %s", address, OPEN)
    with authenticating(mode):
        yield is_open


def mode_of(address: str, access: Access | None) -> Mode:
    """The authentication mode that a cluster requires.

    Args:
        address: address of the cluster, for messages.
        access: the user's access; None if no cluster answers.

    Raises:
        StorageError: no cluster answers, it refuses access, or `RAY_AUTH_MODE` asks for a token
            although the cluster is open.
    """
    match access:
        case None:
            raise StorageError(
                f"--address {address}: what listens there is no Ray cluster of version "
                f"{ray.__version__}, or it does not answer"
            )
        case Access.REFUSED:
            raise StorageError(refused(address))
        case Access.GRANTED:
            return Mode.TOKEN
        case Access.OPEN if Mode.chosen() is Mode.TOKEN:
            raise StorageError(
                f"--address {address}: the cluster asks for no token, and {MODE}=token has this "
                f"program ask its nodes for one. Unset {MODE}, or start the cluster with "
                f"{MODE}=token on every node"
            )
        case Access.OPEN:
            return Mode.DISABLED


def _access_address(address: str) -> str:
    """The address for `check_access`.

    Raises:
        UsageError: the address is of Ray's client server, and the package for it is missing.
    """
    if address.startswith(CLIENT):
        if find_spec("grpc") is None:
            raise UsageError(f"{CLIENT} needs more of Ray: pip install 'sft-sweep[cluster]'")
        return address
    return canonicalize_bootstrap_address(address) or address


@contextlib.contextmanager
def _translating_errors(address: str) -> Iterator[None]:
    """Turn exceptions of Ray while it starts or joins a cluster into `StorageError`s."""
    try:
        yield
    except ray.exceptions.AuthenticationError as error:
        raise StorageError(refused(address)) from error
    except Exception as error:
        # If the machine is too busy to start it in time, Ray raises a plain `Exception`.
        is_known = isinstance(error, OSError | ImportError | RuntimeError | ValueError)
        if not is_known and type(error) is not Exception:
            raise
        if address == LOCAL:
            raise StorageError(
                f"Ray does not start on this machine: {last_line(str(error)).rstrip('.')}. Its "
                f"sessions lie in {sessions_folder()}; name another folder, with a short path, in "
                f"{SESSIONS}. What else may stand in the way says: sft-sweep doctor"
            ) from error
        # The head granted access before, so this machine's nodes belong to another cluster.
        if "No node info" in str(error.__cause__):
            raise StorageError(no_member(address)) from error
        raise StorageError(f"--address {address}: no Ray cluster answers: {error}") from error


def _resolve_client_address(address: str) -> str:
    """The address of the head behind an address of Ray's client server.

    A sweep cannot run through the client server: Tune's loop would run on the head, where the
    journal is not.

    Raises:
        ConnectionError: the server accepts no client.
    """
    attempts = 0
    while True:
        attempts += 1
        try:
            with ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR):
                return str(ray.get_runtime_context().gcs_address)
        except ConnectionAbortedError:
            if attempts == CLIENT_ATTEMPTS:
                raise
        finally:
            ray.shutdown()


def _check_member(address: str) -> None:
    """Check that a node runs on this machine, as a driver needs; Ray would wait for a minute.

    Raises:
        StorageError: no node runs here.
    """
    until = time.monotonic() + CONNECT_TIMEOUT_S
    while not find_node_ids():
        if time.monotonic() >= until:
            raise StorageError(no_member(address))
        time.sleep(0.5)


def no_member(address: str) -> str:
    """The error message if this machine is not a node of the cluster."""
    host = address.removeprefix(CLIENT).rpartition(":")[0] or "HEAD"
    return (
        f"--address {address}: this machine is no node of that cluster, and a sweep's journal "
        "and tables are written where its driver runs. Send the sweep there: sft-sweep submit "
        f"SPACE --address http://{host}:8265 --out DIR"
    )


def refused(address: str) -> str:
    """The error message if a cluster refuses access."""
    if Mode.chosen() is Mode.DISABLED:
        return (
            f"--address {address}: the cluster asks for a token, and {MODE}=disabled keeps yours "
            f"back; unset {MODE}"
        )
    tried = f"${TOKEN}" if os.environ.get(TOKEN) else str(token_file())
    return (
        f"--address {address}: {tried} holds no token that the cluster takes. Copy the cluster's "
        f"to ~/.ray/auth_token (mode 0600), or name its file in {TOKEN_PATH}"
    )


def _check_reachable(address: str) -> None:
    """Check that `host:port` accepts connections; Ray itself would retry for eight minutes."""
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if colon:
        check_answers(host, port, address=address)


def check_answers(host: str, port: str | int, *, address: str) -> None:
    """Check that a port accepts connections.

    Args:
        host: name or IP address.
        port: port number; a text that is no number is refused, too.
        address: address as the user gave it, for the message.

    Raises:
        StorageError: nothing accepts a connection there.
    """
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise StorageError(
            f"--address {address}: nothing answers there ({error}); allowed: auto, host:port or "
            "ray://host:port of a running Ray cluster, or nothing for this machine; for jobs "
            "http://host:port of its dashboard"
        ) from error


def _in_a_job_with_files() -> bool:
    """Whether this process is a Ray job with a working directory, which all nodes get anyway."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return "working_dir" in job.get("runtime_env", {})
