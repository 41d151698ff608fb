"""Paths of Ray's files of a user."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import StorageError
from orchestrator.running.cluster import (
    MOST_SOCKET_BYTES,
    home,
    sessions_folder,
    socket_bytes,
    token_file,
)


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user that the machine does not know, without a home."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("stranger")
def test_without_a_home_the_error_says_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    for ask in (home, token_file):
        with pytest.raises(StorageError, match=r"has no home, and HOME is not set.*Set HOME"):
            ask()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/run/token")
    assert token_file() == Path("/run/token")
    monkeypatch.setenv("HOME", "/home/ada")
    assert home() == Path("/home/ada")


def test_without_a_home_a_command_that_needs_ray_ends_with_one_line() -> None:
    code = (
        "import pwd, sys; pwd.getpwuid = {}.__getitem__;"
        "from orchestrator.cli.main import run;"
        "sys.exit(run(['doctor', '--address', 'auto']))"
    )
    env = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env
    )
    assert done.returncode == 4
    assert done.stderr.startswith("this user has no home")
    assert len(done.stderr.splitlines()) == 1


def test_sessions_lie_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/scratch")
    assert sessions_folder() == Path("/scratch")


def test_the_limit_of_socket_paths_is_that_of_the_system(tmp_path: Path) -> None:
    for length, fits in ((MOST_SOCKET_BYTES, True), (MOST_SOCKET_BYTES + 1, False)):
        path = f"{tmp_path}/".ljust(length, "x")
        with socket.socket(socket.AF_UNIX) as one:
            if fits:
                one.bind(path)
            else:
                with pytest.raises(OSError, match="path too long"):
                    one.bind(path)


def test_the_path_of_a_socket_counts_the_bytes_of_its_folder() -> None:
    assert socket_bytes(Path("/größe")) - socket_bytes(Path("/")) == len("größe".encode()) + 1
