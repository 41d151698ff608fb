"""A fine-tuned encoder in a folder that transformers alone can load, compared with the original."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from trainable.backbones.naming import few, shortened
from trainable.backbones.transformers_models.folder import CONFIG, WHOLE
from trainable.backbones.transformers_models.network import (
    TextEncoder,
    encoder_of,
    prepared_config,
)
from trainable.backbones.transformers_models.silence import quiet
from trainable.errors import BackboneError

_WHOLE_CLASS = "AutoModel"
_ENCODER_CLASS = "AutoModelForTextEncoding"


@dataclass(frozen=True, kw_only=True)
class SavedEncoder:
    """How a folder's encoder is loaded.

    Attributes:
        auto_class: of transformers, whose `from_pretrained` loads it.
        keys: name in the file of weights, by the name in the `TextEncoder` that was saved.
    """

    auto_class: str
    keys: Mapping[str, str]


def save_encoder(encoder: TextEncoder, config: Mapping[str, Any], folder: Path) -> SavedEncoder:
    """Write `config.json` and `model.safetensors`; nothing is compared yet.

    Args:
        encoder: on the CPU.
        config: content of the pretrained model's config.json.
        folder: to write into.

    Raises:
        BackboneError: transformers has no class for such an encoder alone.
    """
    auto_class, prefix = _place(config)
    (folder / CONFIG).write_text(
        # transformers loads weights in the precision that the configuration names
        json.dumps(
            {name: value for name, value in config.items() if name != "torch_dtype"}
            | {"dtype": "float32"},
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
    state = encoder.model.state_dict()
    tensors = {prefix + name: value.contiguous().clone() for name, value in state.items()}
    (folder / WHOLE).write_bytes(save(tensors, metadata={"format": "pt"}))
    return SavedEncoder(
        auto_class=auto_class, keys={f"model.{name}": prefix + name for name in state}
    )


def load_encoder(folder: Path, auto_class: str, *, pooling: str, normalize: bool) -> TextEncoder:
    """The encoder of a folder that `save_encoder` wrote, by transformers' own code.

    Args:
        folder: as it was written.
        auto_class: see `SavedEncoder`.
        pooling: see `TextEncoder`.
        normalize: see `TextEncoder`.

    Raises:
        BackboneError: it cannot be loaded, or something is missing or left over.
    """
    import transformers

    try:
        with torch.random.fork_rng(devices=[]), quiet():
            whole, told = getattr(transformers, auto_class).from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # whatever a library finds
        reason = shortened(str(error).partition("\n")[0] or type(error).__name__)
        raise BackboneError(f"transformers cannot load it: {reason}") from error
    unfit = [
        *told["missing_keys"],
        *told["unexpected_keys"],
        *(name for name, *_ in told["mismatched_keys"]),
    ]
    if unfit:
        raise BackboneError(f"transformers calls its weights otherwise: {few(sorted(unfit))}")
    model = encoder_of(whole, name=str(folder))
    return TextEncoder(model, pooling=pooling, normalize=normalize).eval()


def _place(config: Mapping[str, Any]) -> tuple[str, str]:
    """The class of transformers that has the encoder, and where in it: a prefix of names.

    Raises:
        BackboneError: there is none but those with a decoder, too.
    """
    import transformers

    prepared = prepared_config(config)
    if not prepared.is_encoder_decoder:
        return _WHOLE_CLASS, ""
    try:
        with torch.device("meta"), quiet():
            whole = getattr(transformers, _ENCODER_CLASS).from_config(prepared)
    except Exception as error:  # a ValueError for those that the class does not know
        raise BackboneError(
            f"transformers has no class for the encoder of {prepared.model_type} alone"
        ) from error
    encoder = whole.get_encoder()
    (place,) = (name for name, module in whole.named_modules() if module is encoder)
    return _ENCODER_CLASS, f"{place}." if place else ""
