"""Look into a sweep, finished or running, with pandas and with SQL (DuckDB).

    python examples/read_run.py [RUN]

RUN is a sweep directory or its URL; left out, the newest in `runs/`. pandas is needed beside
sft-sweep itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

import orchestrator


def main(path: str | Path | None = None) -> None:
    """Print how trials ended, how backbones compare, and which classes are confused."""
    run = orchestrator.load_run(path)
    print(f"{run.sweep_id}, with sft-sweep {run.manifest['tool_version']}")

    trials = run.to_pandas("trials")
    print("\nHow trials ended:")
    print(trials.groupby(["study", "method", "state"]).size().to_string())

    tuned = trials[(trials["method"] == "finetune") & (trials["state"] == "complete")]
    scores = tuned.groupby(["study", "backbone"])["val_objective"].agg(["count", "mean", "max"])
    print("\nFine-tuned, by validation:")
    print(scores.round(3).to_string())

    predictions = run.predictions  # DuckDB finds an Arrow table by the name of its variable
    confused = duckdb.sql(
        "select label, predicted, count(*) as times, "
        "round(avg(probability), 2) as mean_probability "
        "from predictions where label <> predicted "
        "group by all order by times desc, label, predicted limit 5"
    )
    print(f"\nMost confused among {predictions.num_rows} predictions on test images:")
    print(confused)


if __name__ == "__main__":
    main(*sys.argv[1:2])
