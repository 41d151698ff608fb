"""Evaluation of nodes' answers; tests/integration/cluster has nodes behind firewalls."""

from __future__ import annotations

from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError

from orchestrator.errors import StorageError
from orchestrator.running.ray_tune import nodes
from orchestrator.running.ray_tune.nodes import check_nodes, own_versions

GOOD = nodes._Answer({"python": "3.11"})
BLOCKED = nodes._Answer({"python": "3.11"}, "its processes cannot call this machine")
LATE = nodes._Answer({}, "no process there has answered", late=True)


def alive(*numbers: int) -> list[dict[str, Any]]:
    return [{"NodeID": str(n), "NodeManagerAddress": f"10.0.0.{n}"} for n in numbers]


def check(
    monkeypatch: pytest.MonkeyPatch, *answers: nodes._Answer, then: list[dict[str, Any]]
) -> None:
    """Check a cluster whose nodes give these answers; `then` are the nodes alive afterwards."""
    states = iter([alive(*range(1, len(answers) + 1)), then])
    monkeypatch.setattr(nodes, "_alive", lambda: next(states))
    monkeypatch.setattr(nodes, "_probe", lambda _: list(answers))
    check_nodes("10.0.0.1:6379")


def test_nodes_that_cannot_call_are_an_error_that_names_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(StorageError, match="trials cannot run on 2 of 3 nodes") as told:
        check(monkeypatch, BLOCKED, GOOD, BLOCKED, then=alive(1, 2, 3))
    assert "10.0.0.1: its processes cannot call" in str(told.value)
    assert "10.0.0.3: its processes cannot call" in str(told.value)
    assert "10.0.0.2" not in str(told.value)


def test_a_node_that_answers_late_causes_a_warning_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    check(monkeypatch, GOOD, LATE, then=alive(1, 2))
    assert caplog.messages == ["--address 10.0.0.1:6379: 10.0.0.2: no process there has answered"]


def test_a_node_that_has_gone_since_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    check(monkeypatch, GOOD, BLOCKED, then=alive(1))


@pytest.mark.usefixtures("local_ray")
def test_a_process_on_every_node_calls_this_one() -> None:
    assert nodes._probe(nodes._alive()) == [nodes._Answer(own_versions())]


@pytest.mark.usefixtures("local_ray")
def test_a_failed_call_is_distinguished_from_one_without_an_answer() -> None:
    def in_vain() -> None:
        raise GetTimeoutError("the driver did not answer")

    versions = ray.put({"python": "3.11"})
    failed = ray.remote(in_vain).options(num_cpus=0).remote()
    waiting = ray.remote(own_versions).options(num_cpus=100).remote()  # waits for such a node
    ray.wait([failed], timeout=60)
    answer = nodes._read(versions, failed)
    assert (answer.versions, answer.late) == ({"python": "3.11"}, False)
    assert answer.problem is not None
    assert "cannot call this machine" in answer.problem
    assert nodes._read(versions, waiting).late
    assert nodes._read(waiting, waiting).late
    ray.cancel(waiting)
