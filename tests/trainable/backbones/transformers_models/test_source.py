from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from tests.builders.text_models import LINES, as_sentence_model, save_text_model, write_json
from trainable.backbones import describe, expand, known_problem, load_weights, names
from trainable.backbones import transformers_models as source
from trainable.backbones.weights import Weights
from trainable.data.tokens import mask_of
from trainable.errors import BackboneError
from trainable.modalities.text.tokenizing import TextTokenizer
from trainable.spec.settings import POOLINGS

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = ("bert", "distilbert", "roberta", "gpt2", "t5", "modernbert")
"""An encoder, one without segments, one that counts positions from its padding, a decoder, an
encoder with a decoder, and one of rotary positions."""

_OWN: dict[str, dict[str, object]] = {
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
}


def name_of(folder: Path) -> str:
    return f"{source.PREFIX}{folder}"


def batch_of(weights: Weights) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask of a few texts of different lengths."""
    tokenizer = TextTokenizer(source.tokenizer_of(weights), weights.text_preprocessing)
    table = tokenizer.tokenize([line.encode() for line in LINES]).table
    lengths = table.lengths(table.digests)
    tokens = torch.from_numpy(table.padded(table.digests, 16).astype(np.int64))
    return tokens, torch.from_numpy(mask_of(lengths, 16))


def filled(weights: Weights, size: int = 16) -> nn.Module:
    """The network that the source builds, with the weights."""
    network = source.build(weights, size=size)
    arrays = source.adapt(weights, network, size=size)
    network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    return network


def states_of(folder: Path, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What transformers itself computes of a folder's model."""
    model = transformers.AutoModel.from_pretrained(folder)
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    states: torch.Tensor = encoder.eval()(input_ids=tokens, attention_mask=mask).last_hidden_state
    return states


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_gives_what_transformers_gives_pooled(tmp_path: Path, family: str) -> None:
    folder = save_text_model(tmp_path / family, family, **_OWN.get(family, {}))
    weights = load_weights(name_of(folder))
    tokens, mask = batch_of(weights)
    with torch.no_grad():
        found = filled(weights)(tokens, mask)
        states = states_of(folder, tokens, mask)
    each = [row[: length.item()] for row, length in zip(states, mask.sum(1), strict=True)]
    causal = family == "gpt2"
    expected = torch.stack([row[-1] if causal else row.mean(0) for row in each])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_says_nothing(tmp_path: Path, family: str) -> None:
    folder = save_text_model(tmp_path / family, family, **_OWN.get(family, {}))
    weights = load_weights(name_of(folder))
    network = filled(weights, size=24)
    tokens, mask = batch_of(weights)
    with torch.no_grad():
        longer = network(functional.pad(tokens, (0, 8)), functional.pad(mask, (0, 8)))
        torch.testing.assert_close(network(tokens, mask), longer)


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token", "max_tokens", "lasttoken"])
def test_the_folders_own_pooling_is_used_and_its_normalisation(bert: Path, pooling: str) -> None:
    as_sentence_model(bert, pooling=pooling)
    weights = load_weights(name_of(bert))
    tokens, mask = batch_of(weights)
    with torch.no_grad():
        found = filled(weights)(tokens, mask)
        states = states_of(bert, tokens, mask)
    each = [row[: length.item()] for row, length in zip(states, mask.sum(1), strict=True)]
    ways = {
        "mean_tokens": lambda row: row.mean(0),
        "cls_token": lambda row: row[0],
        "max_tokens": lambda row: row.max(0).values,
        "lasttoken": lambda row: row[-1],
    }
    expected = functional.normalize(torch.stack([ways[pooling](row) for row in each]), dim=1)
    torch.testing.assert_close(found, expected)


def test_the_gradient_of_last_pooling_reaches_the_last_tokens_alone() -> None:
    from trainable.backbones.transformers_models.network import POOLERS

    states = torch.randn(2, 4, 3, requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    (gradient,) = torch.autograd.grad(POOLERS["last"](states, mask).sum(), states)
    assert gradient[:, :, 0].tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]


def test_random_weights_are_the_same_each_time(bert: Path) -> None:
    before = torch.random.get_rng_state()
    first, second = (load_weights(f"{name_of(bert)}@none") for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.digest == second.digest != load_weights(name_of(bert)).digest
    assert (first.version, first.licence) == ("none", None)


def test_weights_know_what_is_needed_to_build_their_network_without_the_folder(bert: Path) -> None:
    weights: Weights = pickle.loads(pickle.dumps(load_weights(name_of(bert))))
    tokens, mask = batch_of(weights)
    json.dumps(dict(weights.args))
    with torch.no_grad():
        expected = filled(weights)(tokens, mask)
        for file in bert.iterdir():
            file.unlink()
        bert.rmdir()
        assert torch.equal(filled(weights)(tokens, mask), expected)


def test_weights_tell_what_they_are(bert: Path) -> None:
    (bert / "README.md").write_text("---\nlicense: apache-2.0\ndatasets:\n- snli\n---\n# A model\n")
    weights = load_weights(name_of(bert))
    assert (weights.source, weights.modality) == ("transformers", "text")
    assert (weights.backbone, weights.version) == (name_of(bert), str(bert))
    assert (weights.licence, weights.pretraining) == ("apache-2.0", "snli")


def test_a_backbone_is_described_without_reading_its_weights(bert: Path) -> None:
    network = source.architecture(name_of(bert), size=16)
    (bert / "README.md").write_text("---\nlicense: mit\n---\n")
    (bert / "model.safetensors").write_bytes(b"")
    info = describe(name_of(bert))
    assert info.num_params == sum(parameter.numel() for parameter in network.parameters())
    assert (info.input, info.modality, info.licence) == ("48 tokens", "text", "mit")
    assert info.cached


def test_a_folder_stands_for_itself_in_lists_and_search_spaces(bert: Path) -> None:
    name = name_of(bert)
    assert names(name) == [name]
    assert expand(f"{name}@none") == [f"{name}@none"]
    assert known_problem(name) is known_problem(f"{name}@none") is None


def test_weights_of_a_model_with_a_head_and_older_names_are_translated(bert: Path) -> None:
    file = bert / "model.safetensors"
    expected = load_weights(name_of(bert)).arrays
    state = load_file(file)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in state.items():
        for new, before in old.items():
            name = name.replace(new, before)
        renamed[f"bert.{name}"] = tensor
    save_file(renamed | {"cls.predictions.bias": torch.zeros(3)}, file, metadata={"format": "pt"})
    found = load_weights(name_of(bert)).arrays
    assert {n: a.tobytes() for n, a in found.items()} == {
        n: a.tobytes() for n, a in expected.items()
    }


def test_weights_in_several_files_are_read(bert: Path) -> None:
    expected = load_weights(name_of(bert))
    model = transformers.AutoModel.from_pretrained(bert)
    (bert / "model.safetensors").unlink()
    model.save_pretrained(bert, max_shard_size="8KB")
    assert len(list(bert.glob("model-*.safetensors"))) > 1
    assert load_weights(name_of(bert)).digest == expected.digest


def test_half_precision_becomes_single(bert: Path) -> None:
    file = bert / "model.safetensors"
    state = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})
    config = json.loads((bert / "config.json").read_text())
    write_json(bert / "config.json", config | {"dtype": "bfloat16"})
    weights = load_weights(name_of(bert))
    assert {array.dtype for array in weights.arrays.values()} == {np.dtype(np.float32)}
    assert {p.dtype for p in filled(weights).parameters()} == {torch.float32}


def test_an_encoders_own_checkpoint_fills_it_without_its_decoder(tmp_path: Path) -> None:
    folder = save_text_model(tmp_path / "t5", "t5", **_OWN["t5"])
    expected = load_weights(name_of(folder))
    file = folder / "model.safetensors"
    state = {n: t for n, t in load_file(file).items() if not n.startswith("decoder.")}
    save_file(state, file, metadata={"format": "pt"})
    assert load_weights(name_of(folder)).digest == expected.digest
    assert not any("decoder" in name for name in expected.arrays)


def test_a_pooler_that_the_file_lacks_is_no_gap(bert: Path) -> None:
    file = bert / "model.safetensors"
    state = {n: t for n, t in load_file(file).items() if not n.startswith("pooler.")}
    save_file(state, file, metadata={"format": "pt"})
    arrays = load_weights(name_of(bert)).arrays
    assert not np.any(arrays["model.pooler.dense.weight"])


def test_the_tokenizer_belongs_to_the_weights(bert: Path) -> None:
    weights = load_weights(name_of(bert))
    assert source.tokenizer_of(weights) == (bert / "tokenizer.json").read_bytes()
    how = replace(weights.text_preprocessing, tokenizer="0" * 64)
    other = replace(weights, preprocessing=how)
    with pytest.raises(
        BackboneError, match=r"tokenizer\.json is another one than when the weights"
    ):
        source.tokenizer_of(other)


@pytest.mark.parametrize(("family", "most"), [("bert", 64), ("roberta", 63)])
def test_texts_longer_than_the_models_positions_are_refused(
    tmp_path: Path, family: str, most: int
) -> None:
    folder = save_text_model(tmp_path / family, family)
    weights = load_weights(f"{name_of(folder)}@none")
    filled(weights, size=most)
    with pytest.raises(BackboneError, match=f"got {most + 1}; allowed: at most {most}"):
        source.build(weights, size=most + 1)


def test_there_is_a_way_of_pooling_for_each_of_their_names() -> None:
    from trainable.backbones.transformers_models.network import POOLERS

    assert sorted(POOLERS) == sorted(POOLINGS)


def test_nothing_heavy_is_imported_to_know_whose_a_name_is() -> None:
    code = (
        "import sys; from trainable.backbones import transformers_models as source; "
        "assert source.owns('transformers:a/b') and not source.owns('resnet50'); "
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'tokenizers'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
