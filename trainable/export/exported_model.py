"""Loading of an exported network from its folder, and predictions with it.

It needs torch, torchvision, Pillow and safetensors, but no sweep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trainable import device as devices
from trainable.errors import DataError, ExportError
from trainable.export.model_config import WEIGHTS_FILE, ModelConfig, read_about
from trainable.modalities.image.preprocessing import decode_one, normalize

CUSTOM = "custom"
"""Name of the source of backbones that the user's own code builds."""

_BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of one image file, or the reason why there are none.

    Attributes:
        path: path of the file.
        probabilities: probability of each class, in the order of the class names; None if the file
            cannot be decoded.
        problem: why there are no probabilities, or None.
    """

    path: Path
    probabilities: tuple[float, ...] | None
    problem: str | None = None

    def ranked(self) -> list[tuple[int, float]]:
        """Return class ids with probabilities, the most probable first; empty without any."""
        pairs = enumerate(self.probabilities or ())
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


class ExportedModel:
    """A trained network with its class names and preprocessing.

    Args:
        about: description of the network.
        network: (N, 3, S, S) -> logits (N, classes); in eval mode.
        device: the device to compute on; the default is the visible GPU, else the CPU.
    """

    def __init__(
        self, about: ModelConfig, network: nn.Module, *, device: torch.device | None = None
    ) -> None:
        self.about = about
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
        network = about.network()
        path = folder / WEIGHTS_FILE
        try:
            network.load_state_dict(load_file(path))
        except FileNotFoundError:
            raise ExportError(f"{path}: no such file; export the network again") from None
        except (OSError, SafetensorError) as error:
            raise ExportError(f"{path}: damaged: {_first_line(error)}") from None
        except RuntimeError as error:
            raise ExportError(
                f"{path}: does not fit {about.backbone}: {' '.join(str(error).split())[:300]}"
            ) from None
        return cls(about, network, device=device)

    def logits(self, pixels: Tensor) -> Tensor:
        """Return (N, classes) float32 logits on the CPU for (N, 3, S, S) uint8 pixels."""
        images = normalize(pixels.to(self._device), self.about.preprocessing)
        with torch.inference_mode():
            logits: Tensor = self._network(images)
        return logits.float().cpu()

    def predict(self, paths: Sequence[Path]) -> Iterator[Prediction]:
        """Yield one prediction per file, in order; an undecodable file has a problem instead."""
        for start in range(0, len(paths), _BATCH):
            yield from self._predict_batch(paths[start : start + _BATCH])

    def _predict_batch(self, paths: Sequence[Path]) -> list[Prediction]:
        pixels: dict[int, Tensor] = {}
        problems: dict[int, str] = {}
        for place, path in enumerate(paths):
            try:
                pixels[place] = decode_one(
                    path.read_bytes(),
                    self.about.preprocessing,
                    value_range=self.about.value_range,
                )
            except DataError as error:
                problems[place] = str(error)
            except IsADirectoryError:
                problems[place] = "is a folder; name the files in it"
            except OSError as error:
                problems[place] = f"cannot be read: {error.strerror or error}"
            except ValueError as error:  # a path that no file can have
                problems[place] = f"cannot be read: {error}"
        found: dict[int, tuple[float, ...]] = {}
        if pixels:
            shares = self.logits(torch.stack(list(pixels.values()))).double().softmax(dim=1)
            found = dict(zip(pixels, (tuple(row) for row in shares.tolist()), strict=True))
        return [
            Prediction(path, found.get(place), problems.get(place))
            for place, path in enumerate(paths)
        ]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
