"""Made-up sweeps from their tables to what is recommended: terminal, report, JSON and export."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.api.sweeps import SweepResult
from orchestrator.cli.main import run as command
from orchestrator.cli.output import outcomes
from orchestrator.reading.answer import answer
from orchestrator.reading.export.choice import choose
from orchestrator.reading.loading import load_run
from orchestrator.reading.report import write_report
from orchestrator.recording.leaderboard import build_leaderboard
from orchestrator.recording.savings import Savings
from orchestrator.recording.sweep_directory import Run
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.tables import read_table, write_table
from tests.builders.synthetic_sweeps import write_sweep as random_sweep
from tests.builders.written_sweeps import write_sweep
from tests.orchestrator.reading.report.test_report_numbers import Reader
from tests.orchestrator.recording.test_leaderboard import trial

PROBE = "b5-probe-b"


def sweep_with_probe(directory: Path, *, probe: float, tuned: float = 0.8) -> Path:
    """A sweep whose best probe and best trial have these validation scores."""
    right = [1] * 9 + [0]
    return write_sweep(
        directory,
        trials=[
            trial("b2-0000", 0.5, num_val=15),
            trial("b5-0000", tuned, num_val=30, val_loss=0.1),
            trial("b5-0001", 0.6, num_val=30),
            trial("b5-probe-a", 0.3, method="probe", backbone="a", num_val=30, lr=None),
            trial(PROBE, probe, method="probe", backbone="b", num_val=30, lr=None, val_loss=0.9),
            trial("b5-pixels", 0.99, method="pixels", backbone=None, num_val=30, lr=None),
        ],
        tested={
            "b2-0000": [right[::-1]] * 3,
            "b5-0000": [right] * 3,
            "b5-probe-a": [right[::-1]] * 3,
            PROBE: [[1] * 8 + [0] * 2] * 3,
            "b5-pixels": [right] * 3,
        },
    )


def answer_of(sweep: Path) -> list[str]:
    return answer(load_run(sweep).leaderboard.to_pylist(), num_test=10, run="runs/x")


def shown(sweep: Path, *, as_json: bool) -> int:
    result = SweepResult(
        run=load_run(sweep),
        answer=tuple(answer_of(sweep)),
        failures=0,
        signal=None,
        duration_s=0.0,
        report=None,
        report_problem=None,
        savings=Savings(asked_flops=0.0, computed_flops=0.0, hits=0, misses=0, warnings=()),
    )
    return outcomes.show(result, as_json=as_json)


@pytest.mark.parametrize("probe", [0.9, 0.8], ids=["beats every trial", "ties with the best"])
def test_a_probe_that_no_trial_beats_is_recommended_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], probe: float
) -> None:
    sweep = sweep_with_probe(tmp_path / "run", probe=probe)
    use = "At 5 labels per class use the linear probe on b: 80.0 % on the test set ("
    gains_nothing = (
        "); chosen by accuracy in validation on 30 labels; by validation fine-tuning gains nothing "
        "over it; cannot be told apart from"
    )

    assert shown(sweep, as_json=False) == 0
    out = capsys.readouterr().out
    assert use in out
    assert gains_nothing in out
    rows = [line.split() for line in out.splitlines()]
    assert ["5", "1", PROBE, "probe", "b"] in [row[:5] for row in rows]

    assert shown(sweep, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["answer"][0].startswith(use)
    assert gains_nothing in said["answer"][0]
    first = next(row for row in said["leaderboard"] if row["study"] == "b5")
    assert (first["trial_id"], first["rank"], first["method"]) == (PROBE, 1, "probe")

    assert command(["leaderboard", str(sweep), "--budget", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["trial_id"] == PROBE

    write_report(Run(sweep), sweep / "report.html")
    text = (sweep / "report.html").read_text()
    assert use in text
    assert f"<p>linear probe on b: trial {PROBE} on the test set, 3 repeats.</p>" in text

    for budget in (None, "5"):
        choice = choose(Run(sweep), trial_id=None, budget=budget)
        assert choice.text == f"{PROBE}: linear probe on b"
        assert choice.reason == "by validation it is the best of its label budget"


def test_a_trial_that_beats_every_probe_is_recommended(tmp_path: Path) -> None:
    sweep = sweep_with_probe(tmp_path / "run", probe=0.79)
    assert answer_of(sweep)[0].startswith("At 5 labels per class use tiny, freeze depth 0.5, lr")
    assert choose(Run(sweep), trial_id=None, budget=None).trial_id == "b5-0000"


def test_the_headline_compares_the_best_of_both_whichever_ranks_first(tmp_path: Path) -> None:
    gains = []
    for name, probe in (("first", 0.9), ("second", 0.7)):
        line = answer_of(sweep_with_probe(tmp_path / name, probe=probe))[1]
        rival = "the linear probe on b, the best probe by validation"
        found = re.fullmatch(rf"Fine-tuning.* does not beat {rival}: (.*)", line)
        assert found, line
        gains.append(found[1])
    assert gains[0] == gains[1]
    assert gains[0].startswith("+10.0 points (")


def _with_other_test_labels(sweep: Path, directory: Path, *, objective: str) -> Path:
    """A copy of a sweep with the labels of its test images permuted."""
    other = random_sweep(directory, objective=objective)
    predictions = read_table(sweep, "predictions").to_pylist()
    labels = {row["image_id"]: row["label"] for row in predictions}
    permuted = np.random.default_rng(1).permutation(list(labels.values()))
    new = dict(zip(labels, permuted.tolist(), strict=True))
    rows = [row | {"label": new[row["image_id"]]} for row in predictions]
    table = pa.Table.from_pylist(rows, schema=SCHEMAS["predictions"])
    write_table(other, "predictions", table)
    board = build_leaderboard(read_table(other, "trials"), read_table(other, "finals"), table)
    write_table(other, "leaderboard", board)
    return other


def _without_test_numbers(line: str) -> str:
    """A line without what the test set says: scores, differences, verdicts and ties."""
    number = r"[+-]?\d+\.\d"
    for pattern in (
        rf"{number} (%|points)( on the test set)? \({number} to {number}",
        r"apart from \d+ of",
        r"beats|loses to|does not beat",
    ):
        line = re.sub(pattern, "#", line)
    return line


@pytest.mark.parametrize("objective", ["accuracy", "balanced_accuracy"])
def test_permuting_the_test_labels_changes_no_text_but_numbers_of_the_test_set(
    tmp_path: Path, objective: str
) -> None:
    sweep = random_sweep(tmp_path / "one", objective=objective)
    other = _with_other_test_labels(sweep, tmp_path / "two", objective=objective)
    before, after = answer_of(sweep), answer_of(other)
    assert before[:3] != after[:3]
    assert [*map(_without_test_numbers, before)] == [*map(_without_test_numbers, after)]
    pages = []
    for one in (sweep, other):
        write_report(Run(one), tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text()
        winner = re.search("<p>(.*: trial .* on the test set)", text)
        assert winner
        tables = Reader(text).tables[1:4]
        pages.append((winner[1], [[(r[0], r[1], r[2], r[-1]) for r in table] for table in tables]))
    assert pages[0] == pages[1]
