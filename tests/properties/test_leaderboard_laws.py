"""Laws of the leaderboard that hold for every sweep."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.recording.leaderboard import build_leaderboard
from orchestrator.recording.table_schemas import SCHEMAS

STATES = ("complete", "pruned", "failed")
Tables = tuple[pa.Table, pa.Table, pa.Table]


@st.composite
def sweeps(draw: st.DrawFn) -> Tables:
    """Small sweeps full of ties, equal configurations, baselines and partial test scores."""
    objective = draw(st.sampled_from(["accuracy", "balanced_accuracy", "log_loss"]))
    coarse = st.sampled_from([None, 0.25, 0.5, 0.75])
    trials: list[dict[str, Any]] = []
    finals: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for study in draw(st.sets(st.sampled_from(["b2", "b5", "b10"]), min_size=1)):
        for number in range(draw(st.integers(1, 5))):
            method = draw(st.sampled_from(["finetune", "finetune", "probe", "pixels"]))
            key = {"sweep_id": "s", "trial_id": f"{study}-{number:04d}"}
            trials.append(
                key
                | {"study": study, "label_budget": float(study[1:]), "method": method}
                | {"state": draw(st.sampled_from(STATES)), "objective": objective}
                | {"params": draw(st.sampled_from(["{}", '{"lr": 1}'])), "lr": draw(coarse)}
                | {"val_objective": draw(coarse), "val_loss": draw(coarse)}
            )
            for repeat in range(draw(st.integers(0, 2))):
                finals.append(key | {"repeat": repeat})
                predictions += [
                    key
                    | {"repeat": repeat, "image_id": image, "label": "xxxy"["abcd".index(image)]}
                    | {"predicted": draw(st.sampled_from("xy"))}
                    | {"label_probability": draw(st.sampled_from([0.0, 0.25, 1.0]))}
                    for image in draw(st.sets(st.sampled_from("abcd")))
                ]
    rows = {"trials": trials, "finals": finals, "predictions": predictions}
    first, second, third = (
        pa.Table.from_pylist(each, schema=SCHEMAS[name]) for name, each in rows.items()
    )
    return first, second, third


def _shuffled(table: pa.Table, seed: int) -> pa.Table:
    return table.take(np.random.default_rng(seed).permutation(table.num_rows))


@settings(deadline=None)
@given(sweeps(), st.integers(0, 2**32))
def test_leaderboard_ignores_the_order_of_rows(tables: Tables, seed: int) -> None:
    shuffled = [_shuffled(table, seed) for table in tables]
    assert build_leaderboard(*shuffled) == build_leaderboard(*tables)


@settings(deadline=None)
@given(sweeps(), st.sampled_from(["pruned", "failed", "running"]), st.floats(0, 1))
def test_trials_that_did_not_complete_change_nothing(
    tables: Tables, state: str, val_objective: float
) -> None:
    trials, finals, predictions = tables
    others = [
        row
        | {"trial_id": f"{row['study']}-9{index:03d}", "state": state}
        | {"val_objective": val_objective}
        for index, row in enumerate(trials.to_pylist())
    ]
    more = pa.concat_tables([trials, pa.Table.from_pylist(others, schema=SCHEMAS["trials"])])
    assert build_leaderboard(more, finals, predictions) == build_leaderboard(*tables)


@settings(deadline=None)
@given(sweeps())
def test_test_set_has_no_say_in_the_ranks(tables: Tables) -> None:
    trials, finals, predictions = tables
    column = predictions.schema.get_field_index("predicted")
    all_wrong = predictions.set_column(
        column,
        SCHEMAS["predictions"].field(column),
        pa.array(["?"] * predictions.num_rows, pa.string()),
    )
    ranks = [
        [
            (row["study"], row["rank"], row["trial_id"])
            for row in build_leaderboard(trials, finals, each)
        ]
        for each in (predictions, all_wrong)
    ]
    assert ranks[0] == ranks[1]


@settings(deadline=None)
@given(sweeps())
def test_ranks_count_up_from_one_and_intervals_hold_their_means(tables: Tables) -> None:
    rows = build_leaderboard(*tables)
    assert [row["label_budget"] for row in rows] == sorted(row["label_budget"] for row in rows)
    for study in {row["study"] for row in rows}:
        ranks = [row["rank"] for row in rows if row["study"] == study]
        ranked = [rank for rank in ranks if rank is not None]
        assert ranks == [*range(1, len(ranked) + 1), *[None] * (len(ranks) - len(ranked))]
    for row in rows:
        most = math.inf if row["metric"] == "log_loss" else 1
        if row["test_score"] is not None:
            assert 0 <= row["test_accuracy"] <= 1
            assert 0 <= row["test_ci_low"] <= row["test_score"] <= row["test_ci_high"] <= most
        if row["diff_to_best"] is not None:
            assert -most <= row["diff_ci_low"] <= row["diff_to_best"] <= row["diff_ci_high"] <= most
            assert row["tied_with_best"] == (row["diff_ci_low"] <= 0 <= row["diff_ci_high"])
