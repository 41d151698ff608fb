"""Distribution of tests to processes, their order, and their timings.

A group of tests runs in one process. A group has the tests of one file, or of several files that
share an expensive fixture, such as a running cluster or a finished sweep, which is then made once.
Groups that took longest before start first, so that no long group runs alone at the end.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from orchestrator.processors import usable_processors

TIMINGS = Path(__file__).with_name("timings.json")
"""Seconds by file, without short files; `pytest --timings` writes it again."""

LONG_S = 1.0
"""Files that take fewer seconds are not listed and come last."""

SHARED = {
    "one small sweep": (
        "tests/integration/test_launch.py",
        "tests/integration/test_export.py",
        "tests/integration/test_quickstart.py",
        "tests/integration/test_report_in_browser.py",
    ),
    "one running cluster": ("tests/orchestrator/running/ray_tune/",),
    "one sweep to disturb": ("tests/integration/faults/",),
    "an import of transformers": (
        "tests/trainable/backbones/transformers_models/",
        "tests/trainable/training/test_text_trials.py",
    ),
}
"""Shared fixture -> files, or folders of files, whose tests share it."""


def group_of(nodeid: str) -> str:
    """The group of a test: the fixture that its file shares with others, or else the file."""
    file = nodeid.partition("::")[0]
    for name, places in SHARED.items():
        if file.startswith(places):
            return name
    return file


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives whole groups to processes, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_auto_num_workers() -> int:
    """One more than processors, because others compute while one process waits for a cluster."""
    return usable_processors() + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupScheduling:
    """Schedule by groups, whatever `--dist` says."""
    return GroupScheduling(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--timings`."""
    parser.addoption(
        "--timings",
        action="store_true",
        help="print what takes how long, and write tests/timings.json anew",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Measure times if asked to, in the process that starts the others."""
    if config.getoption("--timings") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Timings(), "timings")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the groups, longest first; the order within a group stays."""
    seconds: dict[str, float] = defaultdict(float)
    known: dict[str, float] = json.loads(TIMINGS.read_text()) if TIMINGS.is_file() else {}
    for file, taken in known.items():
        seconds[group_of(file)] += taken
    first: dict[str, int] = {}
    for place, item in enumerate(items):
        first.setdefault(_group(item), place)
    items.sort(key=lambda item: (-seconds[_group(item)], first[_group(item)]))


def _group(item: pytest.Item) -> str:
    return group_of(item.nodeid)


class _Timings:
    """Sums of the seconds that tests took, by file and by process."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._sessions = _ray_sessions()
        self._by_test: dict[str, float] = defaultdict(float)
        self._by_process: dict[str, float] = defaultdict(float)
        self._ready_s: dict[str, float] = {}

    def pytest_testnodeready(self, node: WorkerController) -> None:
        """Record when a process begins to run tests."""
        self._ready_s[node.gateway.id] = time.monotonic() - self._start

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the seconds of one phase of a test."""
        self._by_test[report.nodeid] += report.duration
        self._by_process[getattr(report, "worker_id", "master")] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and write the timings to their file."""
        wall_s = time.monotonic() - self._start
        by_file: dict[str, float] = defaultdict(float)
        for nodeid, taken in self._by_test.items():
            by_file[nodeid.partition("::")[0]] += taken
        write = terminalreporter.write_line
        terminalreporter.section("seconds by file")
        for file, taken in sorted(by_file.items(), key=lambda item: -item[1]):
            count = sum(nodeid.startswith(f"{file}::") for nodeid in self._by_test)
            if taken >= LONG_S:
                write(f"{taken:8.1f} {count:5d} tests  {file}")
        terminalreporter.section("longest tests")
        for nodeid, taken in sorted(self._by_test.items(), key=lambda item: -item[1])[:40]:
            if taken >= LONG_S:
                write(f"{taken:8.1f} {nodeid}")
        terminalreporter.section("processes")
        for name, busy in sorted(self._by_process.items()):
            ready_s = self._ready_s.get(name, 0.0)
            write(
                f"{name}: busy {busy:.0f} s, idle {wall_s - ready_s - busy:.0f} s of {wall_s:.0f}"
            )
        write(f"clusters started on this machine: {len(_ray_sessions() - self._sessions)}")
        long = {file: round(taken) for file, taken in sorted(by_file.items()) if taken >= LONG_S}
        TIMINGS.write_text(json.dumps(long, indent=1) + "\n")


def _ray_sessions() -> set[str]:
    """Names of the session folders that clusters have made."""
    return {path.name for path in Path(tempfile.gettempdir(), "ray").glob("session_2*")}
