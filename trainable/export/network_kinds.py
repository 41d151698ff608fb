"""What exports of networks for one kind of example have of their own; the rest is common to all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch import Tensor, fx, nn

from trainable.backbones import Backbone
from trainable.backbones.cutting.split import SplitBackbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.export.exchange_formats import Batch, NetworkInput
from trainable.export.model_config import ModelConfig

T = TypeVar("T")

if TYPE_CHECKING:
    from trainable.export.trained_model import TrainedModel


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedHalves:
    """A backbone that was cut and trained.

    Attributes:
        backbone: as it was pretrained.
        split: as it was cut for training.
        suffix: trained, in eval mode, on the CPU.
        size: of its input; see `Modality`.
        examples: those that it was trained on; their bytes are not needed.
    """

    backbone: Backbone
    split: SplitBackbone
    suffix: fx.GraphModule
    size: int
    examples: LabelledExamples


@dataclass(frozen=True, kw_only=True)
class LibraryForm:
    """How the library that a network comes from takes the written weights.

    Attributes:
        options: keyword arguments for it; None if it has no network that gives the same logits.
        problem: why it has none, if there is something to say.
    """

    options: Mapping[str, Any] | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReadExamples:
    """Examples as inputs of a network.

    Attributes:
        batches: positions of the examples of each batch, and the batch.
        problems: why an example cannot be read, by its position.
        notes: what the user should know of an example that can be, by its position.
    """

    batches: Sequence[tuple[Sequence[int], Batch]]
    problems: Mapping[int, str] = field(default_factory=dict)
    notes: Mapping[int, str] = field(default_factory=dict)


class InputReader(Protocol):
    """Reads examples for a network that was exported.

    Attributes:
        at_a_time: how many examples to hand over at most.
    """

    at_a_time: int

    def read(self, given: Sequence[Any]) -> ReadExamples:
        """Return inputs of examples; what cannot be read has a problem."""

    def content(self, content: Tensor) -> Tensor:
        """Return the content of a batch as the network takes it, on the same device."""


class NetworkKind(Protocol):
    """Networks for one kind of example.

    Attributes:
        inputs: of such a network, content first.
    """

    inputs: tuple[NetworkInput, ...]

    def check(self, backbone: Backbone, size: int) -> None:
        """Refuse, before it is trained, a backbone whose network cannot be written.

        Args:
            backbone: prepared for its examples.
            size: of its input; see `Modality`.

        Raises:
            ExportError: it cannot be written.
        """

    def describe(self, trained: TrainedHalves) -> ModelConfig:
        """Return the content of `model.json`."""

    def network(self, trained: TrainedHalves) -> nn.Module:
        """Return the whole network with its trained weights, in eval mode, on the CPU.

        Raises:
            ExportError: a trained weight has no place in it.
        """

    def write(self, model: TrainedModel, folder: Path) -> LibraryForm:
        """Write weights, and whatever else `load` needs beside `model.json`.

        Raises:
            ExportError: the network cannot be written.
            OSError: the folder cannot be written.
        """

    def load(self, about: ModelConfig, folder: Path) -> nn.Module:
        """Return the network that `write` wrote, in eval mode, on the CPU.

        Raises:
            ExportError: files are missing or damaged.
            BackboneError: the architecture cannot be built here.
        """

    def reader(self, about: ModelConfig, folder: Path) -> InputReader:
        """Return what reads examples for the network in a folder.

        Raises:
            ExportError: files are missing or damaged.
        """


def _image() -> NetworkKind:
    from trainable.export.image_networks import IMAGE

    return IMAGE


def _text() -> NetworkKind:
    from trainable.export.text_networks import TEXT

    return TEXT


_KINDS: Mapping[str, Callable[[], NetworkKind]] = {"image": _image, "text": _text}


def network_kind(modality: str) -> NetworkKind:
    """Return the kind of network for a modality; what it needs is imported first."""
    return _KINDS[modality]()


def in_pieces(given: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the examples, at most `size` at a time."""
    for start in range(0, len(given), size):
        yield given[start : start + size]
