"""The table of `benchmarks.recipes`: cells, what each recipe reaches, and what it gains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.recipes import TRIALS, best_of, hits_of
from orchestrator.recording.statistics.intervals import Interval, difference_interval
from orchestrator.recording.statistics.outcomes import mean_outcomes

Result = Mapping[str, Any]
Hits = npt.NDArray[np.bool_]

_HEADER = (
    "| network | set | labels a class | draws | probe | {recipes} | expert | rank 1 - probe | "
    "fine-tuned - probe | fine-tuned - expert |"
)


@dataclass(frozen=True)
class Row:
    """One cell of the table.

    Attributes:
        cell: network, set, image size and budget.
        results: of this cell.
    """

    cell: tuple[str, str, int, int]
    results: Sequence[Result]

    def hits(self, recipe: str) -> Hits | None:
        """(draws, test images) of a recipe, the draws from the first on without a gap."""
        if recipe == "probe":
            return None if self.probe is None else hits_of([self.probe])
        if recipe == "expert":
            found = [one for one in self._of("expert") if not one["developing"]]
        else:
            best = self.best(recipe)
            found = [one for one in self._of(recipe) if best and one.get("refit") == best["trial"]]
        by_draw = {one["draw"]: one for one in found}
        draws = next((n for n in range(len(by_draw)) if n not in by_draw), len(by_draw))
        return hits_of([by_draw[draw] for draw in range(draws)]) if draws else None

    def best(self, recipe: str) -> Result | None:
        """The fine-tuned configuration that validates best, once all have been tried."""
        trials = [one for one in self._of(recipe) if one.get("trial") is not None]
        if len(trials) < TRIALS:
            return None
        return best_of(trials)

    @property
    def probe(self) -> Result | None:
        """The linear probe, over the most draws that it was measured on."""
        return max(self._of("probe"), key=lambda one: one["draws"], default=None)

    def rank_1(self, recipe: str) -> Hits | None:
        """Hits of what ranks first by validation: the probe, too, and before on equal accuracy."""
        best = self.best(recipe)
        if best is None or self.probe is None:
            return None
        first = recipe if best["val_accuracy"] > self.probe["val_accuracy"] else "probe"
        return self.hits(first)

    def _of(self, recipe: str) -> list[Result]:
        return [one for one in self.results if one["recipe"] == recipe]


def rows_of(results: Sequence[Result]) -> list[Row]:
    """Results by cell, in the order in which cells were begun."""
    found: dict[tuple[str, str, int, int], list[Result]] = {}
    for one in results:
        cell = one["network"], one["dataset"], one["image_size"], one["budget"]
        found.setdefault(cell, []).append(one)
    return [Row(cell, each) for cell, each in found.items()]


def gain(hits: Hits | None, other: Hits | None) -> Interval | None:
    """Accuracy gained over another recipe in points, over the draws that both have."""
    if hits is None or other is None:
        return None
    draws = min(len(hits), len(other))
    found = difference_interval(mean_outcomes(hits[:draws]), mean_outcomes(other[:draws]))
    return Interval(*(100 * value for value in found))


def table(results: Sequence[Result]) -> str:
    """Cells in Markdown, and the means over those of them where both sides were measured.

    Accuracies are means over the draws of `current`, as far as they were measured; in parentheses
    stands the number of draws where it is smaller.
    """
    recipes = [
        name for name in ("yesterday", "current") if any(r["recipe"] == name for r in results)
    ]
    header = _HEADER.format(recipes=" | ".join(recipes))
    lines = [header, "|" + " --- |" * (header.count("|") - 1)]
    gains: list[list[Interval | None]] = []
    for row in rows_of(results):
        probe, expert, ours = (row.hits(name) for name in ("probe", "expert", "current"))
        compared = [gain(row.rank_1("current"), probe), gain(ours, probe), gain(ours, expert)]
        gains.append(compared)
        network, dataset, size, budget = row.cell
        draws = 0 if ours is None else len(ours)
        accuracies = [
            _accuracy(row.hits(name), draws=draws) for name in ("probe", *recipes, "expert")
        ]
        cells = [network, f"{dataset}, {size} px", str(budget), str(draws), *accuracies]
        lines.append("| " + " | ".join([*cells, *map(_interval, compared)]) + " |")
    means = [_mean([each[column] for each in gains]) for column in range(3)]
    blank = [""] * (header.count("|") - 5)
    lines.append("| " + " | ".join(["mean", *blank, *means]) + " |")
    return "\n".join(lines)


def _accuracy(hits: Hits | None, *, draws: int) -> str:
    if hits is None or not draws:
        return ""
    some = f" ({len(hits)})" if len(hits) < draws else ""
    return f"{100 * hits[:draws].mean():.1f}{some}"


def _interval(found: Interval | None) -> str:
    if found is None:
        return ""
    return f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def _mean(gains: Sequence[Interval | None]) -> str:
    values = [one.mean for one in gains if one is not None]
    return f"{math.fsum(values) / len(values):+.1f}" if values else ""
