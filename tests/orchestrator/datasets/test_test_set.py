from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.datasets.test_set import TestSet, find_test_set
from orchestrator.recording.table_schemas import SCHEMAS
from tests.builders.outcomes import difference_of


def table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    schema = SCHEMAS[name]
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | row for row in rows], schema=schema)


def predictions(labels: list[int], *, trials: tuple[str, ...] = ("b2-0001",)) -> pa.Table:
    return table(
        "predictions",
        [
            {"trial_id": trial, "repeat": repeat, "image_id": str(i), "label": str(label)}
            for trial in trials
            for repeat in (0, 1)
            for i, label in enumerate(labels)
        ],
    )


def trials(num_classes: int | None) -> pa.Table:
    return table("trials", [{"trial_id": "b2-0001", "num_classes": num_classes}])


def test_each_image_of_the_test_set_counts_once() -> None:
    found = find_test_set(trials(4), predictions([0, 0, 0, 1, 2], trials=("b2-0001", "b5-0002")))
    assert found is not None
    assert (found.num_images, found.chance, found.majority) == (5, 0.25, 0.6)
    assert found.described("image") == (
        "5 test images; guessing reaches 25.0 %, always the commonest class 60.0 %"
    )


def test_without_the_number_of_classes_those_with_test_images_are_counted() -> None:
    found = find_test_set(trials(None), predictions([0, 1, 1]))
    assert found is not None
    assert found.chance == pytest.approx(1 / 2)


def test_a_sweep_without_predictions_has_no_test_set() -> None:
    assert find_test_set(trials(4), SCHEMAS["predictions"].empty_table()) is None


@pytest.mark.parametrize("num_images", [100, 800, 5000])
def test_the_smallest_difference_is_where_the_paired_interval_leaves_zero(num_images: int) -> None:
    smallest = TestSet(num_images=num_images, chance=0.1, majority=0.1).smallest_difference
    disagreeing = num_images // 10

    def differs(difference: float) -> bool:
        wins = round((disagreeing + difference * num_images) / 2)
        one, other = np.ones((1, num_images)), np.ones((1, num_images))
        other[0, :wins] = 0
        one[0, wins:disagreeing] = 0
        return not difference_of(one, other).holds_zero

    assert differs(1.2 * smallest + 2 / num_images)
    assert not differs(0.8 * smallest - 2 / num_images)
