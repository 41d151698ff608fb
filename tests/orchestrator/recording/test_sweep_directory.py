import json
import os
from datetime import UTC, datetime, timedelta, timezone
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator.errors import StorageError, UsageError
from orchestrator.recording.sweep_directory import (
    Run,
    check_root,
    create_run,
    find_run,
    find_runs,
    update_manifest,
    write_manifest,
    write_text,
)

NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def _manifest(path: Path, created_at: str) -> Run:
    path.mkdir(parents=True)
    text = json.dumps({"sweep_id": path.name, "created_at": created_at})
    (path / "manifest.json").write_text(text, encoding="utf-8")
    return Run(path)


def test_a_run_is_named_after_the_sweep_and_the_time_in_utc(tmp_path: Path) -> None:
    east = NOON.astimezone(timezone(timedelta(hours=3)))
    run = create_run(tmp_path / "runs", "pets", now=east)
    assert run.path == tmp_path / "runs" / "pets-20260131-120000"
    assert run.path.is_dir()


def test_a_name_that_is_taken_gets_a_suffix(tmp_path: Path) -> None:
    names = [create_run(tmp_path, "pets", now=NOON).path.name for _ in range(3)]
    assert names == [f"pets-20260131-120000{suffix}" for suffix in ("", "-2", "-3")]


def test_a_run_cannot_be_made_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="deep: no sweep directory can be made here: "):
        create_run(tmp_path / "runs" / "deep", "pets", now=NOON)


def test_checking_a_root_makes_nothing(tmp_path: Path) -> None:
    check_root(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deep"])
def test_a_file_in_the_way_of_the_root_is_named(tmp_path: Path, below: str) -> None:
    file = tmp_path / "runs"
    file.write_text("")
    with pytest.raises(UsageError, match=f"{file} is no directory; give another with --out DIR"):
        check_root(file / below)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UsageError, match="cannot be written"):
            check_root(tmp_path / "runs")
    finally:
        tmp_path.chmod(0o700)


def test_the_manifest_says_what_the_sweep_is_and_what_it_runs_with(tmp_path: Path) -> None:
    run = create_run(tmp_path, "pets", now=NOON)
    write_manifest(run, {"space_hash": "ab", "dataset_fingerprint": "cd"})
    manifest = run.read_manifest()
    assert run.sweep_id == manifest["sweep_id"] == run.path.name
    assert (manifest["space_hash"], manifest["dataset_fingerprint"]) == ("ab", "cd")
    assert manifest["schema_version"] == 4
    assert manifest["tool_version"] == metadata.version("sft-sweep")
    assert manifest["versions"]["optuna"] == metadata.version("optuna")
    assert set(manifest["versions"]) == {"torch", "torchvision", "ray", "optuna", "pyarrow"}
    assert datetime.fromisoformat(manifest["created_at"]).tzinfo is not None


def test_a_sweep_that_goes_on_keeps_its_id_and_beginning_and_tells_what_it_rests_on_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run(tmp_path, "pets", now=NOON)
    write_manifest(run, {"result_versions": {"torch": "2.0"}})
    began = run.read_manifest()
    written = run.manifest.stat().st_mtime_ns
    update_manifest(run, began, {"result_versions": {"torch": "2.0"}})
    assert run.manifest.stat().st_mtime_ns == written  # nothing is new
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    update_manifest(run, began, {"result_versions": {"torch": "2.1"}})
    assert run.read_manifest() == began | {
        "result_versions": {"torch": "2.1"},
        "hosts": [*began["hosts"], "elsewhere"],
    }


def test_the_id_of_a_sweep_outlives_a_new_name_of_its_directory(tmp_path: Path) -> None:
    run = _manifest(tmp_path / "pets-1", "2026-01-01")
    moved = Run(run.path.rename(tmp_path / "kept"))
    assert moved.sweep_id == "pets-1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"manifest\.json: cannot be read: "),
        ('{"sweep_id": "pe', r"manifest\.json: cannot be read: "),
        ("[" * 100_000, r"manifest\.json: cannot be read: "),
        ("[]", r"manifest\.json: not a manifest"),
        (b"\xff\xfe{}", r"manifest\.json: cannot be read: "),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(UsageError, match=message):
        Run(tmp_path).read_manifest()


def test_a_directory_without_a_manifest_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no sweep here \(manifest\.json is missing\)"):
        find_run(tmp_path)


def test_runs_are_found_oldest_first_whatever_they_are_called(tmp_path: Path) -> None:
    _manifest(tmp_path / "a", "2026-01-02T00:00:00+00:00")
    _manifest(tmp_path / "b", "2026-01-03T00:00:00+00:00")
    _manifest(tmp_path / "c", "2026-01-01T00:00:00+00:00")
    (tmp_path / "no-sweep").mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert [run.path.name for run in find_runs(tmp_path)] == ["c", "a", "b"]


def test_the_newest_run_is_taken_where_none_is_named(tmp_path: Path) -> None:
    older = _manifest(tmp_path / "b", "2026-01-01T00:00:00+00:00")
    newer = _manifest(tmp_path / "a", "2026-01-02T00:00:00+00:00")
    assert find_run(None, root=tmp_path) == newer
    assert find_run(older.path, root=tmp_path) == older


def test_without_runs_the_way_to_start_one_is_told(tmp_path: Path) -> None:
    assert find_runs(tmp_path / "none") == []
    with pytest.raises(UsageError, match="no sweep here; start one with: sft-sweep launch SPACE"):
        find_run(None, root=tmp_path)


def test_a_text_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    write_text(path, "old: 1\n")
    write_text(path, "name: münze\n")
    assert path.read_text(encoding="utf-8") == "name: münze\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"space\.yaml: cannot be written: Not a directory"):
        write_text(tmp_path / "file" / "space.yaml", "x")
