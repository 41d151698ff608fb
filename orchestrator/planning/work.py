"""The pieces of work a sweep consists of, and the events an actor sends back while it does one.

Everything here is plain data that survives JSON: it is what crosses Ray.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

START = 0
"""Number of the report that comes before any update."""


class Kind(StrEnum):
    """What is to be done."""

    TRIAL = "trial"
    FINAL = "final"
    BASELINE = "baseline"


class State(StrEnum):
    """The state of a trial, as tables show it."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class Failure(StrEnum):
    """Why a trial ended early or failed, where there is one word for it.

    Its loss diverged, the time of the sweep or its own was over, its process did not start, was
    lost, did not move or ran the host out of memory (each after further attempts), or the GPU's
    memory did not hold one image of it.
    """

    NONFINITE = "nonfinite"
    TIME_LIMIT = "time_limit"
    TRIAL_TIME_LIMIT = "trial_time_limit"
    NOT_STARTED = "not_started"
    WORKER_LOST = "worker_lost"
    HUNG = "hung"
    HOST_OOM = "host_oom"
    CUDA_OOM = "cuda_oom"


@dataclass(frozen=True, kw_only=True)
class Loss:
    """How work ended that sent no last event.

    Attributes:
        failure: what happened, in one word.
        reason: what Ray said of it last; empty where it said nothing.
    """

    failure: Failure
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.failure}: {self.reason}" if self.reason else self.failure.value


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What a running sweep is busy with, and what sharing frozen computation saved so far.

    Attributes:
        busy: pieces of work that are out.
        slots: that may be out at the same time.
        asked_flops: of all prefix rows that settled work asked for.
        computed_flops: of those that had to be computed.
    """

    busy: int
    slots: int
    asked_flops: float
    computed_flops: float

    @property
    def saved_fraction(self) -> float | None:
        """Share of the prefix work that was saved; None where none was asked for."""
        return 1 - self.computed_flops / self.asked_flops if self.asked_flops else None


@dataclass(frozen=True, kw_only=True)
class Work:
    """One piece of work for one actor.

    Attributes:
        kind: what is to be done.
        study: the label budget's study.
        trial_id: the trial it belongs to; a baseline has one of its own.
        repeat: which draw of labels; 0 but for finals.
        task: JSON values that say what to compute: a TrialSpec, or a baseline's settings.
        attempt: which execution this is, from 0.
    """

    kind: Kind
    study: str
    trial_id: str
    task: dict[str, Any]
    repeat: int = 0
    attempt: int = 0

    @property
    def work_id(self) -> str:
        """Unique within a sweep, and the same after a resume."""
        return f"{self.trial_id}/{self.repeat}" if self.kind is Kind.FINAL else self.trial_id

    def to_text(self) -> str:
        """JSON that `from_text` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Work:
        """The work written by `to_text`."""
        data = json.loads(text)
        return cls(**{**data, "kind": Kind(data["kind"])})


@dataclass(frozen=True, kw_only=True)
class Event:
    """What an actor says after each step of its work.

    Attributes:
        run: host, device, times and memory so far; see `orchestrator.running.worker.worker`.
        report: a report of the trial, or None.
        facts: what was resolved at set-up; with the first event of a trial only.
        result: what a final or a baseline came to; with its last event only.
        failure: None, a word of `Failure`, or the error's class and message.
        done: whether this is the last event.
    """

    run: dict[str, Any]
    report: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    failure: str | None = None
    done: bool = False

    def to_text(self) -> str:
        """JSON that `from_text` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Event:
        """The event written by `to_text`."""
        return cls(**json.loads(text))
