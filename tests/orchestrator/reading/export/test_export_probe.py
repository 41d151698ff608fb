from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.datasets import digits
from orchestrator.reading import export
from orchestrator.reading.export import Labels, Listener
from orchestrator.reading.export.choice import Choice
from trainable.backbones import load_weights

SPEC = {"backbone": "tiny_strokes", "label_budget": 5, "seed": 3, "image_size": 12}


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Exports a probe of a spec and a repeat; what is asked for it."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(export, "train_probe", lambda *_, **options: given.update(options))

    def export_it(spec: dict[str, Any], repeat: int = 1) -> dict[str, Any]:
        trial = {"method": "probe", "spec": json.dumps(spec), "params": '{"inverse_penalty": 10.0}'}
        export._train(
            Choice(trial=trial, board=None, finals=(), reason="it was asked for"),
            digits.load(test=None, seed=0),
            load_weights("tiny_strokes"),
            Labels.BUDGET,
            repeat,
            Listener(print_message=lambda _: None, watch=lambda *_: None),
        )
        return given

    return export_it


@pytest.mark.parametrize(
    ("penalties", "repeat", "expected"),
    [
        ({"inverse_penalties": [10.0, 0.1]}, 0, 10.0),
        ({"inverse_penalties": [10.0, 0.1]}, 1, 0.1),
        ({"inverse_penalties": [10.0, 0.1]}, 2, 10.0),  # a draw that was not measured
        ({}, 1, 10.0),  # of version 0.1.0, which chose one for all draws
    ],
)
def test_a_probe_is_exported_with_the_penalty_of_its_draw(
    exported: Callable[..., dict[str, Any]],
    penalties: dict[str, Any],
    repeat: int,
    expected: float,
) -> None:
    assert exported(SPEC | penalties, repeat)["inverse_penalty"] == expected


@pytest.mark.parametrize(
    ("spec", "precision"),
    [
        (SPEC | {"precision": "bf16"}, "bf16"),
        (SPEC, "fp32"),  # of version 0.1.0, whose probes were all computed so
    ],
)
def test_a_probe_is_exported_at_its_own_image_size_and_precision(
    exported: Callable[..., dict[str, Any]], spec: dict[str, Any], precision: str
) -> None:
    given = exported(spec)
    assert (given["size"], given["precision"]) == (12, precision)
    assert (given["inverse_penalty"], given["repeat"], given["seed"]) == (10.0, 1, 3)
