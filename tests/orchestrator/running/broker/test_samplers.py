import random
from typing import Any

import optuna
import pytest
import yaml
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from orchestrator.running.broker.pruners import make_pruner
from orchestrator.running.broker.samplers import (
    make_sampler,
    optuna_params,
    parameter_name,
    suggest,
)
from orchestrator.space import SearchSpace, parse_space

CONDITIONAL = {
    "backbone": ["vit_tiny", "resnet_tiny"],
    "freeze_depth": 1.0,
    "lr": {
        "cases": [
            {"when": {"backbone": "vit_*"}, "low": 1e-4, "high": 1e-3, "log": True},
            {"low": 1e-3, "high": 1e-1, "log": True},
        ]
    },
    "optimizer": {"cases": [{"when": {"backbone": "vit_*"}, "value": "adamw"}, {"value": "sgd"}]},
    "layer_decay": {"when": {"backbone": "vit_*"}, "values": [0.6, 0.8]},
    "steps": {"low": 20, "high": 60, "step": 20},
    "label_budget": [5],
}


def _space(search: dict[str, Any] | None = None, **top: Any) -> SearchSpace:
    values = {"dataset": {"source": "digits"}, "search": search or CONDITIONAL} | top
    return parse_space(yaml.safe_dump(values, sort_keys=False), where="pets.yaml")


def _study(space: SearchSpace, *, told: int) -> optuna.Study:
    """A study with a history of trials, each asked for as the broker does."""
    study = optuna.create_study(direction="maximize")
    for number in range(told):
        trial = _ask(study, space, number=number)
        pseudo = random.Random(number)
        if number % 4 == 3:
            trial.report(pseudo.random(), step=0)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, pseudo.random())
    return study


def _ask(study: optuna.Study, space: SearchSpace, *, number: int, name: str = "b5") -> optuna.Trial:
    study.sampler = make_sampler(space, study=name, number=number)
    trial = study.ask()
    suggest(space, trial)
    return trial


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_ask_depends_on_nothing_but_seed_study_number_and_told_history(sampler: str) -> None:
    space = _space(sampler={"name": sampler}, seed=3)
    first, again = (_study(space, told=14) for _ in range(2))
    # Draws from global generators in between must not matter.
    random.seed(1)
    asked = _ask(first, space, number=14).params
    random.seed(2)
    assert _ask(again, space, number=14).params == asked


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_another_seed_study_or_number_asks_for_something_else(sampler: str) -> None:
    def ask(*, seed: int = 3, name: str = "b5", number: int = 14) -> dict[str, Any]:
        space = _space(sampler={"name": sampler}, seed=seed)
        study = _study(_space(sampler={"name": sampler}, seed=3), told=14)
        return _ask(study, space, number=number, name=name).params

    asked = [ask(), ask(seed=4), ask(name="b10"), ask(number=15)]
    assert len({str(sorted(params.items())) for params in asked}) == 4


def test_random_asks_ignore_the_told_history() -> None:
    space = _space(sampler={"name": "random"})
    params = [_ask(_study(space, told=told), space, number=14).params for told in (0, 14)]
    assert params[0] == params[1]


def test_tpe_asks_learn_from_the_told_history() -> None:
    space = _space(sampler={"name": "tpe"})
    params = [_ask(_study(space, told=told), space, number=14).params for told in (12, 14)]
    assert params[0] != params[1]


def test_the_sampler_is_the_one_named_in_the_file() -> None:
    def sampler(given: dict[str, Any], search: dict[str, Any] | None = None) -> object:
        return make_sampler(_space(search, sampler=given), study="b5", number=0)

    discrete = {"backbone": ["vit_tiny", "resnet_tiny"], "lr": [0.1, 0.2], "label_budget": [5]}
    tpe = sampler({"name": "tpe", "n_startup_trials": 4})
    assert isinstance(tpe, TPESampler)
    assert tpe._n_startup_trials == 4
    assert isinstance(sampler({"name": "random"}), RandomSampler)
    assert isinstance(sampler({"name": "grid"}, discrete), RandomSampler)


def test_cases_with_different_domains_are_different_parameters() -> None:
    space = _space()
    lr = space.axes["lr"]
    assert [parameter_name("lr", lr, domain) for domain in lr.domains] == ["lr[0]", "lr[1]"]
    layer_decay = space.axes["layer_decay"]
    assert parameter_name("layer_decay", layer_decay, layer_decay.domains[0]) == "layer_decay"


def test_only_the_axes_that_apply_are_suggested() -> None:
    space = _space(sampler={"name": "random"})
    study = optuna.create_study()
    for number in range(30):
        trial = _ask(study, space, number=number)
        params = suggest(space, trial)
        vit = params["backbone"] == "vit_tiny"
        assert ("layer_decay" in params) == vit
        assert ("lr[0]" in trial.params) == vit
        assert ("lr[1]" in trial.params) != vit
        assert (params["lr"] <= 1e-3) == vit
        assert params["optimizer"] == ("adamw" if vit else "sgd")
        assert params["steps"] in {20, 40, 60}
        assert space.spec(params, space.label_budgets[0]).lr == params["lr"]
    backbones = {trial.params["backbone"] for trial in study.get_trials()}
    assert backbones == {"vit_tiny", "resnet_tiny"}


def test_axes_with_one_value_are_no_parameters_of_the_study() -> None:
    space = _space(sampler={"name": "random"})
    trial = _ask(optuna.create_study(), space, number=0)
    assert suggest(space, trial)["freeze_depth"] == 1.0
    assert not {"freeze_depth", "optimizer"} & set(trial.params)


def test_values_that_were_suggested_once_are_suggested_again() -> None:
    space = _space(sampler={"name": "tpe"})
    study = optuna.create_study()
    trial = _ask(study, space, number=0)
    study.sampler = make_sampler(space, study="other", number=9)
    assert suggest(space, optuna.Trial(study, trial._trial_id)) == suggest(space, trial)


def test_enqueued_params_come_back_as_they_were() -> None:
    space = _space(sampler={"name": "random"})
    study = optuna.create_study()
    params = suggest(space, _ask(study, space, number=0))
    study.enqueue_trial(optuna_params(params, space))
    again = _ask(study, space, number=1)
    assert suggest(space, again) == params
    assert again.number == 1


def test_all_domains_of_the_axes_can_be_asked_in_one_study() -> None:
    # Optuna refuses a second domain of the same parameter.
    space = _space(sampler={"name": "tpe", "n_startup_trials": 2})
    study = _study(space, told=20)
    names = {name for trial in study.get_trials() for name in trial.params}
    assert names == {"backbone", "lr[0]", "lr[1]", "layer_decay", "steps"}


def _pruner(**given: Any) -> BasePruner:
    return make_pruner(_space(pruner=given), reports=9)


def test_the_median_pruner_takes_its_settings() -> None:
    pruner = _pruner(name="median", n_startup_trials=7, n_warmup_steps=2)
    assert isinstance(pruner, PercentilePruner)
    assert (pruner._percentile, pruner._n_startup_trials, pruner._n_warmup_steps) == (50.0, 7, 2)


def test_the_percentile_pruner_takes_its_settings() -> None:
    pruner = _pruner(name="percentile", percentile=30, n_startup_trials=7, n_warmup_steps=2)
    assert isinstance(pruner, PercentilePruner)
    assert (pruner._percentile, pruner._n_startup_trials, pruner._n_warmup_steps) == (30.0, 7, 2)


def test_the_hyperband_pruner_takes_its_settings_and_the_number_of_reports() -> None:
    pruner = _pruner(name="hyperband", reduction_factor=2, min_resource=2)
    assert type(pruner) is HyperbandPruner
    assert (pruner._min_resource, pruner._max_resource, pruner._reduction_factor) == (2, 9, 2)


def test_the_successive_halving_pruner_takes_its_settings() -> None:
    pruner = _pruner(name="successive_halving", reduction_factor=2, min_resource=3)
    assert type(pruner) is SuccessiveHalvingPruner
    assert (pruner._min_resource, pruner._reduction_factor) == (3, 2)


def test_without_a_pruner_nothing_is_pruned() -> None:
    assert type(_pruner(name="none")) is NopPruner


HASTY: dict[str, dict[str, Any]] = {
    "median": {"name": "median", "n_startup_trials": 1},
    "percentile": {"name": "percentile", "percentile": 50.0, "n_startup_trials": 1},
    "hyperband": {"name": "hyperband", "reduction_factor": 2},
    "successive_halving": {"name": "successive_halving", "reduction_factor": 2},
}


def _reports_pruned_at(space: SearchSpace, reports: int, *, trials: int = 12) -> set[int]:
    """Reports at which the pruner ends trials, each of which is worse than the one before.

    Report 0 is the start. As in a sweep, a trial is never pruned at its last report.
    """
    study = optuna.create_study(
        direction="maximize",
        pruner=make_pruner(space, reports=reports),
        sampler=RandomSampler(seed=0),
        study_name="b5",
    )
    pruned = set()
    for number in range(trials):
        trial = study.ask()
        for report in range(reports + 1):
            trial.report(-float(number), step=report)
            if report < reports and trial.should_prune():
                pruned.add(report)
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, -float(number))
    return pruned


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("name", HASTY)
@pytest.mark.parametrize("reports", range(1, 21))
def test_by_default_hopeless_trials_are_pruned_at_half_of_their_steps_and_none_before(
    name: str, reports: int, factor: int
) -> None:
    own = {"reduction_factor": factor} if "reduction_factor" in HASTY[name] else {}
    pruned = _reports_pruned_at(_space(pruner=HASTY[name] | own), reports)
    assert all(report / reports >= 0.5 for report in pruned)
    assert bool(pruned) == (reports > 1)  # no trial is pruned at its last report


@pytest.mark.parametrize("name", HASTY)
def test_if_the_number_of_reports_varies_no_trial_is_pruned_before_half_of_its_steps(
    name: str,
) -> None:
    for most in range(1, 21):
        pruner = make_pruner(_space(pruner=HASTY[name]), reports=most)
        for fewer in range(1, most + 1):
            study = optuna.create_study(direction="maximize", pruner=pruner)
            for number in range(6):
                trial = study.ask()
                for report in range(fewer + 1):
                    trial.report(-float(number), step=report)
                    assert report / fewer >= 0.5 or not trial.should_prune()
                study.tell(trial, -float(number))


@pytest.mark.parametrize(("name", "lost"), [("median", 0.1), ("percentile", 0.1), ("median", 0.0)])
def test_a_shared_start_does_not_save_a_trial_that_only_gets_worse(name: str, lost: float) -> None:
    pruner = make_pruner(_space(pruner=HASTY[name]), reports=4)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for loss in (0.0, lost):
        trial = study.ask()
        for report, put_objects in enumerate((0.0, 0.5, 1.0)):
            trial.report(0.8 - put_objects * loss, step=report)
        if not loss:
            study.tell(trial, 0.8)
    assert trial.should_prune() == (lost > 0)
    assert max(trial._cached_frozen_trial.intermediate_values.values()) == 0.8


def test_a_trial_is_judged_by_its_start_if_the_file_asks_for_that() -> None:
    pruner = make_pruner(_space(pruner=HASTY["median"] | {"n_warmup_steps": 0}), reports=4)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    first, worse = study.ask(), study.ask()
    first.report(0.8, step=0)
    study.tell(first, 0.8)
    worse.report(0.7, step=0)
    assert worse.should_prune()


def test_pruning_begins_as_early_as_the_file_says() -> None:
    for name in ("median", "percentile"):
        space = _space(pruner=HASTY[name] | {"n_warmup_steps": 0})
        assert _reports_pruned_at(space, 10) == {0}
    for name in ("hyperband", "successive_halving"):
        space = _space(pruner=HASTY[name] | {"min_resource": 1})
        assert min(_reports_pruned_at(space, 10)) == 1


def test_a_first_rung_behind_the_last_report_prunes_no_trial() -> None:
    for name in ("hyperband", "successive_halving"):
        assert not _reports_pruned_at(_space(pruner=HASTY[name] | {"min_resource": 30}), 10)
