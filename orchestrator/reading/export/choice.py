"""Choice of the configuration of a sweep to export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.planning.work import State
from orchestrator.reading.loading import load_run
from orchestrator.recording.leaderboard import recommended_rows
from orchestrator.recording.sweep_directory import Run
from orchestrator.text import WITHOUT_BACKBONE_TEXT, configuration

Row = Mapping[str, Any]

_MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A configuration whose trial or probe is complete.

    Attributes:
        trial: its row of the table of trials.
        board: its row of the leaderboard; None if the row is that of an equal configuration.
        finals: its rows of the table of finals, by repeat.
        reason: why it was chosen, as a clause for the card.
    """

    trial: Row
    board: Row | None
    finals: Sequence[Row]
    reason: str

    @property
    def text(self) -> str:
        """A short description."""
        return f"{self.trial_id}: {configuration(self.trial)}"

    @property
    def trial_id(self) -> str:
        """The id in the tables."""
        return str(self.trial["trial_id"])


def choose(run: Run, *, trial_id: str | None, budget: str | None) -> Choice:
    """Return the trial named, or the best of a budget, or the best of the largest budget.

    The best is the one that the sweep's answer recommends; see `recommended_rows` of
    `orchestrator.recording.leaderboard`.

    Args:
        run: the sweep.
        trial_id: id in the tables, or None.
        budget: labels per class, or the name of a study, such as `all`; or None.

    Raises:
        UsageError: there is none; the message lists what there is.
    """
    if trial_id is not None and budget is not None:
        raise UsageError("--trial and --budget: give one of them at most")
    loaded = load_run(run.path)
    trials = {row["trial_id"]: row for row in loaded.trials.to_pylist()}
    board = loaded.leaderboard.to_pylist()
    if trial_id is not None:
        trial, reason = _named(trial_id, trials, run), "it was asked for by its id"
    else:
        pick = _best(board, budget, run)
        trial = trials[pick["trial_id"]]
        reason = (
            "by validation it is the best of its label budget"
            if pick["rank"] == 1
            else f"rank {pick['rank']} of its label budget by validation, the first with a test "
            "score"
        )
    finals = loaded.finals.to_pylist()
    return Choice(
        trial=trial,
        board=next((row for row in board if row["trial_id"] == trial["trial_id"]), None),
        finals=sorted(
            (row for row in finals if row["trial_id"] == trial["trial_id"]),
            key=lambda row: int(row["repeat"]),
        ),
        reason=reason,
    )


def _named(trial_id: str, trials: Mapping[str, Row], run: Run) -> Row:
    allowed = [name for name, row in trials.items() if _is_exportable(row)]
    trial = trials.get(trial_id)
    if trial is not None and _is_exportable(trial):
        return trial
    if trial is None:
        problem = "no such trial, or one that has not settled"
    elif trial["method"] in WITHOUT_BACKBONE_TEXT:
        problem = f"{WITHOUT_BACKBONE_TEXT[trial['method']]} are classified without a network"
    elif trial["state"] == State.PRUNED:
        why = f" ({trial['failure']})" if trial["failure"] else ""
        problem = f"it was pruned{why}, so that nothing is known of it at its last step"
    else:
        problem = f"it failed: {trial['failure'] or 'no reason recorded'}"
    raise UsageError(f"--trial {trial_id}: {problem}; {_listed(allowed, run)}")


def _best(board: Sequence[Row], budget: str | None, run: Run) -> Row:
    chosen = recommended_rows(board)
    if not chosen:
        raise UsageError(
            f"{run.path}: no trial has completed, so there is nothing to export; see: sft-sweep "
            f"status {run.path}"
        )
    if budget is None:
        return chosen[-1]
    for row in chosen:
        if budget == row["study"] or _as_number(budget) == row["label_budget"]:
            return row
    known = ", ".join(
        f"{row['label_budget']:g}" + ("" if row["study"][:1] == "b" else f" ({row['study']})")
        for row in chosen
    )
    raise UsageError(f"--budget {budget}: not in this sweep; allowed: {known}")


def _is_exportable(trial: Row) -> bool:
    complete: bool = trial["state"] == State.COMPLETE
    return complete and trial["method"] not in WITHOUT_BACKBONE_TEXT


def _listed(allowed: Sequence[str], run: Run) -> str:
    if not allowed:
        return f"no trial has completed; see: sft-sweep status {run.path}"
    more = f" and {len(allowed) - _MOST_NAMED} more" if len(allowed) > _MOST_NAMED else ""
    return (
        f"allowed: {', '.join(allowed[:_MOST_NAMED])}{more}; see: sft-sweep leaderboard "
        f"{run.path} --top {max(1, len(allowed))}"
    )


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
