"""The lines of Python in the card of a network for texts are run as they stand."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.reading.export.card_kinds import card_kind
from orchestrator.reading.export.text_use import use_lines
from tests.builders.text_models import LINES, save_text_model
from tests.orchestrator.reading.export.test_export_use import python_of
from trainable.backbones import Backbone, load_weights
from trainable.backbones.weights import TextPreprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.export import written_model
from trainable.export.exchange_formats import TORCH_FILE, ExchangeForms, write_portable
from trainable.export.exported_model import ExportedModel
from trainable.export.model_config import ModelConfig
from trainable.export.network_kinds import LibraryForm
from trainable.export.text_networks import TEXT
from trainable.export.trained_model import TrainedModel, train_configuration
from trainable.export.written_model import Written, write_model
from trainable.spec.trial_spec import LabelBudget, TrialSpec

pytest.importorskip("transformers")

WORDS = sorted({word for line in LINES for word in line.split()})
NAMES = ("<b>", "it's")
PREPROCESSING = TextPreprocessing(
    max_length=24, tokenizer="0", pad_id=0, pooling="mean", normalize=False
)
ABOUT = ModelConfig(
    backbone="transformers:model",
    source="transformers",
    architecture="transformers:model",
    version="model",
    head="head",
    preprocessing=PREPROCESSING,
    class_names=NAMES,
)
TEXTS = ["Where is my card", " " + "please top up my account " * 9, "how"]


def labelled_texts() -> LabelledExamples:
    draw = random.Random(0)
    return LabelledExamples.from_bytes(
        [" ".join(draw.choices(WORDS, k=draw.choice((3, 20)))).encode() for _ in range(12)],
        labels=[row % 2 for row in range(12)],
        split=[0] * 12,
        class_names=NAMES,
        paths=[f"row {row}" for row in range(12)],
        modality="text",
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_model(tmp_path_factory.mktemp("home") / "model", num_hidden_layers=1)


def trained(home: Path, **preprocessing: Any) -> TrainedModel:
    """A briefly trained network whose texts are prepared as the arguments say."""
    weights = load_weights(f"transformers:{home}")
    how = replace(weights.text_preprocessing, max_length=24, **preprocessing)
    backbone = Backbone(replace(weights, preprocessing=how))
    spec = TrialSpec(
        backbone=weights.backbone,
        lr=0.03,
        label_budget=LabelBudget(4),
        freeze_depth=0.5,
        steps=2,
        reports=1,
        interpolation=1.0,
    )
    return train_configuration(spec, labelled_texts(), backbone)


def run_lines(
    lines: list[str], folder: Path, patch: pytest.MonkeyPatch, texts: list[str]
) -> dict[str, Any]:
    """What the lines define, run in a folder with texts as arguments."""
    patch.chdir(folder)
    patch.setattr("sys.argv", ["lines.py", *texts])
    names: dict[str, Any] = {}
    exec(compile(python_of(lines), "lines.py", "exec"), names)
    return names


@pytest.mark.parametrize(
    "preprocessing",
    [
        {"pooling": "mean", "normalize": True, "prompt": "open an ", "lowercase": True},
        {"pooling": "last", "prompt": "how old ", "truncate": "head_tail"},
        pytest.param({"pooling": "cls", "truncate": "head_tail"}, marks=pytest.mark.slow),
        pytest.param({"pooling": "max"}, marks=pytest.mark.slow),
    ],
)
def test_the_lines_of_a_card_give_the_logits_of_the_network_with_transformers_alone(
    home: Path,
    preprocessing: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
    model = trained(home, **preprocessing)
    lines = use_lines(model.about, write_model(model, tmp_path))
    assert "trainable" not in python_of(lines)
    found = run_lines(lines, tmp_path, monkeypatch, TEXTS)["classify"](TEXTS)
    exported = ExportedModel.load(tmp_path)
    expected = list(exported.predict(TEXTS))
    shares = [one.probabilities for one in expected]
    for row, share in zip(found.double().softmax(dim=1).tolist(), shares, strict=True):
        assert row == pytest.approx(share, abs=1e-5)
    ((_, batch), *_) = TEXT.reader(model.about, tmp_path).read([TEXTS[1]]).batches
    assert torch.allclose(found[1:2], exported.logits(*batch), atol=1e-5)
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(text, name) for text, name, _ in printed] == [
        (repr(text), repr(NAMES[one.ranked()[0][0]]))
        for text, one in zip(TEXTS, expected, strict=True)
    ]


@pytest.mark.slow
def test_the_lines_of_a_card_need_torch_alone_where_transformers_cannot_load_the_network(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(home, pooling="mean")
    portable = write_portable(model.network, model.batches, tmp_path, inputs=TEXT.inputs, about={})
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: portable)
    written = write_model(model, tmp_path)
    lines = use_lines(model.about, replace(written, library=LibraryForm(problem="<b>")))
    text = "\n".join(lines)
    assert "transformers cannot load this network: &#60;b&#62;." in text
    assert "transformers" not in python_of(lines)
    found = run_lines(lines, tmp_path, monkeypatch, TEXTS)["classify"](TEXTS)
    expected = [one.probabilities for one in ExportedModel.load(tmp_path).predict(TEXTS)]
    for row, share in zip(found.double().softmax(dim=1).tolist(), expected, strict=True):
        assert row == pytest.approx(share, abs=1e-5)


def test_the_card_names_parameters_that_have_two_values() -> None:
    about = replace(ABOUT, on_both_sides=("model.encoder.weight",))
    facts = dict(card_kind(about).facts(about))
    (name,) = (fact for fact in facts if "two values" in fact)
    assert facts[name] == "model.encoder.weight"


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"prompt": "query: "}, "1. Put the prompt &#39;query&#58; &#39; before it. Take white"),
        ({"lowercase": True}, "off both ends of the text and put it in lower case."),
        ({"truncate": "head_tail"}, "keep the beginning and the end, and all special tokens."),
        ({"pad_id": 7}, "on their right with token 7"),
        ({"pooling": "last", "normalize": True}, "the vector of its last token, divided by its"),
    ],
)
def test_the_card_says_how_texts_are_prepared(changed: dict[str, Any], line: str) -> None:
    about = replace(ABOUT, preprocessing=replace(PREPROCESSING, **changed))
    assert line in "\n".join(card_kind(about).preprocessing(about))


def test_no_lines_are_promised_where_there_is_no_form_for_them() -> None:
    missing = ExchangeForms(TORCH_FILE, "cannot be written")
    written = Written(library=LibraryForm(problem="no class"), portable=(missing,))
    text = "\n".join(use_lines(ABOUT, written))
    assert "```python" not in text
    assert "transformers cannot load this network: no class." in text
    assert "| `model.pt2` | not there: cannot be written |" in text
    assert "`network.safetensors` | all weights of the network |" in text
    assert "config.json" not in text
