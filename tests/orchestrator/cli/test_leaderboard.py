from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import run
from orchestrator.recording.table_schemas import SCHEMAS
from tests.builders.old_tables import make_old
from tests.builders.written_sweeps import digits_sweep, write_sweep
from tests.orchestrator.recording.test_leaderboard import trial

NASTY = "=cmd|' /C calc'!A0 <img src=x onerror=alert(1)>\x1b[2J\n[red]"


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return digits_sweep(tmp_path / "one")


def rows(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, Any]]:
    assert run(["leaderboard", *map(str, arguments), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, list)
    return found


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [row["trial_id"] for row in found]


def test_filters_narrow_each_other(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(rows(capsys, one, "--top", "4")) == 8
    assert ids(rows(capsys, one, "--method", "probe")) == ["b10-probe-tiny_strokes"]
    assert ids(rows(capsys, one, "--backbone", "resnet18")) == ["b2-0002", "b10-0002"]
    assert ids(rows(capsys, one, "--backbone", "tiny_*", "--budget", "10")) == [
        "b10-0001",
        "b10-probe-tiny_strokes",
        "b10-0000",
    ]
    assert ids(rows(capsys, one, "--method", "pixels", "--method", "probe")) == [
        "b2-pixels",
        "b10-probe-tiny_strokes",
    ]
    assert ids(rows(capsys, one, "--budget", "b2", "--method", "pixels")) == ["b2-pixels"]


def test_top_counts_what_the_filters_leave(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = rows(capsys, one, "--backbone", "tiny_strokes", "--budget", "2", "--top", "1")
    assert (row["trial_id"], row["rank"]) == ("b2-0000", 3)


@pytest.mark.parametrize(
    ("option", "given", "allowed"),
    [
        ("--budget", "3", "2, 10"),
        ("--backbone", "vit_*", "tiny_fractals, resnet18, tiny_strokes"),
        ("--method", "finetuning", "finetune, pixels, probe"),
    ],
)
def test_a_filter_that_nothing_passes_names_what_there_is(
    one: Path, capsys: pytest.CaptureFixture[str], option: str, given: str, allowed: str
) -> None:
    assert run(["leaderboard", str(one), option, given]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"{option} {given}: not in this sweep; allowed: {allowed}\n"
    assert captured.out == ""


def test_a_backbone_whose_name_is_a_pattern_of_others_is_found_by_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path / "x", trials=[trial("b2-0000", 0.5, backbone="mine[1]")])
    assert ids(rows(capsys, path, "--backbone", "mine[1]")) == ["b2-0000"]


def test_sweeps_stand_side_by_side_at_each_budget(
    tmp_path: Path, one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = digits_sweep(tmp_path / "two")
    found = rows(capsys, one, two, "--method", "finetune", "--top", "1")
    assert [(row["label_budget"], row["sweep_id"]) for row in found] == [
        (2.0, "one"),
        (2.0, "two"),
        (10.0, "one"),
        (10.0, "two"),
    ]
    assert run(["leaderboard", str(one), str(two), "--markdown"]) == 0
    header, _, first, *_ = capsys.readouterr().out.splitlines()
    assert header.startswith("| sweep | labels | rank |")
    assert first.startswith("| one | 2 | 1 |")


def test_sweeps_whose_scores_do_not_compare_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_sweep(
        tmp_path / "one",
        trials=[trial("b2-0000", 0.5)],
        manifest={"dataset_fingerprint": "a"},
    )
    other = write_sweep(
        tmp_path / "two",
        trials=[trial("b2-0000", 0.5, objective="log_loss")],
        manifest={"dataset_fingerprint": "b"},
    )
    assert run(["leaderboard", str(one), str(other)]) == 0
    err = capsys.readouterr().err
    assert "different images or splits: their test scores do not compare" in err
    assert "rank by different objectives: accuracy, log_loss" in err
    assert run(["leaderboard", str(one)]) == 0
    assert capsys.readouterr().err == ""


def test_csv_has_the_columns_of_the_contract_and_the_sweep(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["leaderboard", str(one), "--top", "4", "--csv"]) == 0
    header, *lines = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == ["sweep_id", *SCHEMAS["leaderboard"].names]
    assert len(lines) == 8
    empty = write_sweep(tmp_path / "empty")
    assert run(["leaderboard", str(empty), "--csv"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip().split(",") == header
    assert "no trial has completed yet" in captured.err


@pytest.mark.parametrize("form", [(), ("--csv",), ("--json",), ("--markdown",)])
def test_a_directory_without_tables_is_no_error(
    one: Path, capsys: pytest.CaptureFixture[str], form: tuple[str, ...]
) -> None:
    for name in SCHEMAS:
        (one / f"{name}.parquet").unlink()
    assert run(["leaderboard", str(one), *form]) == 0
    assert "no trial has completed yet" in capsys.readouterr().err


@pytest.mark.parametrize("form", [(), ("--csv",), ("--json",), ("--markdown",)])
def test_a_table_of_an_older_version_is_shown_as_far_as_it_goes(
    one: Path, capsys: pytest.CaptureFixture[str], form: tuple[str, ...]
) -> None:
    make_old(one, *SCHEMAS)
    assert run(["leaderboard", str(one), *form]) == 0
    assert "b10-0001" in capsys.readouterr().out
    assert run(["leaderboard", str(one), "--target", "0.9", *form]) == (2 if "--csv" in form else 0)


def test_names_from_outside_do_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "run"
    path = write_sweep(
        directory,
        trials=[trial("b2-0000", 0.5, backbone=NASTY)],
        tested={"b2-0000": [[1, 0]]},
    )
    (directory / "manifest.json").write_text(json.dumps({"sweep_id": NASTY}))
    other = digits_sweep(tmp_path / "other")
    assert run(["leaderboard", str(path), str(other), "--target", "0.9"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]" in out
    assert run(["leaderboard", str(path), str(other), "--target", "0.9", "--markdown"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "<" not in out
    assert "=cmd\\|" in out
    assert run(["leaderboard", str(path), "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["sweep_id"], row["backbone"]) == ("'" + NASTY, "'" + NASTY)


def test_a_narrow_terminal_loses_columns_rather_than_values(
    one: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    left_out = []
    for columns in range(160, 60, -4):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert run(["leaderboard", str(one), "--method", "finetune"]) == 0
        out = capsys.readouterr().out
        assert "80.0 (" in out
        assert "\u2026" not in out
        if "cost" in out or "to rank 1" in out:  # none of what is left had to be folded
            assert "tiny_fractals" in out
        left_out.append([name for name in ("trial", "cost, s", "to rank 1") if name not in out])
    distinct = [found for number, found in enumerate(left_out) if found not in left_out[:number]]
    assert distinct == [[], ["trial"], ["trial", "cost, s"], ["trial", "cost, s", "to rank 1"]]


def test_what_training_gained_is_shown_where_it_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = write_sweep(
        tmp_path / "known",
        trials=[
            trial("b2-0000", 0.5, gain_over_start=0.0625),
            trial("b2-0001", 0.4, gain_over_start=-0.25),
            trial("b2-0002", 0.3),
        ],
    )
    assert run(["leaderboard", str(known), "--markdown"]) == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    column = [name.strip() for name in head.split("|")].index("gain")
    assert [line.split("|")[column].strip() for line in lines] == ["+6.2", "-25.0", ""]
    unknown = write_sweep(tmp_path / "unknown", trials=[trial("b2-0000", 0.5)])
    assert run(["leaderboard", str(unknown), "--markdown"]) == 0
    assert "gain" not in capsys.readouterr().out


def test_a_pipe_is_as_wide_as_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "a_backbone_of_a_very_long_name_" * 8
    path = write_sweep(tmp_path / "x", trials=[trial("b2-0000", 0.5, backbone=long)])
    assert run(["leaderboard", str(path)]) == 0
    assert long in capsys.readouterr().out


def test_the_cost_is_in_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = [
        trial(f"b2-000{number}", 0.5 - 0.1 * number, duration_s=seconds)
        for number, seconds in enumerate((0.1234, 12345.6, None))
    ]
    path = write_sweep(tmp_path / "x", trials=trials)
    assert run(["leaderboard", str(path), "--markdown"]) == 0
    costs = [line.split("|")[-2].strip() for line in capsys.readouterr().out.splitlines()]
    assert costs == ["cost, s", "---", "0.12", "12,346", ""]


def test_a_target_is_answered_below_the_table(
    one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["leaderboard", str(one), "--target", "0.85"]) == 0
    *_, tuned, probe = capsys.readouterr().out.splitlines()
    assert tuned.startswith("85.0 % accuracy by fine-tuning: 4.47 labels per class (95 %: ")
    assert tuned.endswith("; 3 repeats, 10 test images, 2 budgets")
    assert probe.startswith(
        "85.0 % accuracy by a linear probe: not reached by 10 labels per class (95 %: "
    )


def test_the_target_of_each_of_several_sweeps_is_named(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = write_sweep(tmp_path / "two", trials=[trial("b2-0000", 0.5)])
    three = digits_sweep(tmp_path / "three")
    arguments = [str(one), str(two), str(three), "--target", "0.85", "--markdown"]
    assert run(["leaderboard", *arguments]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split(":")[0] for line in lines[-4:]] == ["- one", "- one", "- three", "- three"]
    assert captured.err == (
        "two: the labels needed are open: nothing was scored on the test set yet\n"
    )


def test_the_numbers_of_a_target_are_in_the_json(
    one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["leaderboard", str(one), "--target", "0.85", "--budget", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["label_budget"] for row in found["leaderboard"]} == {2.0}
    tuned, probe = found["labels_needed"]
    assert (tuned["sweep_id"], tuned["method"], tuned["target"]) == ("one", "finetune", 0.85)
    assert tuned["needed"] == {
        "place": "within",
        "labels_per_class": pytest.approx(2 * 5**0.5),
    }
    assert set(tuned) >= {"low", "high", "per_repeat", "num_images"}
    assert [point["label_budget"] for point in tuned["curve"]] == [2.0, 10.0]
    assert probe["needed"] == {"place": "beyond_largest_budget", "labels_per_class": 10.0}


def test_a_target_names_its_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(
        tmp_path / "x",
        trials=[trial("b2-0000", 0.5, objective="balanced_accuracy")],
        tested={"b2-0000": [[1, 0]]},
    )
    assert run(["leaderboard", str(path), "--target", "0.4"]) == 0
    assert "40.0 % balanced accuracy by fine-tuning: 2 or fewer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--target", "95"], "--target 95: allowed is a share between 0 and 1"),
        (["--target", "0"], "--target 0: allowed is a share"),
        (["--target", "0.9", "--csv"], "use --json"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(
    one: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    assert run(["leaderboard", str(one), *given]) == 2
    assert message in capsys.readouterr().err
