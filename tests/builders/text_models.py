"""Tiny text encoders with random weights, in folders as transformers writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LINES = (
    "where is my new card",
    "the cash machine kept my card",
    "why was the transfer declined",
    "please top up my account",
    "how old must i be to open an account",
)
"""Texts whose words the tokenizers here know."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

_SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}


def word_tokenizer(lines: Iterable[str] = LINES) -> Any:
    """A tokenizer of lower-case words that puts `[CLS]` before and `[SEP]` behind a text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = sorted({word for line in lines for word in line.split()})
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def save_text_model(folder: Path, model_type: str = "bert", **config: Any) -> Path:
    """Write a folder with a tiny model, seeded random weights and a tokenizer.

    Args:
        folder: the folder, which is created.
        model_type: type of the model, as transformers names it.
        config: values of the model's configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    folder.mkdir(parents=True)
    tokenizer = word_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"model_max_length": 48, "pad_token": "[PAD]"})
    settings = _SIZES | {"vocab_size": tokenizer.get_vocab_size()} | config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **settings))
    model.save_pretrained(folder)
    return folder


def write_json(path: Path, content: Any) -> None:
    """Write a file of JSON, and create its folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def change_json(path: Path, **values: Any) -> None:
    """Set keys of a file of JSON; None removes a key."""
    content = json.loads(path.read_text(encoding="utf-8")) | values
    write_json(path, {key: value for key, value in content.items() if value is not None})


def as_sentence_model(
    folder: Path, *, pooling: str = "mean_tokens", normalize: bool = True
) -> None:
    """Add the files that sentence-transformers writes to the folder of a model."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if normalize:
        kinds.append(("2_Normalize", "Normalize"))
    write_json(
        folder / "modules.json",
        [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (path, kind) in enumerate(kinds)
        ],
    )
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 16} | {f"pooling_mode_{m}": m == pooling for m in modes},
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
