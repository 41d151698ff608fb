"""Access to clusters and their network interfaces, with real clusters in separate processes."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from orchestrator.running.cluster import token_file
from orchestrator.running.ray_tune.authentication import make_token, protect_token

CONNECT = """
import os, sys
from orchestrator.errors import StorageError
from orchestrator.running.ray_tune.cluster import cluster
import ray
stdout = os.fdopen(os.dup(1), "w")  # nothing else that is printed here gets there
try:
    with cluster(sys.argv[1], num_cpus=1) if sys.argv[1] == "local" else cluster(sys.argv[1]):
        assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ or sys.argv[1] != "local"
        print("connected", ray.get_runtime_context().gcs_address, file=stdout, flush=True)
        sys.stdin.readline()
except StorageError as error:
    print("refused", error)
"""


def connect(address: str, home: Path, **env: str) -> subprocess.Popen[str]:
    """Start a process that uses a cluster until it is told to stop."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", CONNECT, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean, "HOME": str(home), **env},
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def listening(pids: set[int]) -> set[str]:
    """Addresses at which processes listen, as hexadecimal digits of /proc/net."""
    inodes = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", str(handle.readlink()))
            except OSError:
                continue
            if found:
                inodes.add(found[1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                addresses.add(fields[1].partition(":")[0])
    return addresses


INSIDE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Environment in which Ray looks for a cluster on the loopback interface."""

LOOPBACK = {
    "0100007F",
    "0000000000000000FFFF00000100007F",  # ::ffff:127.0.0.1
    "00000000000000000000000001000000",  # ::1
}


def family(pid: int) -> set[int]:
    """A process and all its descendants."""
    from tests.integration.faults.sweeps import descendants

    return {pid, *descendants(pid)}


@dataclass(frozen=True)
class LocalCluster:
    """A private cluster that is running."""

    owner: Path  # home of the cluster's user
    address: str
    pid: int  # id of the process that started it


@pytest.fixture(scope="module")
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    owner = tmp_path_factory.mktemp("owner")
    running = connect("local", owner)
    try:
        word, address = said(running).split()
        assert word == "connected"
        yield LocalCluster(owner, address, running.pid)
    finally:
        running.communicate("\n", timeout=60)


@pytest.mark.faults
def test_a_local_cluster_listens_on_loopback_alone_and_wants_the_token_of_its_user(
    local_cluster: LocalCluster, tmp_path: Path
) -> None:
    owner, address = local_cluster.owner, local_cluster.address
    sockets = listening(family(local_cluster.pid))
    assert sockets
    assert sockets <= LOOPBACK
    token = owner / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600

    friend = connect(address, owner, **INSIDE)
    assert said(friend).startswith("connected")
    _, messages = friend.communicate("\n", timeout=60)
    assert token.read_text() not in messages

    other = connect(address, tmp_path, RAY_AUTH_TOKEN="0" * 64, **INSIDE)
    answer, messages = other.communicate("\n", timeout=90)
    assert answer.startswith("refused"), messages
    assert "$RAY_AUTH_TOKEN holds no token that the cluster takes" in answer
    assert not messages  # Ray itself would print dozens of lines

    other = connect(address, owner, RAY_AUTH_TOKEN_PATH="/proc/nowhere/token", **INSIDE)
    answer, messages = other.communicate("\n", timeout=90)
    assert "/proc/nowhere/token holds no token that the cluster takes" in answer, messages

    other = connect(address, owner, RAY_AUTH_MODE="disabled", **INSIDE)
    answer, messages = other.communicate("\n", timeout=90)
    assert answer.startswith("refused"), messages
    assert "unset RAY_AUTH_MODE" in answer


def test_processes_of_a_local_cluster_have_the_priority_of_the_one_that_started_it(
    local_cluster: LocalCluster,
) -> None:
    def workers() -> list[int]:
        return [
            pid
            for pid in family(local_cluster.pid)
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::IDLE")
        ]

    until = time.monotonic() + 60
    while not workers() and time.monotonic() < until:
        time.sleep(0.2)  # Ray starts the first worker before any work
    niceness = {os.getpriority(os.PRIO_PROCESS, pid) for pid in workers()}
    assert niceness == {os.getpriority(os.PRIO_PROCESS, local_cluster.pid)}


@pytest.mark.faults
def test_an_open_cluster_is_distinguished_from_one_that_asks_for_a_token(tmp_path: Path) -> None:
    warned = {}
    for mode in ("token", "disabled"):
        running = connect("local", tmp_path, RAY_AUTH_MODE=mode)
        try:
            address = said(running).split()[1]
            guest = connect(address, tmp_path, **INSIDE)
            assert said(guest).startswith("connected")
            _, warned[mode] = guest.communicate("\n", timeout=60)
        finally:
            running.communicate("\n", timeout=60)
    assert "this cluster is open" in warned["disabled"]
    assert "open" not in warned["token"]


def test_a_token_is_made_for_this_user_alone_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    make_token()
    file = tmp_path / ".ray" / "auth_token"
    assert token_file() == file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first = file.read_text()
    assert len(first) == 64
    make_token()
    assert file.read_text() == first


def test_an_empty_token_file_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.touch()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    make_token()
    assert len(file.read_text()) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def in_own_process(program: str, **env: str) -> None:
    """Run a program in a process of its own, so that other tests' clusters keep their token.

    The program has to succeed.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)],
        capture_output=True,
        text=True,
        env={**clean, **env},
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_user_without_a_home_gets_a_token_for_this_process_alone() -> None:
    in_own_process(
        """
        import os
        from orchestrator.running.ray_tune.authentication import (
            authenticating_own_cluster, protect_token
        )
        from ray._raylet import AuthenticationTokenLoader
        with authenticating_own_cluster():
            assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
            assert os.environ["RAY_AUTH_MODE"] == "token"
            assert AuthenticationTokenLoader.instance().has_token()
        assert "RAY_AUTH_TOKEN" not in os.environ
        assert protect_token() is None
        """,
        HOME="/proc/nowhere",
    )


def test_the_environment_is_as_it_was_once_a_cluster_is_left(tmp_path: Path) -> None:
    in_own_process(
        """
        import os
        import pytest
        from orchestrator.running.cluster import token_file
        from orchestrator.running.ray_tune.authentication import (
            Mode, authenticating, authenticating_own_cluster, make_token
        )
        from ray._raylet import AuthenticationMode, get_authentication_mode
        from ray.exceptions import AuthenticationError
        make_token()
        before = dict(os.environ)
        ways = {
            AuthenticationMode.TOKEN: [authenticating_own_cluster(), authenticating(Mode.TOKEN)],
            AuthenticationMode.DISABLED: [authenticating(Mode.DISABLED)],
        }
        for mode, contexts in ways.items():
            for context in contexts:
                with context:
                    assert get_authentication_mode() == mode
                assert dict(os.environ) == before
                assert get_authentication_mode() == AuthenticationMode.DISABLED
        token_file().unlink()  # and no token is remembered
        with pytest.raises(AuthenticationError, match="no authentication token was found"):
            authenticating(Mode.TOKEN).__enter__()
        assert dict(os.environ) == before
        """,
        HOME=str(tmp_path),
    )


def test_an_address_without_a_cluster_is_refused_without_a_wait(tmp_path: Path) -> None:
    program = """
        import socket
        from orchestrator.errors import StorageError
        from orchestrator.running.ray_tune import access_check
        from orchestrator.running.ray_tune.cluster import cluster
        access_check.TIMEOUT_S = 1.0
        with socket.create_server(("127.0.0.1", 0)) as something:
            try:
                with cluster("127.0.0.1:%d" % something.getsockname()[1]):
                    pass
            except StorageError as error:
                assert "no Ray cluster of version" in str(error), error
            else:
                raise AssertionError("it connected")
        """
    in_own_process(program, HOME=str(tmp_path))


@pytest.mark.parametrize("chosen", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "0" * 64}])
def test_no_token_is_made_if_the_environment_disables_authentication_or_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    make_token()
    assert not (tmp_path / ".ray").exists()


def test_a_token_that_others_may_read_is_made_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    assert protect_token() is None  # there is no token
    file.write_text("0" * 64)
    file.chmod(0o644)
    assert protect_token() is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    file.chmod(0o644)
    monkeypatch.setattr(Path, "chmod", refuse)
    warning = protect_token()
    assert warning is not None
    assert "make it 0600" in warning


def test_a_local_cluster_has_none_of_the_services_of_shared_ones(
    local_cluster: LocalCluster,
) -> None:
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family(local_cluster.pid)]
    assert any(b"gcs_server" in command for command in commands)
    for service in (b"/monitor.py", b"log_monitor.py", b"dashboard/dashboard.py"):
        assert not any(service in command for command in commands)
