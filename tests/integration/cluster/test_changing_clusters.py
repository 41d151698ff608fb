"""Nodes that join while a sweep waits or runs, and nodes that are announced to go."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest

from orchestrator.recording.tables import read_table
from tests.integration.faults.clusters import (
    NEEDS_MACHINES,
    autoscaling,
    machines,
    port_is_free,
)
from tests.integration.faults.sweeps import ALL_SLOTS, settled, start

pytestmark = NEEDS_MACHINES

LONGER = ("training={steps: 150, reports: 3}", "trials=8", "search.label_budget=[3]", ALL_SLOTS)


def test_the_first_node_is_waited_for_and_one_that_joins_later_is_used(tmp_path: Path) -> None:
    with machines(nodes=0) as cluster:
        sweep = start(
            tmp_path / "runs",
            *(*LONGER, "trials=16"),  # enough for a node that takes its time to start
            options=("--address", cluster.address),
            env=cluster.env,
        )
        time.sleep(10)
        assert sweep.process.poll() is None
        assert not list(sweep.out.iterdir())
        cluster.add_node(1, num_cpus=1)
        sweep.wait_until(lambda path: settled(path) >= 1)
        cluster.add_node(2, num_cpus=2)
        code, messages = sweep.end()
        assert code == 0, messages
    assert "waiting for a node" in messages
    assert "slots: 3, after 1" in (sweep.path / "sweep.log").read_text()
    assert most_at_once(sweep.path) == 3


def most_at_once(path: Path) -> int:
    """Trials that ran at the same time."""
    rows = read_table(path, "trials").to_pylist()
    spans: list[tuple[datetime, datetime]] = [(r["started_at"], r["finished_at"]) for r in rows]
    return max(sum(first <= start < last for first, last in spans) for start, _ in spans)


def test_a_node_that_drains_loses_no_trial_though_it_goes_amid_them(tmp_path: Path) -> None:
    with machines(nodes=2) as cluster:
        sweep = start(
            tmp_path / "runs", *LONGER, options=("--address", cluster.address), env=cluster.env
        )
        sweep.wait_until(lambda path: settled(path) >= 1)
        cluster.drain(1, deadline_s=7)
        time.sleep(7)
        cluster.kill_node(1)
        code, messages = sweep.end()
        assert code == 0, messages
    assert "slots: 2, after 4" in (sweep.path / "sweep.log").read_text()
    rows = read_table(sweep.path, "trials").to_pylist()
    assert {row["state"] for row in rows} == {"complete"}


@pytest.mark.skipif(not port_is_free(6379), reason="something listens at Ray's usual port")
def test_an_autoscaler_adds_as_many_nodes_as_there_is_work_for(tmp_path: Path) -> None:
    with autoscaling(most_nodes=3, cpus=1) as head:
        sweep = start(
            tmp_path / "runs",
            *(*LONGER, "resources={max_concurrent: 2}"),
            options=("--address", head.address),
            env=head.env,
        )
        code, messages = sweep.end()
        assert code == 0, messages
    assert "waiting for a node" in messages
    assert most_at_once(sweep.path) == 2
