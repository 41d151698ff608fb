"""Sweeps of fine-tuning trials: a search-space file -> Ray Tune trials -> tables -> leaderboard.

`load_run` reads a sweep in a notebook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.reading.loading import LoadedRun, load_run

__all__ = ["LoadedRun", "load_run"]


def __getattr__(name: str) -> Any:
    # Imported at first use: the command line imports this package and must start without pyarrow.
    if name in __all__:
        from orchestrator.reading import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
