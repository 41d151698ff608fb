"""Exports of networks for texts: every form of them, and reading them back."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.builders.text_models import LINES, as_sentence_model, save_text_model
from trainable.backbones import Backbone, load_weights
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import BackboneError, ExportError
from trainable.export import written_model
from trainable.export.exchange_formats import ONNX_FILE, TORCH_FILE, write_portable
from trainable.export.exported_model import ExportedModel
from trainable.export.model_config import ModelConfig, read_about
from trainable.export.text_networks import TEXT
from trainable.export.trained_model import TrainedModel, train_configuration, train_probe
from trainable.export.written_model import Written, write_model
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.baselines import run_baseline
from trainable.training.trial import Trial

pytest.importorskip("transformers")

WORDS = sorted({word for line in LINES for word in line.split()} - {"card", "account"})
NAMES = ("card", "account")
LONG = "where is my card " * 30


def labelled_texts(number: int = 40) -> LabelledExamples:
    """Texts of several lengths, some too long, that hold the word of their class."""
    draw = random.Random(0)
    texts = []
    for row in range(number):
        words = draw.choices(WORDS, k=draw.choice((3, 6, 14, 40)))
        texts.append(" ".join([NAMES[row % 2], *words]))
    return LabelledExamples.from_bytes(
        [text.encode() for text in texts],
        labels=[row % 2 for row in range(number)],
        split=[Split.TEST if row >= 24 else Split.POOL for row in range(number)],
        class_names=NAMES,
        paths=[f"row {row}" for row in range(number)],
        modality="text",
    )


def spec_of(backbone: str, **changed: Any) -> TrialSpec:
    settings: dict[str, Any] = {
        "backbone": backbone,
        "lr": 1e-2,
        "label_budget": LabelBudget(8),
        "freeze_depth": 0.5,
        "validation": Validation(2),
        "steps": 3,
        "reports": 1,
        "interpolation": 1.0,
    }
    return TrialSpec(**{**settings, **changed})


def texts_of(examples: LabelledExamples, split: Split) -> list[str]:
    return [examples.encoded(int(index)).decode() for index in examples.indices(split)]


@dataclass(frozen=True)
class Exported:
    """A network for texts and what was written of it."""

    examples: LabelledExamples
    spec: TrialSpec
    backbone: Backbone
    model: TrainedModel
    written: Written
    folder: Path


def exported_from(model: Path, folder: Path, **changed: Any) -> Exported:
    examples = labelled_texts()
    backbone = Backbone(load_weights(f"transformers:{model}"))
    spec = spec_of(backbone.weights.backbone, **changed)
    trained = train_configuration(spec, examples, backbone)
    folder.mkdir()
    return Exported(examples, spec, backbone, trained, write_model(trained, folder), folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A tiny encoder of sentences, its second half fine-tuned, in all its forms."""
    home = tmp_path_factory.mktemp("bert")
    as_sentence_model(save_text_model(home / "model"))
    return exported_from(home / "model", home / "export")


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A tiny encoder whose layers share their parameters, the second one fine-tuned."""
    home = tmp_path_factory.mktemp("albert")
    save_text_model(home / "model", "albert", embedding_size=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
        return exported_from(home / "model", home / "export", freeze_depth=None, frozen_blocks=2)


@pytest.fixture
def copied(bert: Exported, tmp_path: Path) -> Path:
    """A copy of the folder, to be damaged."""
    return Path(shutil.copytree(bert.folder, tmp_path / "copy"))


def batches_of(exported: Exported) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs of several numbers and lengths, padded and not."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for number, length in ((1, 5), (2, 24), (7, 13), (3, 3)):
        tokens = torch.randint(4, 20, (number, length), generator=draw)
        lengths = torch.randint(1, length + 1, (number, 1), generator=draw)
        lengths[0] = length
        mask = (torch.arange(length) < lengths).long()
        found.append((tokens * mask, mask))
    return found


def test_the_folder_has_every_file(bert: Exported) -> None:
    assert {path.name for path in bert.folder.iterdir()} == {
        *("model.json", "tokenizer.json", "network.json", "network.safetensors"),
        *("config.json", "model.safetensors", "head.safetensors", TORCH_FILE, ONNX_FILE),
    }
    assert [one.problem for one in bert.written.portable] == [None, None]
    home = Path(bert.backbone.weights.architecture.partition(":")[2])
    assert (bert.folder / "tokenizer.json").read_bytes() == (home / "tokenizer.json").read_bytes()


def test_it_predicts_what_the_refitted_trial_predicts(bert: Exported) -> None:
    expected = Trial(bert.spec, bert.examples, bert.backbone).refit()
    texts = texts_of(bert.examples, Split.TEST)
    found = list(ExportedModel.load(bert.folder).predict(texts))
    assert [one.example for one in found] == texts
    assert [one.ranked()[0][0] for one in found] == expected.arrays()["predicted"].tolist()
    shares = [one.ranked()[0][1] for one in found]
    assert shares == pytest.approx(expected.arrays()["probability"].tolist(), abs=1e-5)


def torch_form(folder: Path) -> Callable[..., torch.Tensor]:
    found: Callable[..., torch.Tensor] = torch.export.load(folder / TORCH_FILE).module()
    return found


def onnx_form(folder: Path) -> Callable[..., torch.Tensor]:
    session = onnxruntime.InferenceSession(folder / ONNX_FILE)
    assert [(one.name, one.shape, one.type) for one in session.get_inputs()] == [
        ("tokens", ["batch", "length"], "tensor(int64)"),
        ("mask", ["batch", "length"], "tensor(int64)"),
    ]

    def run(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        (logits,) = session.run(["logits"], {"tokens": tokens.numpy(), "mask": mask.numpy()})
        return torch.from_numpy(logits)

    return run


@pytest.mark.parametrize("form", [torch_form, onnx_form])
def test_portable_forms_agree_for_any_number_and_length_of_texts(
    bert: Exported, form: Callable[[Path], Callable[..., torch.Tensor]]
) -> None:
    run = form(bert.folder)
    for batch in batches_of(bert):
        with torch.no_grad():
            assert torch.allclose(run(*batch), bert.model.network(*batch), atol=1e-5)


@pytest.mark.slow
def test_portable_forms_have_both_values_of_shared_parameters(
    albert: Exported, tmp_path: Path
) -> None:
    model = albert.model
    found = write_portable(model.network, model.batches, tmp_path, inputs=TEXT.inputs, about={})
    assert [one.problem for one in found] == [None, None]
    for form in (torch_form, onnx_form):
        run = form(tmp_path)
        for batch in batches_of(albert):
            with torch.no_grad():
                assert torch.allclose(run(*batch), model.network(*batch), atol=1e-5)


def test_padding_changes_nothing(bert: Exported) -> None:
    model = ExportedModel.load(bert.folder)
    text = "please top up my card"
    (alone,) = model.predict([text])
    beside = list(model.predict([LONG, text, "card"]))[1]
    assert beside.probabilities == pytest.approx(alone.probabilities, abs=1e-6)


def test_transformers_loads_the_encoder_without_a_warning(
    bert: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoModel

    assert bert.written.library.options == {"auto_class": "AutoModel"}
    encoder, told = AutoModel.from_pretrained(bert.folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert caplog.records == []
    assert encoder.dtype == torch.float32
    head = load_file(bert.folder / "head.safetensors")
    for tokens, mask in batches_of(bert):
        with torch.no_grad():
            states = encoder.eval()(input_ids=tokens, attention_mask=mask).last_hidden_state
            expected = bert.model.network(tokens, mask)
        pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        pooled = torch.nn.functional.normalize(pooled, dim=1)
        found = torch.nn.functional.linear(pooled, head["weight"], head["bias"])
        assert torch.allclose(found, expected, atol=1e-5)


def test_the_encoder_holds_what_was_trained(bert: Exported) -> None:
    before = bert.backbone.weights.arrays
    after = load_file(bert.folder / "model.safetensors")
    changed = {
        name for name, value in after.items() if not np.array_equal(value, before[f"model.{name}"])
    }
    assert any(name.startswith("encoder.layer.1.") for name in changed)
    assert not any(name.startswith("embeddings.") for name in changed)


def test_shared_parameters_of_which_one_part_trained_its_own_leave_transformers_out(
    albert: Exported,
) -> None:
    assert albert.model.about.on_both_sides
    assert albert.written.library.options is None
    assert "its own: model.encoder" in str(albert.written.library.problem)
    names = {path.name for path in albert.folder.iterdir()}
    assert "config.json" not in names
    assert "model.safetensors" not in names
    expected = Trial(albert.spec, albert.examples, albert.backbone).refit()
    found = ExportedModel.load(albert.folder).predict(texts_of(albert.examples, Split.TEST))
    shares = [one.ranked()[0][1] for one in found]
    assert shares == pytest.approx(expected.arrays()["probability"].tolist(), abs=1e-5)


def test_shared_parameters_that_no_training_changed_have_one_value(albert: Exported) -> None:
    trained = albert.model.trained
    assert trained.split.on_both_sides
    untrained = replace(trained, suffix=trained.split.suffix)
    assert TEXT.describe(untrained).on_both_sides == ()


def test_a_probe_becomes_the_head(bert: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
    budget = LabelBudget(6)
    expected = run_baseline(
        bert.examples,
        backbone=bert.backbone,
        budget=budget,
        validation=Validation(2),
        repeats=1,
        seed=0,
    )
    model = train_probe(
        bert.examples,
        bert.backbone,
        budget=budget,
        inverse_penalty=expected.inverse_penalties[0],
        repeat=0,
        seed=0,
    )
    folder = bert.folder.parent / "probe"
    folder.mkdir()
    assert write_model(model, folder).library.options == {"auto_class": "AutoModel"}
    found = ExportedModel.load(folder).predict(texts_of(bert.examples, Split.TEST))
    shares = [one.ranked()[0][1] for one in found]
    assert shares == pytest.approx(expected.tests[0].arrays()["probability"].tolist(), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "config", "auto_class"),
    [
        ("gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}, "AutoModel"),
        (
            "t5",
            {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
            "AutoModelForTextEncoding",
        ),
    ],
)
def test_other_architectures_are_written_for_transformers_too(
    model_type: str,
    config: dict[str, Any],
    auto_class: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
    save_text_model(tmp_path / "model", model_type, **config)
    exported = exported_from(tmp_path / "model", tmp_path / "export", freeze_depth=1.0)
    assert exported.written.library.problem is None
    assert exported.written.library.options == {"auto_class": auto_class}


def test_a_backbone_with_another_graph_for_every_length_is_refused_before_it_is_trained(
    bert: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = bert.backbone.traced

    def of_one_length(size: int) -> TracedBackbone:
        return replace(traced(size), sizes=range(size, size + 1))

    monkeypatch.setattr(bert.backbone, "traced", of_one_length)
    monkeypatch.setattr(Trial, "fit", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(ExportError, match="it is another graph for other lengths of texts"):
        train_configuration(bert.spec, bert.examples, bert.backbone)


def test_without_the_library_of_tokenizers_the_extra_is_named(
    bert: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    message = (
        r"tokenizers is not installed; install it with: pip install 'sft-sweep\[transformers\]'"
    )
    with pytest.raises(ExportError, match=message):
        ExportedModel.load(bert.folder)


def test_the_description_is_read_back(bert: Exported) -> None:
    about = read_about(bert.folder)
    assert about == bert.model.about
    assert about.modality == "text"
    assert about.backbone == "transformers:model"
    assert about.text_preprocessing.max_length == 24
    assert ModelConfig.from_json(json.loads(json.dumps(about.to_json()))) == about
    with pytest.raises(ExportError, match="transformers:model: this network takes texts, not"):
        _ = about.image_preprocessing


def test_no_path_of_this_machine_is_in_any_file(bert: Exported) -> None:
    own = str(bert.folder.parent).encode()
    for path in bert.folder.iterdir():
        assert own not in path.read_bytes(), path.name


def test_texts_that_are_too_long_are_cut_and_told_and_blank_ones_refused(bert: Exported) -> None:
    model = ExportedModel.load(bert.folder)
    long, blank, half, good = model.predict([LONG, " \t", "\ud800", "my card"])
    assert long.note == "122 tokens, cut to 24"
    assert blank.problem == "the text is blank: it holds nothing but white space"
    assert half.problem == "cannot be read: no text ('\\ud800')"
    assert (good.problem, good.note) == (None, None)
    assert list(model.predict([])) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, r"tokenizer\.json: no such file; export the network again"),
        ("tokenizer.json", b"{}", "got one with SHA-256 44136fa355b3678a"),
        ("head.safetensors", None, r"head\.safetensors: no such file; export the network again"),
        ("head.safetensors", b"x" * 99, "weights are damaged"),
        ("network.json", None, r"network\.json: no such file; export the network again"),
        ("network.json", b"[]", r"network\.json: cannot be read"),
        (
            "network.json",
            b'{"parts": [{"tensors": {"a": {"file": "/etc/passwd", "key": "b"}}}]}',
            "allowed: mod",
        ),
        (
            "network.json",
            b'{"parts": [{"inputs": [], "tensors": {}, "output": null, "steps": '
            b'[{"name": "a", "call": "aten.from_file.default", "args": ["x"], "kwargs": {}}]}]}',
            r"a step calls 'aten\.from_file\.default'",
        ),
    ],
)
def test_missing_and_damaged_files_are_told(
    copied: Path, name: str, content: bytes | None, message: str
) -> None:
    (copied / name).unlink()
    if content is not None:
        (copied / name).write_bytes(content)
    with pytest.raises(ExportError, match=message):
        ExportedModel.load(copied)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"weight": torch.zeros(2, 16)}, r"network\.json: cannot be read: 'bias'"),
        (
            {"weight": torch.zeros(3, 16), "bias": torch.zeros(2)},
            r"head\.safetensors: weight is \[3, 16\] instead of \[2, 16\]",
        ),
    ],
)
def test_weights_of_another_network_are_refused(
    copied: Path, head: dict[str, torch.Tensor], message: str
) -> None:
    save_file(head, copied / "head.safetensors")
    with pytest.raises(ExportError, match=message):
        ExportedModel.load(copied)


def test_a_tokenizer_that_changed_since_the_sweep_is_refused(
    bert: Exported, tmp_path: Path
) -> None:
    tokenizer = Path(bert.backbone.weights.architecture.partition(":")[2]) / "tokenizer.json"
    before = tokenizer.read_bytes()
    tokenizer.write_bytes(before + b"\n")
    try:
        with pytest.raises(BackboneError, match=r"its tokenizer\.json is another one"):
            write_model(bert.model, tmp_path)
    finally:
        tokenizer.write_bytes(before)
