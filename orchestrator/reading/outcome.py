"""The outcome of a sweep when a launch or a resume ends: its answer and its report."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from orchestrator.reading.answer import answer
from orchestrator.reading.loading import load_run
from orchestrator.recording import user_attributes
from orchestrator.recording.progress import measure
from orchestrator.recording.projection import load_studies
from orchestrator.recording.savings import Savings, measure_savings
from orchestrator.recording.sweep_directory import Run
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.space import load_space
from trainable.data.labelled_examples import LabelledExamples

_log = logging.getLogger("sft_sweep")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a sweep.

    Attributes:
        run: its directory.
        failures: number of trials, finals and baselines that failed.
        answer: at most five lines for the user.
        report: path of the HTML report; None if there is none.
        report_problem: why there is no new report, or None.
        savings: frozen computation that trials shared.
    """

    run: Run
    failures: int
    answer: list[str]
    report: Path | None
    report_problem: str | None
    savings: Savings


def conclude(run: Run, *, images: LabelledExamples | None, interrupted: bool) -> Outcome:
    """Return the outcome of a sweep; write its report if it is finished.

    Args:
        run: the sweep.
        images: its images, for the report; None for a sweep that was finished before, whose tables
            and report are rebuilt only if they are missing or damaged.
        interrupted: whether a signal ended the sweep; then no report is written.
    """
    problem = None
    if images is None:
        loaded = load_run(run.path)
        for name in SCHEMAS:
            loaded.read(name)
    if not interrupted and (images is not None or not run.report.is_file()):
        problem = _write_report(run, images)
    report = run.report if not interrupted and problem is None else None
    studies = load_studies(run.path)
    return Outcome(
        run=run,
        failures=sum(study.failures for study in measure(load_space(run.space), studies)),
        answer=answer(
            load_run(run.path).leaderboard.to_pylist(),
            num_test=user_attributes.num_test(studies.values()),
            run=run.argument,
            report=None if report is None else str(report),
        ),
        report=report,
        report_problem=problem,
        savings=measure_savings(studies.values()),
    )


def _write_report(run: Run, images: LabelledExamples | None) -> str | None:
    """Write the report; return why that failed, or None.

    Any error is caught, because the sweep is done and its tables are written.
    """
    from orchestrator.reading.report import write_report

    try:
        write_report(run, run.report, images=images)
    except Exception as error:
        _log.exception("report: not written")
        return (
            f"{run.report}: not written: {error}. Try again with: sft-sweep report {run.argument}"
        )
    return None
