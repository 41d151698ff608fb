"""Folders of real image files, made of scikit-learn's digits."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from orchestrator.datasets.dataset import Dataset, read_dataset
from orchestrator.datasets.image_reader import Demand
from orchestrator.errors import SpaceError
from orchestrator.space import DatasetSection
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.spec.trial_spec import LabelBudget

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".gif": "GIF", ".webp": "WEBP"}
ALL = (LabelBudget(),)


@cache
def scans() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """(1797, 8, 8) grey digits, and (1797,) what they are."""
    digits = load_digits()
    return np.clip(digits.images * 16, 0, 255).astype(np.uint8), digits.target


@cache
def encoded(number: int, suffix: str = ".png") -> bytes:
    content = io.BytesIO()
    Image.fromarray(scans()[0][number]).save(content, FORMATS[suffix])
    return content.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_digits(root: Path, *, per_class: int = 10, classes: int = 2, start: int = 0) -> None:
    """A folder a class with so many digits each, from the `start`-th of the class on."""
    for label in range(classes):
        rows = np.flatnonzero(scans()[1] == label)[start : start + per_class]
        for row in rows:
            write(root / str(label) / f"{row:04d}.png", encoded(int(row)))


def dataset_of(
    section: DatasetSection,
    *budgets: LabelBudget,
    repeats: int = 2,
    seed: int = 0,
    keep_val: bool = False,
) -> Dataset:
    """The data of a section for these budgets, by default for `all`."""
    demand = Demand(budgets=budgets or ALL, repeats=repeats, seed=seed)
    return read_dataset(section, demand=demand, where="pets.yaml", keep_val=keep_val)


def problems_of(section: DatasetSection, **options: Any) -> list[str]:
    """The problem lines that reading it ends with, without their indentation."""
    with pytest.raises(SpaceError, match=r"^pets\.yaml: \d+ problem") as caught:
        dataset_of(section, **options)
    assert caught.value.exit_code == 2
    return [line.strip() for line in str(caught.value).splitlines()[1:-1]]


def notes_of(dataset: Dataset) -> str:
    return "\n".join(line for note in dataset.notes for line in note.lines())


def rows_of(images: LabelledExamples) -> dict[str, tuple[str, Split]]:
    """Class and split by path."""
    return {
        path: (images.class_names[label], Split(split))
        for path, label, split in zip(images.paths, images.labels, images.split, strict=True)
    }


@pytest.fixture
def digits_folder(tmp_path: Path) -> Path:
    """Two classes of 20 digits each."""
    write_digits(tmp_path / "digits", per_class=20)
    return tmp_path / "digits"
