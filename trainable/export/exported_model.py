"""Loading of an exported network from its folder, and predictions with it.

It needs torch, torchvision, Pillow and safetensors, for texts tokenizers, but no sweep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainable import device as devices
from trainable.data.masks import Mask
from trainable.errors import ExportError
from trainable.export.model_config import ModelConfig, read_about
from trainable.export.network_kinds import InputReader, in_pieces, network_kind
from trainable.modalities.image.decoding import decode_image

CUSTOM = "custom"
"""Name of the source of backbones that the user's own code builds."""

Given = Path | str
"""An example as it is given: the path of an image, or a text."""


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of one example, or the reason why there are none.

    Attributes:
        example: as it was given.
        probabilities: probability of each class, in the order of the class names; None if the
            example cannot be read.
        problem: why there are no probabilities, or None.
        note: what to know of how the example was read, or None.
    """

    example: Given
    probabilities: tuple[float, ...] | None
    problem: str | None = None
    note: str | None = None

    @property
    def path(self) -> Path:
        """Path of the image."""
        return Path(self.example)

    def ranked(self) -> list[tuple[int, float]]:
        """Return class ids with probabilities, the most probable first; empty without any."""
        pairs = enumerate(self.probabilities or ())
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


@dataclass(frozen=True, eq=False)
class PredictedMask:
    """The predicted mask of one image, or the reason why there is none.

    Attributes:
        path: of the image.
        mask: (H, W) uint8 class ids; None if the image cannot be read.
        problem: why there is no mask, or None.
    """

    path: Path
    mask: Mask | None
    problem: str | None = None


class ExportedModel:
    """A trained network with its class names and preprocessing.

    Args:
        about: description of the network.
        network: from a batch to logits (N, classes); in eval mode.
        reader: makes batches of examples.
        device: the device to compute on; the default is the visible GPU, else the CPU.
    """

    def __init__(
        self,
        about: ModelConfig,
        network: nn.Module,
        reader: InputReader,
        *,
        device: torch.device | None = None,
    ) -> None:
        self.about = about
        self._reader = reader
        self._device = device or devices.default_device()
        self._network = network.to(self._device)

    @classmethod
    def load(
        cls, folder: Path, *, trust_code: bool = False, device: torch.device | None = None
    ) -> ExportedModel:
        """Load the network in a folder.

        Args:
            folder: folder that `sft-sweep export` wrote.
            trust_code: whether to import and call the function that builds a custom backbone; the
                folder names it.
            device: see the class.

        Raises:
            ExportError: the folder has no network, or the network cannot be read.
            BackboneError: the architecture cannot be built here.
        """
        about = read_about(folder)
        if about.source == CUSTOM and not trust_code:
            raise ExportError(
                f"{folder}: its network is built by code that is not part of sft-sweep: "
                f"{about.architecture!r}. Where you trust that code, say so (--trust-code of "
                "sft-sweep predict, trust_code=True in Python)"
            )
        kind = network_kind(about.modality)
        reader = kind.reader(about, folder)
        return cls(about, kind.load(about, folder), reader, device=device)

    def logits(self, content: Tensor, *side: Tensor) -> Tensor:
        """Return (N, classes) float32 logits on the CPU; (N, classes, S, S) of masks.

        Args:
            content: (N, 3, S, S) uint8 pixels, or (N, L) int64 tokens.
            side: (N, L) int64 mask of the tokens; nothing for images.
        """
        given = self._reader.content(content.to(self._device))
        with torch.inference_mode():
            logits: Tensor = self._network(given, *(one.to(self._device) for one in side))
        return logits.float().cpu()

    def predict(self, examples: Sequence[Given]) -> Iterator[Prediction]:
        """Yield one prediction for each example, in order; an unreadable one has a problem instead.

        Args:
            examples: paths of images, or texts.
        """
        for some in in_pieces(examples, self._reader.at_a_time):
            yield from self._predict_some(some)

    def predict_masks(self, paths: Sequence[Path]) -> Iterator[PredictedMask]:
        """Yield one mask for each image, of the size of the upright image.

        Args:
            paths: of the images.

        Raises:
            ExportError: the network predicts no masks.
        """
        if not self.about.heads:
            raise ExportError(f"{self.about.backbone}: this network predicts classes, not masks")
        for path in paths:
            read = self._reader.read([path])
            if read.problems:
                yield PredictedMask(path, None, read.problems[0])
                continue
            ((_, batch),) = read.batches
            width, height = decode_image(path.read_bytes(), value_range=self.about.value_range).size
            logits = functional.interpolate(
                self.logits(*batch), size=(height, width), mode="bilinear"
            )
            yield PredictedMask(path, logits[0].argmax(dim=0).to(torch.uint8).numpy())

    def _predict_some(self, examples: Sequence[Given]) -> list[Prediction]:
        read = self._reader.read(examples)
        found: dict[int, tuple[float, ...]] = {}
        for places, batch in read.batches:
            shares = self.logits(*batch).double().softmax(dim=1)
            found |= zip(places, (tuple(row) for row in shares.tolist()), strict=True)
        return [
            Prediction(example, found.get(place), read.problems.get(place), read.notes.get(place))
            for place, example in enumerate(examples)
        ]
