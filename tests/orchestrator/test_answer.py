from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.answer import answer
from orchestrator.tables import SCHEMAS

Row = dict[str, Any]


def _row(study: str, **values: Any) -> Row:
    known: Row = dict.fromkeys(SCHEMAS["leaderboard"].names)
    budget = float(study[1:]) if study[1:].isdigit() else 79.7
    return known | {"study": study, "label_budget": budget, "method": "finetune"} | values


def _ranked(
    study: str,
    rank: int = 1,
    *,
    test: tuple[float, float, float] | None = (0.9743, 0.965, 0.982),
    diff: tuple[float, float, float] | None = None,
    **values: Any,
) -> Row:
    row = _row(study, rank=rank, trial_id=f"{study}-{rank:04d}", backbone="tiny_strokes")
    row |= {"freeze_depth": 0.75, "lr": 0.00123, "val_accuracy": 0.951, "num_val": 120}
    return row | _tested(test, diff or ((0, 0, 0) if rank == 1 else None)) | values


def _baseline(
    study: str,
    *,
    test: tuple[float, float, float] | None = (0.971, 0.962, 0.979),
    diff: tuple[float, float, float] | None,
    **values: Any,
) -> Row:
    row = _row(study, trial_id=f"{study}-probe", method="probe", backbone="tiny_strokes")
    return row | _tested(test, diff) | values


def _tested(
    test: tuple[float, float, float] | None, diff: tuple[float, float, float] | None
) -> Row:
    row: Row = {}
    if test:
        names = ("test_accuracy", "test_ci_low", "test_ci_high")
        row |= dict(zip(names, test, strict=True)) | {"repeats": 5}
    if test and diff:
        names = ("diff_to_best", "diff_ci_low", "diff_ci_high")
        row |= dict(zip(names, diff, strict=True))
        row["tied_with_best"] = diff[1] <= 0 <= diff[2]
    return row


def _answer(
    rows: Sequence[Row],
    *,
    num_test: int | None = 797,
    objective: str = "accuracy",
    run: str = "runs/lowdata",
) -> list[str]:
    lines = answer(rows, num_test=num_test, objective=objective, run=run)
    assert len(lines) <= 5
    assert not any("\n" in line or "None" in line or "nan" in line for line in lines)
    return lines


def test_whole_answer_of_a_sweep_where_everything_ran() -> None:
    rows = [
        _ranked("b2", test=(0.876, 0.846, 0.906)),
        _ranked("b5", test=(0.938, 0.898, 0.968)),
        _ranked("b20"),
        _ranked("b20", 2, test=(0.973, 0.96, 0.98), diff=(-0.001, -0.01, 0.008)),
        _ranked("b20", 3, test=(0.972, 0.96, 0.98), diff=(-0.002, -0.011, 0.007)),
        _ranked("b20", 4, test=None),
        _baseline("b20", diff=(-0.003, -0.0101, 0.0042)),
    ]
    assert _answer(rows) == [
        "At 20 labels per class use tiny_strokes, freeze depth 0.75, lr 0.0012: 97.4 % on the "
        "test set (96.5 to 98.2, 5 repeats, 797 test images); "
        "2 others cannot be told apart from it",
        "Fine-tuning does not beat the best linear probe (tiny_strokes): +0.3 points (-0.4 to 1.0)",
        # The sides are hypot(4, 3), hypot(3, 3) and hypot(0.93, 3), hypot(0.77, 4).
        "More labels per class: 2 -> 5: +6.2 points (1.2 to 10.4); "
        "5 -> 20: +3.6 points (0.5 to 7.7); "
        "below 3 labels per class cross-validation says little about which one is best",
        "Tables and journal: runs/lowdata",
        "Next: sft-sweep leaderboard runs/lowdata for more ranks, "
        "sft-sweep export runs/lowdata -o DIR for the model",
    ]


def test_largest_budget_is_the_last_in_the_leaderboard() -> None:
    assert _answer([_ranked("b5"), _ranked("b10")])[0].startswith("At 10 labels per class use")


@pytest.mark.parametrize(
    ("study", "values", "words"),
    [
        ("b1", {}, "At 1 label per class use "),
        ("t505", {"label_budget": 50.5}, "At 50.5 labels per class use "),
        ("all", {"labels_used": 797}, "With all 797 labels use "),
        ("all", {}, "With all labels use "),
    ],
)
def test_budget_is_put_in_words(study: str, values: Row, words: str) -> None:
    assert _answer([_ranked(study, **values)])[0].startswith(words)


def test_all_labels_are_named_in_the_steps_between_budgets() -> None:
    line = _answer([_ranked("b20", test=(0.9, 0.89, 0.91)), _ranked("all", test=(0.9, 0.89, 0.91))])
    assert line[2] == "More labels per class: 20 -> all: +0.0 points (-1.4 to 1.4)"


def test_more_labels_may_cost_points() -> None:
    rows = [_ranked("b5", test=(0.9, 0.89, 0.91)), _ranked("b10", test=(0.8996, 0.89, 0.91))]
    assert "5 -> 10: +0.0 points (-1.4 to 1.4)" in _answer(rows)[2]
    rows[1] |= {"test_accuracy": 0.88, "test_ci_low": 0.87, "test_ci_high": 0.89}
    assert "5 -> 10: -2.0 points (-3.4 to -0.6)" in _answer(rows)[2]


def test_single_tie_repeat_and_image_stand_in_the_singular() -> None:
    rows = [_ranked("b5", repeats=1), _ranked("b5", 2, test=(0.9, 0.8, 1), diff=(-0.1, -0.2, 0.1))]
    assert _answer(rows, num_test=1)[0].endswith(
        "(96.5 to 98.2, 1 repeat, 1 test image); 1 other cannot be told apart from it"
    )


def test_ties_count_neither_baselines_nor_what_is_clearly_worse() -> None:
    rows = [
        _ranked("b5"),
        _ranked("b5", 2, test=(0.9, 0.8, 1), diff=(-0.1, -0.2, -0.05)),
        _baseline("b5", diff=(0, -0.1, 0.1)),
    ]
    assert "told apart" not in _answer(rows)[0]


def test_unknown_freeze_depth_and_size_of_the_test_set_are_left_out() -> None:
    line = _answer([_ranked("b5", freeze_depth=None)], num_test=None)[0]
    assert line == (
        "At 5 labels per class use tiny_strokes, lr 0.0012: "
        "97.4 % on the test set (96.5 to 98.2, 5 repeats)"
    )


@pytest.mark.parametrize(
    ("objective", "words"),
    [("log_loss", "log loss"), ("balanced_accuracy", "balanced accuracy")],
)
def test_another_objective_is_named_beside_the_test_accuracy(objective: str, words: str) -> None:
    line = _answer([_ranked("b5")], objective=objective)[0]
    assert "97.4 % accuracy on the test set (" in line
    assert line.endswith(f"797 test images), chosen by {words}")


@pytest.mark.parametrize(
    ("diff", "words"),
    [
        ((-0.02, -0.031, -0.0109), "beats the best linear probe (p): +2.0 points (1.1 to 3.1)"),
        ((0.02, 0.0109, 0.031), "loses to the best linear probe (p): -2.0 points (-3.1 to -1.1)"),
        ((0, 0, 0), "does not beat the best linear probe (p): +0.0 points (0.0 to 0.0)"),
        ((0, -0.01, 0.01), "does not beat the best linear probe (p): +0.0 points (-1.0 to 1.0)"),
    ],
)
def test_fine_tuning_is_judged_by_the_paired_interval(
    diff: tuple[float, float, float], words: str
) -> None:
    line = _answer([_ranked("b5"), _baseline("b5", diff=diff, backbone="p")])[1]
    assert line == f"Fine-tuning {words}"


def test_best_probe_is_the_first_with_a_comparison() -> None:
    rows = [
        _ranked("b5"),
        _baseline("b5", test=None, diff=None, backbone="untested"),
        _baseline("b5", diff=(-0.2, -0.3, -0.1), backbone="raw", method="pixels"),
        _baseline("b5", diff=(-0.02, -0.03, -0.01), backbone="second"),
        _baseline("b5", diff=(-0.03, -0.03, -0.01), backbone="third"),
    ]
    assert "(second)" in _answer(rows)[1]


def test_probe_of_another_budget_is_not_compared() -> None:
    rows = [_ranked("b5"), _baseline("b5", diff=(0, 0, 0)), _ranked("b10")]
    assert _answer(rows)[1] == (
        "Whether fine-tuning beats a linear probe is open: none was run "
        "(`baselines: [probe]` in the search space)"
    )


def test_probe_without_test_scores_leaves_the_question_open() -> None:
    rows = [_ranked("b5"), _baseline("b5", test=None, diff=None)]
    assert _answer(rows)[1].endswith("is open: there are no test scores of both")


def test_without_finalists_the_validation_score_is_shown_as_what_it_is() -> None:
    lines = _answer([_ranked("b5", test=None), _ranked("b10", test=None)])
    assert lines[0] == (
        "At 10 labels per class use tiny_strokes, freeze depth 0.75, lr 0.0012: "
        "95.1 % in validation (120 images), which flatters the best of many; "
        "no finalist was scored on the test set"
    )
    assert lines[2] == (
        "What more labels would buy is open: fewer than two budgets have a test score"
    )


def test_without_any_score_the_answer_says_so() -> None:
    line = _answer([_ranked("b5", test=None, val_accuracy=None)])[0]
    assert line.endswith(": no test score, so how good it is remains open")
    line = _answer([_ranked("b5", test=None, num_val=None)])[0]
    assert "95.1 % in validation, which flatters" in line


def test_first_ranked_with_a_test_score_is_recommended_and_its_rank_told() -> None:
    rows = [_ranked("b5", test=None), _ranked("b5", 2, diff=(0, 0, 0), backbone="second")]
    line = _answer(rows)[0]
    assert "use second" in line
    assert line.endswith("; rank 2 by validation, the first with a test score")


def test_one_budget_says_nothing_about_more_labels() -> None:
    assert _answer([_ranked("b5")])[2] == (
        "What more labels would buy is open: one label budget has results "
        "(list several under `label_budget`)"
    )


def test_recommendation_below_three_labels_per_class_carries_a_warning_once() -> None:
    lines = _answer([_ranked("b1"), _ranked("b2")])
    warned = ["below 3 labels per class cross-validation says little" in line for line in lines]
    assert warned == [True, False, False, False, False]
    assert not any("below 3" in line for line in _answer([_ranked("b3"), _ranked("b5")]))


def test_larger_budget_without_a_completed_trial_is_told() -> None:
    line = _answer([_ranked("b5"), _baseline("b20", diff=None)])[0]
    assert line.startswith("At 5 labels per class")
    assert line.endswith("; no trial completed at a larger budget")


def test_no_completed_trial_is_said_first_with_the_way_to_find_out() -> None:
    assert _answer([]) == [
        "No trial completed, so there is nothing to recommend.",
        "Tables and journal: runs/lowdata",
        "Next: sft-sweep status runs/lowdata says why; sft-sweep resume runs/lowdata tries again",
    ]


@pytest.mark.parametrize(
    ("method", "words"),
    [("probe", "a linear probe of tiny_strokes"), ("pixels", "raw pixels")],
)
def test_baselines_stand_in_where_no_trial_completed(method: str, words: str) -> None:
    rows = [
        _baseline("b2", test=(0.5, 0.4, 0.6), diff=None),
        _baseline("b5", test=None, diff=None),
        _baseline("b5", diff=None, method=method),
        _baseline("b5", test=(0.6, 0.5, 0.7), diff=None, method="pixels"),
    ]
    assert _answer(rows)[1] == (
        f"At 5 labels per class {words} reaches 97.1 % on the test set (96.2 to 97.9)"
    )
    assert len(_answer([_baseline("b5", test=None, diff=None)])) == 3


@pytest.mark.parametrize("rows", [[], [_ranked("b5")]])
def test_commands_quote_a_folder_with_spaces(rows: list[Row]) -> None:
    lines = _answer(rows, run="my runs/low data")
    assert lines[-2] == "Tables and journal: my runs/low data"
    assert "'my runs/low data'" in lines[-1]


def test_repeats_with_all_labels_are_said_to_vary_the_seed_alone() -> None:
    (first, *_) = _answer([_ranked("all", test=(0.9, 0.89, 0.91))])
    assert "5 repeats of the seed alone" in first
