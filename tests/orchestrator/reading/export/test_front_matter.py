from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from orchestrator.reading.export.card import Card
from orchestrator.reading.export.front_matter import front_matter
from trainable.backbones import Weights
from trainable.backbones.weights import TextPreprocessing
from trainable.export.network_kinds import LibraryForm
from trainable.export.written_model import Written

WEIGHTS = Weights(
    backbone="transformers:org/name",
    source="transformers",
    architecture="transformers:org/name",
    version="0123456789ab",
    preprocessing=TextPreprocessing(
        max_length=24, tokenizer="0", pad_id=0, pooling="mean", normalize=False
    ),
    arrays={},
    digest="",
    licence="Apache-2.0",
    modality="text",
)


def metadata(
    weights: Weights, options: dict[str, Any] | None = None, *, task: str = "classification"
) -> dict[str, Any]:
    """The block as the Hub reads it."""
    about = SimpleNamespace(task=task, modality=weights.modality)
    card = cast("Card", SimpleNamespace(weights=weights, model=SimpleNamespace(about=about)))
    lines = front_matter(card, Written(library=LibraryForm(options=options), portable=()))
    assert (lines[0], lines[-1]) == ("---", "---")
    found: dict[str, Any] = yaml.safe_load("\n".join(lines[1:-1]))
    return found


def test_the_hub_learns_task_licence_and_base_model_of_a_network_for_texts() -> None:
    assert metadata(WEIGHTS, {"auto_class": "AutoModel"}) == {
        "license": "apache-2.0",
        "base_model": "org/name",
        "pipeline_tag": "text-classification",
        "library_name": "transformers",
        "tags": ["sft-sweep"],
    }


def test_a_network_that_transformers_cannot_load_is_one_of_pytorch() -> None:
    assert metadata(WEIGHTS)["library_name"] == "pytorch"


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"licence": "a licence of our own"}, "license"),
        ({"licence": None}, "license"),
        ({"version": "none"}, "base_model"),
        ({"architecture": "transformers:/models/mine", "version": "/models/mine"}, "base_model"),
    ],
)
def test_what_the_hub_does_not_know_is_left_out(changed: dict[str, Any], key: str) -> None:
    assert key not in metadata(replace(WEIGHTS, **changed))


@pytest.mark.parametrize(
    ("task", "pipeline"),
    [("classification", "image-classification"), ("segmentation", "image-segmentation")],
)
def test_a_network_for_images_says_so(task: str, pipeline: str) -> None:
    found = metadata(replace(WEIGHTS, modality="image"), task=task)
    assert found["pipeline_tag"] == pipeline
    assert "base_model" not in found
