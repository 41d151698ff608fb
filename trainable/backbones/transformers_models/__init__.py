"""Encoders of texts that transformers has: `transformers:ORG/NAME[@none]`, `transformers:FOLDER`.

transformers is an optional extra and imported late: nothing here costs those who do not name it.
Weights are read as safetensors alone, and code that comes with a model is not run.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.backbones.naming import shortened
from trainable.backbones.transformers_models import hub
from trainable.backbones.transformers_models.card import read_card
from trainable.backbones.transformers_models.conventions import (
    config_of,
    notes_of,
    preprocessing_of,
)
from trainable.backbones.transformers_models.folder import (
    ModelFolder,
    check_weights,
    has_weights,
    read_folder,
)
from trainable.backbones.weights import (
    RANDOM,
    Arrays,
    BackboneInfo,
    TextPreprocessing,
    Weights,
    digest_of,
)
from trainable.errors import BackboneError

if TYPE_CHECKING:
    from torch import nn

    from trainable.backbones.graphs.graph import TracedBackbone

NAME = "transformers"
PREFIX = "transformers:"

MODALITY = "text"
_OLDEST = 5
_INSTALL = "pip install 'sft-sweep[transformers]'"
_REVISION_CHARACTERS = 12


def owns(name: str) -> bool:
    """Whether a name belongs to this source, known or not."""
    return name.startswith(PREFIX)


def names() -> list[str]:
    """The models of texts in the hub's cache; none where transformers is not installed."""
    if _installation_problem() is not None:
        return []
    cached = [PREFIX + repository for repository in hub.cached_repositories()]
    return [name for name in cached if problem(name, "") is None]


def problem(name: str, wanted: str) -> str | None:
    """What is wrong with a name or with the weights asked for, or None; no weights are read.

    A model of the hub is looked at, too: what describes it is fetched where the cache lacks it.
    """
    missing = _installation_problem()
    if missing is not None:
        return missing
    if wanted and wanted != RANDOM:
        return f"unknown weights {wanted!r}; allowed: {name} alone, or {name}@{RANDOM}"
    try:
        folder = _folder(name)
        config_of(folder.config)
        preprocessing_of(folder)
        if folder.revision is None and not wanted:
            check_weights(folder)
    except BackboneError as error:
        return str(error)
    return None


def describe(name: str) -> BackboneInfo:
    """What a model's folder says of its weights."""
    folder = _folder(name)
    card = read_card(folder)
    return BackboneInfo(
        name=name,
        source=NAME,
        version=_version(folder),
        num_params=_num_params(name),
        input_size=preprocessing_of(folder).max_length,
        cached=has_weights(folder.path),
        licence=card.licence,
        pretraining=card.pretraining,
        modality=MODALITY,
    )


def load(name: str, wanted: str, backbone: str) -> Weights:
    """The weights; see `trainable.backbones.load_weights`."""
    from trainable.backbones.transformers_models.loading import arrays_of, read_arrays

    random = wanted == RANDOM
    folder = _folder(name, weights=not random)
    how = preprocessing_of(folder)
    if random:
        arrays = arrays_of(_build(folder.config, how, size=how.max_length, name=name))
    else:
        arrays = read_arrays(folder, pooling=how.pooling, normalize=how.normalize)
    card = read_card(folder)
    return Weights(
        backbone=backbone,
        source=NAME,
        architecture=name,
        version=RANDOM if random else _version(folder),
        preprocessing=how,
        arrays=arrays,
        digest=digest_of(arrays),
        licence=None if random else card.licence,
        pretraining=None if random else card.pretraining,
        args={"config": dict(folder.config)},
        notes=notes_of(folder),
        modality=MODALITY,
    )


def architecture(name: str, *, size: int) -> nn.Module:
    """The architecture for texts of at most `size` tokens, with random weights."""
    folder = _folder(name)
    return _build(folder.config, preprocessing_of(folder), size=size, name=name)


def build(weights: Weights, *, size: int) -> nn.Module:
    """The architecture that the weights belong to; nothing is read but what they hold."""
    how = weights.text_preprocessing
    return _build(weights.args["config"], how, size=size, name=weights.architecture)


def adapt(weights: Weights, model: nn.Module, *, size: int) -> Arrays:
    """The arrays as they are: no entry depends on the length of a text."""
    del model, size
    return weights.arrays


def trace(model: nn.Module, *, size: int) -> TracedBackbone:
    """The graph, as torch.export follows the network; see `NetworkBuilder`."""
    from trainable.backbones.graphs.exporting import export

    return export(model, size=size)


def graph_key(weights: Weights, *, size: int) -> Mapping[str, Any]:
    """What a graph depends on beside the weights; see `KeepsGraphs`."""
    how = weights.text_preprocessing
    return {
        "source": NAME,
        "transformers": importlib.metadata.version("transformers"),
        "network": _network_digest(),
        "config": weights.args["config"],
        "pooling": how.pooling,
        "normalize": how.normalize,
        "size": size,
    }


def tokenizer_of(weights: Weights) -> bytes:
    """Content of the tokenizer.json that belongs to weights of this source.

    Raises:
        BackboneError: its folder is gone, or the file is another one by now.
    """
    folder = _folder(weights.architecture)
    how = weights.text_preprocessing
    if folder.tokenizer != how.tokenizer:
        raise BackboneError(
            f"{folder.path}: its tokenizer.json is another one than when the weights were read "
            f"(SHA-256 {folder.tokenizer[:12]}..., then {how.tokenizer[:12]}...); restore it"
        )
    return folder.read_tokenizer()


def repository_of(weights: Weights) -> str | None:
    """The name on the Hugging Face hub of the model that weights of this source are of.

    None for those of a folder, and for random weights.
    """
    place = weights.architecture.removeprefix(PREFIX)
    return None if weights.version in (RANDOM, place) else place


@functools.cache
def _network_digest() -> str:
    """A hash of the module that builds the networks."""
    return hashlib.sha256(Path(__file__).with_name("network.py").read_bytes()).hexdigest()


def _installation_problem() -> str | None:
    if importlib.util.find_spec("transformers") is None:
        return f"transformers is not installed; install it with: {_INSTALL}"
    version = importlib.metadata.version("transformers")
    if int(version.partition(".")[0]) < _OLDEST:
        return f"transformers {version} is too old; install a newer one with: {_INSTALL}"
    return None


def _folder(name: str, *, weights: bool = False) -> ModelFolder:
    """The folder of a model, fetched from the hub where it is neither here nor in its cache.

    Raises:
        BackboneError: transformers is not installed, or there is no such model, or it cannot be
            used.
    """
    missing = _installation_problem()
    if missing is not None:
        raise BackboneError(missing)
    place = name.removeprefix(PREFIX)
    path = Path(place).expanduser()
    if place and path.is_dir():
        return read_folder(path, place=place)
    if not hub.is_repository(place):
        raise BackboneError(
            f"{shortened(place) or 'nothing'}: no such folder; allowed: {PREFIX}ORG/NAME as on the "
            f"Hugging Face hub, or {PREFIX}FOLDER"
        )
    found = hub.snapshot(place, weights=weights)
    return read_folder(found, place=place, revision=found.name)


def _version(folder: ModelFolder) -> str:
    """The revision of a model of the hub, or the folder as it was given."""
    return folder.place if folder.revision is None else folder.revision[:_REVISION_CHARACTERS]


@functools.lru_cache(maxsize=32)
def _num_params(name: str) -> int:
    """Parameters of the network, found out in no memory."""
    from trainable.backbones.memoryless import without_memory

    how = preprocessing_of(_folder(name))
    network = without_memory(lambda: architecture(name, size=how.max_length))
    return sum(parameter.numel() for parameter in network.parameters())


def _build(config: Any, how: TextPreprocessing, *, size: int, name: str) -> nn.Module:
    from trainable.backbones.transformers_models.network import build_encoder

    return build_encoder(config, pooling=how.pooling, normalize=how.normalize, size=size, name=name)
