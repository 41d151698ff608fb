"""Predicted masks as files, with a table of their classes."""

from __future__ import annotations

import json as jsonlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.errors import StorageError, UsageError
from orchestrator.text import printable

if TYPE_CHECKING:
    from trainable.export.exported_model import ExportedModel, PredictedMask

CLASS_TABLE = "classes.json"
"""File beside the masks that says which value of a pixel is which class."""


def write_masks(
    model: ExportedModel, paths: Sequence[Path], folder: Path
) -> list[tuple[PredictedMask, dict[str, Any]]]:
    """Write the mask of each image as a PNG of class ids with a palette, and a class table.

    Args:
        model: predicts masks.
        paths: of the images.
        folder: made if it is missing; files of the same names are replaced.

    Returns:
        For each image its mask, and JSON values: its path, then the path of the mask and the share
        of each class, or an error.

    Raises:
        UsageError: two images have one name.
        StorageError: the folder cannot be written.
    """
    from trainable.data.palette import colour_of, indexed

    names = Counter(path.stem for path in paths)
    twins = [name for name, count in names.items() if count > 1]
    if twins:
        raise UsageError(
            f"EXAMPLE...: several images are called {twins[0]}, and so would be their masks; "
            "predict them into folders of their own"
        )
    classes = model.about.class_names
    table = [
        {"id": number, "name": name, "colour": colour_of(number)}
        for number, name in enumerate(classes)
    ]
    found = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = jsonlib.dumps(table, ensure_ascii=False, indent=2)
        (folder / CLASS_TABLE).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        for one in model.predict_masks(paths):
            given: dict[str, Any] = {"path": str(one.path)}
            if one.mask is None:
                found.append((one, {**given, "error": one.problem}))
                continue
            target = folder / f"{one.path.stem}.png"
            indexed(one.mask).save(target)
            shares = np.bincount(one.mask.ravel(), minlength=len(classes)) / one.mask.size
            by_class = [
                {"class": classes[number], "share": float(shares[number])}
                for number in np.argsort(-shares, kind="stable")
                if shares[number]
            ]
            found.append((one, {**given, "mask": str(target), "classes": by_class}))
    except OSError as error:
        raise StorageError(
            f"{folder}: masks cannot be written: {error.strerror or error}"
        ) from error
    return found


def show_masks(model: ExportedModel, paths: Sequence[Path], folder: Path, *, json: bool) -> bool:
    """Write masks, and print what they hold on stdout; return whether some images failed.

    Args:
        model: predicts masks.
        paths: of the images.
        folder: see `write_masks`.
        json: whether to print JSON.

    Raises:
        UsageError, StorageError: see `write_masks`.
    """
    found = write_masks(model, paths, folder)
    for one, told in found:
        if one.problem is not None:
            print(printable(f"{one.path}: {one.problem}"), file=sys.stderr)
        elif not json:
            shares = [f"{part['class']} {100 * part['share']:.1f} %" for part in told["classes"]]
            print(printable(f"{told['mask']}: {', '.join(shares)}"))
    if json:
        print(jsonlib.dumps([told for _, told in found]))
    return any(one.problem is not None for one, _ in found)
