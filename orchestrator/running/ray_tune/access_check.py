"""Check of a user's access to a cluster, in a separate process.

Ray itself retries for 20 seconds if access is refused and for minutes if something else listens at
the address, and logs every try on stderr. Its authentication mode holds for a whole process, so
trying two modes takes another one.
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
"""Prefix of the addresses of Ray's client server."""

TIMEOUT_S = 30.0
"""Timeout of the check, in seconds: a head answers in 10 ms, starting Python takes the rest."""

REQUEST_S = 10.0
"""Timeout of one request, in seconds."""


class Access(StrEnum):
    """A cluster's answer to a request of this user."""

    OPEN = "open"
    """The cluster serves requests without a token."""
    GRANTED = "granted"
    """The cluster asks for a token and accepts this user's."""
    REFUSED = "refused"
    """The cluster asks for a token and rejects this user's, or there is none that may be sent."""


def check_access(address: str) -> Access | None:
    """This user's access to a cluster; None if no cluster answers.

    The token is sent only if the cluster refuses a request without one.

    Args:
        address: `host:port` of a head, `ray://host:port` of its client server, or
            `http://host:port` of its dashboard.
    """
    # -P: a folder named `ray` in the working directory must not shadow the package.
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
    """Send a request without a token; if refused, one with the user's, unless MODE forbids it."""
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
    except AuthenticationError:  # the token file cannot be read
        return False


def _request(address: str) -> None:
    """Send a small request in the authentication mode of this process.

    Raises:
        ray.exceptions.AuthenticationError: the request is refused without a valid token.
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
