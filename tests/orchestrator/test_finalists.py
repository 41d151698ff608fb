import random
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.finalists import choose_finalists, last_report, rank_key
from trainable.spec import Metric


def _trial(number: int, objective: float, **given: Any) -> FrozenTrial:
    """A complete trial; `backbone`, `depth`, `lr`, `loss` and `params` may be given."""
    spec = {"backbone": given.get("backbone", "a"), "lr": given.get("lr", 0.001 * (number + 1))}
    facts = {
        "spec": spec | {"freeze_depth": given.get("depth", 0) / 10},
        "frozen_boundaries": given.get("depth", 0),
        "trainable_params": given.get("params", 100),
    }
    report = {"val_objective": objective, "val_loss": given.get("loss", 1.0)}
    trial = create_trial(
        state=TrialState.COMPLETE,
        value=objective,
        intermediate_values={0: 0.0, 1: objective},
        user_attrs={"facts": facts, "report/0": {}, "report/1": report},
    )
    trial.number = number
    return trial


def _chosen(trials: list[FrozenTrial], count: int, metric: Metric = Metric.ACCURACY) -> list[int]:
    return [trial.number for trial in choose_finalists(trials, count=count, metric=metric)]


def test_the_best_of_every_backbone_comes_before_the_second_best_of_any() -> None:
    trials = [
        _trial(0, 0.9),
        _trial(1, 0.8, depth=5),
        _trial(2, 0.5, backbone="b"),
        _trial(3, 0.4, backbone="c"),
    ]
    assert _chosen(trials, 3) == [0, 2, 3]


def test_where_backbones_are_too_few_other_depths_follow() -> None:
    trials = [
        _trial(0, 0.9),
        _trial(1, 0.8),
        _trial(2, 0.5, depth=5),
        _trial(3, 0.7, backbone="b"),
    ]
    assert _chosen(trials, 3) == [0, 3, 2]


def test_where_depths_are_too_few_the_next_best_follow() -> None:
    assert _chosen([_trial(0, 0.7), _trial(1, 0.9), _trial(2, 0.8)], 2) == [1, 2]


def test_the_best_of_all_is_always_first() -> None:
    for count in (1, 2, 3):
        trials = [_trial(0, 0.1, backbone="b"), _trial(1, 0.9), _trial(2, 0.5, depth=3)]
        assert _chosen(trials, count)[0] == 1


def test_they_come_best_first_whatever_they_were_chosen_for() -> None:
    trials = [_trial(0, 0.3, backbone="b"), _trial(1, 0.9), _trial(2, 0.5, depth=3)]
    assert _chosen(trials, 3) == [1, 2, 0]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"loss": 0.5}, {"loss": 0.6}),
        ({"params": 10}, {"params": 11}),
        ({"lr": 0.1}, {"lr": 0.2}),
        ({"loss": 0.5, "params": 11}, {"loss": 0.6, "params": 10}),
        ({"params": 10, "lr": 0.2}, {"params": 11, "lr": 0.1}),
    ],
)
def test_ties_go_to_the_lower_loss_then_the_cheaper_then_the_smaller_rate(
    better: dict[str, float], worse: dict[str, float]
) -> None:
    same = {"lr": 0.3}
    trials = [
        _trial(0, 0.9, depth=1, **(same | worse)),
        _trial(1, 0.9, depth=2, **(same | better)),
    ]
    assert _chosen(trials, 2) == [1, 0]


def test_a_full_tie_goes_to_the_earlier_trial() -> None:
    trials = [_trial(4, 0.9, lr=0.1, depth=1), _trial(2, 0.9, lr=0.1, depth=2)]
    assert _chosen(trials, 2) == [2, 4]


def test_the_same_configuration_counts_once() -> None:
    trials = [_trial(0, 0.9, lr=0.1), _trial(1, 0.8, lr=0.1), _trial(2, 0.1, lr=0.2)]
    assert _chosen(trials, 3) == [0, 2]


def test_less_is_better_for_a_loss() -> None:
    trials = [_trial(0, 0.9, loss=0.9), _trial(1, 0.2, loss=0.2), _trial(2, 0.5, loss=0.5)]
    assert _chosen(trials, 3, Metric.LOG_LOSS) == [1, 2, 0]


def test_the_order_in_which_trials_are_given_does_not_matter() -> None:
    pseudo = random.Random(0)
    trials = [
        _trial(
            n, pseudo.choice([0.5, 0.6]), backbone=pseudo.choice("abc"), depth=pseudo.randrange(3)
        )
        for n in range(20)
    ]
    expected = _chosen(trials, 6)
    for _ in range(5):
        pseudo.shuffle(trials)
        assert _chosen(trials, 6) == expected


def test_without_complete_trials_there_are_none() -> None:
    assert _chosen([], 3) == []


def test_the_score_of_a_trial_is_its_last_report() -> None:
    trial = _trial(3, 0.4)
    assert last_report(trial)["val_objective"] == 0.4
    assert rank_key(trial, Metric.ACCURACY) == (-0.4, 1.0, 100, 0.004, 3)
