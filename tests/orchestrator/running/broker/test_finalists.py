import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.recording.ranking import Standing
from orchestrator.recording.user_attributes import last_report
from orchestrator.running.broker.finalists import choose_finalists, probe_standings, standing
from trainable.spec.metrics import Metric

HEAD = 9
"""Boundaries of every backbone; if all are frozen, the head alone is trained."""


def _trial(number: int, objective: float, **given: Any) -> FrozenTrial:
    """A complete trial with this objective; `backbone`, `depth` and others may be given."""
    spec = {"backbone": given.get("backbone", "a"), "lr": given.get("lr", 0.001 * (number + 1))}
    facts = {
        "spec": spec | {"freeze_depth": given.get("depth", 0) / 10},
        "frozen_boundaries": given.get("depth", 0),
        "num_boundaries": HEAD,
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


def _chosen(
    trials: list[FrozenTrial],
    count: int,
    metric: Metric = Metric.ACCURACY,
    probes: Sequence[Standing] = (),
) -> list[int]:
    chosen = choose_finalists(trials, count=count, metric=metric, probes=probes)
    return [trial.number for trial in chosen]


def _probe(objective: float) -> Standing:
    return Standing(
        objective=objective, is_probe=True, loss=2.0, trainable_params=None, lr=None, trial_id="p"
    )


def test_the_best_head_alone_and_the_best_trained_body_come_before_other_backbones() -> None:
    trials = [
        _trial(0, 0.9, depth=3),
        _trial(1, 0.8),
        _trial(2, 0.6, backbone="b"),
        _trial(3, 0.5, depth=HEAD),
        _trial(4, 0.4, depth=HEAD, backbone="c"),
    ]
    assert _chosen(trials, 1) == [0]
    assert _chosen(trials, 2) == [0, 3]
    assert _chosen(trials, 3) == [0, 2, 3]
    assert _chosen(trials, 4) == [0, 2, 3, 4]
    assert _chosen(
        [_trial(0, 0.9, depth=HEAD), _trial(1, 0.1), _trial(2, 0.5, backbone="b")], 2
    ) == [*(0, 2)]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [(0.49, [0, 3]), (0.5, [0, 2]), (0.7, [0, 2])],
)
def test_no_head_only_trial_is_chosen_if_a_probe_ranks_before_all_of_them(
    objective: float, expected: list[int]
) -> None:
    trials = [_trial(0, 0.9), _trial(2, 0.6, backbone="b"), _trial(3, 0.5, depth=HEAD)]
    assert _chosen(trials, 2, probes=[_probe(0.1), _probe(objective)]) == expected


def test_the_best_trial_is_chosen_even_if_it_is_head_only_and_a_probe_beats_it() -> None:
    trials = [_trial(0, 0.9, depth=HEAD), _trial(1, 0.8, depth=HEAD), _trial(2, 0.1)]
    assert _chosen(trials, 2, probes=[_probe(0.95)]) == [0, 2]


def test_probes_are_read_from_the_study_and_failed_ones_left_out() -> None:
    validation = {"accuracy": 0.8, "balanced_accuracy": 0.7, "log_loss": 0.6}
    attributes = {
        "about": {},
        "final/b5-0001/0": {"task": {}, "result": {}},
        "baseline/pixels": {"task": {"method": "pixels"}, "result": {"validation": validation}},
        "baseline/probe/a": {"task": {"method": "probe"}, "result": {"validation": validation}},
        "baseline/probe/b": {"task": {"method": "probe"}, "result": None},
    }
    (found,) = probe_standings(attributes, Metric.BALANCED_ACCURACY)
    assert (found.trial_id, found.is_probe) == ("baseline/probe/a", True)
    assert (found.objective, found.loss) == (0.7, 0.6)


@st.composite
def _studies(draw: st.DrawFn) -> list[FrozenTrial]:
    """Studies with many ties and equal configurations."""
    return [
        _trial(
            number,
            draw(st.sampled_from([0.25, 0.5, 0.75])),
            backbone=draw(st.sampled_from("abc")),
            depth=draw(st.sampled_from([0, 3, HEAD])),
            lr=draw(st.sampled_from([0.1, 0.2])),
            loss=draw(st.sampled_from([0.5, 1.0])),
        )
        for number in range(draw(st.integers(0, 12)))
    ]


def _order(trial: FrozenTrial) -> tuple[object, ...]:
    return standing(trial).key(Metric.ACCURACY)


@given(
    _studies(),
    st.integers(1, 6),
    st.lists(st.sampled_from([0.2, 0.25, 0.5, 0.8]).map(_probe), max_size=2),
    st.randoms(use_true_random=False),
)
def test_finalists_are_distinct_and_ranked_and_include_the_best(
    trials: list[FrozenTrial], count: int, probes: list[Standing], pseudo: random.Random
) -> None:
    chosen = choose_finalists(trials, count=count, metric=Metric.ACCURACY, probes=probes)
    assert len(chosen) <= count
    specs = [repr(trial.user_attrs["facts"]["spec"]) for trial in chosen]
    distinct = {repr(trial.user_attrs["facts"]["spec"]) for trial in trials}
    assert len(chosen) == len(set(specs)) == min(count, len(distinct))
    assert [*chosen] == sorted(chosen, key=_order)
    if trials:
        assert min(trials, key=_order) in chosen

    shuffled = pseudo.sample(trials, len(trials))
    again = choose_finalists(shuffled, count=count, metric=Metric.ACCURACY, probes=probes)
    assert [trial.number for trial in again] == [trial.number for trial in chosen]

    heads = [t for t in trials if t.user_attrs["facts"]["frozen_boundaries"] == HEAD]
    bodies = [t for t in trials if t not in heads]
    beaten = heads and any(probe.key(Metric.ACCURACY) < min(map(_order, heads)) for probe in probes)
    if count >= 3:
        if bodies:
            assert min(bodies, key=_order) in chosen
        if heads and not beaten:
            assert min(heads, key=_order) in chosen


def test_the_best_of_every_backbone_comes_before_the_second_best_of_any() -> None:
    trials = [
        _trial(0, 0.9),
        _trial(1, 0.8, depth=5),
        _trial(2, 0.5, backbone="b"),
        _trial(3, 0.4, backbone="c"),
    ]
    assert _chosen(trials, 3) == [0, 2, 3]


def test_other_depths_follow_if_backbones_are_too_few() -> None:
    trials = [
        _trial(0, 0.9),
        _trial(1, 0.8),
        _trial(2, 0.5, depth=5),
        _trial(3, 0.7, backbone="b"),
    ]
    assert _chosen(trials, 3) == [0, 3, 2]


def test_the_next_best_follow_if_depths_are_too_few() -> None:
    assert _chosen([_trial(0, 0.7), _trial(1, 0.9), _trial(2, 0.8)], 2) == [1, 2]


def test_the_best_of_all_is_always_first() -> None:
    for count in (1, 2, 3):
        trials = [_trial(0, 0.1, backbone="b"), _trial(1, 0.9), _trial(2, 0.5, depth=3)]
        assert _chosen(trials, count)[0] == 1


def test_finalists_are_sorted_best_first_whatever_they_were_chosen_for() -> None:
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


def test_a_lower_loss_is_better() -> None:
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
    assert standing(trial).key(Metric.ACCURACY)[:5] == (-0.4, True, 1.0, 100, 0.004)
    assert standing(trial).key(Metric.LOG_LOSS)[0] == 0.4
