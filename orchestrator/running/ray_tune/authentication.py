"""Token authentication of Ray clusters, and restriction of local clusters to loopback.

Anyone who can reach an open cluster can run code on it (CVE-2023-48022). Ray 2.60 uses a token if
one exists and creates one for a local cluster, but makes that readable by everybody and lets the
cluster listen on all interfaces of the machine.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.running.cluster import token_file
from orchestrator.running.ray_tune.ray_internals import (
    AuthenticationTokenLoader,
    Config,
    ensure_token_if_auth_enabled,
    maybe_enable_token_auth_if_token_available,
    ray_constants,
)

MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"
"""Ray's environment variables for the authentication mode and for the token itself."""


class Mode(StrEnum):
    """How requests to a cluster are authenticated; the values of `RAY_AUTH_MODE`."""

    DISABLED = "disabled"
    TOKEN = "token"  # noqa: S105 - a mode, not a secret

    @classmethod
    def chosen(cls) -> Mode | None:
        """The mode that the environment sets; None if it sets none.

        Raises:
            UsageError: the variable has another value.
        """
        given = os.environ.get(MODE)
        try:
            return None if given is None else cls(given.lower())
        except ValueError:
            raise UsageError(
                f"{MODE}: got {given!r}; allowed are {', '.join(cls)}, or leave it unset"
            ) from None


_LOOPBACK_ONLY = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR


@contextlib.contextmanager
def authenticating(mode: Mode) -> Iterator[None]:
    """Use an authentication mode in this process and its children within the block.

    Afterwards the environment is restored and Ray's cached values are cleared. Without this, Ray
    sends this user's token to every cluster, and takes a cluster without a token for dead.

    Args:
        mode: the mode.

    Raises:
        ray.exceptions.AuthenticationError: the mode needs a token and there is none.
    """
    with _restoring(MODE, TOKEN):
        os.environ[MODE] = mode.value
        _read_environment()
        ensure_token_if_auth_enabled(create_token_if_missing=False)
        yield


@contextlib.contextmanager
def authenticating_own_cluster() -> Iterator[None]:
    """Make a cluster that starts within the block ask for this user's token.

    The token is created if there is none. A mode that the environment sets takes precedence.
    Afterwards the environment is restored.
    """
    with _restoring(MODE, TOKEN):
        make_token()
        _read_environment()
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        ensure_token_if_auth_enabled(create_token_if_missing=True)
        yield


def make_token() -> None:
    """Create a token for this user if there is none, in a file that only the user can read.

    If the file cannot be written, the token is set in the environment of this process alone.
    Nothing is created if the environment disables authentication or holds a token.

    Raises:
        StorageError: the user's home is unknown.
    """
    file = token_file()
    if os.environ.get(MODE, "token") != "token" or os.environ.get(TOKEN):
        return
    token = secrets.token_hex(32)
    try:
        if file.is_file() and not file.stat().st_size:  # left by a process that died writing it
            file.unlink()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_once(file, token)
    except FileExistsError:
        return
    except OSError:
        os.environ[TOKEN] = token


def _write_once(file: Path, token: str) -> None:
    """Write a token file atomically with mode 0600; never replace one that clusters may use.

    Raises:
        FileExistsError: the file exists.
    """
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "w") as sink:
            sink.write(token)
        os.link(name, file)
    finally:
        Path(name).unlink()


def protect_token() -> str | None:
    """Make this user's token file unreadable for others; return a warning if that fails.

    Raises:
        StorageError: the user's home is unknown.
    """
    file = token_file()
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            file.chmod(0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return (
            f"{file}: others may read this token, and with it run code on your clusters; its mode "
            f"cannot be changed ({error.strerror}): make it 0600"
        )
    return None


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Make a cluster that starts within the block listen on the loopback interface alone."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    with _restoring(_LOOPBACK_ONLY):
        os.environ[_LOOPBACK_ONLY] = "0"  # for the cluster's processes
        ray_constants.ENABLE_RAY_CLUSTER = False  # for this process; Ray read the variable before
        try:
            yield
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _restoring(*names: str) -> Iterator[None]:
    """Restore environment variables after the block, and make Ray read them again."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_environment()


def _read_environment() -> None:
    """Make Ray's compiled part read the mode and the token from the environment again."""
    AuthenticationTokenLoader.instance().reset_cache()
    Config.initialize("")
