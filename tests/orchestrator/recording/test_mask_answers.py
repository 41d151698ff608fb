"""Scores of predicted masks from the tables, against those that the trial itself computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from orchestrator.recording.array_text import from_text, to_text
from orchestrator.recording.leaderboard import build_leaderboard
from orchestrator.recording.mask_answers import pixel_counts
from orchestrator.recording.prediction_columns import predicted_masks
from orchestrator.recording.scoring import TestScores, score_finalists
from orchestrator.recording.tables import conform
from tests.orchestrator.recording.test_leaderboard import table, trial
from trainable.data.masks import IGNORED, SHOWN_SIDE, Masks, decode_mask
from trainable.spec.metrics import METRICS, Metric
from trainable.tasks.segmentation.results import MOST_SHOWN, MaskResult
from trainable.tasks.segmentation.task import SEGMENTATION, MaskTargets

NAMES = np.asarray(["sky", "a car", "road", "=1+1"], dtype=object)
IMAGES = 15
OBJECTIVES = METRICS["segmentation"]


def result(seed: int, *, void: int | None = None) -> MaskResult:
    """The result of a network that is mostly right; class 3 is predicted but in no mask.

    Args:
        seed: of what it predicts; the masks are always the same.
        void: an image whose mask has no pixel of a class.
    """
    random = np.random.default_rng(0)
    masks = random.integers(0, 3, (IMAGES, 9, 7)).astype(np.uint8)
    masks[random.random(masks.shape) < 0.1] = IGNORED
    masks[4] = 1
    if void is not None:
        masks[void] = IGNORED
    logits = torch.randn((IMAGES, len(NAMES), 9, 7), generator=torch.Generator().manual_seed(seed))
    logits[:, :3] += 2 * torch.stack([torch.from_numpy(masks == one) for one in range(3)], dim=1)
    targets = MaskTargets(torch.from_numpy(masks), Masks.of(masks))
    found = SEGMENTATION.result(targets.outcomes(logits))
    assert isinstance(found, MaskResult)
    return found


def predictions(trial_id: str, results: Sequence[MaskResult]) -> pa.Table:
    """The rows of `predictions` as a journal that holds these results gives them."""
    tables = []
    for repeat, one in enumerate(results):
        recorded = {name: to_text(array.ravel()) for name, array in one.arrays().items()}
        columns = {
            "sweep_id": pa.repeat("s", IMAGES),
            "trial_id": pa.repeat(trial_id, IMAGES),
            "repeat": pa.repeat(pa.scalar(repeat, pa.int64()), IMAGES),
            "image_id": pa.array([f"i{number:02d}" for number in range(IMAGES)]),
            "path": pa.array([f"{number}.png" for number in range(IMAGES)]),
            **predicted_masks(recorded, NAMES),
        }
        tables.append(conform("predictions", pa.table(columns)))
    return pa.concat_tables(tables)


def finals(*trial_ids: str, repeats: int = 2) -> pa.Table:
    return table(
        "finals",
        [
            {"sweep_id": "s", "trial_id": trial_id, "repeat": repeat}
            for trial_id in trial_ids
            for repeat in range(repeats)
        ],
    )


def scored(rows: pa.Table, metric: Metric, *, repeats: int = 2) -> TestScores:
    return score_finalists(finals("t5-0000", repeats=repeats), rows, metric)["t5-0000"]


@pytest.mark.parametrize("metric", OBJECTIVES)
@pytest.mark.parametrize("void", [None, 6])
def test_scores_are_exactly_those_of_the_trial(metric: Metric, void: int | None) -> None:
    results = [result(seed, void=void) for seed in (1, 2)]
    found = scored(predictions("t5-0000", results), metric)
    expected = [one.scores.objective(metric) for one in results]
    everything = np.asarray(found.answers.known.all(axis=0))
    assert everything.sum() == results[0].scores.count == IMAGES - (void is not None)
    assert found.outcomes(found.repeats, everything).scores == pytest.approx(expected, rel=1e-6)
    interval = found.interval()
    assert interval is not None
    assert interval.low < interval.mean < interval.high
    assert interval.mean == pytest.approx(np.mean(expected), rel=1e-6)
    assert found.accuracy() is None


@pytest.mark.parametrize("metric", OBJECTIVES)
def test_the_leaderboard_has_scores_differences_and_no_accuracy(metric: Metric) -> None:
    one, other = [result(1), result(2)], [result(3), result(4)]
    changes: dict[str, Any] = {"objective": metric.value, "task": "segmentation"}
    sign = 1 if metric.maximize else -1
    first, second = build_leaderboard(
        table("trials", [trial(f"t5-000{n}", 0.9 - sign * n / 10, **changes) for n in range(2)]),
        finals("t5-0000", "t5-0001"),
        pa.concat_tables([predictions("t5-0000", one), predictions("t5-0001", other)]),
    )
    assert (first["trial_id"], second["trial_id"]) == ("t5-0000", "t5-0001")
    for row, results in ((first, one), (second, other)):
        expected = np.mean([each.scores.objective(metric) for each in results])
        assert row["test_score"] == pytest.approx(expected, rel=1e-6)
        assert row["metric"] == metric
        assert row["test_accuracy"] is None
        assert row["repeats"] == 2
    difference = second["test_score"] - first["test_score"]
    assert second["diff_to_best"] == pytest.approx(difference, abs=1e-9)
    assert second["diff_ci_low"] < second["diff_to_best"] < second["diff_ci_high"]
    assert (first["diff_to_best"], first["tied_with_best"]) == (0, True)


@pytest.mark.parametrize("metric", OBJECTIVES)
def test_the_order_of_rows_says_nothing(metric: Metric) -> None:
    rows = predictions("t5-0000", [result(1), result(2)])
    mixed = rows.take(np.random.default_rng(0).permutation(rows.num_rows))
    assert scored(mixed, metric).interval() == pytest.approx(scored(rows, metric).interval())


@pytest.mark.parametrize("metric", OBJECTIVES)
def test_an_image_that_one_repeat_lacks_is_left_out(metric: Metric) -> None:
    rows = predictions("t5-0000", [result(1), result(2)])
    lacking = rows.filter(np.arange(rows.num_rows) != IMAGES + 3)
    without = rows.filter(np.arange(rows.num_rows) % IMAGES != 3)
    assert lacking.num_rows == without.num_rows + 1
    assert scored(lacking, metric).interval() == pytest.approx(scored(without, metric).interval())
    assert scored(lacking, metric).interval() != scored(rows, metric).interval()


def test_rows_name_the_classes_that_true_or_predicted_masks_hold() -> None:
    one = result(1)
    rows = predictions("t5-0000", [one])
    counts, names = pixel_counts(rows)
    assert names == sorted(NAMES)
    order = [names.index(name) for name in NAMES]
    assert np.array_equal(counts[:, order], one.pixels)
    cells = rows["pixels"].to_pylist()
    for number, cell in enumerate(cells):
        assert all(part["labelled"] or part["predicted"] for part in cell)
        assert {part["class"] for part in cell if part["labelled"]} == {
            NAMES[held] for held in np.flatnonzero(one.pixels[number, :, 1])
        }
    assert rows["log_loss"].to_pylist() == pytest.approx(one.losses.tolist())
    assert rows["label"].null_count == rows["predicted"].null_count == IMAGES


def test_the_masks_of_the_worst_images_are_kept() -> None:
    one = result(1)
    rows = predictions("t5-0000", [one])
    kept = {row for row, mask in enumerate(rows["mask"].to_pylist()) if mask is not None}
    assert kept == set(one.worst.tolist())
    assert len(kept) == MOST_SHOWN
    for place, row in enumerate(one.worst.tolist()):
        mask = decode_mask(rows["mask"][row].as_py())
        assert mask.shape == (SHOWN_SIDE, SHOWN_SIDE)
        assert np.array_equal(mask, one.worst_masks[place])


def test_a_repeat_that_finals_do_not_hold_is_not_scored() -> None:
    rows = predictions("t5-0000", [result(1), result(2)])
    alone = scored(rows, Metric.MIOU, repeats=1)
    assert alone.repeats.tolist() == [0]
    interval = alone.interval()
    assert interval is not None
    assert interval.mean == pytest.approx(result(1).scores.miou, rel=1e-6)


def test_masks_in_a_journal_are_compressed_and_come_back() -> None:
    one = result(1).worst_masks
    text = to_text(one.ravel())
    assert text.startswith("zlib:")
    back = from_text(text)
    assert back.dtype == np.uint8
    assert np.array_equal(back.reshape(one.shape), one)
    level = np.zeros(SHOWN_SIDE**2, dtype=np.uint8)
    assert len(to_text(level)) < SHOWN_SIDE
    assert from_text(to_text(level[:0])).shape == (0,)
