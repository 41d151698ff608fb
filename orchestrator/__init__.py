"""Sweeps of fine-tuning trials: a search-space file -> Ray Tune trials -> tables -> leaderboard.

For programs and notebooks: `launch` and `resume` run a sweep, `load_run` reads one, `export` writes
the network that came of it. What goes wrong in a way that a user can mend raises a `SweepError`.

    import orchestrator

    result = orchestrator.launch("search_spaces/lowdata.yaml", overrides={"trials": 8})
    print(result)
    result.run.to_pandas("leaderboard")
    orchestrator.export(result.run, "model")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api.exporting import export
    from orchestrator.api.sweeps import SweepResult, launch, resume
    from orchestrator.errors import SpaceError, StorageError, SweepError, UsageError
    from orchestrator.reading.export import Exported
    from orchestrator.reading.loading import LoadedRun, load_run

__all__ = [
    "Exported",
    "LoadedRun",
    "SpaceError",
    "StorageError",
    "SweepError",
    "SweepResult",
    "UsageError",
    "export",
    "launch",
    "load_run",
    "resume",
]

_HOMES = {
    "orchestrator.api.exporting": ("export",),
    "orchestrator.api.sweeps": ("SweepResult", "launch", "resume"),
    "orchestrator.errors": ("SpaceError", "StorageError", "SweepError", "UsageError"),
    "orchestrator.reading.export": ("Exported",),
    "orchestrator.reading.loading": ("LoadedRun", "load_run"),
}
"""Names that this package gives away, by the module that has them."""


def __getattr__(name: str) -> Any:
    # At its first use: the command line imports this package and has to answer without pyarrow.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
