"""Exports of networks for texts: a graph that PyTorch computes, and an encoder for transformers.

The graph is the frozen and the trained part, one behind the other, as they were trained. The
encoder with its trained weights is written for transformers where it has them all. Both read the
same files of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor, fx, nn

from trainable.backbones import Backbone, tokenizer_files, tokenizer_of, transformers_models
from trainable.backbones.graphs.graph import independent_copy
from trainable.backbones.transformers_models.folder import CONFIG
from trainable.backbones.transformers_models.saving import (
    SavedEncoder,
    load_encoder,
    save_encoder,
)
from trainable.errors import BackboneError, ExportError
from trainable.export.exchange_formats import NetworkInput, difference
from trainable.export.graph_files import HEAD_FILE, Places, read_graph, write_graph
from trainable.export.model_config import WEIGHTS_FILE, ModelConfig
from trainable.export.network_kinds import (
    InputReader,
    LibraryForm,
    NetworkKind,
    TrainedHalves,
)
from trainable.export.text_reader import TextReader
from trainable.modalities.text.buckets import bucket_lengths
from trainable.modalities.text.modality import preprocessing_at

if TYPE_CHECKING:
    from trainable.backbones.transformers_models.network import TextEncoder
    from trainable.export.trained_model import TrainedModel

TOKENIZER_FILE = tokenizer_files.NAME

_LENGTH = {1: "length"}


class TextNetwork(nn.Module):
    """(N, L) tokens and their (N, L) mask -> (N, C) logits, part behind part.

    Args:
        parts: modules of content and mask; the content of each is the value of the one before.
    """

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The logits; see the class."""
        content = tokens
        for part in self.parts:
            content = part(content, mask)
        return content


class _Text:
    """See `NetworkKind`."""

    inputs: tuple[NetworkInput, ...] = (
        NetworkInput("tokens", _LENGTH),
        NetworkInput("mask", _LENGTH),
    )

    def check(self, backbone: Backbone, size: int) -> None:
        """Refuse a backbone that is another graph for some lengths of texts.

        Raises:
            ExportError: it is.
        """
        sizes = backbone.traced(size).sizes
        if not all(length in sizes for length in bucket_lengths(size)):
            raise ExportError(
                f"{backbone.weights.backbone}: it is another graph for other lengths of texts, and "
                "cannot be exported. Choose a trial with another backbone"
            )

    def describe(self, trained: TrainedHalves) -> ModelConfig:
        """Return the content of `model.json`, where a folder of a model has its last name alone."""
        weights = trained.backbone.weights
        return ModelConfig(
            backbone=_without_folders(weights.backbone),
            source=weights.source,
            architecture=_without_folders(weights.architecture),
            version=Path(weights.version).name,
            head=trained.split.head,
            preprocessing=preprocessing_at(weights, trained.size),
            class_names=trained.examples.class_names,
            on_both_sides=_with_two_values(trained),
        )

    def network(self, trained: TrainedHalves) -> nn.Module:
        """Return the graph, its trained part behind its frozen one."""
        prefix = independent_copy(trained.split.prefix.module).cpu()
        network = TextNetwork([prefix, trained.suffix])
        return network.eval().requires_grad_(requires_grad=False)

    def write(self, model: TrainedModel, folder: Path) -> LibraryForm:
        """Write the tokenizer, the graph, its weights, and the encoder for transformers.

        Raises:
            ExportError: the graph cannot be written.
            BackboneError: the tokenizer is gone, or another one by now.
            OSError: the folder cannot be written.
        """
        (folder / TOKENIZER_FILE).write_bytes(tokenizer_of(model.trained.backbone.weights))
        parts = _parts_of(model.network)
        places: Places = {}
        try:
            saved = _write_encoder(model, folder)
            places = _shared_places(saved, parts, head=model.about.head)
            library = LibraryForm(options={"auto_class": saved.auto_class})
        except (BackboneError, ExportError) as error:
            for name in (WEIGHTS_FILE, HEAD_FILE, CONFIG):
                (folder / name).unlink(missing_ok=True)
            library = LibraryForm(problem=str(error))
        try:
            write_graph(parts, places, folder)
        except BackboneError as error:
            raise ExportError(
                f"{model.about.backbone}: its graph cannot be written: {error}"
            ) from error
        return library

    def load(self, about: ModelConfig, folder: Path) -> nn.Module:
        """Return the graph; no library of texts is imported.

        Raises:
            ExportError: a file is missing or damaged.
        """
        del about
        return TextNetwork(read_graph(folder)).eval()

    def reader(self, about: ModelConfig, folder: Path) -> InputReader:
        """Return what tokenises texts.

        Raises:
            ExportError: the tokenizer is missing, or another one.
        """
        return TextReader(about, folder)


def _without_folders(name: str) -> str:
    """A backbone's name without the folders above one that it names: `transformers:model`."""
    source, colon, place = name.partition(":")
    return source + colon + Path(place).name if Path(place).is_absolute() else name


def _with_two_values(trained: TrainedHalves) -> tuple[str, ...]:
    """Names of parameters that both parts use, and that the trained one has changed."""
    before = trained.split.traced.module
    return tuple(
        name
        for name in trained.split.on_both_sides
        if not torch.equal(trained.suffix.get_parameter(name), before.get_parameter(name).cpu())
    )


def _parts_of(network: nn.Module) -> list[fx.GraphModule]:
    assert isinstance(network, TextNetwork)
    return [part for part in network.parts if isinstance(part, fx.GraphModule)]


def _write_encoder(model: TrainedModel, folder: Path) -> SavedEncoder:
    """Write the encoder and the head for transformers, and compare what it loads.

    Raises:
        BackboneError: transformers has no class for the encoder.
        ExportError: its encoder is not the one that was trained.
    """
    about, weights = model.about, model.trained.backbone.weights
    if about.source != transformers_models.NAME:
        raise ExportError(f"its network is of another library ({about.source})")
    if about.on_both_sides:
        raise ExportError(
            "transformers has one place for parameters of which the frozen part has the pretrained "
            f"values and the trained part its own: {', '.join(about.on_both_sides[:3])}"
        )
    encoder: TextEncoder = model.trained.backbone.model(model.trained.size)  # type: ignore[assignment]
    suffix = model.trained.suffix
    head = suffix.get_submodule(about.head)
    assert isinstance(head, nn.Linear)
    _copy_trained(suffix, encoder, head=about.head)
    saved = save_encoder(encoder, weights.args["config"], folder)
    tensors = {"weight": head.weight.detach().clone(), "bias": head.bias.detach().clone()}
    (folder / HEAD_FILE).write_bytes(save(tensors, metadata={"format": "pt"}))
    how = about.text_preprocessing
    loaded = load_encoder(folder, saved.auto_class, pooling=how.pooling, normalize=how.normalize)
    with torch.no_grad():
        for batch in model.batches:
            difference(head(loaded(*batch)), model.network(*batch))
    return saved


def _copy_trained(suffix: fx.GraphModule, encoder: nn.Module, *, head: str) -> None:
    """Copy trained parameters and buffers into the encoder's own code.

    Raises:
        ExportError: the code has no place for one.
    """
    places: dict[str, Tensor] = dict((*encoder.named_parameters(), *encoder.named_buffers()))
    for name, value in suffix.named_parameters():
        if not name.startswith(f"{head}."):
            if name not in places:
                raise ExportError(f"transformers' own code has no place for {name}")
            places[name].data.copy_(value)
    for name, buffer in suffix.named_buffers():
        if name in places:
            places[name].data.copy_(buffer)


def _shared_places(saved: SavedEncoder, parts: Sequence[fx.GraphModule], *, head: str) -> Places:
    """Places of the tensors of parts that are written for transformers."""
    found = {
        (part, name): (WEIGHTS_FILE, key)
        for part in range(len(parts))
        for name, key in saved.keys.items()
    }
    last = len(parts) - 1
    return found | {(last, f"{head}.{name}"): (HEAD_FILE, name) for name in ("weight", "bias")}


TEXT: NetworkKind = _Text()
