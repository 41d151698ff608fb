from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.reading.export.card import Card, Labels
from orchestrator.reading.export.card_text import training_section
from trainable.backbones import Weights
from trainable.spec.trial_spec import LabelBudget, TrialSpec


def card(**model: Any) -> Card:
    """The card of a configuration that was measured at a learning rate of 0.002."""
    spec = TrialSpec(
        backbone="tiny_strokes",
        lr=0.002 * (model.get("lr_factor") or 1.0),
        label_budget=LabelBudget(5),
        freeze_depth=0.5,
        steps=60,
        batch_size=16,
        interpolation=model.pop("interpolation", 1.0),
        head_init=model.pop("head_init", "logistic"),
    )
    trial = {
        "spec": json.dumps(spec.to_json() | {"lr": 0.002}),
        "labels_used": 50,
        "objective": "accuracy",
        "selection": "folds=3",
    }
    about = SimpleNamespace(task="classification", modality="image")
    known = {"about": about, "indices": range(50), "spec": spec, "lr_factor": 1.0}
    return Card(
        manifest={},
        choice=cast("Any", SimpleNamespace(trial=trial)),
        labels=Labels.BUDGET,
        repeat=0,
        model=cast("Any", SimpleNamespace(**known | model)),
        class_counts=[25, 25],
        weights=cast("Weights", None),
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"lr_factor": 0.5},
            "its training collapsed at the learning rate of the trial, 0.002, and was repeated at "
            "0.001",
        ),
        (
            {"lr_factor": 0.0},
            "its training collapsed at the learning rate of the trial, 0.002, and at lower ones, "
            "so that nothing of it is kept",
        ),
    ],
)
def test_a_training_that_collapsed_is_told_and_other_settings_are_those_that_were_measured(
    changed: dict[str, Any], expected: str
) -> None:
    told = card(**changed)
    assert told.warnings() == [expected]
    text = "\n".join(training_section(told))
    assert f"Mind: {expected}. Every other setting is the one that was measured" in text


@pytest.mark.parametrize("changed", [{}, {"lr_factor": None}])
def test_otherwise_every_setting_is_the_one_that_was_measured(changed: dict[str, Any]) -> None:
    told = card(**changed)
    assert told.warnings() == []
    text = "\n".join(training_section(told))
    assert "Every setting is the one that was measured" in text
    assert "Mind" not in text


@pytest.mark.parametrize(
    ("head_init", "start"), [("logistic", "a linear probe"), ("zero", "a head of zeros")]
)
@pytest.mark.parametrize("lr_factor", [0.0, None])
def test_a_network_that_kept_nothing_of_training_is_told_as_its_start(
    head_init: str, start: str, lr_factor: float | None
) -> None:
    told = card(lr_factor=lr_factor, head_init=head_init, interpolation=0.0)
    assert (told.is_trained, told.start, told.passes) == (False, start, None)
    text = "\n".join(training_section(told))
    assert f"The weights are those that training started from, {start}" in text
    assert "60 updates of 16 images draw" not in text


def test_updates_are_told_of_a_network_that_was_trained() -> None:
    told = card()
    assert (told.is_trained, told.passes) == (True, 19.2)
    assert (
        "60 updates of 16 images draw each of the 50 training images 19.2 times on average"
        in "\n".join(training_section(told))
    )


def test_a_linear_probe_cannot_collapse() -> None:
    assert card(spec=None, lr_factor=None).warnings() == []
