"""What each label budget came to, and the smallest one that is as good as the largest.

    python examples/compare_budgets.py [RUN]

RUN is a sweep directory or its URL; left out, the newest in `runs/`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orchestrator


def main(path: str | Path | None = None) -> None:
    """Print the best of each budget with its 95 % interval on the test set."""
    board = orchestrator.load_run(path).leaderboard.to_pylist()
    best = [row for row in board if row["rank"] == 1 and row["test_score"] is not None]
    if not best:
        print("no finalist has been scored yet")
        return
    best.sort(key=lambda row: row["label_budget"])
    for row in best:
        print(
            f"{row['label_budget']:6g} labels per class: {row['metric']} {row['test_score']:.3f} "
            f"({row['test_ci_low']:.3f} to {row['test_ci_high']:.3f}), {described(row)}"
        )
    largest = best[-1]
    enough = next(row for row in best if reaches(row, largest))
    print(
        f"The interval at {enough['label_budget']:g} labels per class reaches the score at "
        f"{largest['label_budget']:g}"
    )


def described(row: dict[str, Any]) -> str:
    """The configuration of a row of the leaderboard."""
    if row["method"] == "finetune":
        return f"{row['backbone']}, freeze depth {row['freeze_depth']:g}, lr {row['lr']:.2g}"
    return f"{row['method']} on {row['backbone']}"


def reaches(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the other's score lies in the row's interval or below it, as more is better."""
    if row["metric"] == "log_loss":  # less is better
        return bool(row["test_ci_low"] <= other["test_score"])
    return bool(row["test_ci_high"] >= other["test_score"])


if __name__ == "__main__":
    main(*sys.argv[1:2])
