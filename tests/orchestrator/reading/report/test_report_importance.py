from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from orchestrator.reading.report.importance import FEWEST_TRIALS, importances

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "backbone": CategoricalDistribution(("a", "b")),
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "decay": FloatDistribution(0.0, 1.0),
}


def study_of(*, trials: int, seed: int = 0) -> optuna.Study:
    """The rate explains nearly all; `decay` applies to backbone b alone, and explains the rest."""
    rng = np.random.default_rng(seed)
    study = optuna.create_study(direction="maximize")
    for number in range(trials):
        backbone, rate, decay = "ab"[number % 2], rng.uniform(-4, -1), rng.random()
        params = {"backbone": backbone, "lr": 10**rate}
        value = rate
        if backbone == "b":
            params["decay"], value = decay, value + decay
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions={name: DISTRIBUTIONS[name] for name in params},
                value=value,
            )
        )
    return study


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_the_axis_that_explains_the_objective_comes_first() -> None:
    found = importances(study_of(trials=40))
    assert found[0].axis == "lr"
    common = {one.axis: one for one in found if not one.conditional}
    assert set(common) == {"backbone", "lr"}
    assert sum(one.share for one in common.values()) == pytest.approx(1.0)
    assert common["lr"].share > 0.8
    assert common["lr"].num_trials == 40


def test_a_conditional_axis_is_weighed_on_the_trials_that_have_it() -> None:
    (decay,) = [one for one in importances(study_of(trials=40)) if one.axis == "decay"]
    assert (decay.conditional, decay.num_trials) == (True, 20)
    assert 0 < decay.share < 0.5


def test_too_few_trials_say_nothing() -> None:
    assert importances(study_of(trials=FEWEST_TRIALS - 1)) == []
    assert importances(optuna.create_study()) == []


def test_pruned_and_failed_trials_do_not_count() -> None:
    study = study_of(trials=20)
    before = importances(study)
    for state in (TrialState.PRUNED, TrialState.FAIL):
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params={"backbone": "a", "lr": 0.1},
                distributions={name: DISTRIBUTIONS[name] for name in ("backbone", "lr")},
            )
        )
    assert importances(study) == before


def test_equal_scores_and_axes_of_one_value_have_no_share() -> None:
    study = optuna.create_study()
    for number in range(10):
        study.add_trial(
            optuna.trial.create_trial(
                params={"only": 1.0, "lr": 10.0 ** -(number % 3 + 1)},
                distributions={"only": FloatDistribution(1.0, 1.0), "lr": DISTRIBUTIONS["lr"]},
                value=float(number % 3),
            )
        )
    assert [one.axis for one in importances(study)] == ["lr"]
    flat = optuna.create_study()
    flat.add_trials([t for t in study.trials if t.value == 0.0] * 5)
    assert importances(flat) == []


def test_of_many_trials_some_are_taken() -> None:
    assert {one.num_trials for one in importances(study_of(trials=400))} <= {150, 75, 74, 76}
