"""Encoders written for transformers, and what its own code makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainable.backbones.transformers_models.network import TextEncoder, build_encoder
from trainable.backbones.transformers_models.saving import load_encoder, save_encoder
from trainable.errors import BackboneError

pytest.importorskip("transformers")

_BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
_BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
_TOKENS = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0]])
_MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def config_of(model_type: str, **values: Any) -> dict[str, Any]:
    """Content of a config.json, as it is in a model's folder."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type, vocab_size=20, **values)
    found: dict[str, Any] = config.to_dict() | {"torch_dtype": "float16"}
    return found


def encoder_of(config: dict[str, Any], *, pooling: str = "mean") -> TextEncoder:
    encoder = build_encoder(config, pooling=pooling, normalize=True, size=8, name="it")
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01)  # trained a little
    return encoder


@pytest.mark.parametrize(
    ("model_type", "values", "auto_class"),
    [
        ("bert", _BERT, "AutoModel"),
        ("gpt2", _GPT2, "AutoModel"),
        ("t5", _T5, "AutoModelForTextEncoding"),
    ],
)
def test_transformers_loads_what_was_saved(
    model_type: str, values: dict[str, Any], auto_class: str, tmp_path: Path
) -> None:
    config = config_of(model_type, **values)
    encoder = encoder_of(config)
    saved = save_encoder(encoder, config, tmp_path)
    assert saved.auto_class == auto_class
    assert set(saved.keys) == set(encoder.state_dict())
    assert set(saved.keys.values()) == set(load_file(tmp_path / "model.safetensors"))
    loaded = load_encoder(tmp_path, auto_class, pooling="mean", normalize=True)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    with torch.no_grad():
        assert torch.equal(loaded(_TOKENS, _MASK), encoder(_TOKENS, _MASK))


def test_an_encoder_that_transformers_has_with_a_decoder_alone_is_refused(tmp_path: Path) -> None:
    config = config_of("bart", **_BART)
    with pytest.raises(BackboneError, match="no class for the encoder of bart alone"):
        save_encoder(encoder_of(config), config, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_missing_or_left_over_are_refused(tmp_path: Path) -> None:
    config = config_of("bert", **_BERT)
    save_encoder(encoder_of(config), config, tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    state["head.weight"] = state.pop("pooler.dense.bias")
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"otherwise: head\.weight, pooler\.dense\.bias"):
        load_encoder(tmp_path, "AutoModel", pooling="mean", normalize=True)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    with pytest.raises(BackboneError, match="transformers cannot load it: "):
        load_encoder(tmp_path, "AutoModel", pooling="mean", normalize=True)
