"""The number of processors this process may use; every count of processors comes from here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_processors() -> int:
    """Number of processors this process may use; at least 1.

    The machine may have more: CPU affinity (taskset, Slurm, a cpuset) and the CPU quotas of cgroups
    v1 and v2 (containers) both reduce the number. A fractional quota is rounded down.
    """
    bound = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(bound, *(int(limit) for limit in _limits())))


def _limits() -> Iterator[float]:
    """Yield the machine's processor count, then the CPU quota of every enclosing cgroup."""
    yield float(os.cpu_count() or 1)
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for folder in (PurePosixPath(path), *PurePosixPath(path).parents):
            below = folder.relative_to("/")
            limit = (
                _limit_of_version_1(_CGROUPS / controllers / below)
                if controllers
                else _limit_of_version_2(_CGROUPS / below)
            )
            if limit is not None:
                yield limit


def _limit_of_version_1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 < period else None


def _limit_of_version_2(folder: Path) -> float | None:
    try:
        quota, period = (int(word) for word in (folder / "cpu.max").read_text().split())
    except (OSError, ValueError):  # `max 100000` is no limit
        return None
    return quota / period if quota > 0 < period else None
