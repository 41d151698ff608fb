"""What is wrong with a model's folder, or its name, in one sentence each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.builders.text_models import (
    as_sentence_model,
    change_json,
    save_text_model,
    word_tokenizer,
    write_json,
)
from trainable.backbones import describe, known_problem, load_weights, names
from trainable.backbones.transformers_models import PREFIX
from trainable.errors import BackboneError

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


def put(hub: Path, repository: str, folder: Path) -> Path:
    """A model in the hub's cache, where the hub's client puts it."""
    place = hub / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0123456789abcdef")
    snapshot = place / "snapshots" / "0123456789abcdef"
    shutil.copytree(folder, snapshot)
    return snapshot


def problem_of(folder: Path) -> str:
    problem = known_problem(f"{PREFIX}{folder}")
    assert problem is not None
    assert problem.startswith(f"got '{PREFIX}{folder}'; {folder}")
    with pytest.raises(BackboneError) as raised:
        load_weights(f"{PREFIX}{folder}")
    assert str(raised.value) == problem
    return problem


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    problem = known_problem(f"{PREFIX}{tmp_path}/nothing")
    assert problem is not None
    assert "nothing: no such folder; allowed: transformers:ORG/NAME" in problem


def test_weights_of_another_name_than_none(bert: Path) -> None:
    problem = known_problem(f"{PREFIX}{bert}@mine")
    assert problem is not None
    assert (
        f"unknown weights 'mine'; allowed: {PREFIX}{bert} alone, or {PREFIX}{bert}@none" in problem
    )


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    assert "no config.json; allowed: a folder as save_pretrained" in problem_of(tmp_path)


def test_an_adapter(bert: Path) -> None:
    (bert / "config.json").rename(bert / "adapter_config.json")
    assert "an adapter, not a model: merge it" in problem_of(bert)


@pytest.mark.parametrize("content", ["{", "[1, 2]"])
def test_a_damaged_configuration(bert: Path, content: str) -> None:
    (bert / "config.json").write_text(content)
    assert "config.json: damaged: " in problem_of(bert)


def test_a_configuration_that_no_model_has(bert: Path) -> None:
    change_json(bert / "config.json", hidden_size="wide")
    assert known_problem(f"{PREFIX}{bert}") is not None


def test_an_unknown_kind_of_model(bert: Path) -> None:
    change_json(bert / "config.json", model_type="newest_bert")
    version = importlib.metadata.version("transformers")
    assert (
        f"config.json: model_type: got 'newest_bert', which transformers {version} does not know; "
        "a newer one may: pip install -U transformers"
    ) in problem_of(bert)


def test_a_model_that_brings_code_of_its_own(bert: Path) -> None:
    change_json(bert / "config.json", auto_map={"AutoModel": "modeling.MyModel"})
    (bert / "modeling.py").write_text("raise SystemExit('this code was run')")
    assert "this model needs code of its own (auto_map, trust_remote_code), which is not run" in (
        problem_of(bert)
    )


def test_quantized_weights(bert: Path) -> None:
    change_json(bert / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    assert "its weights are quantized" in problem_of(bert)


def test_a_model_of_images(tmp_path: Path) -> None:
    folder = save_text_model(tmp_path / "vit", "vit", image_size=32, patch_size=16)
    with pytest.raises(BackboneError, match="takes pixel_values; allowed: a model of texts"):
        load_weights(f"{PREFIX}{folder}")


def test_a_model_that_takes_no_mask(tmp_path: Path) -> None:
    folder = save_text_model(tmp_path / "fnet", "fnet")
    with pytest.raises(BackboneError, match="takes no attention_mask"):
        load_weights(f"{PREFIX}{folder}")


def test_a_folder_without_a_tokenizer(bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    assert "no tokenizer.json: copy the one that the model was trained with" in problem_of(bert)


def test_a_slow_tokenizer_alone_and_how_to_convert_it(bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    (bert / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    assert (
        "no tokenizer.json: only the files of a slow tokenizer (vocab.txt). Convert it once: "
        'python -c "from transformers import AutoModel, AutoTokenizer; '
        f"[kind.from_pretrained('{bert}').save_pretrained('{bert}') "
        'for kind in (AutoModel, AutoTokenizer)]"'
    ) in problem_of(bert)


def test_a_damaged_tokenizer(bert: Path) -> None:
    (bert / "tokenizer.json").write_text('{"model": {}}')
    assert "tokenizer.json is damaged, or of a newer form" in problem_of(bert)


def test_the_tokenizer_of_another_model(bert: Path) -> None:
    word_tokenizer([f"word{n}" for n in range(90)]).save(str(bert / "tokenizer.json"))
    assert "it is the tokenizer of another model" in problem_of(bert)


def test_a_folder_without_weights(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    assert "no weights: allowed: model.safetensors. Write @none behind" in problem_of(bert)
    assert known_problem(f"{PREFIX}{bert}@none") is None


def test_weights_of_another_library_alone(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "tf_model.h5")
    assert "no weights: only tf_model.h5; allowed: model.safetensors" in problem_of(bert)


def test_pickles_alone_and_how_to_convert_them(bert: Path) -> None:
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    assert (
        "its weights are pickles (pytorch_model.bin), which may run code; allowed: "
        "model.safetensors. Convert them once, if you trust them: python -c "
        '"from transformers import AutoModel, AutoTokenizer; '
    ) in problem_of(bert)


def test_files_of_weights_that_an_index_names_and_that_are_not_there(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "model-00001-of-00002.safetensors")
    write_json(
        bert / "model.safetensors.index.json",
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002"}},
    )
    assert "files of weights that model.safetensors.index.json names are missing" in problem_of(
        bert
    )


def test_damaged_weights(bert: Path) -> None:
    (bert / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes()[:2000])
    with pytest.raises(BackboneError, match="bert: the weights cannot be read: "):
        load_weights(f"{PREFIX}{bert}")


def test_weights_that_are_something_else(bert: Path) -> None:
    torch.save({}, bert / "model.safetensors")
    assert "model.safetensors: refused: a pickle, no safetensors" in problem_of(bert)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_clone_whose_large_files_were_not_fetched(bert: Path, file: str) -> None:
    (bert / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert f"{file}: refused: this is a pointer of Git LFS, not the file itself" in problem_of(bert)


def test_weights_of_a_smaller_model(bert: Path) -> None:
    change_json(bert / "config.json", num_hidden_layers=3)
    with pytest.raises(BackboneError, match=r"do not fit .*missing: encoder\.layer\.2\."):
        load_weights(f"{PREFIX}{bert}")


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_weights_of_a_larger_model(bert: Path, prefix: str) -> None:
    file = bert / "model.safetensors"
    state = {f"{prefix}{name}": tensor for name, tensor in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})
    change_json(bert / "config.json", num_hidden_layers=1)
    with pytest.raises(BackboneError, match=r"do not fit .*left over: .*encoder\.layer\.1\."):
        load_weights(f"{PREFIX}{bert}")


def test_weights_of_other_widths(bert: Path) -> None:
    change_json(bert / "config.json", intermediate_size=40)
    with pytest.raises(BackboneError, match=r"is \(32,\) instead of \(40,\)"):
        load_weights(f"{PREFIX}{bert}")


def test_weights_of_another_family(bert: Path) -> None:
    save_file({"conv1.weight": torch.zeros(3)}, bert / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match="the weights do not fit the architecture: missing"):
        load_weights(f"{PREFIX}{bert}")


def test_a_pooling_that_there_is_not(bert: Path) -> None:
    as_sentence_model(bert, pooling="mean_sqrt_len_tokens")
    assert (
        "1_Pooling/config.json: got mean_sqrt_len_tokens; allowed: one of mean, cls, last, max"
    ) in problem_of(bert)


def test_several_poolings_at_once(bert: Path) -> None:
    as_sentence_model(bert)
    change_json(bert / "1_Pooling" / "config.json", pooling_mode_cls_token=True)
    assert "got cls_token and mean_tokens; allowed: one of" in problem_of(bert)


def test_a_damaged_list_of_modules(bert: Path) -> None:
    write_json(bert / "modules.json", [{"type": "Pooling"}])
    assert "modules.json: damaged: KeyError" in problem_of(bert)


def test_a_default_prompt_that_there_is_not(bert: Path) -> None:
    write_json(
        bert / "config_sentence_transformers.json",
        {"prompts": {"query": "query: "}, "default_prompt_name": "document"},
    )
    assert "default_prompt_name: got 'document'; allowed: query" in problem_of(bert)


def test_the_extra_that_is_not_installed(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == "transformers" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    problem = known_problem(f"{PREFIX}{bert}")
    assert problem is not None
    assert problem.endswith(
        "transformers is not installed; install it with: pip install 'sft-sweep[transformers]'"
    )
    assert names(f"{PREFIX}*") == []
    with pytest.raises(BackboneError, match="transformers is not installed"):
        describe(f"{PREFIX}{bert}")


def test_a_transformers_that_is_too_old(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.57.1")
    problem = known_problem(f"{PREFIX}{bert}")
    assert problem is not None
    assert "transformers 4.57.1 is too old; install a newer one with: pip install" in problem


def test_a_name_on_the_hub_that_cannot_be_reached(hub: Path) -> None:
    problem = known_problem(f"{PREFIX}nobody/nothing")
    assert problem is not None
    assert "nobody/nothing is not on this machine and cannot be fetched (" in problem
    assert "hf download nobody/nothing --local-dir FOLDER" in problem
    assert "write transformers:FOLDER" in problem


@pytest.mark.parametrize("place", ["", "a/b/c", "../x", "org/*"])
def test_what_is_no_name_on_the_hub(hub: Path, place: str) -> None:
    problem = known_problem(f"{PREFIX}{place}")
    assert problem is not None
    assert "no such folder; allowed: transformers:ORG/NAME" in problem


def test_a_model_in_the_hubs_cache_is_used_without_a_network(hub: Path, bert: Path) -> None:
    put(hub, "somebody/bert", bert)
    weights = load_weights(f"{PREFIX}somebody/bert")
    assert weights.version == "0123456789ab"
    assert weights.digest == load_weights(f"{PREFIX}{bert}").digest
    assert describe(f"{PREFIX}somebody/bert").cached


def test_models_in_the_hubs_cache_are_listed_unless_they_cannot_be_used(
    hub: Path, bert: Path
) -> None:
    put(hub, "somebody/bert", bert)
    change_json(put(hub, "somebody/unknown", bert) / "config.json", model_type="newest_bert")
    (put(hub, "somebody/tokenless", bert) / "tokenizer.json").unlink()
    assert names(f"{PREFIX}*") == [f"{PREFIX}somebody/bert"]


def test_a_model_of_the_hub_with_a_slow_tokenizer_alone(hub: Path, bert: Path) -> None:
    (put(hub, "somebody/bert", bert) / "tokenizer.json").unlink()
    problem = known_problem(f"{PREFIX}somebody/bert")
    assert problem is not None
    assert (
        "somebody/bert: no tokenizer.json on the Hugging Face hub. Make one, and write" in problem
    )
    assert "[kind.from_pretrained('somebody/bert').save_pretrained('FOLDER')" in problem


def test_a_model_in_the_hubs_cache_without_weights_can_be_named_but_not_loaded(
    hub: Path, bert: Path
) -> None:
    snapshot = put(hub, "somebody/bert", bert)
    (snapshot / "model.safetensors").unlink()
    name = f"{PREFIX}somebody/bert"
    assert known_problem(name) is None
    assert not describe(name).cached
    with pytest.raises(
        BackboneError, match=r"somebody/bert: its weights are not on this .*Pickles are"
    ):
        load_weights(name)
    assert load_weights(f"{name}@none").version == "none"
