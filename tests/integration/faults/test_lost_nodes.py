"""Nodes that disappear or are cut off while a sweep runs on them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.faults.clusters import NEEDS_MACHINES, Machines, machines
from tests.integration.faults.conftest import Results
from tests.integration.faults.sweeps import ALL_SLOTS, results, resume, settled, start

pytestmark = NEEDS_MACHINES

LONGER = "training={steps: 150, reports: 3}"


@pytest.fixture
def cluster() -> Iterator[Machines]:
    with machines(nodes=2) as made:
        yield made


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the longer sweep comes to on one machine."""
    sweep = start(tmp_path_factory.mktemp("longer") / "runs", LONGER)
    code, messages = sweep.end()
    assert code == 0, messages
    return results(sweep.path)


def on(cluster: Machines) -> tuple[str, ...]:
    return ("--address", cluster.address)


def test_trials_of_a_node_that_is_lost_finish_on_another_and_a_new_one_is_used(
    out: Path, cluster: Machines, longer: Results
) -> None:
    sweep = start(out, LONGER, ALL_SLOTS, options=on(cluster), env=cluster.env)
    sweep.wait_until(lambda path: settled(path) >= 1)
    cluster.kill_node(1)
    cluster.add_node(3)
    code, messages = sweep.end()
    assert code == 0, messages
    assert results(sweep.path) == longer
    assert "attempt 1 follows" in (sweep.path / "sweep.log").read_text()


def test_nodes_that_are_cut_off_for_15_and_for_90_seconds_bring_no_row_twice(
    out: Path, cluster: Machines, longer: Results
) -> None:
    sweep = start(out, LONGER, ALL_SLOTS, options=on(cluster), env=cluster.env)
    sweep.wait_until(lambda path: settled(path) >= 1)
    cluster.cut(1)  # Ray takes a node for lost after 30 s or so: this one, and not the other
    cluster.cut(2)
    time.sleep(15)
    cluster.mend(2)
    time.sleep(75)
    cluster.mend(1)
    code, messages = sweep.end()
    assert code == 0, messages
    assert results(sweep.path) == longer


def test_a_cluster_whose_head_is_lost_ends_the_sweep_and_another_finishes_it(
    out: Path, cluster: Machines, longer: Results
) -> None:
    sweep = start(out, LONGER, ALL_SLOTS, options=on(cluster), env=cluster.env)
    sweep.wait_until(lambda path: settled(path) >= 1)
    cluster.kill_node(0)
    code, messages = sweep.end(timeout_s=90)
    assert code == 4, messages
    assert f"sft-sweep resume {sweep.path}" in messages
    code, messages = resume(sweep.path)
    assert code == 0, messages
    assert results(sweep.path) == longer
