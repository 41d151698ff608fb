"""What a space gives a sweep: domains that follow conditions, grids, specs, fingerprints."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import SpaceError
from orchestrator.space import Choice, Fixed, Range, SearchSpace, Value, parse_space
from orchestrator.space.build_space import build_space
from trainable.spec.metrics import Metric
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation

Read = Callable[..., SearchSpace]
FIVE = LabelBudget(5)
CONDITIONAL: dict[str, Any] = {
    "backbone": ["vit_tiny", "resnet_tiny", "mlp"],
    "freeze_depth": {"low": 0, "high": 1, "step": 0.1},
    "lr": {
        "cases": [
            {"when": {"backbone": "vit_*", "freeze_depth": [0.3, 1]}, "values": [1e-4, 1e-3]},
            {"when": {"backbone": "resnet_*"}, "value": 1e-2},
        ]
    },
    "layer_decay": {"values": [0.7, 0.9], "when": {"lr": 1e-2}},
}


def test_the_first_case_whose_conditions_all_hold_gives_the_domain(read: Read) -> None:
    lr = read(CONDITIONAL).axes["lr"]
    choice = Choice((1e-4, 1e-3))
    assert lr.resolve({"backbone": "vit_tiny", "freeze_depth": 1}) == choice
    assert lr.resolve({"backbone": "vit_tiny", "freeze_depth": 0.1 * 3}) == choice
    assert lr.resolve({"backbone": "vit_tiny", "freeze_depth": 0.5}) is None
    assert lr.resolve({"backbone": "resnet_tiny", "freeze_depth": 0.3}) == Fixed(1e-2)
    assert lr.resolve({"backbone": "mlp", "freeze_depth": 1.0}) is None
    assert lr.resolve({}) is None


def test_globs_tell_upper_from_lower_case(read: Read) -> None:
    search = {"backbone": ["A1", "a1"], "lr": {"value": 1, "when": {"backbone": "A?"}}}
    lr = read(search).axes["lr"]
    assert lr.resolve({"backbone": "A1"}) == Fixed(1.0)
    assert lr.resolve({"backbone": "a1"}) is None


def test_the_values_of_a_stepped_range_are_the_decimals_as_written() -> None:
    assert Range(0.0, 0.9, step=0.3).grid() == (0.0, 0.3, 0.6, 0.9)
    assert Range(0.1, 0.7, step=0.1).grid() == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert Range(-1, 3, step=2, integer=True).grid() == (-1, 1, 3)
    assert Range(2, 5, integer=True).grid() == (2, 3, 4, 5)
    assert Range(8, 10, log=True, integer=True).grid() == (8, 9, 10)
    assert Fixed("a").grid() == ("a",)
    assert Choice((1, 2)).grid() == (1, 2)


def test_a_continuous_range_has_no_grid(read: Read) -> None:
    continuous = Range(0.0, 1.0)
    assert continuous.grid() is None
    assert continuous.num_values() is None
    with pytest.raises(ValueError, match=r"no end of values between 0\.0 and 1\.0"):
        continuous.each()
    space = read({"lr": {"low": 0.1, "high": 1}})
    assert space.grid_size() is None
    with pytest.raises(SpaceError, match="pets: no grid; a search axis is a continuous range"):
        space.grid()


def test_the_grid_has_every_combination_in_file_order(read: Read) -> None:
    space = read({"lr": [0.1, 0.2], "optimizer": {"value": "sgd", "when": {"lr": 0.2}}})
    assert list(space.grid()) == [
        {"backbone": "vit_tiny", "lr": 0.1, "freeze_depth": 0.0},
        {"backbone": "vit_tiny", "lr": 0.2, "optimizer": "sgd", "freeze_depth": 0.0},
        {"backbone": "resnet_tiny", "lr": 0.1, "freeze_depth": 0.0},
        {"backbone": "resnet_tiny", "lr": 0.2, "optimizer": "sgd", "freeze_depth": 0.0},
    ]


def test_the_grid_is_as_large_as_its_size_says(read: Read) -> None:
    space = read(CONDITIONAL)
    combinations = list(space.grid())
    assert space.grid_size() == len(combinations) == (9 + 2 * 2) + 11 * 2 + 11
    assert len({json.dumps(params, sort_keys=True) for params in combinations}) == len(combinations)


def test_the_size_of_a_huge_grid_is_counted_without_making_it(read: Read) -> None:
    space = read(
        {
            "steps": {"low": 10, "high": 10**12},
            "lr": {"values": [0.1, 0.2], "when": {"steps": [10, 20]}},
        }
    )
    assert space.grid_size() == 2 * (2 * 2 + (10**12 - 9 - 2))
    assert len([params for params, _ in zip(space.grid(), range(5), strict=False)]) == 5


def test_every_combination_of_a_grid_makes_a_trial(read: Read) -> None:
    space = read(CONDITIONAL)
    assert all(isinstance(space.spec(params, FIVE), TrialSpec) for params in space.grid())


def test_a_spec_takes_params_then_axes_that_are_fixed_then_defaults(read: Read) -> None:
    space = read(
        {"optimizer": "sgd", "freeze_depth": [0, 1], "lr": {"low": 0.1, "high": 1}},
        training={"steps": 50},
        validation={"holdout": 0.25},
        objective={"metric": "log_loss"},
        seed=7,
    )
    params: dict[str, Value] = {"backbone": "vit_tiny", "freeze_depth": 1, "lr": 0.5}
    spec = space.spec(params, FIVE)
    assert spec == TrialSpec(
        backbone="vit_tiny",
        lr=0.5,
        label_budget=FIVE,
        freeze_depth=1.0,
        optimizer="sgd",
        steps=50,
        validation=Validation(folds=None, holdout=0.25),
        objective=Metric.LOG_LOSS,
        seed=7,
    )
    assert type(spec.freeze_depth) is float
    assert space.spec({**params, "optimizer": "sgd"}, FIVE) == spec


def test_axes_that_do_not_apply_take_their_defaults(read: Read) -> None:
    conditional = {"when": {"backbone": "vit_*"}}
    space = read(
        {
            "lr": {"value": 0.5} | conditional,
            "frozen_blocks": {"value": 3} | conditional,
            "batch_size": {"value": 8} | conditional,
        }
    )
    spec = space.spec({"backbone": "vit_tiny"}, FIVE)
    assert (spec.lr, spec.frozen_blocks, spec.freeze_depth, spec.batch_size) == (0.5, 3, None, 8)
    spec = space.spec({"backbone": "resnet_tiny"}, FIVE)
    assert (spec.lr, spec.frozen_blocks, spec.freeze_depth) == (1e-3, None, 0.0)
    assert spec.batch_size == "auto"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "backbone: no value"),
        ({"backbone": "vit"}, "backbone: got 'vit', which its axis does not have"),
        ({"backbone": "mlp", "lr": 0.01}, "lr: does not apply"),
        ({"backbone": "mlp", "lrr": 0.01}, "lrr: does not apply"),
        ({"backbone": "resnet_tiny", "lr": 0.5}, "lr: got 0.5, which its axis does not have"),
        ({"backbone": "mlp", "freeze_depth": 1.5}, "freeze_depth: got 1.5, which its axis"),
        ({"backbone": "mlp", "freeze_depth": "a"}, "freeze_depth: got 'a', which its axis"),
    ],
)
def test_params_that_do_not_fit_the_space_are_refused(
    read: Read, params: dict[str, Any], message: str
) -> None:
    params = params if not params or "freeze_depth" in params else params | {"freeze_depth": 0.2}
    with pytest.raises(SpaceError, match=rf"^pets: .*{message}"):
        read(CONDITIONAL).spec(params, FIVE)


def test_varies_names_the_axes_that_leave_a_choice(read: Read) -> None:
    space = read(
        {
            "backbone": "tiny",
            "lr": {"low": 0.1, "high": 1},
            "warmup": [0.1],
            "optimizer": {"cases": [{"value": "sgd", "when": {"backbone": "t*"}}, "adamw"]},
            "steps": {"cases": [{"values": [8, 9], "when": {"optimizer": "sgd"}}, 50]},
        }
    )
    assert space.varies == ("lr", "steps")


def test_the_fingerprint_ignores_key_order_and_the_spelling_of_numbers() -> None:
    one = """
dataset: {source: digits}
search: {backbone: [a, b], freeze_depth: [0, 1], label_budget: [5]}
training: {steps: 100, warmup: 0}
"""
    other = """
training: {warmup: 0.0, steps: 1e2}
trials: 24
search: {label_budget: 5.0, freeze_depth: {values: [0.0, 1.0]}, backbone: [a, b], lr: 1e-3}
dataset: {source: digits}
pruner: {n_startup_trials: 5}
"""
    first, second = parse_space(one, where="x.yaml"), parse_space(other, where="x.yaml")
    assert first == second
    assert first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"trials": 3}, {"name": "b"}, {"training": {"steps": 99}}, {"baselines": []}],
)
def test_the_fingerprint_tells_different_spaces_apart(read: Read, changes: dict[str, Any]) -> None:
    assert read(**changes).fingerprint() != read().fingerprint()
    assert read({"lr": 0.1}).fingerprint() != read().fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"limits": {"hours": 3, "trial_minutes": 5, "silent_minutes": 2}},
        {"resources": {"max_concurrent": 1}},
        {"cache": "never"},
        {"checkpoint_s": 5},
    ],
)
def test_how_a_sweep_is_conducted_is_no_part_of_its_fingerprint(
    read: Read, changes: dict[str, Any]
) -> None:
    assert read(**changes) != read()
    assert read(**changes).fingerprint() == read().fingerprint()


def test_where_the_images_lie_is_no_part_of_the_fingerprint_but_how_they_are_read_is(
    read: Read,
) -> None:
    def of(**given: Any) -> str:
        return read(dataset={"source": "table", "path": "a.csv", **given}).fingerprint()

    assert of() == of(path="/moved/b.csv") == of(root="/photos")
    assert of() != of(test=0.3)
    assert of() != of(label_column="species")


@pytest.mark.parametrize("given", [None, {}, {"metric": None}])
def test_an_objective_that_the_file_leaves_out_stays_open(
    read: Read, given: dict[str, str | None] | None
) -> None:
    space = read(objective=given)
    assert space.objective_open
    assert "objective" not in space.to_json()
    assert build_space(space.to_json()) == space


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "log_loss"])
def test_an_objective_that_the_file_gives_is_written_out(read: Read, metric: str) -> None:
    space = read({"label_budget": ["all"]}, objective={"metric": metric})
    assert (space.objective, space.objective_open) == (metric, False)
    assert build_space(space.to_json()) == space
