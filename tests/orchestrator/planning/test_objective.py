from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from orchestrator.planning.objective import decide_objective
from orchestrator.planning.preparation import Prepared
from orchestrator.recording.sweep_directory import Run
from orchestrator.running.launch import begin
from orchestrator.space import SearchSpace, load_space, parse_space
from tests.builders.prepared import prepare
from trainable.data.labelled_examples import LabelledExamples, Split

OUTSIDE = {"split": "val", "outside_budget": True}


def _space(budgets: list[Any] | None = None, **top: Any) -> SearchSpace:
    search = {"backbone": "tiny_strokes", "label_budget": budgets or [2]}
    values = {"dataset": {"source": "digits"}, "search": search} | top
    return parse_space(yaml.safe_dump(values), where="pets.yaml")


def _images(
    *, test: tuple[int, ...], pool: tuple[int, ...] | None = None, val: tuple[int, ...] = ()
) -> LabelledExamples:
    """Images with the given number per class in each split."""
    parts = {Split.POOL: pool or (20,) * len(test), Split.TEST: test, Split.VAL: val}
    labels = np.concatenate([np.repeat(np.arange(len(sizes)), sizes) for sizes in parts.values()])
    split = np.repeat(list(parts), [sum(sizes) for sizes in parts.values()])
    return LabelledExamples.from_bytes(
        (f"image {number}".encode() for number in range(len(labels))),
        labels=labels,
        split=split,
        class_names=["cat", "dog", "eel", "fox"][: len(test)],
        paths=[f"{number}.png" for number in range(len(labels))],
    )


def _metric(space: SearchSpace, images: LabelledExamples) -> str:
    decided, line = decide_objective(space, images)
    assert not decided.objective_open
    assert line is not None
    assert line.startswith(f"objective: {decided.objective.value}, because ")
    return decided.objective.value


@pytest.mark.parametrize(
    ("test", "metric"),
    [
        ((10, 10), "accuracy"),
        ((15, 5), "accuracy"),  # 1.5 times its share under balance, the limit
        ((16, 5), "balanced_accuracy"),
        ((80, 20), "balanced_accuracy"),  # 1.6 times its share
        ((15, 9, 6), "accuracy"),
        ((16, 8, 6), "balanced_accuracy"),
        ((10, 70), "balanced_accuracy"),
        ((6, 0, 3, 3), "balanced_accuracy"),  # twice its share; a class without images counts
    ],
)
def test_the_commonest_class_of_the_test_images_decides(test: tuple[int, ...], metric: str) -> None:
    assert _metric(_space(), _images(test=test)) == metric


@pytest.mark.parametrize("budgets", [["all"], [{"total": 12}], [2, "all"]])
@pytest.mark.parametrize(
    ("pool", "test", "metric"),
    [
        ((20, 20), (10, 10), "accuracy"),
        ((20, 20), (40, 5), "balanced_accuracy"),
        ((70, 10), (10, 10), "balanced_accuracy"),  # validation is as skewed as the pool
    ],
)
def test_the_pool_counts_too_if_draws_keep_its_proportions(
    budgets: list[Any], pool: tuple[int, ...], test: tuple[int, ...], metric: str
) -> None:
    assert _metric(_space(budgets), _images(pool=pool, test=test)) == metric


def test_a_skewed_pool_does_not_count_if_draws_are_balanced() -> None:
    assert _metric(_space([2, 5]), _images(pool=(70, 10), test=(10, 10))) == "accuracy"


def test_a_validation_split_outside_the_budget_counts_instead_of_the_pool() -> None:
    space = _space(["all"], validation=OUTSIDE)
    assert _metric(space, _images(pool=(70, 10), test=(9, 9), val=(9, 9))) == "accuracy"
    assert _metric(space, _images(test=(9, 9), val=(9, 1))) == "balanced_accuracy"
    assert _metric(_space(["all"]), _images(test=(9, 9), val=(9, 1))) == "accuracy"


def test_the_line_says_which_class_how_far_and_how_to_choose_the_other() -> None:
    _, line = decide_objective(_space(), _images(test=(10, 70)))
    assert line == (
        "objective: balanced_accuracy, because class 'dog' has 87.5 % of the test images, 1.8 "
        "times its share under balance; to choose the other: objective: {metric: accuracy}"
    )
    _, line = decide_objective(_space(), _images(test=(10, 10)))
    assert line == (
        "objective: accuracy, because no class has more than 1.5 times its share under balance; "
        "to choose the other: objective: {metric: balanced_accuracy}"
    )


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "log_loss"])
def test_an_objective_of_the_file_wins(metric: str) -> None:
    space = _space(objective={"metric": metric})
    assert decide_objective(space, _images(test=(10, 70))) == (space, None)


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """A sweep over two classes with 12 and 2 test images, and 10 images each in the pool."""
    for split, counts in {"train": (10, 10), "test": (12, 2)}.items():
        for name, count in zip(("common", "rare"), counts, strict=True):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                buffer = io.BytesIO()
                shade = (len(split) * 37 + len(name) * 11 + number * 3) % 256
                Image.new("RGB", (8, 8), (shade, number, len(name))).save(buffer, "PNG")
                (folder / f"{number}.png").write_bytes(buffer.getvalue())
    values = {
        "dataset": {"source": "folder", "path": str(tmp_path / "pets")},
        "search": {"backbone": "tiny_strokes", "label_budget": [2]},
    }
    path = tmp_path / "pets.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return prepare(path)


def test_the_decision_is_noted_once_and_stored_in_the_sweep_like_a_given_objective(
    prepared: Prepared, tmp_path: Path
) -> None:
    told = [note.text for note in prepared.notes if note.text.startswith("objective: ")]
    assert len(told) == 1
    assert prepared.space.objective == "balanced_accuracy"
    run, journal = begin(tmp_path / "runs", prepared)
    journal.close()
    assert yaml.safe_load(run.space.read_text())["objective"] == {"metric": "balanced_accuracy"}
    again = prepare(run.space)
    assert (again.space, again.plan) == (prepared.space, prepared.plan)
    assert not [note for note in again.notes if note.text.startswith("objective: ")]


def test_the_hash_of_the_space_is_that_of_the_decided_one(
    prepared: Prepared, tmp_path: Path
) -> None:
    run, journal = begin(tmp_path / "runs", prepared)
    journal.close()
    manifest_hash = Run(run.path).read_manifest()["space_hash"]
    given = load_space(tmp_path / "pets.yaml", ["objective.metric=balanced_accuracy"])
    assert manifest_hash == load_space(run.space).fingerprint() == given.fingerprint()
    assert prepare(tmp_path / "pets.yaml").space.fingerprint() == manifest_hash
