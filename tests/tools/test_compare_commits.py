"""What `tools/compare_commits.py` counts as equal, and what it says; sweeps are not run here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.recording.table_schemas import KEYS, SCHEMAS
from orchestrator.space import load_space
from tools import compare_commits
from tools.compare_commits import BASE, CASES, LEFT_OUT, SweepFailedError, compare, main

Row = dict[str, Any]


def row(trial: str = "b2-0000", **values: Any) -> Row:
    return {"sweep_id": "one", "trial_id": trial, "val_loss": 0.5, "duration_s": 1.0, **values}


def differing(before: Sequence[Row], after: Sequence[Row], tolerance: float = 0.0) -> list[str]:
    found = compare(before, after, keys=KEYS["trials"], tolerance=tolerance)
    return [str(difference) for difference in found.differences]


def test_time_and_name_of_a_sweep_are_no_difference() -> None:
    assert differing([row()], [row(sweep_id="two", duration_s=2.0)]) == []


def test_order_of_rows_is_no_difference() -> None:
    rows = [row("b2-0000"), row("b2-0001")]
    assert differing(rows, rows[::-1]) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [(0.5, math.nextafter(0.5, 1)), (0.0, -0.0), (0.5, None), (1, 1.0), (0.5, math.nan)],
)
def test_one_bit_is_a_difference(before: Any, after: Any) -> None:
    found = differing([row(val_loss=before)], [row(val_loss=after)])
    assert found == [f"b2-0000: val_loss: {before!r} | {after!r}"]


def test_not_a_number_equals_itself() -> None:
    assert differing([row(val_loss=math.nan)], [row(val_loss=math.nan)]) == []


def test_within_the_tolerance_floats_are_equal() -> None:
    assert differing([row(val_loss=0.5)], [row(val_loss=0.501)], tolerance=0.01) == []
    assert len(differing([row(val_loss=0.5)], [row(val_loss=0.52)], tolerance=0.01)) == 1


def test_row_that_one_commit_alone_has_is_a_difference() -> None:
    found = differing([row("b2-0000")], [row("b2-0000"), row("b2-0001")])
    assert found == ["b2-0001: row: 'missing' | 'there'"]


def test_column_that_one_commit_alone_has_is_listed_only() -> None:
    before, after = [row(old=1)], [row(new=2)]
    found = compare(before, after, keys=KEYS["trials"])
    assert (found.differences, found.only) == ((), (("old",), ("new",)))


def test_keys_of_json_are_columns_of_their_own() -> None:
    before = [row(spec=json.dumps({"lr": 0.1, "steps": 10}))]
    after = [row(spec=json.dumps({"lr": 0.2, "steps": 10, "warmup": 0.1}))]
    found = compare(before, after, keys=KEYS["trials"])
    assert [str(one) for one in found.differences] == ["b2-0000: spec.lr: 0.1 | 0.2"]
    assert found.only == ((), ("spec.warmup",))


def test_columns_left_out_are_columns_of_the_tables() -> None:
    known = {column for schema in SCHEMAS.values() for column in schema.names}
    assert set(LEFT_OUT) <= known


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_a_search_space_of_one_trial_at_a_time(case: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(json.dumps({"name": "case", **BASE, **CASES[case]}))
    assert load_space(path).resources.max_concurrent == 1


@pytest.mark.parametrize("names", [("no-such-commit", "HEAD"), ("HEAD", "--all")])
def test_unknown_commit_exits_with_2(
    names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--", *names])
    assert "git log --oneline" in capsys.readouterr().err


class Sweeps:
    """Stands for the sweeps of both commits: each has one trial.

    Attributes:
        trials: what the trial came to, by side; None where the sweep fails.
        trees: worktrees that were run.
    """

    def __init__(self) -> None:
        self.trials: dict[str, Row | None] = {"A": row(), "B": row()}
        self.trees: list[Path] = []

    def run(self, code: Path, space: Mapping[str, Any], folder: Path) -> Path:
        assert (code / "orchestrator" / "__init__.py").is_file()
        self.trees.append(code)
        found = self.trials[folder.parent.name]
        if found is None:
            raise SweepFailedError("exit code 1: it broke")
        folder.mkdir(parents=True)
        for name, schema in SCHEMAS.items():
            rows = [found] if name == "trials" else []
            pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet")
        return folder

    def are_removed(self) -> bool:
        listed = compare_commits._git("worktree", "list").stdout
        return all(str(tree) not in listed and not tree.exists() for tree in self.trees)


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    made = Sweeps()
    monkeypatch.setattr(compare_commits, "run_sweep", made.run)
    return made


def test_equal_tables_exit_with_0_and_leave_no_worktree(
    sweeps: Sweeps, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["HEAD", "HEAD", "--case", "tpe"]) == 0
    assert "tpe       trials        1/1           equal" in capsys.readouterr().out
    assert len(set(sweeps.trees)) == 2
    assert sweeps.are_removed()


def test_different_tables_exit_with_1(sweeps: Sweeps, capsys: pytest.CaptureFixture[str]) -> None:
    sweeps.trials["B"] = row(val_loss=0.25)
    assert main(["HEAD", "HEAD", "--case", "tpe"]) == 1
    assert "b2-0000: val_loss: 0.5 | 0.25" in capsys.readouterr().out


def test_sweep_that_fails_exits_with_1(sweeps: Sweeps, capsys: pytest.CaptureFixture[str]) -> None:
    sweeps.trials["B"] = None
    assert main(["HEAD", "HEAD", "--case", "tpe"]) == 1
    assert "no tables of B: exit code 1: it broke" in capsys.readouterr().out


def test_interrupt_leaves_no_worktree(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(code: Path, space: Mapping[str, Any], folder: Path) -> Path:
        sweeps.run(code, space, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_commits, "run_sweep", interrupted)
    assert main(["HEAD", "HEAD", "--case", "tpe"]) == 130
    assert sweeps.trees
    assert sweeps.are_removed()
    assert "removed" in capsys.readouterr().err
