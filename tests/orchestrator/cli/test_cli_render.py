from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import run
from orchestrator.cli.output import leaderboard_table, progress_view
from orchestrator.planning.plan import Plan, StudyPlan
from orchestrator.planning.work import Activity
from orchestrator.recording.progress import StudyProgress
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.tables import write_table
from orchestrator.space import SearchSpace, parse_space
from orchestrator.text import duration, number, percent, plural
from trainable.spec.metrics import Metric
from trainable.spec.trial_spec import LabelBudget


def board_row(**changes: Any) -> dict[str, Any]:
    row = dict.fromkeys(SCHEMAS["leaderboard"].names) | {
        "label_budget": 5.0,
        "study": "b5",
        "rank": 2,
        "trial_id": "b5-0007",
        "method": "finetune",
        "backbone": "tiny_strokes",
        "freeze_depth": 0.75,
        "lr": 0.00123,
        "params": "{}",
        "val_objective": 0.94,
        "val_accuracy": 0.94,
        "num_val": 50,
        "metric": "accuracy",
        "test_score": 0.9575,
        "test_accuracy": 0.9575,
        "test_ci_low": 0.9372,
        "test_ci_high": 0.9701,
        "repeats": 5,
        "diff_to_best": -0.0021,
        "diff_ci_low": -0.0064,
        "diff_ci_high": 0.0023,
        "tied_with_best": True,
        "duration_s": 12.3,
        "gain_over_start": -0.0123,
    }
    return row | changes


def sweep_with(directory: Path, *rows: dict[str, Any]) -> str:
    directory.mkdir()
    (directory / "manifest.json").write_text(json.dumps({"sweep_id": directory.name}))
    write_table(directory, "leaderboard", rows)
    return str(directory)


def test_a_row_reads_as_its_numbers_say() -> None:
    assert [*leaderboard_table.cells(board_row()).values()] == [
        "None",
        "5",
        "2",
        "b5-0007",
        "finetune",
        "tiny_strokes",
        "0.75",
        "0.0012",
        "0.94",
        "94.0 (50)",
        "-1.2",
        "accuracy",
        "95.8 (93.7 to 97.0)",
        "-0.2 (-0.6 to +0.2)",
        "tied",
        "12",
    ]
    assert leaderboard_table.cells(board_row(tied_with_best=False))[""] == "differs"
    first = leaderboard_table.cells(board_row(rank=1))
    assert (first["to rank 1"], first[""]) == ("", "")


@pytest.mark.parametrize(
    ("metric", "head", "test", "difference"),
    [
        ("accuracy", "test % (95 %)", "71.2 (65.0 to 77.0)", "-2.0 (-5.0 to +1.0)"),
        (
            "balanced_accuracy",
            "test balanced accuracy % (95 %)",
            "71.2 (65.0 to 77.0)",
            "-2.0 (-5.0 to +1.0)",
        ),
        (
            "log_loss",
            "test log loss (95 %)",
            "0.712 (0.650 to 0.770)",
            "-0.020 (-0.050 to +0.010)",
        ),
    ],
)
def test_test_scores_are_those_of_the_objective_and_shares_alone_in_percent(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    metric: str,
    head: str,
    test: str,
    difference: str,
) -> None:
    scores = {"test_score": 0.712, "test_ci_low": 0.65, "test_ci_high": 0.77}
    diffs = {"diff_to_best": -0.02, "diff_ci_low": -0.05, "diff_ci_high": 0.01}
    path = sweep_with(tmp_path / "one", board_row(metric=metric, **scores, **diffs))
    for form in ([], ["--markdown"]):
        assert run(["leaderboard", path, *form]) == 0
        out = capsys.readouterr().out
        assert head in out
        assert test in out
        assert difference in out


def test_sweeps_of_several_metrics_have_a_column_that_tells_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = sweep_with(tmp_path / "one", board_row())
    two = sweep_with(tmp_path / "two", board_row(metric="balanced_accuracy"))
    assert run(["leaderboard", one, two, "--markdown"]) == 0
    header, _, first, second = capsys.readouterr().out.splitlines()
    assert "| metric | test (95 %) |" in header
    assert "| accuracy | 95.8" in first
    assert "| balanced accuracy | 95.8" in second


def test_a_probe_of_rank_one_has_no_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = board_row(rank=1, method="probe", trial_id="b5-probe-a", lr=None, freeze_depth=1.0)
    path = sweep_with(tmp_path / "one", probe, board_row(tied_with_best=False))
    assert run(["leaderboard", path, "--markdown"]) == 0
    first = capsys.readouterr().out.splitlines()[2]
    assert first.startswith("| 5 | 1 | b5-probe-a | probe | tiny_strokes | 1 |  | 0.94 |")


def test_the_objective_is_shown_where_it_is_not_the_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["leaderboard", sweep_with(tmp_path / "one", board_row())]) == 0
    assert "objective" not in capsys.readouterr().out
    other = sweep_with(tmp_path / "two", board_row(val_objective=0.2345))
    assert run(["leaderboard", other]) == 0
    out = capsys.readouterr().out
    assert "objective" in out
    assert "0.234" in out


def test_a_row_without_test_scores_leaves_their_cells_empty() -> None:
    names = [name for name in board_row() if name.startswith(("test_", "diff_", "tied_"))]
    cells = leaderboard_table.cells(board_row(**dict.fromkeys(names)))
    assert [cells[name] for name in ("test", "to rank 1", "")] == ["", "", ""]


def test_top_keeps_finalists_and_baselines_whatever_their_rank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_with(
        tmp_path / "one",
        board_row(rank=1, trial_id="b5-0001"),
        board_row(rank=2, trial_id="b5-0002", test_score=None),
        board_row(rank=3, trial_id="b5-0003", test_score=None),
        board_row(rank=4, trial_id="b5-0004"),
        board_row(rank=None, trial_id="b5-pixels", method="pixels"),
    )
    assert run(["leaderboard", path, "--top", "2", "--json"]) == 0
    shown = [row["trial_id"] for row in json.loads(capsys.readouterr().out)]
    assert shown == ["b5-0001", "b5-0002", "b5-0004", "b5-pixels"]


def test_several_sweeps_stand_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [sweep_with(tmp_path / name, board_row()) for name in ("one", "two")]
    assert run(["leaderboard", *paths, "--json"]) == 0
    assert [row["sweep_id"] for row in json.loads(capsys.readouterr().out)] == ["one", "two"]
    assert run(["leaderboard", *paths]) == 0
    out = capsys.readouterr().out
    assert "one" in out
    assert "two" in out


def test_an_unknown_budget_names_those_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_with(tmp_path / "one", board_row(), board_row(label_budget=20.0, study="b20"))
    assert run(["leaderboard", path, "--budget", "7"]) == 2
    assert "allowed: 5, 20" in capsys.readouterr().err


def test_only_one_form_of_output_can_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["leaderboard", str(tmp_path), "--json", "--csv"]) == 2
    assert "one of them" in capsys.readouterr().err


def test_names_that_look_like_formulas_markup_or_control_codes_do_no_harm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = "=cmd|' /C calc'!A0[red]\x1b[2J"
    path = sweep_with(tmp_path / "one", board_row(backbone=nasty))
    assert run(["leaderboard", path, "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["backbone"] == "'" + nasty
    assert row["diff_to_best"] == "-0.0021"
    assert run(["leaderboard", path]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]" in out
    assert run(["leaderboard", path, "--markdown"]) == 0
    assert "=cmd\\|" in capsys.readouterr().out


class Terminal(io.StringIO):
    """Takes what would be drawn."""

    def isatty(self) -> bool:
        return True


def study_progress(**changes: Any) -> StudyProgress:
    values: dict[str, Any] = {
        "study": "b5",
        "unit": "labels per class",
        "labels_per_class": 5.0,
        "total": 24,
        "running": 2,
        "complete": 9,
        "pruned": 3,
        "failed": 1,
        "best": 0.9412,
        "others_done": 3,
        "others_total": 18,
        "others_failed": 0,
        "finals_done": 0,
        "finals_total": 15,
        "steps": 100,
        "updates_done": 1100.0,
        "updates_due": 40.0,
        "updates_left": 1200.0,
        "finished": False,
    }
    return StudyProgress(**(values | changes))


def one_study_plan() -> Plan:
    study = StudyPlan(
        name="b5",
        budget=LabelBudget(5),
        labels_used=50,
        labels_per_class=5,
        folds=3,
        trials=24,
        most_baselines=2,
    )
    return Plan(studies=(study,), baselines=(), num_test=797, most_updates=1)


def activity(**changes: Any) -> Activity:
    values: dict[str, Any] = {"busy": 3, "slots": 4, "asked_flops": 8.0, "computed_flops": 2.0}
    return Activity(**(values | changes))


def digits_space() -> SearchSpace:
    return parse_space(
        "dataset: {source: digits}\nsearch: {backbone: tiny_strokes, label_budget: 5}\nname: x",
        where="x",
    )


def test_lines_of_progress_count_what_is_settled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("orchestrator.api.progress_lines.time.monotonic", lambda: now[0])
    with progress_view.ProgressView(digits_space()) as show:
        plan = one_study_plan()
        begun = study_progress(
            running=0,
            complete=0,
            pruned=0,
            failed=0,
            others_done=0,
            updates_done=0.0,
            updates_due=0.0,
            updates_left=2400.0,
        )
        show(plan, [begun], activity(busy=1, asked_flops=0.0))
        now[0] = 100.0
        progress = [study_progress()]
        show(plan, progress, activity())
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["starting", "waiting for the first actor | 1 of 4 slots busy"]
    assert lines[-1].startswith(
        "5 labels: 13/24 settled (2 running, 3 pruned, 1 failed), best 94.1, finals 3/18"
        " | 3 of 4 slots busy, 75.0 % of prefix work saved, about "
    )
    left = 100 * (3 * 1200 + 15 * 100) / (3 * 1100)  # an update of a trial is one a fold
    assert lines[-1].endswith(f"about {duration(left)} left")


def test_the_table_of_progress_has_a_row_a_budget() -> None:
    table = progress_view.progress_table(
        [study_progress()], Metric.ACCURACY, caption="about 1m30s left"
    )
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["5", "13/24", "2", "9", "3", "1", "94.1", "3/18"]
    assert table.caption == "about 1m30s left"
    assert table.columns[6].header == "best accuracy"


def test_a_terminal_shows_a_live_table_with_slots_and_savings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_view.ProgressView(digits_space()) as show:
        show(one_study_plan(), [study_progress()], activity())
        show.stopping()
    last = terminal.getvalue().rsplit("best accuracy", 1)[1]
    assert "13/24" in last
    assert "3 of 4 slots busy, 75.0 % of prefix work saved" in last
    assert "stopping: what has settled is kept" in last


def test_messages_are_shown_at_once_on_a_terminal_and_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_view.ProgressView(digits_space()) as show:
        show.print_message("b2-0000: not_started: \x1b[31mno [bold]pets")
    assert "b2-0000: not_started: ?[31mno [bold]pets\n" in capsys.readouterr().err
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_view.ProgressView(digits_space()) as show:
        show.print_message("b2-0000: not_started: no [bold]pets")
        assert "b2-0000: not_started: no [bold]pets" in terminal.getvalue()


def test_a_stop_is_answered_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_view.ProgressView(digits_space()) as show:
        capfd.readouterr()
        show.stopping()  # nothing else is called before Tune comes to its next step
        assert capfd.readouterr().err.startswith("stopping: what has settled is kept")


def test_numbers_are_written_as_people_read_them() -> None:
    assert percent(0.98765) == "98.8"
    assert percent(None) == ""
    assert number(0.000123456) == "0.000123"
    assert number(None) == ""
    assert duration(None) == "-"
    assert duration(59.6) == "1m00s"
    assert duration(3725) == "1h02m"
    assert plural(1, "trial") == "1 trial"
    assert plural(2000, "trial") == "2,000 trials"


def test_the_table_stands_between_what_guessing_reaches_and_how_to_read_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_with(tmp_path / "one", board_row(rank=1, collapsed=1, repeats=3))
    predictions = [
        {
            "sweep_id": "one",
            "trial_id": "b5-0007",
            "repeat": 0,
            "image_id": str(i),
            "label": str(i > 2),
        }
        for i in range(10)
    ]
    empty = dict.fromkeys(SCHEMAS["predictions"].names)
    write_table(Path(path), "predictions", [empty | row for row in predictions])
    assert run(["leaderboard", path]) == 0
    first, *_, val, collapsed, tied = capsys.readouterr().out.splitlines()
    assert collapsed == (
        "b5-0007: training collapsed in 1 of 3 repeats at this rate, and was repeated at lower "
        "ones or left at its start."
    )
    assert first == "10 test images; guessing reaches 50.0 %, always the commonest class 70.0 %"
    assert val.startswith("val % of a winner is optimistic")
    assert tied == "tied: cannot be told apart from rank 1 with 10 test images."
    assert run(["leaderboard", path, "--csv"]) == 0
    assert "guessing" not in capsys.readouterr().out
