import json
import math
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainable.errors import BackboneError, DataError, SpecError, TrainableError
from trainable.spec.metrics import Metric
from trainable.spec.settings import SETTINGS
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.learner import DivergedError

MINIMAL: Mapping[str, Any] = {
    "backbone": "tiny_strokes",
    "lr": 1e-3,
    "label_budget": 5,
    "freeze_depth": 1.0,
}

budgets = st.one_of(
    st.builds(LabelBudget, per_class=st.integers(1, 10**6)),
    st.builds(LabelBudget, total=st.integers(1, 10**6)),
    st.just(LabelBudget()),
)
shares = st.floats(0.0, 1.0)
freezing = st.one_of(
    st.fixed_dictionaries({"freeze_depth": shares}),
    st.fixed_dictionaries({"frozen_blocks": st.integers(-1, 200)}),
    st.fixed_dictionaries({"train_blocks": st.sampled_from(["1-1", "2-10"])}),
)
specs = st.builds(
    lambda frozen, steps, reports, **rest: TrialSpec(
        **frozen, steps=steps, reports=min(steps, reports), **rest
    ),
    frozen=freezing,
    backbone=st.text(),
    lr=st.floats(0.0, 1e30, exclude_min=True),
    label_budget=budgets,
    validation=st.one_of(
        st.builds(Validation, st.integers(2, 50)),
        st.builds(Validation, st.none(), st.floats(0.0, 1.0, exclude_min=True, exclude_max=True)),
        st.just(Validation(folds=None, outside=True)),
    ),
    objective=st.sampled_from(Metric),
    repeat=st.integers(0, 100),
    seed=st.integers(0, 2**63 - 1),
    steps=st.integers(1, 10**6),
    reports=st.integers(1, 10**6),
    batch_size=st.one_of(st.just("auto"), st.integers(1, 10**4)),
    optimizer=st.sampled_from(["adamw", "sgd"]),
    weight_decay=st.floats(0.0, 1e3),
    layer_decay=st.floats(0.0, 1.0, exclude_min=True),
    warmup=shares,
    label_smoothing=st.floats(0.0, 0.99),
    head_init=st.sampled_from(["auto", "logistic", "zero"]),
    batchnorm=st.sampled_from(["auto", "eval", "train"]),
    interpolation=st.one_of(st.just("auto"), st.floats(0, 1)),
    image_size=st.one_of(st.just("auto"), st.integers(1, 1024)),
    max_length=st.one_of(st.just("auto"), st.integers(4, 512)),
    truncate=st.sampled_from(["head", "head_tail"]),
    prompt=st.text().filter(lambda text: "\0" not in text),
    pooling=st.sampled_from(["auto", "mean", "cls", "last", "max"]),
    dropout=st.one_of(st.just("auto"), st.floats(0.0, 1.0, exclude_max=True)),
    precision=st.sampled_from(["auto", "fp32", "bf16"]),
)


@given(spec=specs)
def test_specs_come_back_from_json_as_they_were(spec: TrialSpec) -> None:
    assert TrialSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_settings_that_came_later_are_left_out_at_their_defaults() -> None:
    """So that what earlier versions wrote, and hashed, is what is written now."""
    assert "interpolation" not in TrialSpec.from_json(MINIMAL).to_json()
    chosen = TrialSpec.from_json({**MINIMAL, "interpolation": 0.5})
    assert chosen.to_json()["interpolation"] == 0.5


def test_knobs_left_out_take_their_defaults() -> None:
    spec = TrialSpec.from_json(MINIMAL)
    assert {name: getattr(spec, name) for name in SETTINGS} == {
        name: setting.default for name, setting in SETTINGS.items()
    }
    assert (spec.validation, spec.objective) == (Validation(3), Metric.ACCURACY)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("steps", 5),
        ("reports", 1),
        ("batch_size", 1),
        ("weight_decay", 0),
        ("layer_decay", 1),
        ("layer_decay", 1e-9),
        ("warmup", 0),
        ("warmup", 1),
        ("label_smoothing", 0.99),
        ("image_size", 1),
        ("max_length", 4),
        ("dropout", 0),
        ("lr", 1e30),
        ("freeze_depth", 0),
        ("repeat", 0),
    ],
)
def test_values_at_the_limits_are_taken(name: str, good: float) -> None:
    assert getattr(TrialSpec.from_json({**MINIMAL, name: good}), name) == good


BAD: list[tuple[str, list[object], str]] = [
    ("steps", [0, 2.5, "auto", True, None, math.nan], "a whole number from 1"),
    ("reports", [0, 1.5, "5"], "a whole number from 1"),
    ("batch_size", [0, -1, 2.5, "big", True, 10**12], "a whole number from 1 to 65536 or auto"),
    ("optimizer", ["adam", 1, None], "one of adamw, sgd"),
    ("weight_decay", [-1e-9, math.inf, "0"], "a number from 0"),
    ("layer_decay", [0.0, 1.01, -1, True], "a number above 0 to 1"),
    ("warmup", [-0.01, 1.01], "a number from 0 to 1"),
    ("label_smoothing", [-0.01, 1.0], "a number from 0 to 0.99"),
    ("head_init", ["random", None], "one of auto, logistic, zero"),
    ("interpolation", [-0.1, 1.1, "1", True, None], "a number from 0 to 1 or auto"),
    ("batchnorm", ["on", True], "one of auto, eval, train"),
    ("trainable", ["some", True], "one of all, bitfit"),
    ("image_size", [0, 7.5, "big", 100_000], "a whole number from 1 to 8192 or auto"),
    ("max_length", [3, 7.5, "long", 513], "a whole number from 4 to 512 or auto"),
    ("truncate", ["tail", "auto", None], "one of head, head_tail"),
    ("prompt", [3, None, "\0"], 'auto or text, "" for none'),
    ("pooling", ["median", None], "one of auto, mean, cls, last, max"),
    ("dropout", [-0.1, 1, "own", None], "a number from 0 and below 1 or auto"),
    ("precision", ["fp16", 32], "one of auto, fp32, bf16"),
    ("lr", [0, -1e-3, math.nan, math.inf, "1e-3", True, None, 10**400], "a number above 0"),
    ("freeze_depth", [-0.1, 1.1, math.nan, "1", True], "a number from 0 to 1"),
    ("repeat", [-1, 0.5, "0"], "a whole number from 0"),
    ("seed", [-1, 0.5, None], "a whole number from 0"),
    ("backbone", [5, None], r"text NAME\[@WEIGHTS\]"),
]


@pytest.mark.parametrize(
    ("name", "bad", "allowed"),
    [(name, value, allowed) for name, values, allowed in BAD for value in values],
)
def test_values_beyond_the_limits_are_refused(name: str, bad: object, allowed: str) -> None:
    with pytest.raises(SpecError, match=rf"^{name}: got .*; allowed: {allowed}(; did you mean|$)"):
        TrialSpec.from_json({**MINIMAL, name: bad})


def test_every_knob_is_among_those_checked() -> None:
    assert set(SETTINGS) <= {name for name, _, _ in BAD}


@pytest.mark.parametrize("bad", [-2, 1.5, "all"])
def test_frozen_blocks_are_minus_one_or_counted(bad: object) -> None:
    data = {**MINIMAL, "freeze_depth": None, "frozen_blocks": bad}
    with pytest.raises(SpecError, match=r"frozen_blocks: got .*; allowed: a whole number from -1"):
        TrialSpec.from_json(data)


@pytest.mark.parametrize("bad", [3, "3", "0-2", "3-2", "1-2-3", "a-b"])
def test_train_blocks_are_a_first_and_a_last(bad: object) -> None:
    data = {**MINIMAL, "freeze_depth": None, "train_blocks": bad}
    with pytest.raises(SpecError, match=r"train_blocks: got .*; allowed: text FIRST-LAST, from 1"):
        TrialSpec.from_json(data)


@pytest.mark.parametrize(
    "given", [(None, None, None), (0.5, 3, None), (0.5, None, "1-2"), (None, 3, "1-2")]
)
def test_exactly_one_way_of_freezing_is_given(given: tuple[object, ...]) -> None:
    ways = ("freeze_depth", "frozen_blocks", "train_blocks")
    data = {**MINIMAL, **dict(zip(ways, given, strict=True))}
    with pytest.raises(SpecError, match=r"^freeze_depth, .*: give exactly one of the three"):
        TrialSpec.from_json(data)


def test_whole_floats_become_integers() -> None:
    spec = TrialSpec.from_json(
        {**MINIMAL, "steps": 20.0, "reports": 5.0, "validation": {"folds": 4.0}}
    )
    assert [type(n) for n in (spec.steps, spec.reports, spec.validation.folds)] == [int] * 3


def test_more_reports_than_steps_are_refused() -> None:
    with pytest.raises(SpecError, match=r"reports: got 6; allowed: at most steps \(5\)"):
        TrialSpec.from_json({**MINIMAL, "steps": 5, "reports": 6})


def test_all_problems_are_told_at_once() -> None:
    data = {
        "backbone": "x",
        "label_budget": 0,
        "freez_depth": 1,
        "steps": 2,
        "warmup": 2,
        "validation": {"folds": 1},
        "objective": "auc",
    }
    with pytest.raises(SpecError, match="unknown") as caught:
        TrialSpec.from_json(data)
    told = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert sorted(told) == sorted(
        [
            "freez_depth",
            "lr",
            "label_budget",
            "validation.folds",
            "objective",
            "warmup",
            "reports",
            "freeze_depth, frozen_blocks, train_blocks",
        ]
    )


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (3, r"validation: got 3; allowed: a mapping such as \{folds: 3\}"),
        ({"fold": 3}, "validation.fold: unknown key; did you mean folds?"),
        ({"a.b": 3}, "validation.'a.b': unknown key; known: folds"),
        ({"folds": 3, "holdout": 0.2}, "validation: got folds and holdout; allowed: one of them"),
        ({"split": "val"}, "validation.outside_budget: the labels of a validation split lie"),
        ({"split": "val", "outside_budget": False}, "say so with outside_budget: true"),
        ({"folds": 3, "outside_budget": True}, "folds and a holdout lie inside the label budget"),
        ({"folds": 1}, r"validation.folds: got 1; allowed: a whole number from 2"),
        ({"folds": 2.5}, r"validation.folds: got 2.5; allowed: a whole number from 2"),
        ({"folds": "3"}, r"validation.folds: got '3'; allowed: a whole number from 2"),
        ({"holdout": 0}, r"validation.holdout: got 0; allowed: a number above 0 and below 1"),
        ({"holdout": 1}, r"validation.holdout: got 1; allowed: a number above 0 and below 1"),
        (
            {"holdout": "half"},
            r"validation.holdout: got 'half'; allowed: a number above 0 and below 1",
        ),
    ],
)
def test_validation_is_folds_or_a_holdout(validation: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TrialSpec.from_json({**MINIMAL, "validation": validation})


def test_validation_without_a_way_is_the_default() -> None:
    assert Validation.parse({}) == Validation.parse({"folds": None}) == Validation(folds=3)


@pytest.mark.parametrize("fields", [{"folds": None}, {"holdout": 0.2}, {"outside": True}])
def test_validation_is_made_in_exactly_one_way(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="validation: give one of folds, holdout, split"):
        Validation(**fields)


@pytest.mark.parametrize(
    "value", [0, -1, 2.5, True, "5", "ALL", None, {"total": 0}, {"total": True}, {"n": 5}, [5]]
)
def test_what_is_no_label_budget_is_refused(value: object) -> None:
    with pytest.raises(SpecError, match=r"^label_budget: got .*from 1, `all`, or {total: N}"):
        TrialSpec.from_json({**MINIMAL, "label_budget": value})


@given(budget=budgets)
def test_label_budgets_come_back_from_json(budget: LabelBudget) -> None:
    assert LabelBudget.parse(json.loads(json.dumps(budget.to_json()))) == budget


@pytest.mark.parametrize(
    ("budget", "study", "text"),
    [
        (LabelBudget(5), "b5", "5"),
        (LabelBudget(total=500), "t500", "500 in all"),
        (LabelBudget(), "all", "all"),
    ],
)
def test_label_budgets_name_their_study(budget: LabelBudget, study: str, text: str) -> None:
    assert (budget.study, str(budget)) == (study, text)


def test_only_log_loss_is_minimised() -> None:
    assert [metric for metric in Metric if not metric.maximize] == [Metric.LOG_LOSS]


@pytest.mark.parametrize("error", [SpecError, DataError, BackboneError, DivergedError])
def test_errors_survive_pickling(error: type[TrainableError]) -> None:
    back = pickle.loads(pickle.dumps(error("lr: got 0")))
    assert type(back) is error
    assert str(back) == "lr: got 0"
