"""The output and exit code of a launch or resume that has ended."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.text import printable_lines

if TYPE_CHECKING:
    from orchestrator.api.sweeps import SweepResult
    from orchestrator.recording.sweep_directory import Run

FAILURES = 3

MOST_REASONS = 3
"""Failure reasons printed at most."""


def show(result: SweepResult, *, as_json: bool) -> int:
    """Print the leaderboard and the answer on stdout; return the exit code."""
    from orchestrator.cli.commands import leaderboard
    from orchestrator.cli.output import leaderboard_table
    from orchestrator.recording.sweep_directory import Run

    run = Run(result.run.path)
    rows = result.run.leaderboard.to_pylist()
    code = _exit_code(result)
    if as_json:
        print(
            json.dumps(
                {
                    "run": run.given,
                    "exit_code": code,
                    "failures": result.failures,
                    "duration_s": result.duration_s,
                    "answer": result.answer,
                    "leaderboard": rows,
                    "savings": asdict(result.savings),
                }
            )
        )
    else:
        test_set = leaderboard.read_test_set(result.run)
        leaderboard_table.print_table(rows, top=leaderboard.DEFAULT_TOP, test_sets=[test_set])
        print(result)
        if result.savings.text:
            print(result.savings.text)
    for warning in result.warnings:
        print(printable_lines(warning), file=sys.stderr)
    if result.failures:
        _show_failures(run, result.failures)
    if result.interrupted:
        print(f"Stopped early. Go on with: sft-sweep resume {run.argument}", file=sys.stderr)
    return code


def _show_failures(run: Run, failures: int) -> None:
    """Print on stderr how much failed, and the reasons that most of it has."""
    from orchestrator.reading.status import inspect

    print(f"{failures} failed; all of them: sft-sweep status {run.argument}", file=sys.stderr)
    for reason, count in Counter(inspect(run).failures.values()).most_common(MOST_REASONS):
        print(printable_lines(f"  {count} x {reason}"), file=sys.stderr)


def _exit_code(result: SweepResult) -> int:
    if result.signal is not None:
        return 128 + result.signal
    return FAILURES if result.failures else 0
