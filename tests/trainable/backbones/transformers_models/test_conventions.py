"""Lengths, padding, prompts and pooling, as a model's folder says them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.builders.text_models import as_sentence_model, change_json, save_text_model, write_json
from trainable.backbones import load_weights
from trainable.backbones.transformers_models import PREFIX
from trainable.backbones.weights import TextPreprocessing

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")


def preprocessing_of(folder: Path) -> TextPreprocessing:
    return load_weights(f"{PREFIX}{folder}@none").text_preprocessing


def test_a_plain_encoder_is_pooled_by_its_mean(bert: Path) -> None:
    assert preprocessing_of(bert) == TextPreprocessing(
        max_length=48,
        tokenizer=hashlib.sha256((bert / "tokenizer.json").read_bytes()).hexdigest(),
        pad_id=0,
        pooling="mean",
        normalize=False,
    )


@pytest.mark.parametrize(
    ("family", "settings", "pooling"),
    [
        ("gpt2", {}, "last"),
        ("llama", {}, "last"),
        ("bert", {"is_decoder": True}, "last"),
        ("roberta", {}, "mean"),
        ("bart", {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1}, "mean"),
    ],
)
def test_the_last_token_speaks_for_a_text_where_a_token_sees_none_behind_it(
    tmp_path: Path, family: str, settings: dict[str, object], pooling: str
) -> None:
    folder = save_text_model(tmp_path / family, family, **settings)
    assert preprocessing_of(folder).pooling == pooling


@pytest.mark.parametrize(
    ("mode", "pooling"),
    [("mean_tokens", "mean"), ("cls_token", "cls"), ("max_tokens", "max"), ("lasttoken", "last")],
)
@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_transformers_files_say_how_vectors_are_pooled(
    bert: Path, mode: str, pooling: str, normalize: bool
) -> None:
    as_sentence_model(bert, pooling=mode, normalize=normalize)
    found = preprocessing_of(bert)
    assert (found.pooling, found.normalize) == (pooling, normalize)


def test_the_newer_form_of_the_pooling_is_read_too(bert: Path) -> None:
    as_sentence_model(bert)
    file = bert / "1_Pooling" / "config.json"
    write_json(file, {"pooling_mode": "cls", "embedding_dimension": 16})
    assert preprocessing_of(bert).pooling == "cls"
    write_json(file, {"pooling_mode": ["lasttoken"], "pooling_mode_lasttoken": True})
    assert preprocessing_of(bert).pooling == "last"


def test_the_list_of_modules_says_where_the_pooling_is(bert: Path) -> None:
    as_sentence_model(bert, pooling="cls_token")
    (bert / "1_Pooling").rename(bert / "pool")
    text = (bert / "modules.json").read_text().replace("1_Pooling", "pool")
    (bert / "modules.json").write_text(text)
    assert preprocessing_of(bert).pooling == "cls"


@pytest.mark.parametrize(
    ("tokenizer", "sentences", "positions", "expected"),
    [
        (48, None, 64, 48),
        (48, 24, 64, 24),
        (int(1e30), None, 64, 64),
        (1e30, None, 1024, 256),
        (None, None, 32, 32),
        (512, 256, 512, 256),
        (None, 384, 514, 256),
    ],
)
def test_the_longest_text_is_the_shortest_of_what_is_said(
    bert: Path, tokenizer: float | None, sentences: int | None, positions: int, expected: int
) -> None:
    change_json(bert / "tokenizer_config.json", model_max_length=tokenizer)
    change_json(bert / "config.json", max_position_embeddings=positions)
    if sentences is not None:
        write_json(bert / "sentence_bert_config.json", {"max_seq_length": sentences})
    assert preprocessing_of(bert).max_length == expected


def test_a_model_without_a_table_of_positions_has_the_general_limit(tmp_path: Path) -> None:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    folder = save_text_model(tmp_path / "t5", "t5", **sizes)
    (folder / "tokenizer_config.json").unlink()
    change_json(folder / "config.json", max_position_embeddings=None)
    assert preprocessing_of(folder).max_length == 256


def test_the_default_prompt_stands_before_texts(bert: Path) -> None:
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}}
    file = bert / "config_sentence_transformers.json"
    write_json(file, prompts)
    assert preprocessing_of(bert).prompt == ""
    write_json(file, prompts | {"default_prompt_name": "query"})
    assert preprocessing_of(bert).prompt == "query: "


def test_texts_are_put_in_lower_case_where_the_folder_says_so(bert: Path) -> None:
    write_json(bert / "sentence_bert_config.json", {"do_lower_case": True})
    assert preprocessing_of(bert).lowercase


def test_padding_is_the_models_own(bert: Path) -> None:
    change_json(bert / "config.json", pad_token_id=1)
    assert preprocessing_of(bert).pad_id == 1


@pytest.mark.parametrize(
    ("named", "expected"), [("[SEP]", 3), ({"content": "[SEP]"}, 3), (None, 0), ("[NONE]", 0)]
)
def test_padding_is_the_tokenizers_where_the_model_has_none(
    bert: Path, named: object, expected: int
) -> None:
    change_json(bert / "tokenizer_config.json", pad_token=named)
    text = (bert / "config.json").read_text().replace('"pad_token_id": 0', '"pad_token_id": null')
    (bert / "config.json").write_text(text)
    assert preprocessing_of(bert).pad_id == expected


def test_a_prompt_that_the_folder_does_not_pool_is_told(bert: Path) -> None:
    as_sentence_model(bert)
    change_json(bert / "1_Pooling" / "config.json", include_prompt=False)
    assert load_weights(f"{PREFIX}{bert}@none").notes == ()
    write_json(
        bert / "config_sentence_transformers.json",
        {"prompts": {"query": "query: "}, "default_prompt_name": "query"},
    )
    (note,) = load_weights(f"{PREFIX}{bert}@none").notes
    assert note == "the tokens of the prompt are pooled, too, which the folder leaves out"


def test_what_stands_behind_the_pooling_is_passed_over_and_told(bert: Path) -> None:
    as_sentence_model(bert)
    text = (bert / "modules.json").read_text().replace("Normalize", "Dense")
    (bert / "modules.json").write_text(text)
    weights = load_weights(f"{PREFIX}{bert}@none")
    assert weights.notes == ("passed over behind the model, as a head is trained instead: Dense",)
