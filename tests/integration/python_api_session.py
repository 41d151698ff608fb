"""A session of the Python API in a process of its own, as in a notebook; prints what it saw.

The sweep of `examples/photo_folder.py` is launched in the main thread and interrupted, and then
finished in another thread. What belongs to the process is compared before and after each.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

import orchestrator
from examples.photo_folder import sweep, write_digits
from orchestrator.signals import ENDING

TINY = {
    "search.label_budget": [2, 4],
    "search.freeze_depth": [0.5, 1],
    "training": {"steps": 4, "reports": 2},
    "trials": 2,
    "finalists": {"count": 1, "repeats": 2},
    "resources.max_concurrent": 1,
}


def state() -> dict[str, Any]:
    """What belongs to this process and not to a sweep."""
    return {
        "handlers": [repr(signal.getsignal(number)) for number in (*ENDING, signal.SIGUSR1)],
        "environment": dict(os.environ),
        "streams": [repr(sys.stdout), repr(sys.stderr), os.fstat(1).st_ino],
        "excepthook": repr(sys.excepthook),
        "torch": [torch.get_num_threads(), torch.is_grad_enabled(), torch.initial_seed()],
        "folder": str(Path.cwd()),
    }


def interrupt_once_started(runs: Path) -> None:
    """Send what a notebook's stop button sends, once the first actor is being started."""
    while True:
        with contextlib.suppress(FileNotFoundError, StopIteration):
            if "started:" in next(runs.glob("*/sweep.log")).read_text():
                break
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


def seen(act: Callable[[], orchestrator.SweepResult]) -> dict[str, Any]:
    """What a launch or resume came to, and what of this process it left changed."""
    before = state()
    result = act()
    after = state()
    return {
        "run": str(result.run.path),
        "interrupted": result.interrupted,
        "signal": result.signal,
        "failures": result.failures,
        "answer": list(result.answer),
        "report": result.report is not None and result.report.is_file(),
        "trials": result.run.trials.num_rows,
        "changed": [name for name in before if before[name] != after[name]],
    }


def main(folder: Path) -> None:
    """Launch, be interrupted, resume in another thread; print JSON on stdout."""
    photos, runs = folder / "photos", folder / "runs"
    write_digits(photos, count=300)
    threading.Thread(target=interrupt_once_started, args=[runs], daemon=True).start()
    launched = seen(lambda: sweep(photos, out=runs, overrides=TINY))
    with ThreadPoolExecutor(1) as pool:
        resumed = pool.submit(seen, lambda: orchestrator.resume(launched["run"])).result()
    print(json.dumps({"launched": launched, "resumed": resumed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
