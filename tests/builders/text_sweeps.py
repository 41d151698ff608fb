"""A folder with a tiny encoder, a table of questions, and search spaces for both."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.builders.text_models import LINES, as_sentence_model, save_text_model

CLASSES = ("card", "account")
WORDS = sorted({word for line in LINES for word in line.split()} - set(CLASSES))
SETTINGS: dict[str, Any] = {
    "name": "questions",
    "dataset": {
        "source": "table",
        "path": "questions.csv",
        "text_column": "text",
        "label_column": "label",
        "split_column": "split",
    },
    "search": {
        "backbone": ["transformers:./model"],
        "freeze_depth": [0.5, 1.0],
        "lr": {"low": 1e-3, "high": 3e-2, "log": True},
        "label_budget": [6],
    },
    "training": {"steps": 4, "reports": 1},
    "validation": {"folds": 2},
    "trials": 3,
    "sampler": {"name": "random"},
    "pruner": {"name": "none"},
    "finalists": {"count": 2, "repeats": 2},
    "cache": "always",
}
"""Random trials without a pruner come to the same, whatever the order and the number of slots."""

Question = tuple[str, str, str]
"""A text, its class and its split."""


def questions() -> list[Question]:
    """80 texts of very different lengths that hold the name of their class, 30 for the test."""
    draw = random.Random(0)
    found = []
    for number in range(80):
        label = CLASSES[number % 2]
        words = draw.choices(WORDS, k=draw.choice((3, 6, 19, 40)))
        split = "test" if number % 16 < 6 else "train"
        found.append((" ".join([*words, label, str(number)]), label, split))
    return found


def write_home(folder: Path) -> Path:
    """Write encoder and questions; the folder, in which sweeps over them have to run."""
    as_sentence_model(save_text_model(folder / "model"))
    write_questions(folder / "questions.csv", questions())
    return folder


def write_questions(path: Path, rows: Sequence[Question]) -> None:
    """Write a table as `SETTINGS` name it."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label", "split"])
        table.writerows(rows)


def write_space(folder: Path, **changed: Any) -> Path:
    """The search-space file of `SETTINGS`, some of them changed."""
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | changed))
    return path
