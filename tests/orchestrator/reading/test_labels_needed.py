from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from orchestrator.reading.labels_needed import LabelsNeeded, find_labels_needed
from orchestrator.reading.learning_curve import Labels, Place
from orchestrator.recording.leaderboard import build_leaderboard
from tests.orchestrator.recording.test_leaderboard import answers, table, trial

Answers = Sequence[Sequence[int]]


def share(right: int, of: int = 100) -> list[int]:
    """`right` answers of `of` that are right, the easiest images first."""
    return [1] * right + [0] * (of - right)


def ask(
    tested: Mapping[str, Answers], *, target: float, untested: Sequence[str] = (), **changes: Any
) -> list[LabelsNeeded]:
    """What trials with these answers on the test set say; validation prefers them in order."""
    trials = [
        trial(
            trial_id,
            0.9 - 0.01 * number,
            method="probe" if "probe" in trial_id else "finetune",
            **changes.get(trial_id.replace("-", "_"), {}),
        )
        for number, trial_id in enumerate([*untested, *tested])
    ]
    made = [answers(trial_id, correct) for trial_id, correct in tested.items()]
    finals = table("finals", [row for rows, _ in made for row in rows])
    predictions = table("predictions", [row for _, rows in made for row in rows])
    rows = build_leaderboard(table("trials", trials), finals, predictions)
    return find_labels_needed("s", rows, finals, predictions, target=target)


def ask_one(tested: Mapping[str, Answers], *, target: float, **options: Any) -> LabelsNeeded:
    (found,) = ask(tested, target=target, **options)
    return found


def test_the_error_is_linear_in_log_labels_between_budgets() -> None:
    found = ask_one({"b4-0000": [share(80)] * 3, "b16-0000": [share(90)] * 3}, target=0.85)
    assert found.needed.place is Place.WITHIN
    assert found.needed.labels_per_class == pytest.approx(8)  # halfway from 4 to 16 by factors
    assert (found.method, found.target, found.num_images) == ("finetune", 0.85, 100)
    assert found.metric == "accuracy"
    assert [point.label_budget for point in found.curve] == [4.0, 16.0]
    assert [point.test_score for point in found.curve] == pytest.approx([0.8, 0.9])


def test_a_target_met_at_a_budget_takes_that_budget() -> None:
    tested = {"b2-0000": [share(80)], "b5-0000": [share(90)], "b20-0000": [share(95)]}
    assert ask_one(tested, target=0.9).needed == Labels(Place.WITHIN, 5.0)


def test_what_falls_with_more_labels_is_pooled_rather_than_believed() -> None:
    tested = {
        "b1-0000": [share(80)],
        "b2-0000": [share(90)],
        "b4-0000": [share(86)],  # with b2: 88
        "b8-0000": [share(92)],
    }
    found = ask_one(tested, target=0.9)
    assert found.needed.labels_per_class == pytest.approx(4 * 2**0.5)  # halfway from 88 to 92
    assert ask_one(tested, target=0.84).needed.labels_per_class == pytest.approx(2**0.5)
    assert [point.test_score for point in found.curve] == pytest.approx([0.8, 0.9, 0.86, 0.92])


def test_nothing_is_claimed_beyond_the_largest_budget() -> None:
    found = ask_one({"b2-0000": [share(50)] * 2, "b20-0000": [share(60)] * 2}, target=0.95)
    assert found.needed == found.low == found.high == Labels(Place.BEYOND, 20.0)
    assert found.text == "not reached by 20 labels per class (95 %: more than 20)"


def test_nothing_is_claimed_below_the_smallest_budget() -> None:
    found = ask_one({"b2-0000": [share(90)] * 2, "b20-0000": [share(95)] * 2}, target=0.5)
    assert found.needed == found.low == found.high == Labels(Place.SMALLEST, 2.0)
    assert found.text == "2 or fewer labels per class (95 %: 2 or fewer)"


def test_an_interval_may_reach_past_the_budgets() -> None:
    found = ask_one({"b2-0000": [share(85)] * 2, "b20-0000": [share(90)] * 2}, target=0.88)
    assert found.needed.place is Place.WITHIN
    assert (found.low.place, found.high.place) == (Place.SMALLEST, Place.BEYOND)
    assert found.text == "7.96 labels per class (95 %: 2 or fewer to more than 20)"


def test_one_budget_tells_only_on_which_side_the_target_lies() -> None:
    tested = {"b5-0000": [share(90), share(92)]}
    assert ask_one(tested, target=0.5).needed == Labels(Place.SMALLEST, 5.0)
    assert ask_one(tested, target=0.99).needed == Labels(Place.BEYOND, 5.0)


def test_each_repeat_has_its_own_number() -> None:
    found = ask_one(
        {
            "b4-0000": [share(80), share(80), share(95), share(10)],
            "b16-0000": [share(90), share(100), share(90), share(20)],
        },
        target=0.9,
    )
    assert {repeat: labels.place for repeat, labels in found.per_repeat.items()} == {
        0: Place.WITHIN,
        1: Place.WITHIN,
        2: Place.SMALLEST,  # it falls from 95 to 90: pooled 92.5
        3: Place.BEYOND,
    }
    numbers = [labels.labels_per_class for labels in found.per_repeat.values()]
    assert numbers == pytest.approx([16, 8, 4, 16])


def test_the_interval_holds_the_chance_of_the_test_images() -> None:
    def width(num_images: int) -> float:
        tested = {
            "b1-0000": [share(num_images * 70 // 100, num_images)] * 5,
            "b100-0000": [share(num_images * 99 // 100, num_images)] * 5,
        }
        found = ask_one(tested, target=0.85)
        return found.high.labels_per_class / found.low.labels_per_class

    assert 1.1 < width(1000) < width(100)  # though all repeats agree


def test_the_interval_holds_the_chance_of_the_draws() -> None:
    def width(spread: int) -> float:
        tested = {
            "b1-0000": [share(700 + step * spread, 1000) for step in (-2, -1, 0, 1, 2)],
            "b100-0000": [share(980, 1000)] * 5,
        }
        found = ask_one(tested, target=0.85)
        return found.high.labels_per_class / found.low.labels_per_class

    assert width(60) > 1.5 * width(1)


def test_the_configuration_of_a_budget_is_chosen_by_validation_not_by_test() -> None:
    tested = {
        "b4-0000": [share(80)],
        "b4-0001": [share(99)],
        "b16-0000": [share(90)],
    }
    found = ask_one(tested, target=0.85, untested=["b16-0009"])
    assert [point.trial_id for point in found.curve] == ["b4-0000", "b16-0000"]


def test_the_best_probe_by_validation_gets_its_own_answer() -> None:
    tested = {
        "b4-0000": [share(90)],
        "b4-probe-a": [share(80)],
        "b4-probe-b": [share(95)],
        "b16-probe-a": [share(90)],
    }
    tuned, probe = ask(tested, target=0.85)
    assert (tuned.method, probe.method) == ("finetune", "probe")
    assert [point.trial_id for point in probe.curve] == ["b4-probe-a", "b16-probe-a"]
    assert probe.needed.labels_per_class == pytest.approx(8)


def test_budgets_are_compared_on_the_repeats_and_images_that_all_have() -> None:
    found = ask_one(
        {"b4-0000": [share(40, 60), share(0, 60)], "b16-0000": [share(60, 80)]}, target=0.8
    )
    assert (list(found.per_repeat), found.num_images) == ([0], 60)
    assert [point.test_score for point in found.curve] == [pytest.approx(40 / 60), 1.0]


def test_a_budget_that_shares_no_repeat_yet_is_left_out() -> None:
    made = [answers("b4-0000", [share(80)]), answers("b16-0000", [share(90), share(90)])]
    finals = [*made[0][0], made[1][0][1]]
    predictions = [*made[0][1], *made[1][1][100:]]
    tables = table("finals", finals), table("predictions", predictions)
    trials = table("trials", [trial("b4-0000", 0.9), trial("b16-0000", 0.9)])
    rows = build_leaderboard(trials, *tables)
    (found,) = find_labels_needed("s", rows, *tables, target=0.85)
    assert [point.label_budget for point in found.curve] == [4.0]


def test_two_studies_of_as_many_labels_count_once() -> None:
    found = ask_one(
        {"b4-0000": [share(80)], "b5-0000": [share(99)], "b16-0000": [share(90)]},
        target=0.85,
        b5_0000={"label_budget": 4.0},
    )
    assert [point.trial_id for point in found.curve] == ["b4-0000", "b16-0000"]


def test_nothing_is_said_where_nothing_was_scored_on_the_test_set() -> None:
    assert ask({}, target=0.9, untested=["b4-0000", "b16-0000"]) == []
    assert ask({}, target=0.9) == []


def test_a_target_of_balanced_accuracy_is_one_of_balanced_accuracy() -> None:
    made = []
    for trial_id, right in (("b4-0000", 2), ("b16-0000", 4)):
        finals, predictions = answers(trial_id, [[1] * 16 + share(right, 4)] * 3)
        for row in predictions:
            if int(row["image_id"][1:]) >= 16:  # four images of a second class
                row["label"] = "owl"
                row["predicted"] = "owl" if row["predicted"] == "cat" else "cat"
        made.append((finals, predictions))
    tables = [
        table(name, made[0][n] + made[1][n]) for n, name in enumerate(["finals", "predictions"])
    ]

    def ask_for(objective: str) -> LabelsNeeded:
        trials = [trial(f"b{labels}-0000", 0.9, objective=objective) for labels in (4, 16)]
        rows = build_leaderboard(table("trials", trials), *tables)
        (found,) = find_labels_needed("s", rows, *tables, target=0.95)
        return found

    balanced, plain, by_loss = map(ask_for, ("balanced_accuracy", "accuracy", "log_loss"))
    assert [point.test_score for point in balanced.curve] == pytest.approx([0.75, 1.0])
    assert balanced.needed.labels_per_class == pytest.approx(4 * 4**0.8)  # 0.2 of 0.25 from 0.75
    assert [point.test_score for point in plain.curve] == pytest.approx([0.9, 1.0])
    assert plain.needed.labels_per_class == pytest.approx(8)
    assert balanced.metric == "balanced_accuracy"
    assert (by_loss.metric, by_loss.needed) == ("accuracy", plain.needed)


def test_where_probes_rank_first_fine_tuning_still_has_its_curve() -> None:
    tested = {
        "b4-probe-a": [share(90)],
        "b4-0000": [share(80)],
        "b16-probe-a": [share(95)],
        "b16-0000": [share(90)],
    }
    tuned, probe = ask(tested, target=0.85)
    assert [point.trial_id for point in tuned.curve] == ["b4-0000", "b16-0000"]
    assert [point.trial_id for point in probe.curve] == ["b4-probe-a", "b16-probe-a"]


LABELS = np.array([2.0, 5.0, 10.0, 20.0])


def simulated(
    accuracies: Sequence[float], rng: np.random.Generator, *, num_images: int, draws: float
) -> NDArray[np.int64]:
    """(budgets, 5 repeats, images) answers whose expected means are `accuracies`.

    An answer is right where budget + draw + image + noise is positive, all of them normal. Of
    the draw's share 0.7 is common to all budgets, as with nested draws.
    """
    hardness = 1.0
    level = norm.ppf(accuracies) * np.sqrt(1 + draws + hardness)
    shared, own = rng.normal(size=(1, 5, 1)), rng.normal(size=(4, 5, 1))
    draw = np.sqrt(draws) * (np.sqrt(0.7) * shared + np.sqrt(0.3) * own)
    image = np.sqrt(hardness) * rng.normal(size=(1, 1, num_images))
    noise = rng.normal(size=(4, 5, num_images))
    return np.asarray(level[:, None, None] + draw + image + noise > 0, dtype=np.int64)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    accuracies, target = [0.85, 0.92, 0.95, 0.97], 0.94
    truth = 5 * 2 ** (2 / 3)  # two thirds of the way from 5 to 10
    rng = np.random.default_rng(0)
    held = []
    for _ in range(150):
        made = simulated(accuracies, rng, num_images=100, draws=0.1)
        tested = {
            f"b{labels:g}-0000": each.tolist() for labels, each in zip(LABELS, made, strict=True)
        }
        found = ask_one(tested, target=target)
        low = 0 if found.low.place is Place.SMALLEST else found.low.labels_per_class
        high = np.inf if found.high.place is Place.BEYOND else found.high.labels_per_class
        held.append(low <= truth <= high)
    assert 0.91 <= np.mean(held) <= 0.995
