"""Whole sweeps over texts: from a table and a folder with an encoder to answer and report."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from orchestrator.cli.main import run as command
from orchestrator.errors import SpaceError, UsageError
from orchestrator.planning.preparation import read_data
from orchestrator.reading.outcome import conclude
from orchestrator.recording.leaderboard import own_probe
from orchestrator.recording.sweep_directory import Run
from orchestrator.recording.tables import read_table
from tests.builders import text_sweeps
from tests.builders.prepared import prepare
from tests.builders.sweeps import sweep_in_process
from tests.builders.text_models import save_text_model
from trainable.backbones import Backbone
from trainable.data.subsets import draw_subset
from trainable.export import written_model
from trainable.export.exported_model import ExportedModel
from trainable.features.readers import FeatureReaders
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.trial import Trial

pytest.importorskip("transformers")

SETTINGS = text_sweeps.SETTINGS | {
    "search": text_sweeps.SETTINGS["search"] | {"lr": [0.01]},
    "trials": 2,
    "sampler": {"name": "grid"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny encoder and a table of questions."""
    return text_sweeps.write_home(tmp_path_factory.mktemp("home"))


def space(home: Path, **changed: Any) -> Path:
    return text_sweeps.write_space(home, **(SETTINGS | changed))


@pytest.fixture(scope="module")
def swept(home: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return sweep_in_process(space(home), home / "runs")


def test_tables_say_that_examples_are_texts(swept: Path) -> None:
    trials = read_table(swept, "trials").to_pylist()
    assert {row["method"] for row in trials} == {"finetune", "probe", "tfidf"}
    assert {row["state"] for row in trials} == {"complete"}
    assert {row["modality"] for row in trials} == {"text"}
    assert {row["image_size"] for row in trials} == {None}
    assert {row["backbone"] for row in trials} == {"transformers:model", None}
    read = {
        tuple(row[name] for name in ("max_length", "truncate", "prompt", "pooling"))
        for row in trials
        if row["method"] != "tfidf"
    }
    assert read == {(24, "head", "", "mean")}
    board = read_table(swept, "leaderboard").to_pylist()
    assert {row["modality"] for row in board} == {"text"}
    assert all(own_probe(row, board) for row in board if row["method"] != "tfidf")
    (tfidf,) = (row for row in board if row["method"] == "tfidf")
    assert tfidf["rank"] is None
    assert tfidf["test_score"] > 0.8  # the label is a word of the text


def test_the_head_alone_starts_as_the_probe(swept: Path) -> None:
    trials = {row["trial_id"]: row for row in read_table(swept, "trials").to_pylist()}
    curves = read_table(swept, "curves").to_pylist()
    (probe,) = (row for row in trials.values() if row["method"] == "probe")
    starts = [row for row in curves if row["report"] == 0]
    assert len(starts) == 2
    for row in starts:
        assert row["val_loss"] == pytest.approx(probe["val_loss"], abs=1e-6)


def test_answer_and_report_speak_of_texts(swept: Path) -> None:
    run = Run(swept)
    outcome = conclude(run, images=None, interrupted=False)
    text = "\n".join(outcome.answer)
    assert "30 test texts" in text
    assert "image" not in text
    assert "<q>" in run.report.read_text()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"training": {"image_size": 64}}, "training.image_size: is for images"),
        ({"augment": {"ops": ["horizontal_flip"]}}, "augment: is for images"),
        ({"baselines": ["pixels"]}, "baselines: got 'pixels'; allowed: a list of tfidf, probe"),
        ({"dataset": {"source": "digits"}}, "dataset: got images; transformers:.* takes texts"),
        (
            {
                "search": {
                    **SETTINGS["search"],
                    "backbone": ["tiny_strokes", "transformers:./model"],
                }
            },
            "got tiny_strokes for images and transformers:./model for texts",
        ),
        (
            {"search": SETTINGS["search"] | {"max_length": [16, 400]}},
            "model: texts of 400 tokens|400",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(home)
    with pytest.raises((SpaceError, UsageError), match=message):
        prepare(space(home, **changed))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_length", 64),
        ("truncate", "head_tail"),
        ("prompt", "query: "),
        ("pooling", "cls"),
        ("dropout", 0.1),
    ],
)
def test_settings_of_texts_are_refused_for_images(
    home: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: Any
) -> None:
    monkeypatch.chdir(home)
    search = SETTINGS["search"] | {"backbone": ["tiny_strokes"]}
    images = {"dataset": {"source": "digits"}}
    message = f"{key}: is for texts; tiny_strokes takes images"
    with pytest.raises(SpaceError, match=f"training.{message}"):
        prepare(space(home, **images, search=search, training={key: value}))
    with pytest.raises(SpaceError, match=f"search.{message}"):
        prepare(space(home, **images, search=search | {key: [value]}))


@pytest.fixture(scope="module")
def read_in_two_ways(home: Path) -> Path:
    """A sweep over poolings and dropout, with a prompt of its own and both ends of long texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        path = space(
            home,
            search=SETTINGS["search"]
            | {"freeze_depth": 0.5, "pooling": ["auto", "cls"], "dropout": [0.0, 0.3]},
            training={
                "steps": 2,
                "reports": 1,
                "prompt": "my card ",
                "truncate": "head_tail",
                "max_length": 16,
            },
            trials=4,
            baselines=["probe"],
            finalists={"count": 1, "repeats": 2},
        )
        return sweep_in_process(path, home / "ways")


def test_each_pooling_has_a_probe_and_its_columns(read_in_two_ways: Path) -> None:
    rows = read_table(read_in_two_ways, "trials").to_pylist()
    assert {row["state"] for row in rows} == {"complete"}
    for row in rows:
        read = (row["max_length"], row["truncate"], row["prompt"])
        assert read == (16, "head_tail", "my card ")
    probes = [row for row in rows if row["method"] == "probe"]
    assert [row["trial_id"] for row in probes] == [
        "b6-probe-transformers:model-auto",
        "b6-probe-transformers:model-cls",
    ]
    assert [row["pooling"] for row in probes] == ["mean", "cls"]
    tuned = [row for row in rows if row["method"] == "finetune"]
    assert sorted((row["pooling"], json.loads(row["spec"])["dropout"]) for row in tuned) == [
        ("cls", 0.0),
        ("cls", 0.3),
        ("mean", 0.0),
        ("mean", 0.3),
    ]
    curves = read_table(read_in_two_ways, "curves").to_pylist()
    losses = {row["trial_id"]: row["val_loss"] for row in curves if row["report"] == 0}
    for probe in probes:  # where trials start
        starts = [losses[row["trial_id"]] for row in tuned if row["pooling"] == probe["pooling"]]
        assert starts == pytest.approx([probe["val_loss"]] * 2, abs=1e-6)
    assert probes[0]["val_loss"] != pytest.approx(probes[1]["val_loss"], abs=1e-4)
    ends = {row["trial_id"]: row["train_loss"] for row in curves if row["report"] == 1}
    assert len(set(ends.values())) == 4  # dropout changes training, and so does pooling


def test_the_probe_beside_a_configuration_pools_as_it_does(read_in_two_ways: Path) -> None:
    board = read_table(read_in_two_ways, "leaderboard").to_pylist()
    for row in board:
        probe = own_probe(row, board)
        assert probe is not None
        assert probe["pooling"] == row["pooling"]
    text = "\n".join(conclude(Run(read_in_two_ways), images=None, interrupted=False).answer)
    assert "pooling mean" in text or "pooling cls" in text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"training": {"pooling": "median"}}, "training.pooling: got 'median'; allowed: one of"),
        ({"training": {"dropout": 1.0}}, "training.dropout: got 1.0; allowed: a number from 0 and"),
        ({"training": {"truncate": "tail"}}, "training.truncate: got 'tail'; allowed: one of head"),
        ({"training": {"prompt": 3}}, 'training.prompt: got 3; allowed: auto or text, "" for none'),
        (
            {"training": {"prompt": "card " * 30}},
            "max_length: got 24; the prompt and 2 special tokens take 32",
        ),
    ],
)
def test_ways_to_read_texts_that_there_are_not_are_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(home)
    with pytest.raises((SpaceError, UsageError), match=message):
        prepare(space(home, **changed))


def test_dropout_of_a_backbone_without_is_refused_before_anything_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    save_text_model(home / "plain", "llama", num_hidden_layers=1)
    search = SETTINGS["search"] | {"backbone": ["transformers:./plain"]}
    message = "got 0.1; allowed: auto or 0, as this backbone has no dropout .transformers:.*plain"
    with pytest.raises(SpaceError, match=f"search.dropout: {message}"):
        prepare(space(home, search=search | {"dropout": [0.0, 0.1]}))
    with pytest.raises(SpaceError, match=f"training.dropout: {message}"):
        prepare(space(home, search=search, training={"dropout": 0.1}))


def test_a_row_of_features_is_the_same_whatever_its_companions(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.chdir(home)
    prepared = prepare(space(home))
    ((name, weights),) = prepared.weights.items()
    backbone = Backbone(weights, prepared.graphs[name], prepared.tokens[name])

    def readers() -> FeatureReaders:
        return FeatureReaders(
            prepared.images, backbone, size=24, device=torch.device("cpu"), precision="fp32"
        )

    read = np.flatnonzero(prepared.images.is_read())
    together = readers().read(read, frozen=2)
    mixed = np.random.default_rng(0).permutation(len(read))
    for position in mixed[:12]:
        alone = readers().read(read[[position]], frozen=2)
        rows = together.at(torch.tensor([position]))
        assert all(map(torch.equal, alone.inputs(), rows.inputs()))


IN_A_WORKER = """
import json, pickle, sys
spec, examples, weights, graphs, tokens = pickle.load(sys.stdin.buffer)
from trainable.backbones import Backbone
from trainable.training.trial import Trial
losses = [r.val_loss for r in Trial(spec, examples, Backbone(weights, graphs, tokens)).reports()]
heavy = {"transformers", "tokenizers", "sympy", "torch._dynamo", "torchvision"} & set(sys.modules)
print(json.dumps([losses, sorted(heavy)]))
"""


def test_workers_train_without_libraries_of_texts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    prepared = prepare(space(home))
    ((name, weights),) = prepared.weights.items()
    spec = TrialSpec(
        backbone=name,
        freeze_depth=0.5,
        lr=0.01,
        label_budget=LabelBudget(6),
        steps=4,
        reports=1,
        validation=Validation(2),
    )
    subset = draw_subset(prepared.images, budget=spec.label_budget, repeat=0, seed=0)
    content = pickle.dumps(
        (
            spec,
            prepared.images.at(subset),
            weights,
            dict(prepared.graphs[name]),
            dict(prepared.tokens[name]),
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", IN_A_WORKER], input=content, capture_output=True, check=True
    )
    backbone = Backbone(weights, prepared.graphs[name], prepared.tokens[name])
    trial = Trial(spec, prepared.images.at(subset), backbone)
    losses, heavy = json.loads(done.stdout)
    assert heavy == []
    assert losses == pytest.approx([report.val_loss for report in trial.reports()], rel=1e-5)


@pytest.fixture(scope="module")
def exported(home: Path, swept: Path) -> Path:
    """The best fine-tuned trial as its finalist of repeat 1 was, without the portable forms."""
    rows = read_table(swept, "leaderboard").to_pylist()
    (trial, *_) = (row["trial_id"] for row in rows if row["method"] == "finetune")
    out = home / "exported"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
        options = ["--trial", trial, "--labels", "budget", "--repeat", "1"]
        assert command(["export", str(swept), *options, "-o", str(out)]) == 0
    return out


def test_an_exported_finalist_predicts_what_it_predicted(swept: Path, exported: Path) -> None:
    examples = read_data(Run(swept).space).images
    text_of = {
        one: examples.encoded(index).decode()
        for index, one in enumerate(examples.image_ids())
        if examples.is_read()[index]
    }
    card = (exported / "README.md").read_text()
    said = [
        row
        for row in read_table(swept, "predictions").to_pylist()
        if f"trial {row['trial_id']} was taken" in card and row["repeat"] == 1
    ]
    assert len(said) == 30
    model = ExportedModel.load(exported)
    found = model.predict([text_of[row["image_id"]] for row in said])
    for row, one in zip(said, found, strict=True):
        number, share = one.ranked()[0]
        assert share == pytest.approx(row["probability"], abs=1e-5)
        assert model.about.class_names[number] == row["predicted"]


def test_the_card_of_a_network_for_texts_speaks_of_texts(swept: Path, exported: Path) -> None:
    text = (exported / "README.md").read_text()
    _, metadata, card = text.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "pipeline_tag": "text-classification",
        "library_name": "transformers",
        "tags": ["sft-sweep"],
    }
    assert "image" not in card
    assert "A network that sorts texts into 2 classes" in card
    assert "| input | texts of at most 24 tokens |" in card
    assert "the mean of the vectors of its tokens, divided by its length" in card
    assert "30 test texts" in card
    board = read_table(swept, "leaderboard").to_pylist()
    (row, *_) = (row for row in board if row["method"] == "finetune")
    assert f"**{100 * row['test_score']:.1f} %**" in card
    low, high = (f"{100 * row[name]:.1f}" for name in ("test_ci_low", "test_ci_high"))
    assert f"(95 % interval {low} to {high} %)" in card


def test_the_card_says_how_many_texts_of_the_sweep_were_cut_off(
    swept: Path, exported: Path
) -> None:
    examples = read_data(Run(swept).space).images
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(exported / "tokenizer.json"))
    tokenizer.no_truncation()
    read = np.flatnonzero(examples.is_read())
    texts = [examples.encoded(int(index)).decode().strip() for index in read]
    cut = np.mean([len(one.ids) > 24 for one in tokenizer.encode_batch(texts)])
    line = f"| texts of the sweep | {100 * cut:.1f} % of the texts have more than 24 tokens"
    assert line in (exported / "README.md").read_text()


PREDICT_ALONE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            *("ray", "optuna", "pyarrow", "duckdb", "transformers", "huggingface_hub", "sympy")
        }:
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Blocker())
from orchestrator.cli import main
sys.exit(main())
"""


def test_predict_needs_no_library_but_torch_and_tokenizers(exported: Path, tmp_path: Path) -> None:
    lines = "my card\u0085please\n\nwhere is my account\r\n" + "card " * 40 + "\n"
    done = subprocess.run(
        [sys.executable, "-c", PREDICT_ALONE, "predict", str(exported), "--json"],
        input=lines.encode(),
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stderr.decode().splitlines() == [
        "standard input, line 2: the text is blank: it holds nothing but white space",
        "standard input, line 4: 42 tokens, cut to 24",
    ]
    assert done.returncode == 3
    found = json.loads(done.stdout)
    texts = ["my card\u0085please", "", "where is my account", "card " * 40]
    assert [one["text"] for one in found] == texts
    assert found[1] == {"text": "", "error": "the text is blank: it holds nothing but white space"}
    assert found[3]["note"] == "42 tokens, cut to 24"
    for one, expected in zip(found, ExportedModel.load(exported).predict(texts), strict=True):
        shares = [entry["probability"] for entry in one.get("classes", [])]
        assert shares == pytest.approx([share for _, share in expected.ranked()], abs=1e-6)


def predicted(
    capsys: pytest.CaptureFixture[str], exported: Path, *options: str, code: int = 0
) -> Any:
    """What predict prints as JSON; its message where it fails."""
    assert command(["predict", str(exported), *options, "--json"]) == code
    shown = capsys.readouterr()
    return json.loads(shown.out) if shown.out else shown.err


def test_texts_are_arguments_lines_or_a_column(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["my c\u00e4rd", "an account"]
    asked = predicted(capsys, exported, *texts)
    assert [one["text"] for one in asked] == texts
    lines = tmp_path / "lines.txt"
    lines.write_bytes("\n".join(texts).encode("latin-1"))
    given = ["--file", str(lines), "--encoding", "latin-1"]
    assert predicted(capsys, exported, *given) == asked
    for name, content in {
        "table.csv": "question;n\n" + "".join(f"{text};1\n" for text in texts),
        "table.jsonl": "".join(json.dumps({"question": text}) + "\n" for text in texts),
    }.items():
        table = tmp_path / name
        table.write_text(content)
        given = ["--file", str(table), "--text-column", "question"]
        assert predicted(capsys, exported, *given) == asked


def test_what_is_no_text_is_told_in_a_sentence(
    exported: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "lines.csv"
    file.write_bytes(b"text\nmy card\n\xff\n")
    for options, message in {
        (str(file),): f"{file}: is a file; this network takes texts",
        ("--file", str(tmp_path / "no.txt")): "no.txt: cannot be read: No such file",
        ("--file", str(file), "--text-column", "question"): "no column 'question' in",
        ("--file", str(file)): "byte 0xff at position 13",
        ("--file", str(file), "my card"): "--file: texts are given, too",
        ("--text-column", "text", "my card"): "--text-column: there is no table",
        ("-", "my card"): "-: stands for standard input; give it alone",
        ("--file", str(file), "--encoding", "latin-3000"): "--encoding latin-3000: got no encoding",
    }.items():
        assert message in predicted(capsys, exported, *options, code=2)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    message = predicted(capsys, exported, code=2)
    assert "EXAMPLE...: got nothing; this network takes texts: write some" in message
    given = predicted(capsys, exported, " ", "my card", code=3)
    assert given[0] == {"text": " ", "error": "the text is blank: it holds nothing but white space"}
