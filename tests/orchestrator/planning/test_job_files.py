"""Files that are sent with a search space, and files that are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

from orchestrator.errors import UsageError
from orchestrator.planning import job_files
from orchestrator.planning.job_files import stage_job_files
from orchestrator.space import parse_space


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with images, weights, code and other files."""
    folder = tmp_path / "home"
    for name in ("photos/cat/1.png", "photos/dog/2.png", "weights/my.safetensors", "other.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "my_models").mkdir()
    (folder / "my_models" / "__init__.py").write_text("")
    monkeypatch.chdir(folder)
    return folder


def packed(into: Path, path: str = "photos") -> tuple[list[str], set[str]]:
    """The result of `stage_job_files`, and the files that it copied."""
    weights = "weights/my.safetensors#model"
    own = {"name": "mine", "module": "my_models:build", "weights": weights}
    search = {"backbone": ["tiny_strokes", own], "label_budget": [2]}
    values = {"dataset": {"source": "folder", "path": path}, "search": search}
    file = Path("pets.yaml")
    file.write_text(yaml.safe_dump(values))
    into.mkdir()
    told = stage_job_files(parse_space(file.read_text(), where=str(file)), file, into)
    return told, {str(found.relative_to(into)) for found in into.rglob("*") if found.is_file()}


def test_files_of_relative_paths_are_sent_and_no_others(home: Path, tmp_path: Path) -> None:
    told, files = packed(tmp_path / "out")
    assert told == ["photos", "weights/my.safetensors", "my_models"]
    assert files == {
        *("space.yaml", "photos/cat/1.png", "photos/dog/2.png"),
        *("weights/my.safetensors", "my_models/__init__.py"),
    }


def test_images_that_git_ignores_are_sent(home: Path, tmp_path: Path) -> None:
    (home / "photos" / ".gitignore").write_text("*\n")
    (home / "photos" / "cat" / ".rayignore").write_text("*.png\n")
    _, files = packed(tmp_path / "out")
    assert {name for name in files if name.startswith("photos")} == {
        *("photos/cat/1.png", "photos/dog/2.png")
    }
    parts = (tmp_path / "out").rglob("*")
    assert not any(get_excludes_from_ignore_files(part, include_gitignore=True) for part in parts)


def test_absolute_paths_refer_to_the_cluster_and_are_not_sent(home: Path, tmp_path: Path) -> None:
    told, _ = packed(tmp_path / "out", path=str(home / "photos"))
    assert told == ["weights/my.safetensors", "my_models"]
    told, _ = packed(tmp_path / "again", path="/on/the/cluster")
    assert told == ["weights/my.safetensors", "my_models"]


def test_paths_above_the_current_directory_are_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    with pytest.raises(UsageError, match=r"\.\./above lies outside the current directory"):
        packed(tmp_path / "out", path="../above")


def test_too_much_is_refused_before_it_is_copied(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_files, "MOST_BYTES", 20)
    with pytest.raises(UsageError, match="too much to travel"):
        packed(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
