"""Work that the driver sends to actors, and the events that actors send back.

Everything here is plain data that survives a round trip through JSON, because it crosses Ray.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

START = 0
"""Number of the report before the first update."""


class Kind(StrEnum):
    """The kind of a piece of work."""

    TRIAL = "trial"
    FINAL = "final"
    BASELINE = "baseline"


class State(StrEnum):
    """The state of a trial in the tables."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class Failure(StrEnum):
    """Known reasons why a trial ended early or failed.

    `NONFINITE`: the loss diverged. `TIME_LIMIT`, `TRIAL_TIME_LIMIT`: the time limit of the sweep or
    of the trial was reached. `NOT_STARTED`, `WORKER_LOST`, `HUNG`, `HOST_OOM`: the process did not
    start, was lost, sent no heartbeat, or was killed for lack of host memory, in every attempt.
    `CUDA_OOM`: the GPU's memory does not suffice for one image.
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
    """The loss of a process whose work sent no last event.

    Attributes:
        failure: kind of the loss.
        reason: last line of Ray's error message; empty if there is none.
    """

    failure: Failure
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.failure}: {self.reason}" if self.reason else self.failure.value


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Running work of a sweep, and the prefix computation that the feature cache has saved.

    Attributes:
        busy: pieces of work that are running.
        slots: pieces of work that may run at the same time.
        asked_flops: FLOPs of all prefix rows that settled work requested.
        computed_flops: FLOPs of those that were computed rather than read from the cache.
    """

    busy: int
    slots: int
    asked_flops: float
    computed_flops: float

    @property
    def saved_fraction(self) -> float | None:
        """Fraction of the prefix FLOPs saved, in 0..1; None if none were requested."""
        return 1 - self.computed_flops / self.asked_flops if self.asked_flops else None


@dataclass(frozen=True, kw_only=True)
class Work:
    """One piece of work for one actor.

    Attributes:
        kind: kind of the work.
        study: name of the label budget's study.
        trial_id: id of its trial; a baseline has an id of its own.
        repeat: number of the label draw; 0 except for finals.
        task: JSON values that define the computation: a TrialSpec, or a baseline's settings.
        attempt: number of this execution, from 0.
    """

    kind: Kind
    study: str
    trial_id: str
    task: dict[str, Any]
    repeat: int = 0
    attempt: int = 0

    @property
    def work_id(self) -> str:
        """Id that is unique within the sweep and stable across a resume."""
        return f"{self.trial_id}/{self.repeat}" if self.kind is Kind.FINAL else self.trial_id

    def to_text(self) -> str:
        """JSON text for `from_text`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Work:
        """The work that `to_text` wrote."""
        data = json.loads(text)
        return cls(**{**data, "kind": Kind(data["kind"])})


@dataclass(frozen=True, kw_only=True)
class Event:
    """A message of an actor about its work.

    Attributes:
        run: host, device, times and memory so far; see `orchestrator.running.worker.worker`.
        report: a report of the trial, or None.
        facts: settings resolved at set-up; only in the first event of a trial.
        result: result of a final or a baseline; only in its last event.
        failure: None, a value of `Failure`, or the class and message of the error.
        done: whether this is the last event.
    """

    run: dict[str, Any]
    report: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    failure: str | None = None
    done: bool = False

    def to_text(self) -> str:
        """JSON text for `from_text`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Event:
        """The event that `to_text` wrote."""
        return cls(**json.loads(text))
