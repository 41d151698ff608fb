"""The linters of shell scripts and Dockerfiles, from the environment that the tests run in."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path


def lint(tool: str, *arguments: str | Path) -> str:
    """What `shellcheck` or `hadolint` finds; empty where that is nothing."""
    program = Path(sysconfig.get_path("scripts")) / tool
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout or ("" if done.returncode == 0 else done.stderr)
