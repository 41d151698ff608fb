"""Sweep over a folder of images, with the search space as a mapping instead of a file.

    python examples/photo_folder.py [FOLDER]

FOLDER holds a folder of images for each class. Left out, handwritten digits are written to
`photos/` first. The sweep's directory is made in `runs/`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_digits

import orchestrator


def write_digits(folder: Path, *, count: int) -> None:
    """Write the first scans of scikit-learn's digits, a folder for each class."""
    digits = load_digits()
    for number in range(count):
        path = folder / str(digits.target[number]) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 15).astype("uint8")).save(path)


def sweep(
    photos: Path, *, out: str | Path = "runs", overrides: Mapping[str, Any] | None = None
) -> orchestrator.SweepResult:
    """Ask which backbone, frozen how deep, at which learning rate, with 2 or 5 labels a class."""
    space = {
        "name": "photos",
        "dataset": {"source": "folder", "path": photos, "test": 0.3},
        "search": {
            "backbone": ["tiny_strokes", "tiny_fractals"],
            "freeze_depth": [0.25, 0.5, 0.75],
            "lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "label_budget": [2, 5],
        },
        "training": {"steps": 60, "reports": 3},
        "trials": 8,
        "finalists": {"count": 2, "repeats": 3},
        "baselines": ["pixels", "probe"],
        "limits": {"hours": 1},
    }
    return orchestrator.launch(space, out=out, overrides=overrides)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "photos")
    if not folder.exists():
        write_digits(folder, count=600)
    result = sweep(folder)
    print(result)
    if result.interrupted:
        print(f"go on with: orchestrator.resume({str(result.run.path)!r})")
