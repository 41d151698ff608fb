"""Whole sweeps over texts come to the same numbers whatever may not change them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from orchestrator.datasets.sections import TableSection
from orchestrator.recording.table_schemas import KEYS
from orchestrator.recording.tables import read_table
from tests.builders.prepared import load_images
from tests.builders.sweeps import sweep_in_process
from tests.builders.text_sweeps import (
    SETTINGS,
    Question,
    questions,
    write_home,
    write_questions,
    write_space,
)
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset
from trainable.spec.trial_spec import LabelBudget

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
