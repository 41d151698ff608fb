"""The output and exit code of a launch or resume that has ended."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.text import plain_lines

if TYPE_CHECKING:
    from orchestrator.reading.outcome import Outcome
    from orchestrator.running.launch import EndedSweep

FAILURES = 3

MOST_REASONS = 3
"""Failure reasons printed at most."""


def show(outcome: Outcome, ended: EndedSweep, *, as_json: bool) -> int:
    """Print the leaderboard and the answer on stdout, warnings on stderr; return the exit code.

    Args:
        outcome: answer, failures and savings of the sweep.
        ended: the launch or resume that ended.
        as_json: print one JSON object instead of the table and the answer.
    """
    from orchestrator.cli.commands import leaderboard
    from orchestrator.cli.output import leaderboard_table
    from orchestrator.reading.loading import load_run

    loaded = load_run(outcome.run.path)
    rows = loaded.leaderboard.to_pylist()
    code = _exit_code(outcome, ended.signal)
    if as_json:
        print(
            json.dumps(
                {
                    "run": outcome.run.given,
                    "exit_code": code,
                    "failures": outcome.failures,
                    "duration_s": ended.duration_s,
                    "answer": outcome.answer,
                    "leaderboard": rows,
                    "savings": asdict(outcome.savings),
                }
            )
        )
    else:
        test_set = leaderboard.read_test_set(loaded)
        leaderboard_table.print_table(rows, top=leaderboard.DEFAULT_TOP, test_sets=[test_set])
        print("\n".join(outcome.answer))
        if outcome.savings.text:
            print(outcome.savings.text)
    for warning in (*outcome.savings.warnings, outcome.report_problem):
        if warning is not None:
            print(plain_lines(warning), file=sys.stderr)
    if outcome.failures:
        _show_failures(outcome)
    if ended.signal is not None:
        print(
            f"Stopped early. Go on with: sft-sweep resume {outcome.run.argument}", file=sys.stderr
        )
    return code


def _show_failures(outcome: Outcome) -> None:
    """Print the number of failures and their most frequent reasons on stderr."""
    from orchestrator.reading.status import inspect

    print(
        f"{outcome.failures} failed; all of them: sft-sweep status {outcome.run.argument}",
        file=sys.stderr,
    )
    for reason, count in Counter(inspect(outcome.run).failures.values()).most_common(MOST_REASONS):
        print(plain_lines(f"  {count} x {reason}"), file=sys.stderr)


def _exit_code(outcome: Outcome, signal: int | None) -> int:
    if signal is not None:
        return 128 + signal
    return FAILURES if outcome.failures else 0
