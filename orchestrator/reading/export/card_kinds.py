"""What the card of a network for one kind of example says; the rest is common to all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from trainable.backbones import Weights
from trainable.export.model_config import ModelConfig
from trainable.export.written_model import Written


class CardKind(Protocol):
    """Cards of networks for one kind of example.

    Attributes:
        pipeline: the task, as the Hugging Face Hub calls it.
        does: what the network does, before the number of classes.
        usage: what `sft-sweep predict DIR` takes, as its help writes it.
        packages: whose versions belong to the provenance.
    """

    pipeline: str
    does: str
    usage: str
    packages: tuple[str, ...]

    def library(self, written: Written) -> str:
        """Return the library that loads the network, as the Hugging Face Hub calls it."""

    def base_model(self, weights: Weights) -> str | None:
        """Return the pretrained model on the Hugging Face Hub, if it is one."""

    def use(self, about: ModelConfig, written: Written) -> list[str]:
        """Return the lines about the use of the network."""

    def facts(self, about: ModelConfig) -> list[tuple[str, object]]:
        """Return rows of the table of what the network is."""

    def preprocessing(self, about: ModelConfig) -> list[str]:
        """Return the lines about the steps from an example to the network's input."""


def _image() -> CardKind:
    from orchestrator.reading.export.image_card import IMAGE

    return IMAGE


def _masks() -> CardKind:
    from orchestrator.reading.export.mask_card import MASKS

    return MASKS


def _text() -> CardKind:
    from orchestrator.reading.export.text_card import TEXT

    return TEXT


_KINDS: Mapping[tuple[str, str], Callable[[], CardKind]] = {
    ("classification", "image"): _image,
    ("classification", "text"): _text,
    ("segmentation", "image"): _masks,
}


def card_kind(about: ModelConfig) -> CardKind:
    """Return the kind of card for a network, by its task and modality."""
    return _KINDS[about.task, about.modality]()
