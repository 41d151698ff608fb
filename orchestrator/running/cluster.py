"""Facts about a cluster as plain data, and the paths of Ray's per-user files; no Ray import."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import StorageError
from trainable.atomic_files import unwritable

LOCAL = "local"
"""The address of a private cluster on this machine."""

TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 - the name of a variable
SESSIONS = "RAY_TMPDIR"
"""Ray's environment variables for the token file and for the folder of its sessions."""

MOST_SOCKET_BYTES = 107 if sys.platform == "linux" else 103
"""The operating system's limit for the path of a Unix socket."""

_SOCKET = "ray/session_0000-00-00_00-00-00_000000_0000000/sockets/plasma_store"
"""The longest socket path of Ray below the folder of its sessions."""


def home() -> Path:
    """The home directory of the user, without which Ray cannot be imported.

    Raises:
        StorageError: it is unknown, as in a container that runs under an arbitrary user id.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise StorageError(
            "this user has no home, and HOME is not set; Ray needs one. Set HOME to a folder "
            "that this user may write to"
        ) from None


def token_file() -> Path:
    """The file of this user's Ray token; it may not exist.

    Raises:
        StorageError: the user's home is unknown.
    """
    given = os.environ.get(TOKEN_PATH)
    return Path(given) if given else home() / ".ray" / "auth_token"


def sessions_folder() -> Path:
    """The folder of sockets and logs of clusters that start on this machine."""
    return Path(os.environ.get(SESSIONS) or tempfile.gettempdir()).absolute()


def socket_bytes(folder: Path) -> int:
    """Bytes of Ray's longest socket path if its sessions lie in `folder`."""
    return len(os.fsencode(folder / _SOCKET))


def socket_problem(folder: Path) -> str | None:
    """Why Ray's sockets have no place in a folder of sessions, and what to do; or None."""
    excess = socket_bytes(folder) - MOST_SOCKET_BYTES
    if excess <= 0:
        return None
    return (
        f"{folder}: the path is {excess} bytes too long for sockets in it; name a shorter one in "
        f"{SESSIONS}"
    )


def check_sessions() -> None:
    """Make sure that Ray can keep sockets and logs where `sessions_folder` says.

    Raises:
        StorageError: it cannot.
    """
    folder = sessions_folder()
    problem = socket_problem(folder)
    if problem is not None:
        raise StorageError(f"Ray's sessions: {problem}")
    problem = unwritable(folder)
    if problem is not None:
        raise StorageError(f"Ray's sessions: {problem}; name another folder in {SESSIONS}")


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """Facts about one node of a cluster.

    Attributes:
        name: IP address of the node.
        cpus: CPUs for trials.
        gpus: GPUs for trials.
        object_store_bytes: capacity of its object store.
        versions: versions by package, `python` included; empty if the node did not answer.
        problem: reason why trials cannot run there; None if a process there reached the driver.
    """

    name: str
    cpus: float
    gpus: float
    object_store_bytes: float
    versions: dict[str, str]
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """Facts about a cluster.

    Attributes:
        address: `host:port` of its head.
        openness: warning if the cluster asks for no token, else None.
        nodes: nodes that are alive.
    """

    address: str
    openness: str | None
    nodes: tuple[NodeFacts, ...]
