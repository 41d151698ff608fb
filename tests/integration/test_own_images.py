"""A sweep over a folder of images, from the command line to the tables."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import yaml

from orchestrator.recording.tables import read_table
from tests.integration.conftest import command, finished
from tests.orchestrator.datasets.conftest import encoded, scans, write

SPACE = {
    "name": "own",
    "dataset": {"source": "folder", "path": "photos", "group": r"sheet\d+", "test": 0.3},
    "search": {"backbone": "tiny_strokes", "lr": [0.001, 0.003], "label_budget": [4]},
    "training": {"steps": 6, "reports": 2},
    "validation": {"folds": 2},
    "trials": 2,
    "sampler": {"name": "random"},
    "pruner": {"name": "none"},
    "finalists": {"count": 1, "repeats": 2},
    "baselines": ["pixels"],
    "resources": {"max_concurrent": 1},
}
CLASSES = ["=1+1", "<b>two", "no"]


Swept = tuple[Path, subprocess.CompletedProcess[str]]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return finished(command(*arguments), cwd=cwd)


@pytest.fixture(scope="module")
def swept(
    tmp_path_factory: pytest.TempPathFactory,
) -> Swept:
    """A folder with photos, their search space, and the sweep over them in `runs`."""
    home = tmp_path_factory.mktemp("home")
    target = scans()[1]
    for label, name in enumerate(CLASSES):
        for place, row in enumerate(np.flatnonzero(target == label)[:40]):
            path = home / "photos" / name / f"sheet{place // 2}_{row}.png"
            write(path, encoded(int(row)))
    write(home / "photos" / "no" / "sheet3_broken.png", b"no picture")
    write(home / "photos" / "no" / "notes.txt", b"no picture at all")
    (home / "own.yaml").write_text(yaml.safe_dump(SPACE))
    done = run("launch", "own.yaml", cwd=home)
    assert done.returncode == 0, done.stderr
    return home, done


def test_a_folder_becomes_a_leaderboard_with_its_class_names(
    swept: Swept,
) -> None:
    home, done = swept
    (sweep,) = (home / "runs").iterdir()
    assert "files that are no images by their names: 1 (1 .txt)\n  no/notes.txt" in done.stderr
    log = (sweep / "sweep.log").read_text()
    assert "dataset: test split: a share of 0.3, drawn by groups and seed" in log
    predictions = read_table(sweep, "predictions").to_pandas()
    assert set(predictions.label) == set(CLASSES)
    assert set(predictions.predicted) <= set(CLASSES)
    assert predictions.path.str.contains("/sheet").all()
    trials = read_table(sweep, "trials").to_pandas()
    assert (trials.state == "complete").all()
    assert (trials.labels_used == 12).all()


def test_the_resolved_space_can_be_resumed_from_another_directory(
    swept: Swept, tmp_path: Path
) -> None:
    home, _ = swept
    (sweep,) = (home / "runs").iterdir()
    resolved = yaml.safe_load((sweep / "space.yaml").read_text())
    assert resolved["dataset"]["path"] == str(home / "photos")
    done = run("resume", str(sweep), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_only_a_finished_sweep_is_resumed_over_other_images_as_there_is_nothing_left_to_do(
    swept: Swept, tmp_path: Path
) -> None:
    home, _ = swept
    (sweep,) = (home / "runs").iterdir()
    unfinished = copytree(sweep, tmp_path / "unfinished")
    shorten(unfinished / "journal.log")
    added = write(home / "photos" / "no" / "sheet1_new.png", encoded(1700))
    try:
        untouched = (sweep / "journal.log").read_bytes()
        assert run("resume", str(sweep), cwd=tmp_path).returncode == 0
        assert (sweep / "journal.log").read_bytes() == untouched
        done = run("resume", str(unfinished), cwd=tmp_path)
        assert done.returncode == 2
        assert re.search(r"images\.\w+\.no: was (\d+), is \d+", done.stderr)
    finally:
        added.unlink()


def shorten(journal: Path) -> None:
    """Take the last quarter of its records off, as if the sweep had died there."""
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: -len(lines) // 4]))


def test_problems_of_the_images_end_with_exit_code_2_before_anything_is_made(
    swept: Swept, tmp_path: Path
) -> None:
    home, _ = swept
    done = run(
        *("launch", str(home / "own.yaml"), "--out", str(tmp_path / "runs")),
        *("--set", "dataset.path=nowhere"),
        cwd=home,
    )
    assert done.returncode == 2
    assert f"dataset.path: {home / 'nowhere'}: no such folder" in done.stderr
    assert not (tmp_path / "runs").exists()
