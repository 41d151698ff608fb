"""Whole sweeps over texts: from a table and a folder with an encoder to answer and report."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from orchestrator.datasets.sections import TableSection
from orchestrator.errors import SpaceError, UsageError
from orchestrator.reading.export import Listener, export
from orchestrator.reading.outcome import conclude
from orchestrator.recording.sweep_directory import Run
from orchestrator.recording.table_schemas import KEYS
from orchestrator.recording.tables import read_table
from tests.builders.prepared import load_images, prepare
from tests.builders.sweeps import sweep_in_process
from tests.builders.text_sweeps import (
    SETTINGS,
    Question,
    questions,
    write_home,
    write_questions,
    write_space,
)
from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset
from trainable.features.activations import Activations
from trainable.features.readers import FeatureReaders
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.trial import Trial

pytest.importorskip("transformers")

MEASURED = {"sweep_id", "elapsed_s", "started_at", "finished_at", "host", "peak_memory_bytes"}
"""Columns that differ from sweep to sweep; so do those of times and of the cache."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def swept(home: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return sweep_in_process(write_space(home), home / "runs")


def test_tables_say_that_examples_are_texts(swept: Path) -> None:
    trials = read_table(swept, "trials").to_pylist()
    assert {row["method"] for row in trials} == {"finetune", "probe", "tfidf"}
    assert {row["state"] for row in trials} == {"complete"}
    assert {row["modality"] for row in trials} == {"text"}
    assert {row["image_size"] for row in trials} == {None}
    assert {row["backbone"] for row in trials} == {"transformers:model", None}
    board = read_table(swept, "leaderboard").to_pylist()
    assert {row["modality"] for row in board} == {"text"}
    (tfidf,) = (row for row in board if row["method"] == "tfidf")
    assert tfidf["rank"] is None
    assert tfidf["test_score"] > 0.8  # the label is a word of the text


def test_the_head_alone_starts_as_the_probe(swept: Path) -> None:
    trials = {row["trial_id"]: row for row in read_table(swept, "trials").to_pylist()}
    curves = read_table(swept, "curves").to_pylist()
    (probe,) = (row for row in trials.values() if row["method"] == "probe")
    starts = [row for row in curves if row["report"] == 0]
    assert len(starts) == 3
    for row in starts:
        assert row["val_loss"] == pytest.approx(probe["val_loss"], abs=1e-6)


def test_answer_and_report_speak_of_texts(swept: Path) -> None:
    run = Run(swept)
    outcome = conclude(run, images=None, interrupted=False)
    text = "\n".join(outcome.answer)
    assert "30 test texts" in text
    assert "image" not in text
    assert "<q>" in run.report.read_text()


def test_a_network_for_texts_is_not_exported_yet(swept: Path, tmp_path: Path) -> None:
    listener = Listener(print_message=lambda _: None, watch=lambda *_: None)
    with pytest.raises(UsageError, match="a network for texts cannot be exported yet"):
        export(Run(swept), out=tmp_path / "out", listener=listener)


def rows_of(path: Path, table: str) -> list[dict[str, Any]]:
    """What came out of a sweep, in the order of its keys."""
    rows = read_table(path, table).to_pylist()
    kept = [
        {
            name: value
            for name, value in row.items()
            if name not in MEASURED and not name.endswith("_s") and not name.startswith("cache_")
        }
        for row in rows
    ]
    return sorted(kept, key=lambda row: [row[key] for key in KEYS[table] if key in row])


def test_neither_cache_nor_slots_change_a_number(
    home: Path, swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert any(row["cache_hits"] for row in read_table(swept, "trials").to_pylist())
    monkeypatch.chdir(home)
    again = sweep_in_process(write_space(home, cache="never"), home / "uncached", slots=2)
    assert not any(row["cache_hits"] for row in read_table(again, "trials").to_pylist())
    for table in ("trials", "curves", "finals", "predictions", "leaderboard"):
        assert rows_of(again, table) == rows_of(swept, table)


def test_labels_outside_the_budget_do_not_reach_its_trials(
    home: Path, swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    dataset = SETTINGS["dataset"]
    changed = scrambled_outside(load_images(TableSection.model_validate(dataset), seed=0))
    assert sum(one != other for one, other in zip(changed, questions(), strict=True)) > 10
    write_questions(home / "scrambled.csv", changed)
    space = write_space(home, dataset=dataset | {"path": "scrambled.csv"})
    other = sweep_in_process(space, home / "scrambled")
    assert without_later_draws(rows_of(other, "trials")) == without_later_draws(
        rows_of(swept, "trials")
    )
    assert rows_of(other, "curves") == rows_of(swept, "curves")


def scrambled_outside(images: LabelledExamples) -> list[Question]:
    """The questions with other labels outside the budget, where that leaves the draw the same."""
    rows = questions()
    row_of = {text: row for row, (text, _, _) in enumerate(rows)}
    labels = images.labels.copy()

    def drawn() -> npt.NDArray[np.int64]:
        some = replace(images, labels=labels)
        return draw_subset(some, budget=LabelBudget(6), repeat=0, seed=0)

    held = drawn()
    for index in np.setdiff1d(images.indices(Split.POOL), held):
        labels[index] = 1 - labels[index]
        if not np.array_equal(drawn(), held):
            labels[index] = 1 - labels[index]
            continue
        text, _, split = rows[row := row_of[images.encoded(int(index)).decode()]]
        rows[row] = (text, images.class_names[labels[index]], split)
    return rows


def without_later_draws(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the penalties of baselines on later draws, which hold other texts."""
    found = []
    for row in rows:
        spec = json.loads(row["spec"])
        penalties = spec.get("inverse_penalties", [])[:1]
        found.append({**row, "spec": spec | {"inverse_penalties": penalties}})
    return found


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
        prepare(write_space(home, **changed))


def test_a_row_of_features_is_the_same_whatever_its_companions(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.chdir(home)
    prepared = prepare(write_space(home))
    ((name, weights),) = prepared.weights.items()
    backbone = Backbone(weights, prepared.graphs[name], prepared.tokens[name])

    def features(rows: npt.NDArray[np.int64]) -> Activations:
        readers = FeatureReaders(
            prepared.images, backbone, size=24, device=torch.device("cpu"), precision="fp32"
        )
        return readers.read(rows, frozen=2)

    read = np.flatnonzero(prepared.images.is_read())
    together = features(read)
    mixed = np.random.default_rng(0).permutation(len(read))
    for position in mixed[:12]:
        alone = features(read[[position]])
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
    prepared = prepare(write_space(home))
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
