"""The attempts that Tune has out: which number each has, why it ended, and when it is to end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.tune.experiment import Trial

from orchestrator.errors import StorageError
from orchestrator.planning.work import Failure, Loss, Work
from orchestrator.running.broker.broker import Broker
from orchestrator.running.ray_tune.keys import WORK
from orchestrator.running.ray_tune.stopper import NotPickled
from orchestrator.space import LimitsSection
from orchestrator.text import last_line

_log = logging.getLogger("sft_sweep")

MAX_RETRIES = 2
"""Further attempts of work whose process or node was lost."""

ASK_S = 5.0
"""Shortest time between two questions to the keeper, in seconds."""

MOST_LINES = 8
"""Of what Ray says about a process that was lost, in the log; its end says why."""

FIRST_LOSSES = 2
"""Losses, before any process took up work, that end a sweep: with fewer it may be bad luck."""

_HOST_OOM = "running low on memory"  # of the message of ray.exceptions.OutOfMemoryError

_IMPORT_FAILED = ("failed to import on the worker", "\nImportError: ", "\nModuleNotFoundError: ")
"""In messages about processes that lack what they import, or find something else in its place."""

_ANNOUNCED = ("node was preempted:", "node was terminated expectedly:")
"""Of the messages about nodes that were taken away on purpose; see gcs_actor_manager.cc of Ray."""


def work_of(trial: Trial) -> Work:
    """The work that a Tune trial carries."""
    return Work.from_text(trial.config[WORK])


class NotStartedError(StorageError):
    """Not one process for trials starts; there is no use in going on."""


@dataclass
class _Out:
    """A Tune trial that is out, since when its process has had it, and how that was lost."""

    trial: Trial
    since: float
    begun: bool = False
    loss: Loss | None = None
    hopeless: bool = False


class Attempts(NotPickled):
    """Follows every piece of work through its attempts.

    What can heal is tried again by Tune, `MAX_RETRIES` times: a lost process or node, a host out
    of memory, a process that hangs. What cannot, comes back as an event of the work, or as the
    loss of a process that could not import what it needs.

    Args:
        broker: counts the attempts.
        checkpoint_actor: handle of the actor that hears signs of life; None where there is none.
        limits: how long work may take, and be silent.
        tell: shows a line to the user at once.
    """

    def __init__(
        self,
        broker: Broker,
        checkpoint_actor: Any,
        limits: LimitsSection,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._broker = broker
        self._checkpoint_actor = checkpoint_actor
        self._tell = tell
        self._told: set[Failure] = set()
        self._any_begun = False
        self._num_not_started = 0
        self._most_s = limits.trial_minutes and limits.trial_minutes * 60
        self._most_silent_s = limits.silent_minutes * 60
        self._out: dict[str, _Out] = {}
        self._answer: ray.ObjectRef | None = None
        self._next_question = 0.0

    def add(self, trial: Trial) -> bool:
        """Tune has a trial to run: new, or again after its process was lost.

        Returns:
            Whether there is hope for it; without any, its work is settled with the loss.
        """
        work_id = work_of(trial).work_id
        before = self._out.get(work_id)
        if before is not None and before.hopeless:
            self._broker.settle(work_id, loss=self.end(work_id))
            return False
        if before is not None:
            loss = before.loss or Loss(failure=Failure.WORKER_LOST)
            again = self._broker.retry(work_id, reason=str(loss))
            if again is not None:
                trial.config[WORK] = again.to_text()
        self._out[work_id] = _Out(trial, since=time.monotonic())
        return True

    def begin(self, trial: Trial) -> None:
        """The process of a trial has taken it up."""
        self._any_begun = True
        out = self._out.get(work_of(trial).work_id)
        if out is not None:
            out.since, out.begun = time.monotonic(), True

    def fail(self, trial: Trial, *, reused: bool = False) -> None:
        """The process of a trial was lost; with a node that had to go, it costs no retry.

        Args:
            trial: of Tune.
            reused: whether the process had done other work before.

        Raises:
            NotStartedError: no process has started yet, and this one could not import what it
                needs, or as many failed to start as there is work out.
        """
        work_id = work_of(trial).work_id
        out = self._out.get(work_id)
        if out is None or out.loss is not None:
            return
        told = _newest_error(trial)
        lines = told.strip().splitlines()[-MOST_LINES:]
        started = out.begun or reused
        loss = Loss(failure=_failure(told, started=started), reason=last_line(told))
        self._lose(out, loss)
        _log.warning("%s: %s:\n  %s", work_id, loss.failure, "\n  ".join(lines))
        if any(words in told for words in _ANNOUNCED):
            trial.max_failures += 1
        elif loss.failure not in self._told:
            self._told.add(loss.failure)
            self._tell(f"{work_id}: {loss}")
        if loss.failure is Failure.NOT_STARTED:
            hopeless = any(words in told for words in _IMPORT_FAILED)
            self._note_not_started(loss, hopeless=hopeless)
            out.hopeless = hopeless  # where that ends the sweep, its work is left to a resume

    def _note_not_started(self, loss: Loss, *, hopeless: bool) -> None:
        self._num_not_started += 1
        most = 1 if hopeless else max(FIRST_LOSSES, len(self._out))
        if not self._any_begun and self._num_not_started >= most:
            raise NotStartedError(
                f"no process for trials has started ({self._num_not_started} tried): "
                f"{loss.reason}\nThey cannot reach this program, or lack something that it needs; "
                "sft-sweep doctor says which, for a cluster with --address"
            )

    def requeue(self, work_id: str) -> bool:
        """Let the broker have work again that Tune gives up too early; whether it does.

        A process that dies between two pieces of work fails the second one twice: for itself, and
        for the call that was to bring it the work. The first time Tune tries again, the second time
        it takes the failure for the last, as no process has the work by then.
        """
        out = self._out.get(work_id)
        if out is None or out.hopeless or not out.trial.should_recover():
            return False
        if work_of(out.trial).attempt > MAX_RETRIES:
            return False
        del self._out[work_id]
        self._broker.requeue(work_id)
        return True

    def end(self, work_id: str) -> Loss:
        """Work is settled; how its last process was lost, if it was."""
        out = self._out.pop(work_id, None)
        if self._checkpoint_actor is not None:
            self._checkpoint_actor.remove.remote(work_id)
        return (out and out.loss) or Loss(failure=Failure.WORKER_LOST)

    def enforce(self) -> None:
        """End the processes of work that takes too long, or has been silent for too long."""
        now = time.monotonic()
        silence = self._ask_for_silence(now)
        for work_id, out in self._out.items():
            if out.loss is not None:
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
        """The answer to the previous question; the driver never waits for it."""
        if self._checkpoint_actor is None:
            return {}
        answer = None
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            try:
                answer = ray.get(self._answer)
            except ray.exceptions.RayError:  # it is being started again
                answer = None
            self._answer = None
        if self._answer is None and now >= self._next_question:
            self._answer = self._checkpoint_actor.silence.remote()
            self._next_question = now + ASK_S
        return answer

    def _lose(self, out: _Out, loss: Loss) -> None:
        out.loss = loss
        self._broker.note_loss(work_of(out.trial).work_id, loss)

    def _kill(self, out: _Out, failure: Failure) -> None:
        self._lose(out, Loss(failure=failure))
        ray.kill(out.trial.temporary_state.ray_actor)


def _failure(told: str, *, started: bool) -> Failure:
    """The word for the loss of a process of which Ray said this."""
    if _HOST_OOM in told:
        return Failure.HOST_OOM
    return Failure.WORKER_LOST if started else Failure.NOT_STARTED


def _newest_error(trial: Trial) -> str:
    """Why Tune gave up a process, in Ray's words."""
    file = Path(trial.error_file) if trial.error_file else None
    text = file.read_text(errors="replace") if file is not None and file.is_file() else ""
    return text.rpartition("Failure #")[2]
