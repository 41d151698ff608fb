"""Programs that run in an interpreter of their own, such as for what has been imported by then."""

from __future__ import annotations

import subprocess
import sys

TIMEOUT_S = 120


def printed_by(program: str) -> str:
    """Run a Python program, which has to end well, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()
