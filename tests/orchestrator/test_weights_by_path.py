"""A sweep over files of weights, done for real in this process: short names where people read."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from orchestrator.cli.main import run as command
from orchestrator.recording.tables import read_table
from tests.builders.prepared import prepare
from tests.builders.sweeps import sweep_in_process
from trainable.export import written_model

FILES = ("weights/one/model.safetensors", "weights/two/model.safetensors")
SPELLED = tuple(f"squeezenet1_1@{file}" for file in FILES)
SHORT = ("squeezenet1_1@one/model.safetensors", "squeezenet1_1@two/model.safetensors")
PROBES = tuple(f"b2-probe-{name.replace('/', '-')}" for name in SHORT)
SPACE: dict[str, Any] = {
    "name": "files",
    "dataset": {"source": "digits", "test": 0.1},
    "search": {
        "backbone": list(SPELLED),
        "freeze_depth": 1.0,
        "lr": {"cases": [{"when": {"backbone": SPELLED[0]}, "value": 0.01}, {"value": 0.02}]},
        "label_budget": [2],
    },
    "training": {"steps": 2, "reports": 1, "image_size": 32},
    "validation": {"folds": 2},
    "trials": 2,
    "sampler": {"name": "grid"},
    "finalists": {"count": 2, "repeats": 2},
    "baselines": ["probe"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the paths in the file start from; the sweep's directory is `run` in it."""
    folder = tmp_path_factory.mktemp("files")
    for seed, file in enumerate(FILES):
        (folder / file).parent.mkdir(parents=True)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            state = squeezenet1_1(weights=None).state_dict()
        if seed:
            torch.save({"model": state, "epoch": 3}, folder / file)
        else:
            save_file(state, folder / file)
    (folder / "files.yaml").write_text(yaml.safe_dump(SPACE))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sweep_in_process(folder / "files.yaml", folder / "runs").rename(folder / "run")
    return folder


@pytest.fixture
def path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder / "run"


def test_tables_show_short_names_and_keep_the_whole_path(path: Path) -> None:
    rows = read_table(path, "trials").to_pylist()
    assert {row["trial_id"] for row in rows} == {"b2-0000", "b2-0001", *PROBES}
    for row in rows:
        assert row["state"] == "complete", row["failure"]
        place = SHORT.index(row["backbone"])
        assert row["weights"] == str(path.parent / FILES[place])
        assert json.loads(row["spec"])["backbone"] == whole(path, place)
        if row["method"] == "finetune":
            assert json.loads(row["params"])["backbone"] == whole(path, place)
            assert row["lr"] == (0.01, 0.02)[place]  # `when` has the file's own spelling
    board = read_table(path, "leaderboard").to_pylist()
    assert {row["backbone"] for row in board} == {*SHORT}
    assert {row["trial_id"] for row in read_table(path, "finals").to_pylist()} >= {*PROBES}


def whole(path: Path, place: int) -> str:
    """The spelling that means the same from every directory."""
    return SPELLED[place].replace("@", f"@{path.parent}/")


def test_the_part_of_a_checkpoint_that_is_taken_is_told_beforehand(path: Path) -> None:
    notes = [note.text for note in prepare(path.parent / "files.yaml").notes]
    assert f"{SPELLED[1]}: weights: those in model of the file" in notes
    assert not any(note.startswith(SPELLED[0]) for note in notes)


def test_the_search_space_that_is_kept_has_absolute_paths(path: Path) -> None:
    search = yaml.safe_load((path / "space.yaml").read_text())["search"]
    assert search["backbone"] == [whole(path, 0), whole(path, 1)]
    assert search["lr"]["cases"][0]["when"]["backbone"] == whole(path, 0)


@pytest.mark.parametrize("pattern", [SHORT[1], SPELLED[1], "*two*", "squeezenet*@weights/two/*"])
def test_the_leaderboard_is_filtered_by_either_spelling(
    pattern: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["leaderboard", str(path), "--backbone", pattern, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["backbone"] for row in found} == {SHORT[1]}
    assert {row["method"] for row in found} == {"finetune", "probe"}


def test_people_read_no_folder_of_weights(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert command(["leaderboard", str(path)]) == 0
    assert command(["report", str(path), "-o", str(page)]) == 0
    assert command(["validate", "files.yaml"]) == 0
    shown = capsys.readouterr().out
    for text in (shown, html.unescape(page.read_text(encoding="utf-8"))):
        assert SHORT[0] in text
        assert "weights/one" not in text


@pytest.mark.parametrize("trial", ["b2-0001", PROBES[1]])
def test_export_takes_ids_with_short_names_from_any_directory(
    trial: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
    rows = {row["trial_id"]: row for row in read_table(path, "trials").to_pylist()}
    out = tmp_path / "model"
    assert command(["export", str(path), "--trial", trial, "-o", str(out)]) == 0
    card = (out / "README.md").read_text(encoding="utf-8")
    title = next(line for line in card.splitlines() if line.startswith("# "))
    assert rows[trial]["backbone"] in html.unescape(title)
    assert json.loads((out / "model.json").read_text())["version"] == rows[trial]["weights"]
