"""What the README of a model says of its licence and of the data it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainable.backbones.naming import few, printable
from trainable.backbones.transformers_models.folder import ModelFolder

_README = "README.md"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Provenance of a model's weights, as its README's front matter has it.

    Attributes:
        licence: of the weights, where it is told.
        pretraining: data they were trained on, where they are told.
    """

    licence: str | None
    pretraining: str | None


def read_card(folder: ModelFolder) -> ModelCard:
    """The model's card; a README that is missing or damaged tells nothing."""
    from huggingface_hub import metadata_load

    path = folder.path / _README
    try:
        told = (metadata_load(path) if path.is_file() else None) or {}
    except Exception:  # a README is for people, and its damage is no reason to refuse a model
        told = {}
    data = _texts(told.get("datasets"))
    licences = _texts(told.get("license_name")) or _texts(told.get("license"))
    return ModelCard(
        licence=few(licences) if licences else None, pretraining=few(data) if data else None
    )


def _texts(told: Any) -> list[str]:
    """One text, or several, as a list; anything else tells nothing."""
    found = told if isinstance(told, list) else [told]
    return [printable(text) for text in found if isinstance(text, str) and text]
