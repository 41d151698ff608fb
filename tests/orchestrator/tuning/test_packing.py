"""Measuring on a cluster that says it has a GPU; what is held of it is a stand-in's number."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import ray
import yaml

from orchestrator.footprint import Footprint, heaviest_trials
from orchestrator.plan import make_plan
from orchestrator.sources import Demand, read_dataset
from orchestrator.space import parse_space
from orchestrator.tuning import packing
from orchestrator.tuning.authentication import loopback_only
from orchestrator.tuning.capacity import Piece
from orchestrator.tuning.shared import Shared, share
from trainable import backbones as shelf
from trainable.spec import CacheMode, TrialSpec

WHOLE = Piece(cpus=1, gpus=1)


@pytest.fixture(scope="module")
def shared_and_trials() -> Iterator[tuple[Shared, list[TrialSpec]]]:
    values = {
        "dataset": {"source": "digits"},
        "search": {"backbone": "tiny_strokes", "label_budget": [2]},
        "training": {"steps": 2, "reports": 1},
    }
    space = parse_space(yaml.safe_dump(values), where="pets.yaml")
    demand = Demand(budgets=space.label_budgets, repeats=1, seed=0)
    images = read_dataset(space.dataset, demand=demand, where="pets.yaml", keep_val=False).images
    trials = heaviest_trials(space, make_plan(space, images, where="pets.yaml"))
    weights = {"tiny_strokes": shelf.load_weights("tiny_strokes")}
    with loopback_only():
        ray.init(
            address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False
        )
    yield share(images, weights, cache=CacheMode.NEVER, keeper=None, checkpoint_s=60), trials
    ray.shutdown()


def test_trials_get_the_share_that_the_heaviest_holds(
    shared_and_trials: tuple[Shared, list[TrialSpec]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared, trials = shared_and_trials

    def measured(shared: Shared, task: dict[str, object]) -> Footprint:
        from orchestrator.tuning import packing

        vars(packing)["held_memory"] = lambda: (20 * 2**30, 80 * 2**30)
        return packing._measure(shared, task)

    monkeypatch.setattr(packing, "_measure", measured)
    with caplog.at_level(logging.INFO, "sft_sweep"):
        packed = packing.pack(WHOLE, shared, trials, stopping=lambda: False)
    assert packed == Piece(cpus=1, gpus=0.3333)
    assert "3 trials on each, which hold 20.0 GiB at most" in caplog.text


def test_without_a_measurement_each_trial_gets_a_gpu(
    shared_and_trials: tuple[Shared, list[TrialSpec]], caplog: pytest.LogCaptureFixture
) -> None:
    shared, trials = shared_and_trials
    # There is no GPU to ask.
    assert packing.pack(WHOLE, shared, trials, stopping=lambda: False) == WHOLE
    assert "one for each trial" in caplog.text
    assert packing.pack(WHOLE, shared, trials, stopping=lambda: True) == WHOLE
