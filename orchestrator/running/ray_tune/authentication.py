"""Who may use a cluster of Ray: its token, kept for this user alone; and who can reach a local one.

Whoever reaches an open cluster runs code on it (CVE-2023-48022). Ray 2.60 asks for a token where
one exists, and makes one for a local cluster, but makes it readable by everybody, and lets a local
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
"""Ray's environment variables."""


class Mode(StrEnum):
    """How requests to a cluster are authenticated; Ray's words for `RAY_AUTH_MODE`."""

    DISABLED = "disabled"
    TOKEN = "token"  # noqa: S105 - a mode, not a secret

    @classmethod
    def chosen(cls) -> Mode | None:
        """What the environment says; None where it leaves the choice to us.

        Raises:
            UsageError: it says something else.
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
    """Let this process, and those that it starts, speak to clusters in a mode.

    The environment is as it was afterwards, and Ray has forgotten what it read there. Without this,
    Ray shows this user's token to every cluster, where there is one, and takes a cluster that has
    none to show for dead.

    Raises:
        ray.exceptions.AuthenticationError: there is no token, and the mode asks for one.
    """
    with _restoring(MODE, TOKEN):
        os.environ[MODE] = mode.value
        _read_environment()
        ensure_token_if_auth_enabled(create_token_if_missing=False)
        yield


@contextlib.contextmanager
def authenticating_own_cluster() -> Iterator[None]:
    """Let a cluster that starts here ask for this user's token, unless its user chose otherwise.

    The token is made where there is none. The environment is as it was afterwards.
    """
    with _restoring(MODE, TOKEN):
        make_token()
        _read_environment()
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        ensure_token_if_auth_enabled(create_token_if_missing=True)
        yield


def make_token() -> None:
    """Make a token for this user where there is none, readable by nobody else.

    Where none can be kept, as in a container whose user has no home, one goes into the
    environment of this process, for as long as that lives.
    """
    file = token_file()
    if os.environ.get(MODE, "token") != "token" or os.environ.get(TOKEN):
        return
    token = secrets.token_hex(32)
    try:
        if file.is_file() and not file.stat().st_size:  # of one who died while writing it
            file.unlink()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_once(file, token)
    except FileExistsError:
        return
    except OSError:
        os.environ[TOKEN] = token


def _write_once(file: Path, token: str) -> None:
    """Write a token whole, mode 0600, and never in place of one: clusters may use that."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "w") as sink:
            sink.write(token)
        os.link(name, file)
    finally:
        Path(name).unlink()


def protect_token() -> str | None:
    """Take the token of this user from the sight of others; what to warn of, or None."""
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
    """Let a cluster that is started here listen on the loopback interface alone."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    with _restoring(_LOOPBACK_ONLY):
        os.environ[_LOOPBACK_ONLY] = "0"  # for its processes
        ray_constants.ENABLE_RAY_CLUSTER = False  # for this one, which has read the variable
        try:
            yield
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _restoring(*names: str) -> Iterator[None]:
    """Give environment variables back the values that they had, and let Ray read them again."""
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
    """Let Ray's compiled part read the mode and the token anew."""
    AuthenticationTokenLoader.instance().reset_cache()
    Config.initialize("")
