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
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ray._private import ray_constants
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Ray's environment variables."""

PROBE_TIMEOUT_S = 8.0
"""How long an open cluster may take to serve a stranger, in seconds."""

_LOOPBACK_ONLY = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR


def token_file() -> Path:
    """Where this user's token lies."""
    given = os.environ.get(TOKEN_PATH)
    return Path(given) if given else Path.home() / ".ray" / "auth_token"


def make_token() -> None:
    """Make a token for this user where there is none, readable by nobody else.

    A failure is left to Ray, which finds no token then and says so.
    """
    file = token_file()
    if os.environ.get(MODE, "token") != "token" or os.environ.get(TOKEN):
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as sink:
            sink.write(secrets.token_hex(32))


def use_token() -> None:
    """Show this user's token to clusters, where there is one, unless its user chose otherwise."""
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def protect_token() -> str | None:
    """Take the token of this user from the sight of others; what to warn of, or None."""
    file = token_file()
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            file.chmod(0o600)
    except FileNotFoundError:
        return None
    except OSError as error:
        return (
            f"{file}: others may read this token, and with it run code on your clusters; its mode "
            f"cannot be changed ({error.strerror}): make it 0600"
        )
    return None


def is_open(address: str) -> bool:
    """Whether the head at an address, `host:port`, serves one who shows no token."""
    ask = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
    try:
        done = subprocess.run(  # noqa: S603 - our own program, an address as its argument
            [sys.executable, "-c", ask, address],
            env={**os.environ, MODE: "disabled"},
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:  # Ray asks again and again where it is refused
        return False
    return done.returncode == 0


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Let a cluster that is started here listen on the loopback interface alone."""
    before = os.environ.get(_LOOPBACK_ONLY), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_LOOPBACK_ONLY] = "0"  # for its processes
    ray_constants.ENABLE_RAY_CLUSTER = False  # for this one, which has read the variable
    try:
        yield
    finally:
        if before[0] is None:
            os.environ.pop(_LOOPBACK_ONLY, None)
        else:
            os.environ[_LOOPBACK_ONLY] = before[0]
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
