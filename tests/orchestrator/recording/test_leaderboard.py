import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.recording.leaderboard import build_leaderboard, own_probe, recommended_rows
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.tables import read_table, write_table
from tests.builders.outcomes import difference_of, interval_of

Row = dict[str, Any]
TEST_COLUMNS = (
    *("test_score", "test_accuracy", "test_ci_low", "test_ci_high", "repeats"),
    *("diff_to_best", "diff_ci_low", "diff_ci_high", "tied_with_best"),
)


def trial(trial_id: str, val_objective: float | None, **changes: Any) -> Row:
    """A complete trial whose configuration is its own unless `params` says otherwise."""
    study = trial_id.split("-")[0]
    row = {
        "sweep_id": "s",
        "trial_id": trial_id,
        "study": study,
        "state": "complete",
        "method": "finetune",
        "backbone": "tiny",
        "freeze_depth": 0.5,
        "lr": 0.001,
        "params": f'{{"seen_in": "{trial_id}"}}',
        "objective": "accuracy",
        "label_budget": float(study[1:]),
        "val_objective": val_objective,
        "val_loss": 0.5,
        "trainable_params": 100,
    }
    return row | changes


def table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMAS[name])


def answers(trial_id: str, correct: Sequence[Sequence[int]]) -> tuple[list[Row], list[Row]]:
    """Rows of finals and predictions from (repeat, image) right and wrong answers."""
    finals, predictions = [], []
    for repeat, line in enumerate(correct):
        key = {"sweep_id": "s", "trial_id": trial_id, "repeat": repeat}
        finals.append(key | {"test_accuracy": sum(line) / len(line), "num_test": len(line)})
        predictions += [
            key
            | {"image_id": f"i{image}", "label": "cat", "predicted": "cat" if right else "dog"}
            | {"label_probability": 0.75 if right else 0.25}
            for image, right in enumerate(line)
        ]
    return finals, predictions


def build(trials: Iterable[Row], *tested: tuple[list[Row], list[Row]]) -> list[Row]:
    finals = [row for each, _ in tested for row in each]
    predictions = [row for _, each in tested for row in each]
    return build_leaderboard(
        table("trials", trials), table("finals", finals), table("predictions", predictions)
    )


def ids(rows: Iterable[Row]) -> list[str]:
    return [row["trial_id"] for row in rows]


def test_rows_have_the_columns_of_the_contract_and_can_be_written(tmp_path: Path) -> None:
    rows = build([trial("b5-0000", 0.9), trial("b5-pixels", 0.5, method="pixels")])
    assert [list(row) for row in rows] == [SCHEMAS["leaderboard"].names] * 2
    write_table(tmp_path, "leaderboard", rows)
    assert read_table(tmp_path, "leaderboard").to_pylist() == rows


def test_no_trials_make_no_rows() -> None:
    assert build([]) == []


def test_accuracy_ranks_upwards() -> None:
    rows = build([trial("b5-0000", 0.7), trial("b5-0001", 0.9), trial("b5-0002", 0.8)])
    assert ids(rows) == ["b5-0001", "b5-0002", "b5-0000"]
    assert [row["rank"] for row in rows] == [1, 2, 3]


def test_log_loss_ranks_downwards() -> None:
    rows = build(
        trial(f"b5-000{i}", value, objective="log_loss") for i, value in enumerate([0.7, 0.2, 0.4])
    )
    assert ids(rows) == ["b5-0001", "b5-0002", "b5-0000"]


@pytest.mark.parametrize("objective", ["accuracy", "log_loss"])
@pytest.mark.parametrize("unknown", [None, math.nan])
def test_unknown_score_ranks_last(objective: str, unknown: float | None) -> None:
    rows = build(
        trial(f"b5-000{i}", value, objective=objective)
        for i, value in enumerate([unknown, 0.1, 0.1])
    )
    assert ids(rows) == ["b5-0001", "b5-0002", "b5-0000"]


def test_ties_go_to_loss_then_cost_then_learning_rate_then_age() -> None:
    rows = build(
        [
            trial("b5-0000", 0.9),
            trial("b5-0001", 0.9),
            trial("b5-0002", 0.9, lr=0.0005),
            trial("b5-0003", 0.9, trainable_params=10, lr=0.01),
            trial("b5-0004", 0.9, val_loss=0.4, trainable_params=1000, lr=0.01),
        ]
    )
    assert ids(rows) == ["b5-0004", "b5-0003", "b5-0002", "b5-0000", "b5-0001"]


def test_age_counts_past_four_digits() -> None:
    assert ids(build([trial("b5-10000", 0.9), trial("b5-9999", 0.9)])) == ["b5-9999", "b5-10000"]


@pytest.mark.parametrize("state", ["pruned", "failed", "running"])
@pytest.mark.parametrize("method", ["finetune", "probe"])
def test_what_did_not_complete_never_appears(state: str, method: str) -> None:
    rows = build([trial("b5-0000", 0.7), trial("b5-0001", 0.99, state=state, method=method)])
    assert ids(rows) == ["b5-0000"]


def test_budgets_ascend_by_number_and_each_has_its_own_ranks() -> None:
    rows = build(
        [
            *(trial("b10-0000", 0.9), trial("b10-0001", 0.95), trial("b2-0000", 0.4)),
            *(trial("b10-pixels", 0.99, method="pixels"), trial("b2-pixels", 0.3, method="pixels")),
        ]
    )
    assert ids(rows) == ["b2-0000", "b2-pixels", "b10-0001", "b10-0000", "b10-pixels"]
    assert [row["rank"] for row in rows] == [1, None, 1, 2, None]


def test_probes_rank_by_validation_and_raw_pixels_follow_without_a_rank() -> None:
    rows = build(
        [
            trial("b5-pixels", 0.999, method="pixels"),
            trial("b5-probe-tiny", 0.99, method="probe"),
            trial("b5-0000", 0.5),
            trial("b5-probe-other", 0.4, method="probe"),
        ]
    )
    assert ids(rows) == ["b5-probe-tiny", "b5-0000", "b5-probe-other", "b5-pixels"]
    assert [row["rank"] for row in rows] == [1, 2, 3, None]


@pytest.mark.parametrize("objective", ["accuracy", "balanced_accuracy", "log_loss"])
def test_on_an_equal_objective_a_probe_comes_before_what_was_fine_tuned(objective: str) -> None:
    probe = {"method": "probe", "val_loss": 0.9, "trainable_params": 1000, "lr": None}
    rows = build(
        [
            trial("b5-0000", 0.9, objective=objective, val_loss=0.1),
            trial("b5-probe-tiny", 0.9, objective=objective, **probe),
        ]
    )
    assert ids(rows) == ["b5-probe-tiny", "b5-0000"]


def test_refits_that_collapsed_are_counted_where_there_are_refits() -> None:
    finals, predictions = answers("b5-0000", [[1, 1], [1, 0], [0, 1]])
    for row, factor in zip(finals, [1.0, 0.5, 0.0], strict=True):
        row["lr_factor"] = factor
    rows = build(
        [
            *(trial("b5-0000", 0.9), trial("b5-0001", 0.8), trial("b5-0002", 0.7)),
            trial("b5-probe-tiny", 0.6, method="probe"),
        ],
        (finals, predictions),
        ([row | {"trial_id": "b5-0001", "lr_factor": 1.0} for row in finals], []),
        answers("b5-probe-tiny", [[1, 1]]),
    )
    assert [row["collapsed"] for row in rows] == [2, 0, None, None]


def test_probes_of_several_image_sizes_keep_their_rows() -> None:
    same: Row = {"method": "probe", "params": '{"inverse_penalty": 1.0}'}
    rows = build(trial(f"b5-probe-tiny-{size}", 0.9, image_size=size, **same) for size in (32, 64))
    assert [row["image_size"] for row in rows] == [32, 64]


def test_the_image_size_comes_from_the_spec_where_its_column_is_not_filled() -> None:
    specs = ['{"image_size": 48}', '{"image_size": "auto"}', '{"image_size": null}', None]
    rows = build(trial(f"b5-000{n}", 0.9 - n / 10, spec=spec) for n, spec in enumerate(specs))
    assert [row["image_size"] for row in rows] == [48, None, None, None]


@pytest.mark.parametrize(
    ("sizes", "params", "expected"),
    [
        ((32, 64), {"image_size": 64}, "b5-probe-tiny-1"),
        ((32, 64), {"image_size": 48}, None),
        ((None,), {}, "b5-probe-tiny-0"),
        ((None,), {"image_size": "auto"}, "b5-probe-tiny-0"),
        ((None,), {"image_size": 64}, None),
    ],
)
def test_the_own_probe_of_a_configuration_saw_images_of_its_size(
    sizes: Sequence[int | None], params: Row, expected: str | None
) -> None:
    probes = [
        trial(f"b5-probe-tiny-{n}", 0.5, method="probe", image_size=size)
        for n, size in enumerate(sizes)
    ]
    size = params.get("image_size", "auto")
    resolved = 8 if size == "auto" else size
    tuned = trial("b5-0000", 0.9, image_size=resolved, params=json.dumps(params))
    others = [
        trial("b5-probe-other", 0.5, method="probe", backbone="other", image_size=64),
        trial("b2-probe-tiny", 0.5, method="probe", image_size=64),
    ]
    rows = build([tuned, *probes, *others])
    found = own_probe(next(row for row in rows if row["trial_id"] == "b5-0000"), rows)
    assert (found and found["trial_id"]) == expected


def test_equal_configurations_share_the_row_of_the_earliest() -> None:
    same = {"params": '{"lr": 0.001}'}
    rows = build([trial("b5-0002", 0.9, **same), trial("b5-0001", 0.8, **same)])
    assert ids(rows) == ["b5-0001"]


def test_equal_configurations_share_the_row_of_the_finalist_among_them() -> None:
    same = {"params": '{"lr": 0.001}'}
    rows = build(
        [trial(f"b5-000{i}", 0.9, **same) for i in range(3)], answers("b5-0001", [[1, 0], [1, 1]])
    )
    assert ids(rows) == ["b5-0001"]
    assert rows[0]["test_accuracy"] == 0.75


@pytest.mark.parametrize(
    "change", [{"backbone": "b"}, {"weights": "none"}, {"freeze_depth": 0.0}, {"lr": 0.1}]
)
def test_configurations_that_differ_anywhere_keep_their_rows(change: Row) -> None:
    same = {"params": "{}"}
    assert len(build([trial("b5-0000", 0.9, **same), trial("b5-0001", 0.9, **same | change)])) == 2


def test_test_columns_follow_from_the_predictions() -> None:
    correct = [[1, 1, 0, 1, 1], [1, 0, 0, 1, 1]]
    tested = answers("b5-0000", correct)
    row, without = build([trial("b5-0000", 0.9), trial("b5-0001", 0.8)], tested)
    interval = interval_of(np.array(correct))
    assert (row["metric"], row["test_score"]) == ("accuracy", interval.mean)
    assert row["test_accuracy"] == pytest.approx(np.mean([f["test_accuracy"] for f in tested[0]]))
    assert (row["test_ci_low"], row["test_ci_high"]) == interval[1:]
    assert row["repeats"] == 2
    assert [without[column] for column in TEST_COLUMNS] == [None] * len(TEST_COLUMNS)


def test_first_row_is_tied_with_itself() -> None:
    row = build([trial("b5-0000", 0.9)], answers("b5-0000", [[1, 0], [0, 1]]))[0]
    assert [row[column] for column in TEST_COLUMNS[5:]] == [0, 0, 0, True]


def test_differences_are_row_minus_best_for_finalists_and_baselines() -> None:
    rng = np.random.default_rng(0)
    correct = (rng.random((3, 5, 60)) < np.array([0.95, 0.93, 0.3])[:, None, None]).astype(int)
    names = ["b5-0000", "b5-0001", "b5-pixels"]
    best, close, pixels = build(
        [trial(names[0], 0.9), trial(names[1], 0.8), trial(names[2], 0.5, method="pixels")],
        *(answers(name, each.tolist()) for name, each in zip(names, correct, strict=True)),
    )
    for row, each in ((close, correct[1]), (pixels, correct[2])):
        expected = difference_of(each, correct[0])
        found = row["diff_to_best"], row["diff_ci_low"], row["diff_ci_high"]
        assert found == pytest.approx(tuple(expected))
        assert row["diff_to_best"] == pytest.approx(row["test_accuracy"] - best["test_accuracy"])
    assert close["tied_with_best"] is True
    assert pixels["tied_with_best"] is False


def test_reference_is_the_first_ranked_row_with_test_scores() -> None:
    untested, reference, other = build(
        [trial("b5-0000", 0.9), trial("b5-0001", 0.8), trial("b5-0002", 0.7)],
        answers("b5-0001", [[1, 1], [1, 0]]),
        answers("b5-0002", [[0, 0], [0, 1]]),
    )
    assert untested["diff_to_best"] is None
    assert (reference["diff_to_best"], reference["tied_with_best"]) == (0, True)
    assert other["diff_to_best"] == -0.5


def test_baselines_are_compared_with_nothing_where_no_finalist_was_tested() -> None:
    rows = build(
        [trial("b5-0000", 0.9), trial("b5-pixels", 0.8, method="pixels")],
        answers("b5-pixels", [[1, 1], [1, 0]]),
    )
    assert rows[1]["test_accuracy"] == 0.75
    assert rows[1]["tied_with_best"] is None


def test_reference_of_another_budget_is_never_used() -> None:
    rows = build(
        [trial("b2-0000", 0.9), trial("b5-0000", 0.9)],
        answers("b2-0000", [[0, 0], [0, 1]]),
        answers("b5-0000", [[1, 1], [1, 0]]),
    )
    assert [row["diff_to_best"] for row in rows] == [0, 0]


def test_pairs_only_the_repeats_and_images_that_both_have() -> None:
    best = answers("b5-0000", [[1, 1, 0], [1, 1, 1], [0, 0, 0]])
    finals, predictions = answers("b5-0001", [[0, 1, 1], [1, 0, 1]])
    partial = [p for p in predictions if p["image_id"] != "i2"]
    row = build([trial("b5-0000", 0.9), trial("b5-0001", 0.8)], best, (finals, partial))[1]
    assert row["test_accuracy"] == 0.5
    expected = difference_of(np.array([[0, 1], [1, 0]]), np.array([[1, 1], [1, 1]]))
    assert row["diff_to_best"] == expected.mean
    assert row["diff_ci_low"] == expected.low


def test_repeats_pair_by_number_where_the_first_of_one_row_is_missing() -> None:
    correct = [[1, 1], [0, 0], [1, 0]]
    finals, predictions = (
        [row for row in rows if row["repeat"]] for rows in answers("b5-0001", correct)
    )
    trials = [trial("b5-0000", 0.9), trial("b5-0001", 0.8)]
    row = build(trials, answers("b5-0000", correct), (finals, predictions))[1]
    assert (row["repeats"], row["diff_to_best"]) == (2, 0)


def test_images_pair_by_id_whatever_their_order() -> None:
    best = answers("b5-0000", [[1, 0, 1], [1, 0, 0]])
    finals, predictions = answers("b5-0001", [[1, 0, 1], [1, 0, 0]])
    row = build([trial("b5-0000", 0.9), trial("b5-0001", 0.8)], best, (finals, predictions[::-1]))[
        1
    ]
    assert (row["diff_ci_low"], row["diff_ci_high"]) == (0, 0)


def test_rows_without_a_common_repeat_or_image_are_not_compared() -> None:
    best = answers("b5-0000", [[1, 1]])
    finals, predictions = answers("b5-0001", [[1, 1], [0, 1]])
    later = finals[1:], predictions[2:]
    elsewhere = finals, [p | {"image_id": f"other-{p['image_id']}"} for p in predictions]
    for tested in (later, elsewhere):
        row = build([trial("b5-0000", 0.9), trial("b5-0001", 0.8)], best, tested)[1]
        assert row["test_accuracy"] is not None
        assert row["diff_to_best"] is None


def test_repeat_counts_once_both_tables_hold_it() -> None:
    finals, predictions = answers("b5-0000", [[1, 1], [0, 0]])
    trials = [trial("b5-0000", 0.9)]
    assert build(trials, (finals[:1], predictions))[0]["repeats"] == 1
    assert build(trials, (finals, predictions[:2]))[0]["repeats"] == 1
    assert build(trials, ([], predictions))[0]["repeats"] is None
    assert build(trials, (finals, []))[0]["repeats"] is None


def test_repeats_that_share_no_image_have_no_score() -> None:
    finals, predictions = answers("b5-0000", [[1, 1], [0, 0]])
    row = build([trial("b5-0000", 0.9)], (finals, [predictions[0], predictions[3]]))[0]
    assert row["test_accuracy"] is None


def test_image_without_a_prediction_counts_as_wrong() -> None:
    finals, predictions = answers("b5-0000", [[1, 1], [1, 1]])
    predictions[0]["predicted"] = None
    assert build([trial("b5-0000", 0.9)], (finals, predictions))[0]["test_accuracy"] == 0.75


def test_several_sweeps_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="several sweeps"):
        build([trial("b5-0000", 0.9), trial("b5-0000", 0.9, sweep_id="other")])


def test_unknown_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="'f1' is not a valid Metric"):
        build([trial("b5-0000", 0.9, objective="f1")])


def test_the_pick_of_a_budget_is_the_first_ranked_row_with_a_test_score() -> None:
    rows = build(
        [
            *(trial("b2-0000", 0.5), trial("b2-0001", 0.6), trial("b2-pixels", 1, method="pixels")),
            *(trial(f"b5-000{i}", value) for i, value in enumerate((0.9, 0.8, 0.7))),
            trial("b10-pixels", 0.9, method="pixels"),
        ],
        answers("b2-pixels", [[1, 1]]),
        answers("b5-0001", [[0, 1]]),
        answers("b5-0002", [[1, 1]]),
    )
    assert ids(recommended_rows(rows)) == ["b2-0001", "b5-0001"]
    assert recommended_rows(rows)[1] == next(row for row in rows if row["trial_id"] == "b5-0001")


def test_a_pick_may_be_a_probe_and_each_method_has_its_own() -> None:
    rows = build(
        [
            trial("b5-0000", 0.8),
            trial("b5-0001", 0.7),
            trial("b5-probe-a", 0.9, method="probe"),
            trial("b5-probe-b", 0.95, method="probe"),
        ],
        answers("b5-0001", [[0, 1]]),
        answers("b5-probe-a", [[0, 1]]),
    )
    assert ids(recommended_rows(rows)) == ["b5-probe-a"]
    assert ids(recommended_rows(rows, method="finetune")) == ["b5-0001"]
    assert ids(recommended_rows(rows, method="probe")) == ["b5-probe-a"]


def predicted(
    trial_id: str, labels: str, correct: Sequence[Sequence[int]], *, probability: float = 0.5
) -> tuple[list[Row], list[Row]]:
    """Rows of finals and predictions of images with these labels, one letter a class."""
    finals, predictions = answers(trial_id, correct)
    for row in predictions:
        row["label"] = labels[int(row["image_id"][1:])]
        row["predicted"] = row["label"] if row["predicted"] == "cat" else "?"
        row["label_probability"] = probability
    return finals, predictions


def test_balanced_accuracy_has_its_own_score_interval_and_differences() -> None:
    labels, one = "aaaab", [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    other = [[1, 1, 0, 0, 1], [1, 0, 1, 1, 0]]
    first, second = build(
        [trial(f"b5-000{n}", 0.9 - n / 10, objective="balanced_accuracy") for n in range(2)],
        predicted("b5-0000", labels, one),
        predicted("b5-0001", labels, other),
    )
    assert first["metric"] == second["metric"] == "balanced_accuracy"
    classes = np.array([0, 0, 0, 0, 1])
    interval = interval_of(np.array(one), classes=classes)
    assert first["test_score"] == pytest.approx((3.5 / 4 + 1 / 2) / 2)
    assert [first[c] for c in TEST_COLUMNS if c.startswith("test_ci")] == list(interval[1:])
    assert first["test_accuracy"] == pytest.approx(8 / 10)
    difference = difference_of(np.array(other), np.array(one), classes=classes)
    found = (second["diff_to_best"], second["diff_ci_low"], second["diff_ci_high"])
    assert found == pytest.approx(tuple(difference))
    assert second["tied_with_best"] is difference.holds_zero


def test_log_loss_is_of_the_probability_of_the_label() -> None:
    tested = [
        predicted(f"b5-000{n}", "ab", [[1, 0], [1, 1]], probability=p)
        for n, p in enumerate((0.5, 0.25))
    ]
    tested[0][1][0]["label_probability"] = 0.0  # rounded, as 32-bit numbers are
    first, second = build(
        [trial(f"b5-000{n}", 0.1 + n, objective="log_loss") for n in range(2)], *tested
    )
    rounded = -math.log(np.finfo(np.float32).smallest_subnormal)
    assert first["test_score"] == pytest.approx((rounded + 3 * math.log(2)) / 4)
    assert second["test_score"] == pytest.approx(math.log(4))
    assert second["test_accuracy"] == 0.75
    assert second["diff_to_best"] == pytest.approx(second["test_score"] - first["test_score"])


def test_an_image_without_a_probability_is_left_out_of_a_log_loss() -> None:
    finals, predictions = predicted("b5-0000", "ab", [[1, 0], [1, 1]])
    predictions[0]["label_probability"] = None
    predictions[1]["label_probability"] = 0.25
    (row,) = build([trial("b5-0000", 0.1, objective="log_loss")], (finals, predictions))
    assert row["test_score"] == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_no_ranked_rows_make_no_picks() -> None:
    assert recommended_rows([]) == []
    assert recommended_rows(build([trial("b5-pixels", 0.9, method="pixels")])) == []
