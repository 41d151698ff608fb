"""The attempts that Tune has out: which number each has, why it ended, and when it is to end."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.tune.experiment import Trial

from orchestrator.space import LimitsSection
from orchestrator.studies import StudyBroker
from orchestrator.tuning.control import Unsaved
from orchestrator.work import Failure, Work

_log = logging.getLogger("sft_sweep")

WORK = "work"
"""Key of a Tune trial's config; holds the JSON text of a `Work`."""

MAX_RETRIES = 2
"""Further attempts of work whose process or node was lost."""

ASK_S = 5.0
"""Shortest time between two questions to the keeper, in seconds."""

MOST_LINES = 8
"""Of what Ray says about a process that was lost, in the log; its end says why."""

_HOST_OOM = "running low on memory"  # of the message of ray.exceptions.OutOfMemoryError

_ANNOUNCED = ("node was preempted:", "node was terminated expectedly:")
"""Of the messages about nodes that were taken away on purpose; see gcs_actor_manager.cc of Ray."""


def work_of(trial: Trial) -> Work:
    """The work that a Tune trial carries."""
    return Work.from_text(trial.config[WORK])


@dataclass
class _Out:
    """A Tune trial that is out, and since when its process has had it."""

    trial: Trial
    since: float
    reason: Failure | None = None


class Attempts(Unsaved):
    """Follows every piece of work through its attempts.

    What can heal is tried again by Tune, `MAX_RETRIES` times: a lost process or node, a host out
    of memory, a process that hangs. What cannot, comes back as an event of the work.

    Args:
        broker: counts the attempts.
        keeper: handle of the actor that hears signs of life; None where there is none.
        limits: how long work may take, and be silent.
    """

    def __init__(self, broker: StudyBroker, keeper: Any, limits: LimitsSection) -> None:
        self._broker = broker
        self._keeper = keeper
        self._most_s = limits.trial_minutes and limits.trial_minutes * 60
        self._most_silent_s = limits.silent_minutes * 60
        self._out: dict[str, _Out] = {}
        self._answer: ray.ObjectRef | None = None
        self._next_question = 0.0

    def add(self, trial: Trial) -> None:
        """Tune has a trial to run: new, or again after its process was lost."""
        work_id = work_of(trial).work_id
        before = self._out.get(work_id)
        if before is not None:
            reason = before.reason or Failure.WORKER_LOST
            again = self._broker.begin_again(work_id, reason=reason)
            if again is not None:
                trial.config[WORK] = again.to_text()
        self._out[work_id] = _Out(trial, since=time.monotonic())

    def begin(self, trial: Trial) -> None:
        """The process of a trial has taken it up."""
        out = self._out.get(work_of(trial).work_id)
        if out is not None:
            out.since = time.monotonic()

    def fail(self, trial: Trial) -> None:
        """The process of a trial was lost; with a node that had to go, it costs no retry."""
        work_id = work_of(trial).work_id
        out = self._out.get(work_id)
        if out is not None and out.reason is None:
            told = _newest_error(trial)
            out.reason = Failure.HOST_OOM if _HOST_OOM in told else Failure.WORKER_LOST
            lines = told.strip().splitlines()[-MOST_LINES:]
            _log.warning("%s: its process was lost:\n  %s", work_id, "\n  ".join(lines))
            if any(words in told for words in _ANNOUNCED):
                trial.max_failures += 1

    def take_back(self, work_id: str) -> bool:
        """Let the broker have work again that Tune gives up too early; whether it does.

        A process that dies between two pieces of work fails the second one twice: for itself, and
        for the call that was to bring it the work. The first time Tune tries again, the second time
        it takes the failure for the last, as no process has the work by then.
        """
        out = self._out.get(work_id)
        if out is None or not out.trial.should_recover():
            return False
        if work_of(out.trial).attempt > MAX_RETRIES:
            return False
        del self._out[work_id]
        self._broker.take_back(work_id)
        return True

    def end(self, work_id: str) -> Failure:
        """Work is settled; why its last process was lost, if it was."""
        out = self._out.pop(work_id, None)
        if self._keeper is not None:
            self._keeper.remove.remote(work_id)
        return (out and out.reason) or Failure.WORKER_LOST

    def enforce(self) -> None:
        """End the processes of work that takes too long, or has been silent for too long."""
        now = time.monotonic()
        silence = self._ask_for_silence(now)
        for work_id, out in self._out.items():
            if out.reason is not None:
                continue
            if out.trial.temporary_state.ray_actor is None:
                out.since = now  # it still waits for a process
            elif self._most_s is not None and now - out.since > self._most_s:
                out.trial.max_failures = 0  # it would take as long again
                self._kill(out, Failure.TRIAL_TIME_LIMIT)
            elif silence is not None:
                silent_s = min(now - out.since, silence.get(work_id, now - out.since))
                if silent_s > self._most_silent_s:
                    self._kill(out, Failure.HUNG)

    def _ask_for_silence(self, now: float) -> dict[str, float] | None:
        """What the keeper answered to the question before; the driver never waits for it."""
        if self._keeper is None:
            return {}
        answer = None
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            try:
                answer = ray.get(self._answer)
            except ray.exceptions.RayError:  # it is being started again
                answer = None
            self._answer = None
        if self._answer is None and now >= self._next_question:
            self._answer = self._keeper.silence.remote()
            self._next_question = now + ASK_S
        return answer

    def _kill(self, out: _Out, reason: Failure) -> None:
        out.reason = reason
        ray.kill(out.trial.temporary_state.ray_actor)


def _newest_error(trial: Trial) -> str:
    """Why Tune gave up a process, in Ray's words."""
    file = Path(trial.error_file) if trial.error_file else None
    text = file.read_text(errors="replace") if file is not None and file.is_file() else ""
    return text.rpartition("Failure #")[2]
