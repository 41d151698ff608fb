"""Cost of a sweep's start on a large folder of small images: time, memory and decoding.

    python tests/benchmarks/own_images.py [--images 100000] [--side 64] [--format JPEG]

The program makes a folder of JPEG or PNG files in a temporary directory, cropped from
scikit-learn's two photos, and prints one row per case. Each case runs in a process of its own, so
that its memory can be measured. `read once` is a plain loop that reads every file and drops its
content.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

MIB = 2**20
CASES = {
    "read once": None,
    "10 labels, 5 repeats": [10],
    "10 and 100 labels, 5 repeats": [10, 100],
    "all": ["all"],
}


def make_folder(root: Path, *, num_images: int, side: int, classes: int, kind: str) -> int:
    """Make one folder per class, with `num_images` files in all; return the sum of their bytes."""
    rng = np.random.default_rng(0)
    photos = load_sample_images().images
    total = 0
    for label in range(classes):
        (root / f"class{label}").mkdir(parents=True)
    for number in range(num_images):
        photo = photos[number % len(photos)]
        top, left = (int(rng.integers(0, length - side)) for length in photo.shape[:2])
        picture = Image.fromarray(photo[top : top + side, left : left + side])
        content = io.BytesIO()
        if kind == "JPEG":
            picture.save(content, kind, quality=90, comment=str(number))
        else:
            picture.save(content, kind)
        path = root / f"class{number % classes}" / f"{number:06d}.{kind.lower()}"
        path.write_bytes(content.getvalue())
        total += len(content.getvalue())
    return total


def read_once(root: Path) -> None:
    """Read every file and drop its content."""
    for folder in sorted(root.iterdir()):
        for path in sorted(folder.iterdir()):
            with path.open("rb") as file:
                file.read()


def resident_bytes(field: str) -> int:
    """`VmRSS` or `VmHWM` of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(field)


def measure(root: Path, case: str) -> dict[str, float]:
    """Seconds and memory of one case, measured in this process."""
    from orchestrator.datasets.dataset import read_dataset
    from orchestrator.datasets.image_reader import Demand
    from orchestrator.datasets.sections import FolderSection
    from trainable.modalities.image import decoding
    from trainable.spec.trial_spec import LabelBudget

    decoding.image_suffixes()
    before = resident_bytes("VmRSS")
    start = time.perf_counter()
    cpu = time.process_time()
    kept = kept_bytes = 0
    budgets = CASES[case]
    if budgets is None:
        read_once(root)
    else:
        demand = Demand(budgets=tuple(LabelBudget.parse(one) for one in budgets), repeats=5, seed=0)
        section = FolderSection(path=str(root))
        images = read_dataset(section, demand=demand, where="benchmark").images
        kept, kept_bytes = int(images.is_read().sum()), sum(map(len, images.shards))
    return {
        "seconds": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "kept": kept,
        "kept_bytes": kept_bytes,
        "peak_bytes": resident_bytes("VmHWM") - before,
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--format", choices=["JPEG", "PNG"], default="JPEG")
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case is not None:
        print(json.dumps(measure(given.root, given.case)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"
        total = make_folder(
            root,
            num_images=given.images,
            side=given.side,
            classes=given.classes,
            kind=given.format,
        )
        size = f"{given.side}x{given.side}"
        print(f"{given.images:,} {given.format} files of {size}, {total / MIB:.0f} MiB\n")
        print(
            "| label budgets | kept images | start, s | to reading once | CPU, s | kept, MiB |",
            end="",
        )
        print(" memory, MiB | memory to kept bytes |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        once = None
        for case in CASES:
            options = ["--case", case, "--root", str(root)]
            done = subprocess.run(
                [sys.executable, __file__, *options],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ},
            )
            row = json.loads(done.stdout.splitlines()[-1])
            once = once or row["seconds"]
            share = f"{row['peak_bytes'] / row['kept_bytes']:.2f}" if row["kept_bytes"] else ""
            print(
                f"| {case} | {row['kept']:,} | {row['seconds']:.1f} | {row['seconds'] / once:.2f} "
                f"| {row['cpu_s']:.1f} | {row['kept_bytes'] / MIB:.0f} "
                f"| {row['peak_bytes'] / MIB:.0f} | {share} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
