"""Standard output has what this program prints there, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, subprocess, sys, threading
from trainable.stdout import stdout_to_stderr

with stdout_to_stderr():
    print("by print", flush=True)
    os.write(1, b"past Python\\n")
    subprocess.run(["echo", "by a child"], check=True)
    waiting = "read line; echo by a child that stays"
    child = subprocess.Popen(waiting, shell=True, stdin=subprocess.PIPE)
print("the result", flush=True)
child.communicate(b"go on")
print("the end", flush=True)
"""
ELSEWHERE = ("by print", "past Python", "by a child", "by a child that stays")


def run(closing: str = "") -> subprocess.CompletedProcess[str]:
    """Run `PROGRAM` from a shell that may close a stream."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closing}', sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def test_what_other_code_and_other_processes_print_goes_to_stderr() -> None:
    done = run()
    assert done.stdout == "the result\nthe end\n"
    assert done.stderr.splitlines() == list(ELSEWHERE)


@pytest.mark.parametrize(("closing", "stdout"), [(">&-", ""), ("2>&-", "the result\nthe end\n")])
def test_a_stream_that_is_closed_stays_so(closing: str, stdout: str) -> None:
    assert run(closing).stdout == stdout
