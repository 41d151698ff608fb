"""Whom the head of a cluster serves, asked in a process of its own.

Ray itself tries for 20 seconds where it is refused, for minutes where something else listens, and
writes a line of the log on stderr for each try; and what it asks with holds for a whole process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from enum import StrEnum

from ray._raylet import (  # type: ignore[attr-defined]  # compiled, and without annotations
    Config,
    GcsClient,
)
from ray.exceptions import AuthenticationError

from orchestrator.tuning.authentication import MODE

TIMEOUT_S = 30.0
"""How long the answer may take, in seconds: a head's takes 10 ms, starting Python the rest."""


class Welcome(StrEnum):
    """How the head of a cluster receives us."""

    OPEN = "open"
    """It serves everybody, with or without a token."""
    KNOWN = "known"
    """It asks for a token, and takes ours."""
    REFUSED = "refused"
    """It asks for a token, and does not take ours, or we have none."""


def knock(address: str) -> Welcome | None:
    """How the head at an address, `host:port`, receives this user; None where none answers."""
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
    return Welcome(words[-1]) if done.returncode == 0 and words else None


def _ask(address: str) -> Welcome:
    """As a stranger first, then as the environment says."""
    own = os.environ.get(MODE, "disabled")
    for mode, welcome in (("disabled", Welcome.OPEN), (own, Welcome.KNOWN)):
        os.environ[MODE] = mode
        Config.initialize("")
        try:
            GcsClient(address=address)
        except AuthenticationError:
            continue
        return welcome
    return Welcome.REFUSED


if __name__ == "__main__":
    print(_ask(sys.argv[1]).value)
