from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator import export
from orchestrator.export import Labels, Listener
from orchestrator.export.choice import Choice
from orchestrator.sources import digits
from trainable.backbones import load_weights

SPEC = {"backbone": "tiny_strokes", "label_budget": 5, "seed": 3, "image_size": 12}


@pytest.mark.parametrize(
    ("spec", "precision"),
    [
        (SPEC | {"precision": "bf16"}, "bf16"),
        (SPEC, "fp32"),  # of version 0.1.0, whose probes were all computed so
    ],
)
def test_a_probe_is_exported_at_its_own_image_size_and_precision(
    spec: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(export, "train_probe", lambda *_, **options: given.update(options))
    trial = {"method": "probe", "spec": json.dumps(spec), "params": '{"inverse_penalty": 10.0}'}
    export._train(
        Choice(trial=trial, board=None, finals=(), reason="it was asked for"),
        digits.load(test=None, seed=0),
        load_weights("tiny_strokes"),
        Labels.BUDGET,
        1,
        Listener(tell=lambda _: None, watch=lambda *_: None),
    )
    assert (given["image_size"], given["precision"]) == (12, precision)
    assert (given["inverse_penalty"], given["repeat"], given["seed"]) == (10.0, 1, 3)
