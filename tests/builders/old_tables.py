"""Tables as version 0.1.0 wrote them, made from current tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

_OF_TEXTS = ("max_length", "truncate", "prompt", "pooling")
ADDED_SINCE_0_1_0 = {
    "trials": ("image_size", "gain_over_start", "modality", *_OF_TEXTS),
    "finals": ("metric", "test_score"),
    "leaderboard": (
        "image_size",
        "metric",
        "test_score",
        "gain_over_start",
        "head_init",
        "modality",
        *_OF_TEXTS,
    ),
}
"""Columns that tables of 0.1.0 lack."""


def make_old(directory: Path, *names: str) -> None:
    """Remove the columns and the schema version that 0.1.0 did not write from a sweep's tables."""
    for name in names:
        path = directory / f"{name}.parquet"
        table = pq.read_table(path).drop_columns([*ADDED_SINCE_0_1_0.get(name, ())])
        pq.write_table(table.replace_schema_metadata(), path)
