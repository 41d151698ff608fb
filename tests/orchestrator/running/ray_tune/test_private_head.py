"""How a private cluster starts: without some services, soon, and cleaned up if interrupted."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from orchestrator.running.ray_tune import private_agent
from orchestrator.running.ray_tune import private_head as starting
from orchestrator.running.ray_tune.private_head import SHARED_ONLY, private_head
from orchestrator.running.ray_tune.ray_internals import (
    Node,
    ray_constants,
    ray_services,
    ray_utils,
)
from tests.builders.programs import printed_by


@pytest.fixture(autouse=True)
def _as_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Ray's configuration in this process, because other tests share a cluster."""
    monkeypatch.setattr(starting, "loopback_only", contextlib.nullcontext)


def test_a_version_of_ray_without_such_a_service_starts_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(Node, "start_monitor")
    others = {name: vars(Node)[name] for name in SHARED_ONLY if name in vars(Node)}
    with private_head():
        assert not hasattr(Node, "start_monitor")
        assert all(vars(Node)[name] is not method for name, method in others.items())
    assert {name: vars(Node)[name] for name in others} == others


def test_the_agent_runs_as_if_the_libraries_of_the_dashboard_were_missing() -> None:
    def command(component: str) -> list[str]:
        found: list[str] = getattr(ray_services, starting._PYTHON)(component, "session")
        return found

    agent, other = ray_constants.PROCESS_TYPE_DASHBOARD_AGENT, ray_constants.PROCESS_TYPE_WORKER
    usual = [command(agent), command(other)]
    with private_head():
        assert isinstance(ray_utils.get_dashboard_dependency_error(), ImportError)
        assert [command(agent), command(other)] == [[*usual[0], private_agent.__file__], usual[1]]
    assert ray_utils.get_dashboard_dependency_error() is None
    assert [command(agent), command(other)] == usual


def test_where_rays_agent_cannot_be_wrapped_it_finds_the_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(ray_services, starting._PYTHON)
    with private_head():
        assert ray_utils.get_dashboard_dependency_error() is None


@pytest.mark.usefixtures("local_ray")
def test_the_agent_of_a_private_cluster_loads_no_library_of_the_dashboard() -> None:
    import psutil  # type: ignore[import-untyped]  # bundled with Ray

    session = ray.get_runtime_context().get_session_name()
    raylets = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.name() == "raylet" and session in " ".join(process.cmdline())
    ]
    assert len(raylets) == 1
    loaded = {
        " ".join(agent.cmdline()).strip(): Path(f"/proc/{agent.pid}/maps").read_text()
        for agent in raylets[0].children()
    }
    assert "ray::DashboardAgent" in loaded, list(loaded)
    assert "/ray/_raylet" in loaded["ray::DashboardAgent"]
    for library in ("grpc", "aiohttp"):
        assert f"/{library}/_" not in loaded["ray::DashboardAgent"]


class Registry:
    """A stand-in for the head's store of nodes; each look has the next of `answers`."""

    def __init__(self, *answers: dict[str, str] | Exception) -> None:
        self.answers = list(answers)

    def get_all_node_info(self, *, timeout: float) -> dict[str, str]:
        """The nodes that have registered."""
        assert timeout == starting.REGISTERED_S
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def start_node(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, *, dead: Sequence[str] = ()
) -> object:
    """Start a node that registers as `registry` says; return what Ray's own method returned."""
    monkeypatch.setattr(Node, "dead_processes", lambda node: dead)
    monkeypatch.setattr(Node, "start_ray_processes", lambda node: "started")
    monkeypatch.setattr(Node, "get_gcs_client", lambda node: registry)
    with private_head():
        return Node.__new__(Node).start_ray_processes()


def test_a_start_goes_on_as_soon_as_the_node_manager_has_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    clock = SimpleNamespace(sleep=waits.append, monotonic=time.monotonic)
    monkeypatch.setattr(starting, "time", clock)
    registry = Registry({}, {}, {"node": "alive"}, {"node": "alive"})
    assert start_node(registry, monkeypatch) == "started"
    assert registry.answers == [{"node": "alive"}]
    assert waits == [starting.POLL_S] * 2


def test_a_node_manager_that_does_not_register_is_left_to_rays_own_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(starting, "REGISTERED_S", 0.0)
    assert start_node(Registry({}), monkeypatch) == "started"
    monkeypatch.setattr(starting, "REGISTERED_S", 60.0)
    assert start_node(Registry({}), monkeypatch, dead=["raylet"]) == "started"
    broken = Registry(RuntimeError("GCS does not answer"))
    assert start_node(broken, monkeypatch) == "started"


def test_variables_of_the_environment_win_over_those_of_a_private_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(starting, "SETTINGS", {"RAY_SETTING": "1", "RAY_OTHER": "2"})
    monkeypatch.setenv("RAY_SETTING", "of the user")
    monkeypatch.setenv("RAY_OTHER", "to be removed")
    monkeypatch.delenv("RAY_OTHER")
    with private_head():
        assert os.environ["RAY_SETTING"] == "of the user"
        assert os.environ["RAY_OTHER"] == "2"


def test_processes_of_a_private_cluster_keep_the_memory_of_freed_tensors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the settings are those of the GNU C library")
    monkeypatch.setenv("GLIBC_TUNABLES", "to be removed")
    monkeypatch.delenv("GLIBC_TUNABLES")
    program = (
        "import resource\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "bytearray(2**26)\n"
        "before = faults()\n"
        "for _ in range(4): bytearray(2**26)\n"
        "print((faults() - before) * resource.getpagesize() / 2**26)"
    )
    assert float(printed_by(program)) >= 4  # each of the four gets all of its pages anew
    with private_head():
        assert float(printed_by(program)) < 0.1


def test_an_interrupted_start_kills_its_processes_and_their_descendants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = (
        "import subprocess as s\n"
        "print(s.Popen(['sleep', '60'], stdout=s.DEVNULL).pid, flush=True)\n"
        "input()"
    )
    manager = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert manager.stdout is not None
    agent = int(manager.stdout.readline())

    def end(node: Node, **how: bool) -> None:
        assert how == {"check_alive": False, "allow_graceful": True}
        manager.kill()
        manager.communicate()

    monkeypatch.setattr(Node, "start_head_processes", lambda node: None)
    monkeypatch.setattr(Node, "live_processes", lambda node: [("raylet", manager)])
    monkeypatch.setattr(Node, "kill_all_processes", end)

    def start(*, interrupted: bool) -> None:
        with private_head():
            Node.__new__(Node).start_head_processes()
            if interrupted:
                raise KeyboardInterrupt("amid")

    start(interrupted=False)
    assert manager.poll() is None
    with pytest.raises(KeyboardInterrupt, match="amid"):
        start(interrupted=True)
    until = time.monotonic() + 30
    while _runs(agent) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(agent)


def _runs(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
