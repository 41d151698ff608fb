"""What a cluster says of itself, as plain data, and where Ray keeps what belongs to a user."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import StorageError
from trainable.atomic_files import unwritable

TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 - the name of a variable
SESSIONS = "RAY_TMPDIR"
"""Ray's environment variables."""

MOST_SOCKET_BYTES = 107 if sys.platform == "linux" else 103
"""Bytes that the path of a socket may have."""

_SOCKET = "ray/session_0000-00-00_00-00-00_000000_0000000/sockets/plasma_store"
"""The longest path that Ray makes below the folder of its sessions."""


def home() -> Path:
    """The user's home, without which Ray cannot even be imported.

    Raises:
        StorageError: nobody knows it, as in a container that runs as a user of its own number.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise StorageError(
            "this user has no home, and HOME is not set; Ray needs one. Set HOME to a folder "
            "that this user may write to"
        ) from None


def token_file() -> Path:
    """Where this user's token lies.

    Raises:
        StorageError: nobody knows the user's home.
    """
    given = os.environ.get(TOKEN_PATH)
    return Path(given) if given else home() / ".ray" / "auth_token"


def sessions_folder() -> Path:
    """Where Ray keeps sockets and logs of the clusters that it starts."""
    return Path(os.environ.get(SESSIONS) or tempfile.gettempdir()).absolute()


def socket_bytes(folder: Path) -> int:
    """How long the path of a socket gets in a folder of sessions; see `MOST_SOCKET_BYTES`."""
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
    """One node.

    Attributes:
        name: its address.
        cpus: for trials.
        gpus: for trials.
        object_store_bytes: of its share of the object store.
        versions: of Python and packages; none where it did not answer.
        problem: why trials cannot run there, or None where a process there reached this program.
    """

    name: str
    cpus: float
    gpus: float
    object_store_bytes: float
    versions: dict[str, str]
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """A cluster.

    Attributes:
        address: of its head.
        openness: what to warn of where it lets everybody in, or None.
        nodes: those that are alive.
    """

    address: str
    openness: str | None
    nodes: tuple[NodeFacts, ...]
