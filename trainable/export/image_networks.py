"""Exports of networks for images: their own code, with all weights under its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from trainable import backbones as registry
from trainable.backbones import Backbone, Weights, torchvision_models
from trainable.backbones.cutting.split import new_head, split
from trainable.backbones.weights import RANDOM
from trainable.errors import BackboneError, DataError, ExportError
from trainable.export.exchange_formats import NetworkInput, difference
from trainable.export.model_config import WEIGHTS_FILE, ModelConfig
from trainable.export.network_kinds import (
    InputReader,
    LibraryForm,
    NetworkKind,
    ReadExamples,
    TrainedHalves,
)
from trainable.modalities.image.preprocessing import decode_one, normalize

if TYPE_CHECKING:
    from trainable.export.trained_model import TrainedModel


class _Image:
    """See `NetworkKind`."""

    inputs: tuple[NetworkInput, ...] = (NetworkInput("images"),)

    def check(self, backbone: Backbone, size: int) -> None:
        """Refuse nothing: a form that cannot be written is left out."""
        del backbone, size

    def describe(self, trained: TrainedHalves) -> ModelConfig:
        """Return the content of `model.json`."""
        weights = trained.backbone.weights
        return ModelConfig(
            backbone=weights.backbone,
            source=weights.source,
            architecture=weights.architecture,
            version=weights.version,
            head=trained.split.heads[0],
            heads=trained.split.heads if trained.examples.masks is not None else (),
            preprocessing=weights.image_preprocessing.resized(trained.size),
            class_names=trained.examples.class_names,
            args=weights.args,
            bare_logits=trained.split.bare_logits,
            value_range=trained.examples.value_range,
        )

    def network(self, trained: TrainedHalves) -> nn.Module:
        """Return the backbone's own code; its graph, if the code does more behind its head.

        Raises:
            ExportError: a trained weight has no place in the code.
        """
        network = _untrained(trained)
        state, weights = network.state_dict(), trained.suffix.state_dict()
        lost = sorted({name for name, _ in trained.suffix.named_parameters()} - state.keys())
        if lost:
            raise ExportError(
                f"{trained.backbone.weights.backbone}: its own code has no place for "
                f"{', '.join(lost[:3])}"
            )
        # Buffers that the code makes anew are not among its weights.
        state.update({name: value for name, value in weights.items() if name in state})
        network.load_state_dict(state)
        return network.eval()

    def write(self, model: TrainedModel, folder: Path) -> LibraryForm:
        """Write the weights, and find out whether torchvision's own network takes them.

        Raises:
            OSError: the folder cannot be written.
        """
        state = model.network.state_dict()
        tensors = {name: value.contiguous().clone() for name, value in state.items()}
        (folder / WEIGHTS_FILE).write_bytes(save(tensors, metadata={"format": "pt"}))
        return LibraryForm(options=_torchvision_options(model, folder / WEIGHTS_FILE))

    def load(self, about: ModelConfig, folder: Path) -> nn.Module:
        """Return the network, built by its own code.

        Raises:
            ExportError: the weights are missing, damaged, or of another network.
            BackboneError: the network cannot be built here.
        """
        network = empty_network(about)
        path = folder / WEIGHTS_FILE
        try:
            network.load_state_dict(load_file(path))
        except FileNotFoundError:
            raise ExportError(f"{path}: no such file; export the network again") from None
        except (OSError, SafetensorError) as error:
            raise ExportError(f"{path}: damaged: {str(error).partition(chr(10))[0]}") from None
        except RuntimeError as error:
            raise ExportError(
                f"{path}: does not fit {about.backbone}: {' '.join(str(error).split())[:300]}"
            ) from None
        return network

    def reader(self, about: ModelConfig, folder: Path) -> InputReader:
        """Return what reads files of images."""
        del folder
        return ImageFiles(about)


class ImageFiles:
    """Reads files of images as uint8 pixels; see `InputReader`."""

    at_a_time = 32

    def __init__(self, about: ModelConfig) -> None:
        self._how = about.image_preprocessing
        self._value_range = about.value_range

    def read(self, given: Sequence[Path]) -> ReadExamples:
        """Return (N, 3, S, S) pixels of files."""
        pixels: dict[int, Tensor] = {}
        problems: dict[int, str] = {}
        for place, path in enumerate(given):
            try:
                pixels[place] = decode_one(
                    Path(path).read_bytes(), self._how, value_range=self._value_range
                )
            except DataError as error:
                problems[place] = str(error)
            except IsADirectoryError:
                problems[place] = "is a folder; name the files in it"
            except FileNotFoundError:
                problems[place] = "no such file; this network takes files of images"
            except OSError as error:
                problems[place] = f"cannot be read: {error.strerror or error}"
            except ValueError as error:  # a path that no file can have
                problems[place] = f"cannot be read: {error}"
        batches = [(list(pixels), (torch.stack(list(pixels.values())),))] if pixels else []
        return ReadExamples(batches=batches, problems=problems)

    def content(self, content: Tensor) -> Tensor:
        """Return float32 pixels with the mean and standard deviation that the network expects."""
        return normalize(content, self._how)


def empty_network(about: ModelConfig) -> nn.Module:
    """Build the network in eval mode with its new head, before any weights are loaded.

    Raises:
        BackboneError: the network cannot be built here.
    """
    weights = Weights(
        backbone=about.backbone,
        source=about.source,
        architecture=about.architecture,
        version=about.version,
        preprocessing=about.preprocessing,
        arrays={},
        digest="",
        args=about.args,
        task=about.task,
    )
    size, num_classes = about.image_preprocessing.image_size, len(about.class_names)
    if about.bare_logits or about.heads:
        traced = registry.network_graph(weights, size=size)
        if traced.head_names != (about.heads or (about.head,)):
            raise _no_head(about)
        return split(traced, frozen=0, num_classes=num_classes).suffix.eval()
    network = registry.network(weights, size=size)
    try:
        old = network.get_submodule(about.head)
    except AttributeError:
        old = None
    if not isinstance(old, nn.Linear | nn.Conv2d):
        raise _no_head(about)
    network.set_submodule(about.head, new_head(old, num_classes))
    return network.eval()


def _no_head(about: ModelConfig) -> BackboneError:
    return BackboneError(f"{about.backbone}: it has no classifier called {about.head!r}")


def _untrained(trained: TrainedHalves) -> nn.Module:
    """Return the network before training: pretrained, on the CPU, with a new head."""
    halves, num_classes = trained.split, trained.examples.num_classes
    if halves.bare_logits or trained.examples.masks is not None:
        return split(halves.traced, frozen=0, num_classes=num_classes).suffix.cpu()
    network = trained.backbone.model(trained.size)
    old = network.get_submodule(halves.head)
    network.set_submodule(halves.head, new_head(old, num_classes))
    return network


def _torchvision_options(model: TrainedModel, weights: Path) -> Mapping[str, Any] | None:
    """Return arguments of `get_model`; None if it builds a network with other logits."""
    about = model.about
    if about.source != torchvision_models.NAME:
        return None
    options = {
        "num_classes": len(about.class_names),
        **torchvision_models.builder_options(
            about.architecture,
            image_size=about.image_preprocessing.image_size,
            pretrained=about.version != RANDOM,
        ),
    }
    try:
        network = torchvision.models.get_model(about.architecture, weights=None, **options)
        network.load_state_dict(load_file(weights))
        with torch.no_grad():
            for batch in model.batches:
                difference(network.eval()(*batch), model.network(*batch))
    except (RuntimeError, TypeError, ValueError, ExportError):  # another kind of head
        return None
    return options


IMAGE: NetworkKind = _Image()
