"""What `resume` does not do: anything to a finished sweep, or to one that rests on other things."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.integration.faults.conftest import Results
from tests.integration.faults.sweeps import results, resume, settled, start

pytestmark = pytest.mark.faults


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished sweep."""
    return shutil.copytree(finished, tmp_path / finished.name)


def unfinish(path: Path) -> None:
    """Take the last records of a journal back, as if the sweep had been killed before them."""
    journal = path / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) * 2 // 3]))


def everything(path: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of all files of a sweep."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def test_a_finished_sweep_is_not_changed(copy: Path) -> None:
    before = everything(copy)
    code, messages = resume(copy)
    assert code == 0, messages
    assert everything(copy) == before


def test_damaged_tables_of_a_finished_sweep_are_made_again(
    copy: Path, undisturbed: Results
) -> None:
    (copy / "trials.parquet").write_bytes(b"")
    curves = (copy / "curves.parquet").read_bytes()
    (copy / "curves.parquet").write_bytes(curves[: len(curves) // 2])
    code, messages = resume(copy)
    assert code == 0, messages
    assert "trials.parquet" in messages
    assert results(copy) == undisturbed


def test_a_changed_space_is_refused_with_where_it_changed(copy: Path) -> None:
    unfinish(copy)
    space = yaml.safe_load((copy / "space.yaml").read_text())
    space["trials"] = 6
    (copy / "space.yaml").write_text(yaml.safe_dump(space))
    before = everything(copy)
    code, messages = resume(copy)
    assert code == 2
    assert "trials: was 4, is 6" in messages
    assert everything(copy) == before


def test_changed_versions_are_refused_until_they_are_accepted(
    copy: Path, undisturbed: Results
) -> None:
    unfinish(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    used = manifest["result_versions"]["torch"]
    manifest["result_versions"]["torch"] = "1.0"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    code, messages = resume(copy)
    assert code == 2
    assert f"torch: was 1.0, is {used}" in messages
    assert "--accept-changes" in messages
    code, messages = resume(copy, "--accept-changes")
    assert code == 0, messages
    assert results(copy) == undisturbed
    assert json.loads((copy / "manifest.json").read_text())["result_versions"]["torch"] == used


@pytest.mark.slow
def test_a_second_process_is_refused_and_the_first_goes_on(out: Path, undisturbed: Results) -> None:
    sweep = start(out)
    sweep.wait_until(lambda path: settled(path) >= 1)
    code, messages = resume(sweep.path)
    assert code == 2
    assert "another process is running this sweep" in messages
    code, messages = sweep.end()
    assert code == 0, messages
    assert results(sweep.path) == undisturbed
