"""Real Ray nodes on this machine: a head, and nodes in network namespaces with cables to it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

NETWORK = f"10.{200 + os.getpid() // 256 % 50}.{os.getpid() % 256}"
"""First three numbers of the addresses, of this process alone; the head is .1, nodes follow."""

START_S = 120.0

_COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
)
"""What Ray's autoscaler wants to have in its configuration, and its fake nodes do not need."""

RAY = str(Path(sys.executable).with_name("ray"))


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
        self.env = new_token(folder)
        self._folder = folder
        self._hiding: tuple[str, ...] = ()
        if hidden is not None:
            script = 'mount -t tmpfs none "$0" && exec "$@"'
            self._hiding = ("unshare", "--mount", "sh", "-c", script, str(hidden))
        self._tag = f"sft{os.getpid() % 100_000}"
        self._port = free_port()
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

    def block(self, number: int, *, ports: str) -> None:
        """Drop what a node sends to a range of ports of the head's machine."""
        within = ("ip", "netns", "exec", self._names(number)[0])
        rule = ("-p", "tcp", "-d", f"{NETWORK}.1", "--dport", ports, "-j", "DROP")
        _must(*within, "iptables", "-A", "OUTPUT", *rule)

    def kill_node(self, number: int) -> None:
        """Let a node (0: the head) disappear with all its processes."""
        process = self._processes.pop(number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def drain(self, number: int, *, deadline_s: int) -> None:
        """Announce that a node is taken away after so many seconds, as clouds do with spot ones."""
        reason = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "wanted back")
        done = subprocess.run(
            [
                *(RAY, "drain-node", "--address", self.address),
                *("--node-id", self._node_id(number), *reason),
                *("--deadline-remaining-seconds", str(deadline_s)),
            ],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

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

    def _node_id(self, number: int) -> str:
        """As Ray has it, told by the command line of the node's raylet."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_text().split("\0")
                if f"--node_ip_address={NETWORK}.{number + 1}" in words:
                    for word in words:
                        if word.startswith("--node_id="):
                            return word.partition("=")[2]
        raise AssertionError(f"node {number} has no raylet")

    def _names(self, number: int) -> tuple[str, str, str]:
        """Of the namespace, and of the two ends of its cable."""
        return f"{self._tag}n{number}", f"{self._tag}i{number}", f"{self._tag}o{number}"

    def _start(self, number: int, options: tuple[str, ...], within: tuple[str, ...]) -> None:
        ip = f"--node-ip-address={NETWORK}.{number + 1}"
        with (self._folder / f"node-{number}.log").open("wb") as log:
            self._processes[number] = subprocess.Popen(
                [*within, *self._hiding, RAY, "start", "--block", ip, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env, "RAY_TMPDIR": str(self._folder)},
                start_new_session=True,
            )
        wait_until_up(self._processes[number], self._folder / f"node-{number}.log")


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


@dataclass(frozen=True)
class Head:
    """A node of this machine that is a cluster by itself.

    Attributes:
        address: of the cluster.
        dashboard: where it takes jobs.
        env: what a driver needs in its environment.
        folder: with its logs and its token.
    """

    address: str
    dashboard: str
    env: Mapping[str, str]
    folder: Path


@contextlib.contextmanager
def head(
    *options: str,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    token: str | None = None,
) -> Iterator[Head]:
    """Start a head on loopback that asks for a token, and end it at the end.

    Args:
        options: of `ray start`.
        port: of the head; None for any.
        env: more of its environment.
        token: that it asks for; None for a new one.
    """
    with tempfile.TemporaryDirectory(prefix="r") as name:
        port, dashboard = port or free_port(), free_port()
        shown = new_token(Path(name), token)
        log = Path(name) / "node.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [
                    *(RAY, "start", "--head", "--block", f"--port={port}"),
                    *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"),
                    # The agents of clusters side by side would fight for one port.
                    *(f"--dashboard-port={dashboard}", *options),
                    f"--dashboard-agent-listen-port={free_port()}",
                ],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    **shown,
                    **(env or {}),
                    "RAY_TMPDIR": name,
                    "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}",
                },
                start_new_session=True,
            )
        try:
            wait_until_up(process, log)
            yield Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", shown, Path(name))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def autoscaling(*, most_nodes: int, cpus: int) -> Iterator[Head]:
    """A head that Ray's own autoscaler adds nodes to, as processes of this machine.

    The nodes look for the head at Ray's usual port, which has to be free.
    """
    first = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    worker = {"resources": {"CPU": cpus}, "node_config": {}, "max_workers": most_nodes}
    config = {
        "cluster_name": "fake",
        "max_workers": most_nodes,
        "provider": {
            "type": "fake_multinode",
            "head_node_id": "f" * 51 + "00000",
            "disable_node_updaters": True,
        },
        "available_node_types": {"ray.head.default": first, "worker": worker},
        "head_node_type": "ray.head.default",
        "idle_timeout_minutes": 0.1,
        "auth": {"ssh_user": "nobody"},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{key: [] for key in _COMMANDS},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        options = ("--num-cpus=0", "--include-dashboard=false")
        with head(
            *(*options, f"--autoscaling-config={file.name}"),
            port=6379,
            env={"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"},
        ) as found:
            yield found


def new_token(folder: Path, token: str | None = None) -> Mapping[str, str]:
    """What a cluster with its token in this folder, and its drivers, need as environment."""
    file = folder / "token"
    file.write_text(token or secrets.token_hex(32))
    file.chmod(0o600)
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(file),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def wait_until_up(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `ray start --block` says that it is done."""
    until = time.monotonic() + START_S
    while "will now block" not in log.read_text():
        assert time.monotonic() < until, log.read_text()
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)


def port_is_free(port: int) -> bool:
    """Whether nothing listens at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port() -> int:
    """A port of this machine at which nothing listened a moment ago."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(*arguments: str) -> bool:
    return subprocess.run(arguments, capture_output=True, check=False).returncode == 0


def _must(*arguments: str) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr)


NEEDS_MACHINES = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not can_make_namespaces(), reason="this user may not make network namespaces"
    ),
]
"""Marks of tests that start machines: each with processes of its own, on the cores of this one."""
