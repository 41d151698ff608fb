"""The kinds of examples: how the bytes of each become inputs of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trainable.backbones import Weights
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import BackboneError
from trainable.modalities.modality import Inputs, Modality

__all__ = ["Inputs", "Modality", "modality_called", "modality_of"]


def _image() -> Modality:
    from trainable.modalities.image.modality import IMAGE

    return IMAGE


def _text() -> Modality:
    from trainable.modalities.text.modality import TEXT

    return TEXT


_MODALITIES: Mapping[str, Callable[[], Modality]] = {"image": _image, "text": _text}


def modality_called(name: str) -> Modality:
    """Return a modality by its name; only this modality's libraries are imported."""
    return _MODALITIES[name]()


def modality_of(examples: LabelledExamples, weights: Weights) -> Modality:
    """Return the modality that examples and a backbone have in common.

    Raises:
        BackboneError: the backbone takes another kind of examples.
    """
    found = modality_called(examples.modality)
    if weights.modality != examples.modality:
        taken = modality_called(weights.modality).nouns
        raise BackboneError(
            f"{weights.backbone} takes {taken}; the examples are {found.nouns}. Choose a backbone "
            f"for {found.nouns}; sft-sweep backbones lists them"
        )
    return found
