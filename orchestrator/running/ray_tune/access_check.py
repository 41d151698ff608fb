"""How a cluster receives this user, asked in a process of its own.

Ray itself tries for 20 seconds where it is refused, for minutes where something else listens, and
writes a line of the log on stderr for each try; and what it asks with holds for a whole process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from enum import StrEnum

from ray.exceptions import AuthenticationError

from orchestrator.running.ray_tune.authentication import MODE, Mode
from orchestrator.running.ray_tune.ray_internals import (
    AuthenticationTokenLoader,
    Config,
    GcsClient,
    authentication_headers,
    ping_client_server,
)

CLIENT = "ray://"
"""What addresses of Ray's client begin with."""

TIMEOUT_S = 30.0
"""How long the answer may take, in seconds: a head's takes 10 ms, starting Python the rest."""

REQUEST_S = 10.0
"""How long the answer to one request may take, in seconds."""


class Access(StrEnum):
    """How a cluster receives us."""

    OPEN = "open"
    """It serves everybody, with or without a token."""
    GRANTED = "granted"
    """It asks for a token, and takes ours."""
    REFUSED = "refused"
    """It asks for a token, and does not take ours, or we have none that we may show."""


def check_access(address: str) -> Access | None:
    """How a cluster receives this user; None where no cluster answers.

    The token is shown to those alone that refuse a request without one.

    Args:
        address: `host:port` of a head, `ray://host:port` of its server for clients, or
            `http://host:port` of a dashboard.
    """
    # -P: a folder called `ray` where the user happens to be is not the package.
    try:
        done = subprocess.run(  # noqa: S603 - our own program, an address as its argument
            [sys.executable, "-P", "-m", __name__, address],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    words = done.stdout.split()
    return Access(words[-1]) if done.returncode == 0 and words else None


def _ask(address: str) -> Access:
    """Without a token first, then with this user's, where the environment allows that."""
    tries = {Mode.DISABLED: Access.OPEN}
    if Mode.chosen() is not Mode.DISABLED and _has_token():
        tries[Mode.TOKEN] = Access.GRANTED
    for mode, access in tries.items():
        os.environ[MODE] = mode.value
        Config.initialize("")
        try:
            _request(address)
        except AuthenticationError:
            continue
        return access
    return Access.REFUSED


def _has_token() -> bool:
    try:
        return bool(AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))
    except AuthenticationError:  # the file that the environment names cannot be read
        return False


def _request(address: str) -> None:
    """Ask for something small in the mode of this process.

    Raises:
        ray.exceptions.AuthenticationError: it is refused for want of a token that serves.
    """
    if address.startswith(CLIENT):
        ping_client_server(address.removeprefix(CLIENT), timeout_s=REQUEST_S)
    elif "://" in address:
        _request_of_dashboard(address)
    else:
        GcsClient(address=address)


def _request_of_dashboard(address: str) -> None:
    import requests  # with ray[default] alone

    answer = requests.get(
        f"{address.rstrip('/')}/api/version",
        headers=authentication_headers(),
        timeout=REQUEST_S,
    )
    if answer.status_code in {requests.codes.unauthorized, requests.codes.forbidden}:
        raise AuthenticationError(answer.text)


if __name__ == "__main__":
    print(_ask(sys.argv[1]).value)
