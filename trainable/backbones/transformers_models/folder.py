"""A model's folder, as `save_pretrained` of transformers writes it: its files, read and checked."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainable.backbones import tokenizer_files
from trainable.backbones.naming import few, shortened
from trainable.errors import BackboneError

CONFIG = "config.json"
WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"

WEIGHTS = (WHOLE, "model-*.safetensors", _INDEX)
"""Patterns of the files with weights that are read: safetensors, in one file or in several."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_OTHER_WEIGHTS = ("*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.ot")
_SLOW_TOKENIZERS = ("vocab.txt", "vocab.json", "*.model", "*.vocab", "merges.txt")


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """What a model's folder says of it beside its weights.

    Attributes:
        place: folder or name on the hub, as the user wrote it.
        path: where its files lie.
        revision: which state of a model on the hub it is; None for a folder of the user's own.
        config: content of config.json.
        tokenizer: SHA-256 of tokenizer.json, in hexadecimal.
    """

    place: str
    path: Path
    revision: str | None
    config: Mapping[str, Any] = field(repr=False)
    tokenizer: str

    @property
    def model_type(self) -> str:
        """The architecture's name in transformers."""
        return str(self.config["model_type"])

    def read_tokenizer(self) -> bytes:
        """Content of tokenizer.json."""
        return (self.path / tokenizer_files.NAME).read_bytes()

    def json(self, name: str) -> dict[str, Any]:
        """Content of a file that may be there; empty where it is not.

        Raises:
            BackboneError: it is damaged.
        """
        path = self.path / name
        return _read_json(path) if path.is_file() else {}


def read_folder(path: Path, *, place: str, revision: str | None = None) -> ModelFolder:
    """A model's folder with all that is needed beside weights.

    Raises:
        BackboneError: something is missing, damaged, or would run code of its own.
    """
    config = _read_config(path)
    _check_config(path, config)
    if not (path / tokenizer_files.NAME).is_file():
        raise BackboneError(_without_tokenizer(path, place, of_hub=revision is not None))
    return ModelFolder(
        place=place,
        path=path,
        revision=revision,
        config=config,
        tokenizer=_check_tokenizer(path, config),
    )


def has_weights(path: Path) -> bool:
    """Whether a folder has all files of its weights, by their names."""
    files = _weight_files(path)
    return bool(files) and all(file.is_file() for file in files)


def _weight_files(path: Path) -> list[Path]:
    """The one file, or those that the index names; none where there is neither."""
    if (path / WHOLE).is_file() or not (path / _INDEX).is_file():
        return [path / WHOLE]
    named = _read_json(path / _INDEX).get("weight_map")
    return sorted({path / str(file) for file in dict(named or {}).values()})


def check_weights(folder: ModelFolder) -> None:
    """Refuse a folder without weights that can be read.

    Raises:
        BackboneError: it has none, or none but pickles, or other files under their names.
    """
    from trainable.backbones.files import check_safetensors

    path = folder.path
    if has_weights(path):
        for file in _weight_files(path):
            check_safetensors(file)
        return
    if (path / _INDEX).is_file():
        raise BackboneError(f"{path}: files of weights that {_INDEX} names are missing; copy them")
    pickles = _found(path, _PICKLES)
    if pickles:
        raise BackboneError(
            f"{path}: its weights are pickles ({few(pickles)}), which may run code; allowed: "
            f"{WHOLE}. Convert them once, if you trust them: {conversion(path, path)}"
        )
    others = _found(path, _OTHER_WEIGHTS)
    found = f"only {few(others)}; allowed" if others else "allowed"
    raise BackboneError(
        f"{path}: no weights: {found}: {WHOLE}. Write @none behind the name for random weights"
    )


def _read_config(path: Path) -> dict[str, Any]:
    file = path / CONFIG
    if file.is_file():
        return _read_json(file)
    if (path / "adapter_config.json").is_file():
        raise BackboneError(
            f"{path}: an adapter, not a model: merge it into its model with merge_and_unload() of "
            "peft, and save that"
        )
    raise BackboneError(
        f"{path}: no {CONFIG}; allowed: a folder as save_pretrained of transformers writes it"
    )


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    from transformers.models.auto import configuration_auto, modeling_auto

    if config.get("auto_map"):
        raise BackboneError(
            f"{path / CONFIG}: this model needs code of its own (auto_map, trust_remote_code), "
            "which is not run here; choose a model whose code is part of transformers"
        )
    if config.get("quantization_config"):
        raise BackboneError(
            f"{path / CONFIG}: its weights are quantized, and can be neither cut nor trained; "
            "choose the model that they were made from"
        )
    kind = config.get("model_type")
    version = importlib.metadata.version("transformers")
    if kind not in configuration_auto.CONFIG_MAPPING_NAMES:
        raise BackboneError(
            f"{path / CONFIG}: model_type: got {shortened(repr(kind))}, which transformers "
            f"{version} does not know; a newer one may: pip install -U transformers"
        )
    if kind not in modeling_auto.MODEL_MAPPING_NAMES:
        raise BackboneError(
            f"{path / CONFIG}: model_type: got {kind!r}, of which transformers {version} has no "
            "model without a head; choose an encoder or a language model"
        )


def _check_tokenizer(path: Path, config: Mapping[str, Any]) -> str:
    """SHA-256 of a tokenizer that can be read and belongs to the model."""
    file = path / tokenizer_files.NAME
    digest = hashlib.sha256(_read(file)).hexdigest()
    try:
        highest = _highest_id(file, digest)
    except BackboneError as error:
        raise BackboneError(f"{path}: {error}") from None
    known = config.get("vocab_size")
    if isinstance(known, int) and highest >= known:
        raise BackboneError(
            f"{file}: it gives tokens up to {highest:,}, and the model knows {known:,}; it is the "
            "tokenizer of another model"
        )
    return digest


@functools.lru_cache(maxsize=32)
def _highest_id(file: Path, digest: str) -> int:
    """The highest token of a tokenizer with this digest; large ones take a second to read."""
    del digest
    return tokenizer_files.highest_id(tokenizer_files.read_tokenizer(file.read_bytes()))


def _without_tokenizer(path: Path, place: str, *, of_hub: bool) -> str:
    if of_hub:
        return (
            f"{place}: no {tokenizer_files.NAME} on the Hugging Face hub. Make one, and write "
            f"transformers:FOLDER: {conversion(place, 'FOLDER')}"
        )
    slow = _found(path, _SLOW_TOKENIZERS)
    advice = (
        f"only the files of a slow tokenizer ({few(slow)}). Convert it once: "
        f"{conversion(path, path)}"
        if slow
        else "copy the one that the model was trained with"
    )
    return f"{path}: no {tokenizer_files.NAME}: {advice}"


def conversion(place: str | Path, folder: str | Path) -> str:
    """Command that writes a model and its tokenizer in the form that is read here."""
    return (
        'python -c "from transformers import AutoModel, AutoTokenizer; '
        f"[kind.from_pretrained('{place}').save_pretrained('{folder}') "
        'for kind in (AutoModel, AutoTokenizer)]"'
    )


def _found(path: Path, patterns: tuple[str, ...]) -> list[str]:
    return sorted({file.name for pattern in patterns for file in path.glob(pattern)})


def _read(path: Path) -> bytes:
    from trainable.backbones.files import read_begin

    read_begin(path)
    return path.read_bytes()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        raise BackboneError(f"{path}: damaged: {error}") from None
    if not isinstance(content, dict):
        raise BackboneError(f"{path}: damaged: got {type(content).__name__}; allowed: a mapping")
    return content
