"""Real Ray nodes on this machine: a head, and nodes in network namespaces with cables to it."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

NETWORK = f"10.{200 + os.getpid() // 256 % 50}.{os.getpid() % 256}"
"""First three numbers of the addresses, of this process alone; the head is .1, nodes follow."""

START_S = 120.0


def can_make_namespaces() -> bool:
    """Whether this user may make network namespaces and cables."""
    name = f"sftprobe{os.getpid()}"
    try:
        made = _run("ip", "netns", "add", name)
    except FileNotFoundError:
        return False
    if made:
        _run("ip", "netns", "del", name)
    return made


class Machines:
    """A head without processors for trials, and nodes that can be cut off from it.

    Args:
        folder: for logs, sockets and the token of the cluster.
        hidden: a folder that is empty for the processes of all nodes.

    Attributes:
        address: of the cluster.
        env: what a driver needs in its environment.
    """

    def __init__(self, folder: Path, *, hidden: Path | None = None) -> None:
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.env: Mapping[str, str] = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._folder = folder
        self._hiding: tuple[str, ...] = ()
        if hidden is not None:
            script = 'mount -t tmpfs none "$0" && exec "$@"'
            self._hiding = ("unshare", "--mount", "sh", "-c", script, str(hidden))
        self._tag = f"sft{os.getpid() % 100_000}"
        self._port = _free_port()
        self.address = f"{NETWORK}.1:{self._port}"
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        _must("ip", "link", "add", self._tag, "type", "bridge")
        _must("ip", "addr", "add", f"{NETWORK}.1/24", "dev", self._tag)
        _must("ip", "link", "set", self._tag, "up")
        options = ("--head", f"--port={self._port}", "--num-cpus=0", "--include-dashboard=false")
        self._start(0, options, ())

    def add_node(self, number: int, *, num_cpus: int = 2) -> None:
        """Start a node behind a cable of its own."""
        space, inner, outer = self._names(number)
        _must("ip", "netns", "add", space)
        _must("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
        _must("ip", "link", "set", inner, "netns", space)
        _must("ip", "link", "set", outer, "master", self._tag)
        _must("ip", "link", "set", outer, "up")
        within = ("ip", "netns", "exec", space)
        _must(*within, "ip", "addr", "add", f"{NETWORK}.{number + 1}/24", "dev", inner)
        _must(*within, "ip", "link", "set", inner, "up")
        _must(*within, "ip", "link", "set", "lo", "up")
        self._start(number, (f"--address={self.address}", f"--num-cpus={num_cpus}"), within)

    def cut(self, number: int) -> None:
        """Pull the cable of a node."""
        _must("ip", "link", "set", self._names(number)[2], "down")

    def mend(self, number: int) -> None:
        """Plug the cable of a node in again."""
        _must("ip", "link", "set", self._names(number)[2], "up")

    def kill_node(self, number: int) -> None:
        """Let a node (0: the head) disappear with all its processes."""
        process = self._processes.pop(number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """End all processes, and take the network away again."""
        numbers = sorted(self._processes, reverse=True)
        for number in numbers:
            self.kill_node(number)
        for number in range(1, 10):
            space, _, outer = self._names(number)
            _run("ip", "link", "del", outer)
            _run("ip", "netns", "del", space)
        _run("ip", "link", "del", self._tag)

    def _names(self, number: int) -> tuple[str, str, str]:
        """Of the namespace, and of the two ends of its cable."""
        return f"{self._tag}n{number}", f"{self._tag}i{number}", f"{self._tag}o{number}"

    def _start(self, number: int, options: tuple[str, ...], within: tuple[str, ...]) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        ip = f"--node-ip-address={NETWORK}.{number + 1}"
        with (self._folder / f"node-{number}.log").open("wb") as log:
            self._processes[number] = subprocess.Popen(
                [*within, *self._hiding, ray, "start", "--block", ip, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env, "RAY_TMPDIR": str(self._folder)},
                start_new_session=True,
            )
        self._wait_until_up(number)

    def _wait_until_up(self, number: int) -> None:
        log = self._folder / f"node-{number}.log"
        until = time.monotonic() + START_S
        while "will now block" not in log.read_text():
            assert time.monotonic() < until, log.read_text()
            assert self._processes[number].poll() is None, log.read_text()
            time.sleep(0.2)


@contextlib.contextmanager
def machines(*, nodes: int, hidden: Path | None = None) -> Iterator[Machines]:
    """A cluster of a head and some nodes, gone at the end; see `Machines`."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:  # paths of sockets have to be short
        cluster = Machines(Path(folder), hidden=hidden)
        try:
            for number in range(1, nodes + 1):
                cluster.add_node(number)
            yield cluster
        finally:
            cluster.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(*arguments: str) -> bool:
    return subprocess.run(arguments, capture_output=True, check=False).returncode == 0


def _must(*arguments: str) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr)
