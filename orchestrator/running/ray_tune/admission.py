"""Check that a cluster answers, and whether and in which mode it accepts this user."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from importlib.util import find_spec

import ray

from orchestrator.errors import StorageError, UsageError
from orchestrator.running.cluster import TOKEN_PATH, token_file
from orchestrator.running.ray_tune.access_check import CLIENT, Access, check_access
from orchestrator.running.ray_tune.authentication import MODE, TOKEN, Mode, authenticating
from orchestrator.running.ray_tune.ray_internals import (
    canonicalize_bootstrap_address,
)

OPEN = (
    "this cluster is open: whoever reaches it can run code on it. Start it with "
    "RAY_AUTH_MODE=token on every node; see docs/security.md"
)

CONNECT_TIMEOUT_S = 10.0
"""Timeout of a connection to a cluster's address, in seconds."""

_log = logging.getLogger("sft_sweep")


@contextlib.contextmanager
def admitted(address: str, *, access_address: str) -> Iterator[bool]:
    """Authenticate with this user's token, or without one where the cluster is open.

    An open cluster is logged as a warning and never sees the token.

    Args:
        address: address of the cluster, as the user gave it.
        access_address: address that `check_access` asks.

    Yields:
        Whether the cluster accepts everybody.

    Raises:
        UsageError: `RAY_AUTH_MODE` is not one of Ray's modes.
        StorageError: no cluster answers, it refuses this user, or the user chose another mode than
            the cluster's.
    """
    Mode.chosen()  # an invalid mode is reported before any request is sent
    mode = mode_of(address, check_access(access_address))
    is_open = mode is Mode.DISABLED
    if is_open:
        _log.warning("--address %s: %s", address, OPEN)
    with authenticating(mode):
        yield is_open


def mode_of(address: str, access: Access | None) -> Mode:
    """Return the authentication mode for a cluster that gives this kind of access.

    Args:
        address: address of the cluster, for messages.
        access: answer of `check_access`; None where no cluster answered.

    Raises:
        StorageError: no cluster answers, it refuses this user, or the user chose another mode than
            the cluster's.
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


def access_address_of(address: str) -> str:
    """Return the address at which `check_access` asks a cluster.

    Raises:
        UsageError: Ray's client is not installed.
    """
    if address.startswith(CLIENT):
        if find_spec("grpc") is None:
            raise UsageError(f"{CLIENT} needs more of Ray: pip install 'sft-sweep[cluster]'")
        return address
    return canonicalize_bootstrap_address(address) or address


def refused(address: str) -> str:
    """Return the message for a cluster that refuses this user."""
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


def check_reachable(address: str) -> None:
    """Check that `host:port` answers; Ray itself would retry for eight minutes.

    Raises:
        StorageError: nothing answers there.
    """
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if colon:
        check_answers(host, port, address=address)


def check_answers(host: str, port: str | int, *, address: str) -> None:
    """Check that a port accepts connections.

    Args:
        host: name or address of the machine.
        port: number of the port.
        address: address of the cluster, for the message.

    Raises:
        StorageError: nothing answers there.
    """
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise StorageError(
            f"--address {address}: nothing answers there ({error}); allowed: auto, host:port or "
            "ray://host:port of a running Ray cluster, or nothing for this machine; for jobs "
            "http://host:port of its dashboard"
        ) from error
