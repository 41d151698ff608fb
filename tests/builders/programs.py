"""Programs that run in an interpreter of their own, such as for what has been imported by then."""

from __future__ import annotations

import subprocess
import sys


def printed_by(program: str, *, timeout_s: float = 120) -> str:
    """Run a Python program, which has to end well and in time, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()
