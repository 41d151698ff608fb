"""Whole sweeps over the same images with some labels changed: what may follow them, and what not.

A table gives each image its class and its split, so that labels change and nothing else does.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from orchestrator.datasets.sections import TableSection
from orchestrator.recording.tables import read_table
from tests.builders.prepared import load_images
from tests.builders.sweeps import sweep_in_process
from tests.orchestrator.datasets.conftest import encoded, scans, write
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset
from trainable.spec.trial_spec import LabelBudget

CLASSES = ["zero", "one", "two"]
SEED = 3
SPACE: dict[str, Any] = {
    "name": "labels",
    "seed": SEED,
    "dataset": {"source": "table", "split_column": "split"},
    "search": {
        "backbone": "tiny_strokes",
        "freeze_depth": [0.5, 1],
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "label_budget": [4, 8, "all"],
    },
    "training": {"steps": 6, "reports": 2},
    "validation": {"folds": 2},
    "trials": 3,
    "pruner": {"name": "median", "n_startup_trials": 1},
    "finalists": {"count": 1, "repeats": 2},
    "baselines": ["pixels", "probe"],
    "resources": {"max_concurrent": 1},
}
MEASURED = [
    *("duration_s", "setup_s", "features_s", "train_s", "elapsed_s", "peak_memory_bytes"),
    *("sweep_id", "started_at", "finished_at", "host", "cache_hits", "cache_misses"),
]
"""Columns that differ from sweep to sweep."""

Rows = dict[str, tuple[str, str]]
"""Class and split by path."""

Tables = Mapping[str, pd.DataFrame]


def rows() -> Rows:
    """60 digits of each class, a third of them for the test."""
    found = {}
    for label, name in enumerate(CLASSES):
        for place, row in enumerate(np.flatnonzero(scans()[1] == label)[:60]):
            found[f"{row:04d}.png"] = (name, "test" if place % 3 == 0 else "train")
    return found


def write_table(home: Path, given: Rows) -> None:
    for path in given:
        write(home / path, encoded(int(path.removesuffix(".png"))))
    with (home / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        writer.writerows([path, *about] for path, about in given.items())


def labelled(home: Path) -> LabelledExamples:
    return load_images(TableSection(path=str(home / "labels.csv"), split_column="split"), seed=SEED)


def drawn(home: Path, budget: LabelBudget) -> list[set[str]]:
    """Paths of the images that each class gives to a budget, in the draw of the trials."""
    images = labelled(home)
    subset = draw_subset(images, budget=budget, repeat=0, seed=SEED)
    return [
        {images.paths[i] for i in subset if images.class_names[images.labels[i]] == name}
        for name in CLASSES
    ]


def scrambled_outside(home: Path, budget: LabelBudget) -> Rows:
    """The rows with other labels outside a budget, wherever that leaves what is drawn the same."""
    images = labelled(home)
    changed = rows()
    held = drawn(home, budget)
    for path in (images.paths[i] for i in images.indices(Split.POOL)):
        name, split = changed[path]
        other = CLASSES[(CLASSES.index(name) + 1) % len(CLASSES)]
        if not any(path in some for some in held):
            attempt = {**changed, path: (other, split)}
            write_table(home, attempt)
            if drawn(home, budget) == held:
                changed = attempt
    return changed


def sweep(home: Path, given: Rows) -> Tables:
    """The tables of a sweep over these rows, without what is measured, by rows that have keys."""
    write_table(home, given)
    dataset = {**SPACE["dataset"], "path": str(home / "labels.csv")}
    (home / "labels.yaml").write_text(yaml.safe_dump({**SPACE, "dataset": dataset}))
    path = sweep_in_process(home / "labels.yaml", home / "runs")
    tables: dict[str, Any] = {}
    for name in ("trials", "curves", "finals", "predictions", "leaderboard"):
        table = read_table(path, name).to_pandas()
        tables[name] = table[[column for column in table if column not in MEASURED]]
    return tables


@pytest.fixture(scope="module")
def as_it_is(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return sweep(tmp_path_factory.mktemp("as_it_is"), rows())


def of_budgets(table: pd.DataFrame, *studies: str) -> pd.DataFrame:
    study = table.trial_id.str.split("-").str[0]
    return table[study.isin(studies)].reset_index(drop=True)


def of_first_draw(table: pd.DataFrame) -> pd.DataFrame:
    """Without the penalties that probes take on later draws, which hold other images."""

    def first(spec: str) -> str:
        values = json.loads(spec)
        penalties = values.get("inverse_penalties", [])[:1]
        return json.dumps({**values, "inverse_penalties": penalties})

    return table.assign(spec=table.spec.map(first)) if "spec" in table else table


def test_labels_outside_a_budget_do_not_reach_its_trials_nor_those_of_smaller_ones(
    as_it_is: Tables, tmp_path: Path
) -> None:
    write_table(tmp_path, rows())
    changed = scrambled_outside(tmp_path, LabelBudget(8))
    assert sum(changed[path] != about for path, about in rows().items()) > 20
    scrambled = sweep(tmp_path, changed)
    for name in ("trials", "curves"):
        before, after = (
            of_first_draw(of_budgets(t[name], "b4", "b8")) for t in (as_it_is, scrambled)
        )
        assert len(before) > 5
        pd.testing.assert_frame_equal(before, after, check_exact=True)
    # What the labels are inside of, they change.
    before, after = (of_budgets(t["trials"], "ball") for t in (as_it_is, scrambled))
    assert before.val_loss.ne(after.val_loss).all()


def test_test_labels_change_finals_predictions_and_test_columns_alone(
    as_it_is: Tables, tmp_path: Path
) -> None:
    permuted = {
        path: (CLASSES[(CLASSES.index(name) + 1) % 3] if split == "test" else name, split)
        for path, (name, split) in rows().items()
    }
    other = sweep(tmp_path, permuted)
    for name in ("trials", "curves"):
        pd.testing.assert_frame_equal(as_it_is[name], other[name], check_exact=True)
    keys = ["trial_id", "repeat", "image_id"]
    before, after = (
        t["predictions"].sort_values(keys, ignore_index=True) for t in (as_it_is, other)
    )
    of_labels = ["label", "label_probability"]
    pd.testing.assert_frame_equal(
        before.drop(columns=of_labels), after.drop(columns=of_labels), check_exact=True
    )
    assert before.label.ne(after.label).all()
    before, after = (
        t["leaderboard"].sort_values(["study", "trial_id"], ignore_index=True)
        for t in (as_it_is, other)
    )
    of_the_test = [c for c in before if c.startswith(("test_", "diff_")) or c == "tied_with_best"]
    pd.testing.assert_frame_equal(
        before.drop(columns=[*of_the_test, "rank"]),
        after.drop(columns=[*of_the_test, "rank"]),
        check_exact=True,
    )
    assert as_it_is["finals"].test_accuracy.mean() > 0.6 > other["finals"].test_accuracy.mean()
    assert set(trial_ranks(as_it_is)) == set(trial_ranks(other))


def trial_ranks(tables: Tables) -> list[tuple[str, int]]:
    """Ranks of the finalists, which the test may not decide."""
    board = tables["leaderboard"]
    board = board[board.method == "finetune"]
    return list(zip(board.trial_id, board["rank"], strict=True))
