"""Launching sweeps and taking them up again: for programs, for notebooks and for the commands."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.api.guest import guest_sweep
from orchestrator.api.progress_lines import ProgressLines, print_message, print_notes
from orchestrator.errors import UsageError
from orchestrator.planning.preparation import Prepared, prepare_space, read_space
from orchestrator.reading.loading import LoadedRun, load_run
from orchestrator.reading.outcome import Outcome, conclude
from orchestrator.recording.savings import Savings
from orchestrator.recording.stores import Place, locate
from orchestrator.recording.sweep_directory import DEFAULT_ROOT, Run, find_run
from orchestrator.running import launch as running
from orchestrator.running.cluster import LOCAL
from orchestrator.running.execution import View
from orchestrator.space import NO_FILE, Overrides, SearchSpace, load_space
from trainable.spec.refusals import refusal


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a launch or a resume came to; `print` shows its answer.

    Attributes:
        run: the sweep with its tables.
        answer: at most five lines for people: what to use, how sure that is, what to do next.
        failures: trials, finals and baselines that failed.
        signal: number of the signal that ended the sweep early, or None; 2 is Ctrl-C and the stop
            button of a notebook.
        duration_s: wall-clock time of this launch or resume.
        report: the HTML report, or None where none was written.
        report_problem: why there is none although the sweep ended by itself, or None.
        savings: frozen computation that trials shared.
    """

    run: LoadedRun
    answer: tuple[str, ...] = field(repr=False)
    failures: int
    signal: int | None
    duration_s: float
    report: Path | None
    report_problem: str | None = field(repr=False)
    savings: Savings = field(repr=False)

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the sweep early, so that `resume` has something left to do."""
        return self.signal is not None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong without changing the results; each of one line or more."""
        problem = () if self.report_problem is None else (self.report_problem,)
        return (*self.savings.warnings, *problem)

    def __str__(self) -> str:
        return "\n".join(self.answer)


def launch(
    space: str | Path | Mapping[str, Any],
    *,
    out: str | Path = DEFAULT_ROOT,
    address: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> SweepResult:
    """Run a sweep to its end: trials, finalists, baselines, tables, report and the answer.

        import orchestrator

        result = orchestrator.launch("search_spaces/lowdata.yaml", overrides={"trials": 8})
        print(result)                               # the answer
        result.run.to_pandas("leaderboard")         # a pandas.DataFrame
        result.failures, result.interrupted

    Progress goes to stderr. Ctrl-C, or a notebook's stop button, ends the sweep cleanly: what has
    finished is kept, `interrupted` of the result is true, and `resume` goes on. A second one ends
    it at once, with `KeyboardInterrupt`. SIGTERM and SIGHUP end it cleanly, too, and are then
    passed on to whoever handled them before. Called in another thread than the main one, it hears
    no signal and runs to its end.

    Args:
        space: path of a search-space file, or a mapping with the keys of one. Relative paths in
            it count from the current directory.
        out: where the sweep's directory is made, or a URL such as `s3://bucket/sweeps`.
        address: of a Ray cluster: `auto`, `host:port` or `ray://host:port`; left out, this machine.
        overrides: values by dotted key, such as `{"search.lr": 0.001}`; they replace those of
            `space`.

    Raises:
        SpaceError: with every problem of the search space.
        UsageError: weights or images cannot serve, the directory cannot be made, or a sweep or Ray
            runs in this process already.
        StorageError: no cluster, no room, or a store that fails.
        KeyboardInterrupt: interrupted before the first trial, or for the second time.
    """
    again = f"orchestrator.resume(RUN), where RUN is the newest directory in {out}"
    with _printing_how_to_go_on(again), guest_sweep():
        given = Path(space) if isinstance(space, str | Path) else space
        asked = read_space(given, _checked(overrides))
        result = launch_sweep(
            asked,
            path=given if isinstance(given, Path) else Path(NO_FILE),
            root=locate(out),
            address=address,
            viewing=_viewing,
        )
    return _handed_back(result)


def resume(
    run: str | Path | LoadedRun | None = None,
    *,
    address: str | None = None,
    accept_changes: bool = False,
) -> SweepResult:
    """Do what is missing of a sweep; finished trials are kept, and a finished sweep is only read.

        result = orchestrator.launch(space)         # interrupted by the stop button
        result = orchestrator.resume(result.run)    # goes on
        result = orchestrator.resume("runs/lowdata-20260131-142530")

    Signals are treated as by `launch`.

    Args:
        run: a sweep directory, its URL in a store, or a loaded run; left out, the newest in
            `runs/`.
        address: of a Ray cluster; see `launch`.
        accept_changes: go on although versions of packages are other ones now.

    Raises:
        UsageError: there is no such sweep, another process runs it, its results would rest on
            something else than those that are there, or a sweep or Ray runs in this process.
        StorageError: no cluster, no room, or a store that fails.
        KeyboardInterrupt: interrupted before the first trial, or for the second time.
    """
    with _printing_how_to_go_on("the same call"), guest_sweep():
        found = find_run(path_of(run), resuming=True)
        space = load_space(found.space)
        with ProgressLines(space, beginning=_beginning(space)) as view:
            result = resume_sweep(found, address=address, view=view, accept_changes=accept_changes)
    return _handed_back(result)


def launch_sweep(
    space: SearchSpace,
    *,
    path: Path,
    root: Path | Place,
    address: str | None,
    viewing: Callable[[Prepared], AbstractContextManager[View]],
) -> SweepResult:
    """Run a sweep to its end, as the owner of this process.

    Args:
        space: what is asked.
        path: of its file, or `NO_FILE`, for messages.
        root: where the sweep's directory is made.
        address: of the cluster; None for this machine.
        viewing: opens what shows how far the sweep is; see `orchestrator.running.launch`.

    Raises:
        UsageError, StorageError: see `orchestrator.running.launch`.
    """
    with running.launch(
        space,
        preparing=partial(prepare_space, space, path=path),
        root=root,
        address=address or LOCAL,
        viewing=viewing,
    ) as ended:
        outcome = _conclude(ended)
    return _result(outcome, ended)


def resume_sweep(run: Run, *, address: str | None, view: View, accept_changes: bool) -> SweepResult:
    """Do what is missing of a sweep, as the owner of this process.

    Args:
        run: the sweep.
        address: of the cluster; None for this machine.
        view: shows how far it is.
        accept_changes: go on although versions of packages are other ones now.

    Raises:
        UsageError, StorageError: see `orchestrator.running.launch`.
    """
    with running.resume(
        run, address=address or LOCAL, view=view, accept_changes=accept_changes
    ) as ended:
        outcome = _conclude(ended)
    return _result(outcome, ended)


def path_of(run: str | Path | LoadedRun | None) -> str | Path | None:
    """Where a sweep that somebody names lies; None for the newest one."""
    return run.path if isinstance(run, LoadedRun) else run


def _conclude(ended: running.EndedSweep) -> Outcome:
    return conclude(ended.run, images=ended.images, interrupted=ended.signal is not None)


def _result(outcome: Outcome, ended: running.EndedSweep) -> SweepResult:
    return SweepResult(
        run=load_run(outcome.run.path),
        answer=tuple(outcome.answer),
        failures=outcome.failures,
        signal=ended.signal,
        duration_s=ended.duration_s,
        report=outcome.report,
        report_problem=outcome.report_problem,
        savings=outcome.savings,
    )


def _checked(overrides: object) -> Overrides:
    """Overrides by dotted key.

    Raises:
        UsageError: they are something else.
    """
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping):
        allowed = "a mapping of dotted keys to values, such as {'trials': 8, 'search.lr': 0.001}"
        raise UsageError(f"overrides: {refusal(overrides, allowed)}")
    return overrides


@contextmanager
def _viewing(prepared: Prepared) -> Iterator[ProgressLines]:
    """Tell what to know of the images, then how to stop the sweep and how far it is."""
    print_notes(prepared)
    with ProgressLines(prepared.space, beginning=_beginning(prepared.space)) as view:
        yield view


def _beginning(space: SearchSpace) -> str:
    """The first line about a sweep: that it starts, and how to stop it."""
    if threading.current_thread() is threading.main_thread():
        how = "Ctrl-C, or the stop button of a notebook, ends it; what has finished is kept"
    else:
        how = "it is not in the main thread, where Ctrl-C would end it, and runs to its end"
    return f"{space.name}: starting; {how}"


@contextmanager
def _printing_how_to_go_on(again: str) -> Iterator[None]:
    """Say what goes on with a sweep whose block is ended at once."""
    try:
        yield
    except KeyboardInterrupt:
        print_message(
            f"Ended at once. If trials had begun, what has settled is kept; go on with: {again}"
        )
        raise


def _handed_back(result: SweepResult) -> SweepResult:
    """The result, once people were told what it does not say, and the signal was passed on."""
    for warning in result.warnings:
        print_message(warning)
    if result.signal is not None:
        run = Run(result.run.path)
        print_message(
            f"Stopped early. Go on with: orchestrator.resume({run.given!r}), or in a shell: "
            f"sft-sweep resume {run.argument}"
        )
    if result.signal not in (None, signal.SIGINT):
        signal.raise_signal(result.signal)
    return result
