from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.reading.answer import answer
from orchestrator.recording.table_schemas import SCHEMAS

Row = dict[str, Any]


def _row(study: str, **values: Any) -> Row:
    known: Row = dict.fromkeys(SCHEMAS["leaderboard"].names)
    budget = float(study[1:]) if study[1:].isdigit() else 79.7
    known |= {"study": study, "label_budget": budget, "method": "finetune", "metric": "accuracy"}
    return known | values


def _ranked(
    study: str,
    rank: int = 1,
    *,
    test: tuple[float, float, float] | None = (0.9743, 0.965, 0.982),
    diff: tuple[float, float, float] | None = None,
    **values: Any,
) -> Row:
    row = _row(study, rank=rank, trial_id=f"{study}-{rank:04d}", backbone="tiny_strokes")
    row |= {"freeze_depth": 0.75, "lr": 0.00123, "val_objective": 0.951, "num_val": 120}
    return row | _tested(test, diff or ((0, 0, 0) if rank == 1 else None)) | values


def _probe(
    study: str,
    rank: int = 9,
    *,
    test: tuple[float, float, float] | None = (0.971, 0.962, 0.979),
    diff: tuple[float, float, float] | None = None,
    **values: Any,
) -> Row:
    row = _row(study, rank=rank, trial_id=f"{study}-probe-{rank}", method="probe")
    row |= {"backbone": "tiny_strokes", "freeze_depth": 1.0, "val_objective": 0.9, "num_val": 120}
    return row | _tested(test, diff or ((0, 0, 0) if rank == 1 else None)) | values


def _pixels(study: str, *, test: tuple[float, float, float] | None = (0.5, 0.4, 0.6)) -> Row:
    row = _row(study, trial_id=f"{study}-pixels", method="pixels")
    return row | _tested(test, (-0.4, -0.5, -0.3))


def _tested(
    test: tuple[float, float, float] | None, diff: tuple[float, float, float] | None
) -> Row:
    row: Row = {}
    if test:
        names = ("test_score", "test_ci_low", "test_ci_high")
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
    run: str = "runs/lowdata",
) -> list[str]:
    lines = answer(rows, num_test=num_test, run=run)
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
        _probe("b20", diff=(-0.003, -0.0101, 0.0042)),
        _pixels("b20"),
    ]
    assert _answer(rows) == [
        "At 20 labels per class use tiny_strokes, freeze depth 0.75, lr 0.0012: 97.4 % on the "
        "test set (96.5 to 98.2, 5 repeats, 797 test images); "
        "chosen by accuracy in validation on 120 labels; "
        "cannot be told apart from 3 of 3 others tested",
        "Fine-tuning does not beat the linear probe on tiny_strokes, the best probe by validation: "
        "+0.3 points (-0.4 to 1.0)",
        # The sides are hypot(4, 3), hypot(3, 3) and hypot(0.93, 3), hypot(0.77, 4).
        "More labels per class: 2 -> 5: +6.2 points (1.2 to 10.4); "
        "5 -> 20: +3.6 points (0.5 to 7.7); "
        "below 3 labels per class cross-validation says little about which one is best",
        "Tables and journal: runs/lowdata",
        "Next: sft-sweep leaderboard runs/lowdata for more ranks, "
        "sft-sweep export runs/lowdata -o DIR for the model",
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"gain_over_start": 0.0123},
            "training gained 1.2 points over its start, the linear probe,",
        ),
        (
            {"gain_over_start": -0.055},
            "training lost 5.5 points against its start, the linear probe",
        ),
        ({"gain_over_start": 0.0004}, "training gained nothing over its start, the linear probe,"),
        (
            {"gain_over_start": 0.4, "head_init": "zero"},
            "training gained 40.0 points over its start, a head",
        ),
        (
            {"gain_over_start": 0.02, "metric": "log_loss"},
            "training gained 0.020 nats over its start, the linear probe,",
        ),
    ],
)
def test_what_training_added_to_the_start_is_told(values: Row, words: str) -> None:
    row = _ranked("b5") | {"head_init": "logistic"} | values
    for others in ([], [_probe("b5", diff=(-0.003, -0.01, 0.004), metric=row["metric"])]):
        line = _answer([row, *others])[1]
        assert f"; {words}" in line
        assert line.endswith(" by validation")


@pytest.mark.parametrize("modality", ["image", "text"])
def test_what_can_be_exported_is_offered(modality: str) -> None:
    assert "sft-sweep export runs/lowdata -o DIR" in _answer([_ranked("b5", modality=modality)])[-1]


@pytest.mark.parametrize(
    ("collapsed", "clause"),
    [
        (0, None),
        (
            2,
            "training collapsed in 2 of 5 repeats at this rate, and was repeated at lower ones or "
            "left at its start",
        ),
    ],
)
def test_repeats_that_collapsed_are_told(collapsed: int, clause: str | None) -> None:
    assert "collapsed" not in _answer([_ranked("b5", test=None, collapsed=collapsed)])[1]
    for others in ([], [_probe("b5", 1)]):
        rank = 1 + len(others)
        line = _answer([*others, _ranked("b5", rank, collapsed=collapsed)])[1]
        assert [part for part in line.split("; ") if "collapsed" in part] == [clause] * bool(clause)


def test_the_gain_told_is_that_of_the_best_fine_tuned_configuration_where_a_probe_is_first() -> (
    None
):
    tuned = _ranked("b5", 2, diff=(-0.003, -0.01, 0.004), gain_over_start=0.03)
    worse = _ranked("b5", 3, diff=(-0.003, -0.01, 0.004), gain_over_start=0.07)
    line = _answer([_probe("b5", 1), tuned, worse])[1]
    assert "training gained 3.0 points" in line


def test_of_a_start_that_was_not_reported_nothing_is_told() -> None:
    assert not any("training" in line for line in _answer([_ranked("b5", head_init="logistic")]))


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
    rows[1] |= {"test_score": 0.88, "test_ci_low": 0.87, "test_ci_high": 0.89}
    assert "5 -> 10: -2.0 points (-3.4 to -0.6)" in _answer(rows)[2]


def test_single_tie_repeat_and_image_stand_in_the_singular() -> None:
    rows = [_ranked("b5", repeats=1), _ranked("b5", 2, test=(0.9, 0.8, 1), diff=(-0.1, -0.2, 0.1))]
    assert _answer(rows, num_test=1)[0].endswith(
        "(96.5 to 98.2, 1 repeat, 1 test image); chosen by accuracy in validation on 120 labels; "
        "cannot be told apart from 1 of 1 other tested"
    )


def test_ties_count_ranked_rows_and_say_of_how_many() -> None:
    rows = [
        _ranked("b5"),
        _ranked("b5", 2, test=(0.9, 0.8, 1), diff=(-0.1, -0.2, -0.05)),
        _ranked("b5", 3, test=None),
        _probe("b5", 4, diff=(0, -0.1, 0.1)),
        _pixels("b5") | {"tied_with_best": True},
    ]
    assert _answer(rows)[0].endswith("; cannot be told apart from 1 of 2 others tested")
    rows[3]["tied_with_best"] = False
    assert _answer(rows)[0].endswith("; cannot be told apart from 0 of 2 others tested")
    assert "told apart" not in _answer([_ranked("b5"), _pixels("b5")])[0]


def test_unknown_freeze_depth_and_size_of_the_test_set_are_left_out() -> None:
    line = _answer([_ranked("b5", freeze_depth=None, num_val=None)], num_test=None)[0]
    assert line == (
        "At 5 labels per class use tiny_strokes, lr 0.0012: "
        "97.4 % on the test set (96.5 to 98.2, 5 repeats); chosen by accuracy in validation"
    )


@pytest.mark.parametrize(
    ("metric", "first", "second", "third"),
    [
        (
            "balanced_accuracy",
            ": balanced accuracy 71.2 % on the test set (65.0 to 77.0, 5 repeats, 797 test images)"
            "; "
            "chosen by balanced accuracy in validation on 120 labels; ",
            "does not beat the linear probe on tiny_strokes, the best probe by validation: "
            "-2.0 points (-5.0 to 1.0)",
            "2 -> 5: +11.2 points (2.6 to 19.5)",
        ),
        (
            "log_loss",
            ": log loss 0.712 on the test set (0.650 to 0.770, 5 repeats, 797 test images); "
            "chosen by log loss in validation on 120 labels; ",
            "does not beat the linear probe on tiny_strokes, the best probe by validation: "
            "-0.020 nats (-0.050 to 0.010)",
            "2 -> 5: +0.112 nats (0.026 to 0.195)",
        ),
    ],
)
def test_scores_are_those_of_the_objective_by_its_name(
    metric: str, first: str, second: str, third: str
) -> None:
    rows = [
        _ranked("b2", test=(0.6, 0.54, 0.66)),
        _ranked("b5", test=(0.712, 0.65, 0.77)),
        _probe("b5", diff=(0.02, -0.01, 0.05)),
    ]
    lines = _answer([row | {"metric": metric} for row in rows])
    assert first in lines[0]
    assert lines[1].endswith(second)
    assert third in lines[2]  # the sides are hypot(6.2, 6) and hypot(5.8, 6)


def test_a_validation_score_is_that_of_the_objective_too() -> None:
    row = _ranked("b5", test=None, val_objective=0.412, metric="log_loss")
    assert ": log loss 0.412 in validation (120 images), which" in _answer([row])[0]
    line = _answer([row | {"metric": "balanced_accuracy"}])[0]
    assert ": balanced accuracy 41.2 % in validation (120 images), which" in line


@pytest.mark.parametrize(
    ("metric", "diff", "words"),
    [
        ("accuracy", (-0.02, -0.031, -0.0109), "beats P: +2.0 points (1.1 to 3.1)"),
        ("accuracy", (0.02, 0.0109, 0.031), "loses to P: -2.0 points (-3.1 to -1.1)"),
        ("accuracy", (0, 0, 0), "does not beat P: +0.0 points (0.0 to 0.0)"),
        ("accuracy", (0, -0.01, 0.01), "does not beat P: +0.0 points (-1.0 to 1.0)"),
        ("log_loss", (-0.02, -0.031, -0.0109), "loses to P: +0.020 nats (0.011 to 0.031)"),
        ("log_loss", (0.02, 0.0109, 0.031), "beats P: -0.020 nats (-0.031 to -0.011)"),
    ],
)
def test_fine_tuning_is_judged_by_the_paired_interval(
    metric: str, diff: tuple[float, float, float], words: str
) -> None:
    rows = [_ranked("b5"), _probe("b5", diff=diff, backbone="p")]
    line = _answer([row | {"metric": metric} for row in rows])[1]
    probe = "the linear probe on p, the best probe by validation"
    assert line == "Fine-tuning " + words.replace("P", probe)


def test_a_probe_that_ranks_first_is_the_answer() -> None:
    rows = [
        _probe("b5", 1, backbone="p"),
        _ranked("b5", 2, test=(0.94, 0.93, 0.95), diff=(-0.031, -0.05, -0.012)),
        _ranked("b5", 3, test=(0.93, 0.92, 0.94), diff=(-0.04, -0.06, -0.02)),
    ]
    lines = _answer(rows)
    assert lines[0] == (
        "At 5 labels per class use the linear probe on p: 97.1 % on the test set "
        "(96.2 to 97.9, 5 repeats, 797 test images); "
        "chosen by accuracy in validation on 120 labels; "
        "by validation fine-tuning gains nothing over it; "
        "cannot be told apart from 0 of 2 others tested"
    )
    assert lines[1] == (
        "Fine-tuning (tiny_strokes, freeze depth 0.75, lr 0.0012) loses to the linear probe on p, "
        "the best probe by validation: -3.1 points (-5.0 to -1.2)"
    )


def test_where_no_trial_completed_at_a_budget_its_probe_is_the_answer() -> None:
    lines = _answer([_ranked("b5"), _probe("b10", 1)])
    assert lines[0].startswith("At 10 labels per class use the linear probe on tiny_strokes: ")
    assert lines[0].endswith("; no fine-tuned trial completed at this budget")
    assert lines[1] == (
        "Whether fine-tuning gains anything is open: no fine-tuned trial completed at this budget"
    )


def test_a_probe_that_stands_in_for_an_untested_trial_is_not_said_to_win_by_validation() -> None:
    lines = _answer([_ranked("b5", test=None), _probe("b5", 2, diff=(0, 0, 0))])
    assert "gains nothing" not in lines[0]
    assert "; rank 2 by validation, the first with a test score" in lines[0]
    assert lines[1].endswith("is open: there are no test scores of both")


def test_a_comparison_that_passes_over_untested_rows_says_so() -> None:
    rows = [
        _probe("b5", 1, test=None, backbone="untested"),
        _ranked("b5", 2, test=None),
        _ranked("b5", 3, diff=(0, 0, 0), backbone="third"),
        _probe("b5", 4, diff=(-0.02, -0.03, -0.01), backbone="second"),
        _probe("b5", 5, diff=(-0.03, -0.03, -0.01), backbone="other"),
    ]
    assert _answer(rows)[1].startswith(
        "Fine-tuning beats the linear probe on second, the best probe by validation with a test "
        "score: "
    )
    probe_first = [rows[0], rows[1], _probe("b5", 3), _ranked("b5", 4, diff=(-0.1, -0.2, -0.05))]
    probe_first[2] |= _tested((0.9, 0.8, 0.95), (0, 0, 0))
    assert _answer(probe_first)[1].startswith(
        "Fine-tuning (tiny_strokes, freeze depth 0.75, lr 0.0012, the best with a test score) loses"
    )


def test_the_probe_of_the_own_backbone_stands_beside_the_best_one() -> None:
    own = _probe("b5", 3, diff=(-0.02, -0.03, -0.01))
    rows = [_ranked("b5"), _probe("b5", 2, diff=(-0.003, -0.0101, 0.0042), backbone="p"), own]
    assert _answer(rows)[1] == (
        "Fine-tuning does not beat the linear probe on p, the best probe by validation: "
        "+0.3 points (-0.4 to 1.0); over the linear probe on tiny_strokes, the probe of its own "
        "backbone: +2.0 points (1.0 to 3.0)"
    )
    first = [_probe("b5", 1, backbone="p"), _ranked("b5", 2, diff=(-0.1, -0.2, -0.05)), own]
    assert _answer(first)[1].endswith(
        "; the linear probe on tiny_strokes, the probe of its own backbone: 97.1 % (96.2 to 97.9)"
    )
    assert "own backbone" not in _answer([*rows[:2], _probe("b5", 3, test=None)])[1]


def test_image_sizes_are_told_where_a_backbone_has_several() -> None:
    rows = [
        _ranked("b5", image_size=160),
        _probe("b5", 2, diff=(-0.003, -0.01, 0.004), image_size=224),
        _probe("b5", 3, diff=(-0.02, -0.03, -0.01), image_size=160),
    ]
    lines = _answer(rows)
    assert "use tiny_strokes, freeze depth 0.75, lr 0.0012, image size 160: " in lines[0]
    assert "the linear probe on tiny_strokes, image size 224, the best probe by" in lines[1]
    assert "over the linear probe on tiny_strokes, image size 160, the probe of its own" in lines[1]
    (first, *_) = _answer([_probe("b5", 1, image_size=160), _ranked("b5", 2, image_size=224)])
    assert "use the linear probe on tiny_strokes, image size 160: " in first
    assert "image size" not in "".join(_answer([row | {"image_size": 160} for row in rows]))


@pytest.mark.parametrize(
    "rows",
    [
        [_ranked("b5"), _pixels("b5")],
        [_ranked("b5"), _probe("b5", diff=(0, 0, 0)), _ranked("b10")],
    ],
)
def test_raw_pixels_and_probes_of_another_budget_are_not_compared(rows: list[Row]) -> None:
    assert _answer(rows)[1] == (
        "Whether fine-tuning beats a linear probe is open: none was run "
        "(`baselines: [probe]` in the search space)"
    )


def test_probe_without_test_scores_leaves_the_question_open() -> None:
    rows = [_ranked("b5"), _probe("b5", test=None)]
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
    line = _answer([_ranked("b5", test=None, val_objective=None)])[0]
    assert line.endswith(": no test score, so how good it is remains open")
    line = _answer([_ranked("b5", test=None, num_val=None)])[0]
    assert "95.1 % in validation, which flatters" in line


def test_first_ranked_with_a_test_score_is_recommended_and_its_rank_told() -> None:
    rows = [_ranked("b5", test=None), _ranked("b5", 2, diff=(0, 0, 0), backbone="second")]
    line = _answer(rows)[0]
    assert "use second" in line
    assert "; rank 2 by validation, the first with a test score" in line


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
    line = _answer([_ranked("b5"), _pixels("b20")])[0]
    assert line.startswith("At 5 labels per class")
    assert line.endswith("; no trial completed at a larger budget")


def test_no_completed_trial_is_said_first_with_the_way_to_find_out() -> None:
    assert _answer([]) == [
        "No trial completed, so there is nothing to recommend.",
        "Tables and journal: runs/lowdata",
        "Next: sft-sweep status runs/lowdata says why; sft-sweep resume runs/lowdata tries again",
    ]


def test_raw_pixels_stand_in_where_no_trial_completed() -> None:
    rows = [_pixels("b2"), _pixels("b5", test=(0.971, 0.962, 0.979)), _pixels("b10", test=None)]
    assert _answer(rows)[1] == (
        "At 5 labels per class raw pixels reach 97.1 % on the test set (96.2 to 97.9)"
    )
    balanced = [row | {"metric": "balanced_accuracy"} for row in rows]
    assert "raw pixels reach a balanced accuracy of 97.1 % on the test set" in _answer(balanced)[1]
    assert len(_answer([_pixels("b5", test=None)])) == 3


def test_a_baseline_without_a_backbone_that_is_better_is_named_in_the_recommendation() -> None:
    better = _pixels("b5") | _tested((1.0, 0.99, 1.0), (0.164, 0.041, 0.45))
    for rank_1 in (_ranked("b5"), _probe("b5", 1)):
        words = "but raw pixels, without any backbone: +16.4 points (4.1 to 45.0)"
        assert words in _answer([rank_1, better])[0]
    level = _pixels("b5") | _tested((0.98, 0.97, 0.99), (0.01, -0.01, 0.02))
    for baseline in (level, _pixels("b5"), _pixels("b5", test=None)):
        assert "without any backbone" not in _answer([_ranked("b5"), baseline])[0]


def test_a_baseline_without_a_backbone_is_better_where_its_loss_is_less() -> None:
    loss = {"metric": "log_loss"}
    for diff, is_told in (((-0.3, -0.4, -0.2), True), ((0.3, 0.2, 0.4), False)):
        baseline = _pixels("b5") | _tested((0.2, 0.1, 0.3), diff) | loss
        found = _answer([_ranked("b5") | loss, baseline])[0]
        assert ("but raw pixels, without any backbone: -0.300 nats" in found) is is_told


@pytest.mark.parametrize("rows", [[], [_ranked("b5")]])
def test_commands_quote_a_folder_with_spaces(rows: list[Row]) -> None:
    lines = _answer(rows, run="my runs/low data")
    assert lines[-2] == "Tables and journal: my runs/low data"
    assert "'my runs/low data'" in lines[-1]


def test_repeats_with_all_labels_are_said_to_vary_the_seed_alone() -> None:
    (first, *_) = _answer([_ranked("all", test=(0.9, 0.89, 0.91))])
    assert "5 repeats of the seed alone" in first
