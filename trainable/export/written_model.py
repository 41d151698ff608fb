"""Writing of a trained network into a folder, and comparison of each written form with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file, save
from torch import Tensor

from trainable.backbones import torchvision_models
from trainable.backbones.weights import RANDOM
from trainable.errors import ExportError
from trainable.export.exchange_formats import ExchangeForms, difference, onnx_notes, write_portable
from trainable.export.model_config import ABOUT_FILE, WEIGHTS_FILE
from trainable.export.trained_model import TrainedModel, check_outputs


@dataclass(frozen=True, kw_only=True)
class Written:
    """Files that were written, and how they can be loaded.

    Attributes:
        torchvision_options: keyword arguments of `torchvision.models.get_model` for a network that
            takes the weights and gives the same logits; None if there are none.
        portable: the files that do not need the network's code.
    """

    torchvision_options: dict[str, Any] | None
    portable: tuple[ExchangeForms, ...]

    def has(self, file: str) -> bool:
        """Return whether a portable file was written."""
        return any(one.file == file and one.problem is None for one in self.portable)


def write_model(model: TrainedModel, folder: Path) -> Written:
    """Write the network into an empty folder and check that it can be read back.

    Raises:
        ExportError: the written network gives other logits than the trained one.
        OSError: the folder cannot be written.
    """
    about, network = model.about, model.network
    text = json.dumps(about.to_json(), indent=2, ensure_ascii=False)
    (folder / ABOUT_FILE).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    state = {name: value.contiguous().clone() for name, value in network.state_dict().items()}
    (folder / WEIGHTS_FILE).write_bytes(save(state, metadata={"format": "pt"}))
    with torch.no_grad():
        expected = network(model.examples)
        again = about.network()
        again.load_state_dict(load_file(folder / WEIGHTS_FILE))
        check_outputs(again(model.examples), expected, about, "read back")
    preprocessing = asdict(about.preprocessing)
    if about.value_range is not None:
        preprocessing["value_range"] = about.value_range
    notes = onnx_notes(class_names=list(about.class_names), preprocessing=preprocessing)
    return Written(
        torchvision_options=_torchvision_options(model, folder / WEIGHTS_FILE, expected),
        portable=tuple(write_portable(network, model.examples, folder, about=notes)),
    )


def _torchvision_options(
    model: TrainedModel, weights: Path, expected: Tensor
) -> dict[str, Any] | None:
    """Return arguments of `get_model`; None if it builds a network with other logits."""
    about = model.about
    if about.source != torchvision_models.NAME:
        return None
    options = {
        "num_classes": len(about.class_names),
        **torchvision_models.builder_options(
            about.architecture,
            image_size=about.preprocessing.image_size,
            pretrained=about.version != RANDOM,
        ),
    }
    try:
        network = torchvision.models.get_model(about.architecture, weights=None, **options)
        network.load_state_dict(load_file(weights))
        with torch.no_grad():
            difference(network.eval()(model.examples), expected)
    except (RuntimeError, TypeError, ValueError, ExportError):  # another kind of head
        return None
    return options
