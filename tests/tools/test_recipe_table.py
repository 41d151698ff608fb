"""`benchmarks.recipes`: what the expert settles on, what a cell takes, what the table shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.expert import RATES, Choice, choose
from benchmarks.recipe_table import Row, rows_of, table
from benchmarks.recipes import TRIALS, pack

CELL: dict[str, Any] = {"network": "net", "dataset": "set", "image_size": 96, "budget": 20}
NUM_TEST = 200


def hits(share: float) -> dict[str, Any]:
    """Test images of which the first share came out right."""
    return pack(np.arange(NUM_TEST) < share * NUM_TEST)


def probe(*shares: float, val: float = 0.7) -> dict[str, Any]:
    correct = [hits(share) for share in shares]
    about = {"recipe": "probe", "draws": len(shares), "val_accuracy": val, "val_loss": 1.0}
    return {**CELL, **about, "correct": correct}


def trial(number: int, val: float, loss: float = 1.0) -> dict[str, Any]:
    about = {"recipe": "current", "trial": number, "val_accuracy": val, "val_loss": loss}
    return {**CELL, **about, "spec": {}}


def refit(number: int, draw: int, share: float) -> dict[str, Any]:
    about = {"recipe": "current", "refit": number, "draw": draw}
    return {**CELL, **about, "correct": [hits(share)]}


def searched(*, best: int, val: float) -> list[dict[str, Any]]:
    return [trial(number, val if number == best else 0.5) for number in range(TRIALS)]


def row_of(*results: dict[str, Any]) -> Row:
    (row,) = rows_of(results)
    return row


def test_the_best_by_validation_is_refitted_and_compared_draw_by_draw() -> None:
    results = [
        probe(0.70),
        probe(0.70, 0.72),
        *searched(best=3, val=0.8),
        *(refit(3, draw, 0.8) for draw in (1, 0)),
        refit(5, 0, 0.1),  # of another search
    ]
    text = table(results)
    assert "| net | set, 96 px | 20 | 2 | 71.0 | 80.0 |" in text
    row = row_of(*results)
    found = row.hits("current")
    assert found is not None
    assert found.mean(axis=1) == pytest.approx([0.8, 0.8])
    assert row.rank_1("current") is not None
    assert "| +9.0 (" in text


def test_a_probe_that_validates_as_well_ranks_first() -> None:
    row = row_of(probe(0.7, val=0.8), *searched(best=0, val=0.8), refit(0, 0, 0.9))
    first = row.rank_1("current")
    assert first is not None
    assert first.mean() == pytest.approx(0.7)


def test_equal_accuracies_go_to_the_lower_log_loss() -> None:
    trials = [trial(number, 0.8, loss=1.0 - 0.01 * number) for number in range(TRIALS)]
    best = row_of(*trials).best("current")
    assert best is not None
    assert best["trial"] == TRIALS - 1


def test_a_search_that_is_not_over_has_no_best_and_draws_with_a_gap_end_there() -> None:
    assert row_of(*searched(best=0, val=0.8)[:-1]).best("current") is None
    row = row_of(*searched(best=0, val=0.8), refit(0, 0, 0.9), refit(0, 2, 0.9))
    found = row.hits("current")
    assert found is not None
    assert len(found) == 1


def test_the_expert_settles_one_setting_after_the_other() -> None:
    tried: list[Choice] = []

    def score(choice: Choice) -> float:
        tried.append(choice)
        return (choice.lr == 1e-3) + (choice.batchnorm == "train") + (choice.start == "probe")

    best = choose(score)
    assert best == Choice(optimizer="adamw", lr=1e-3, batchnorm="train", start="probe")
    assert len(set(tried)) == len(RATES) + 2


def test_accuracies_are_over_the_draws_of_current_and_tell_where_there_are_fewer() -> None:
    experts = [
        {**CELL, "recipe": "expert", "draw": 0, "developing": False, "correct": [hits(0.6)]},
    ]
    ours = [*searched(best=3, val=0.8), *(refit(3, draw, 0.8) for draw in range(2))]
    text = table([probe(0.70, 0.72, 0.1), *ours, *experts])
    assert "| net | set, 96 px | 20 | 2 | 71.0 | 80.0 | 60.0 (1) |" in text
