"""Number of trials that fit on a GPU, and choice of the trials that use the most memory."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planning.gpu_memory import (
    MOST_PER_GPU,
    ROOM,
    GpuMemory,
    heaviest_trials,
    pieces_per_gpu,
    share_of_gpu,
)
from orchestrator.planning.plan import make_plan
from orchestrator.space import parse_space
from tests.orchestrator.running.broker.test_broker import IMAGES


def footprints(*held: float) -> list[GpuMemory]:
    return [GpuMemory(held_bytes=int(one * 1e9), total_bytes=80 * 10**9) for one in held]


@pytest.mark.parametrize(
    ("held", "pieces"),
    [
        ([80.0], 1),
        ([68.1], 1),
        ([34.0], 2),
        ([35.0], 1),
        ([5.0, 17.0, 9.0], 4),
        ([0.1], MOST_PER_GPU),
    ],
)
def test_as_many_fit_as_the_largest_leaves_room_for(held: list[float], pieces: int) -> None:
    assert pieces_per_gpu(footprints(*held)) == pieces


def test_the_smallest_gpu_decides() -> None:
    large, small = GpuMemory(10, 100), GpuMemory(10, 24)
    assert pieces_per_gpu([large]) == 8
    assert pieces_per_gpu([large, small]) == 2


@given(held=st.lists(st.floats(0.01, 80.0), min_size=1, max_size=5))
def test_the_measured_memory_of_all_trials_fits_with_room_to_spare(held: list[float]) -> None:
    found = footprints(*held)
    pieces = pieces_per_gpu(found)
    assert 1 <= pieces <= MOST_PER_GPU
    if pieces > 1:
        assert pieces * max(one.held_bytes for one in found) <= ROOM * 80e9
    assert pieces * share_of_gpu(pieces) <= 1
    assert (pieces + 1) * share_of_gpu(pieces) > 1


def heaviest(search: dict[str, Any], **top: Any) -> list[dict[str, Any]]:
    values = {"dataset": {"source": "digits"}, "search": {"label_budget": [2, 3], **search}, **top}
    space = parse_space(yaml.safe_dump(values), where="pets.yaml")
    trials = heaviest_trials(space, make_plan(space, IMAGES, where="pets.yaml"))
    return [trial.to_json() for trial in trials]


def test_the_heaviest_trial_of_each_backbone_is_the_least_frozen_and_largest() -> None:
    found = heaviest(
        {
            "backbone": ["tiny_strokes", "tiny_untrained"],
            "freeze_depth": {"low": 0.25, "high": 1.0, "step": 0.25},
            "batch_size": [16, 64, 32],
            "image_size": {"low": 8, "high": 32, "step": 8},
            "lr": {"low": 1e-4, "high": 1e-1, "log": True},
        }
    )
    assert [trial["backbone"] for trial in found] == ["tiny_strokes", "tiny_untrained"]
    for trial in found:
        assert (trial["freeze_depth"], trial["batch_size"], trial["image_size"]) == (0.25, 64, 32)
        assert trial["label_budget"] == 3


def test_conditions_on_the_backbone_apply_to_its_heaviest_trial() -> None:
    found = heaviest(
        {
            "backbone": ["tiny_strokes", "tiny_untrained"],
            "frozen_blocks": [-1, 2, 3],
            "batch_size": {
                "cases": [
                    {"when": {"backbone": "tiny_strokes"}, "low": 8, "high": 16, "step": 8},
                    {"low": 64, "high": 128, "step": 64},
                ]
            },
        }
    )
    assert [trial["batch_size"] for trial in found] == [16, 128]
    assert {trial["frozen_blocks"] for trial in found} == {2}
