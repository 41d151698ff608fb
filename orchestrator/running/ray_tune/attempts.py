"""The running attempts: their numbers, losses, retries and time limits."""

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
from orchestrator.throttle import Throttled

_log = logging.getLogger("sft_sweep")

MAX_RETRIES = 2
"""Most retries of work whose process or node was lost."""

QUERY_S = 5.0
"""Shortest time between two queries of the checkpoint actor, in seconds."""

MOST_LINES = 8
"""Lines of Ray's error message in the log; its last lines state the reason."""

FIRST_LOSSES = 2
"""Losses before any process starts work that end the sweep; one alone may be a coincidence."""

_HOST_OOM = "running low on memory"  # part of the message of ray.exceptions.OutOfMemoryError

_IMPORT_FAILED = ("failed to import on the worker", "\nImportError: ", "\nModuleNotFoundError: ")
"""Parts of messages about processes that cannot import a module, or import a wrong one."""

_PLANNED_REMOVAL = ("node was preempted:", "node was terminated expectedly:")
"""Parts of messages about nodes removed on purpose; see Ray's gcs_actor_manager.cc."""


def work_of(trial: Trial) -> Work:
    """The work in the config of a Tune trial."""
    return Work.from_text(trial.config[WORK])


class NotStartedError(StorageError):
    """No worker process can start, so the sweep cannot make progress."""


@dataclass
class _Attempt:
    """A running attempt.

    Attributes:
        trial: its Tune trial.
        since: when its process got the work, in seconds of `time.monotonic`; until it has one, the
            time of the last check.
        begun: whether a process has started the work.
        loss: the loss of its process, or None.
        hopeless: whether a retry would fail likewise.
    """

    trial: Trial
    since: float
    begun: bool = False
    loss: Loss | None = None
    hopeless: bool = False


class Attempts(NotPickled):
    """Tracks the attempts of every piece of work.

    Tune retries transient losses up to `MAX_RETRIES` times: a lost process or node, a host out of
    memory, a process that hangs. Permanent failures are not retried: those in an event of the work,
    and processes that cannot import a module.

    Args:
        broker: numbers the attempts and records losses.
        checkpoint_actor: handle of the actor that receives heartbeats; None for no hang detection.
        limits: time limits of a trial and of its silence.
        print_message: prints a line for the user at once.
    """

    def __init__(
        self,
        broker: Broker,
        checkpoint_actor: Any,
        limits: LimitsSection,
        print_message: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._broker = broker
        self._checkpoint_actor = checkpoint_actor
        self._print_message = print_message
        self._printed_failures: set[Failure] = set()
        self._any_started = False
        self._num_not_started = 0
        self._limit_s = limits.trial_minutes and limits.trial_minutes * 60
        self._silence_limit_s = limits.silent_minutes * 60
        self._running: dict[str, _Attempt] = {}
        self._silence_ref: ray.ObjectRef | None = None
        self._query = Throttled(self._send_query, every_s=QUERY_S, at_once=True)

    def add(self, trial: Trial) -> bool:
        """Register a Tune trial that is new, or that Tune retries after its process was lost.

        Returns:
            Whether the trial may run. If its last loss is permanent, its work is settled instead.
        """
        work_id = work_of(trial).work_id
        previous = self._running.get(work_id)
        if previous is not None and previous.hopeless:
            self._broker.settle(work_id, loss=self.end(work_id))
            return False
        if previous is not None:
            loss = previous.loss or Loss(failure=Failure.WORKER_LOST)
            retried = self._broker.retry(work_id, reason=str(loss))
            if retried is not None:
                trial.config[WORK] = retried.to_text()
        self._running[work_id] = _Attempt(trial, since=time.monotonic())
        return True

    def begin(self, trial: Trial) -> None:
        """Note that a process has started the work of a trial."""
        self._any_started = True
        attempt = self._running.get(work_of(trial).work_id)
        if attempt is not None:
            attempt.since, attempt.begun = time.monotonic(), True

    def fail(self, trial: Trial, *, reused: bool = False) -> None:
        """Record that the process of a trial was lost.

        The loss of a node that was removed on purpose does not count as a retry.

        Args:
            trial: the Tune trial.
            reused: whether the process had done other work before.

        Raises:
            NotStartedError: no process has started work yet, and this one could not import a
                module, or as many failed to start as attempts are running.
        """
        work_id = work_of(trial).work_id
        attempt = self._running.get(work_id)
        if attempt is None or attempt.loss is not None:
            return
        message = _newest_error(trial)
        lines = message.strip().splitlines()[-MOST_LINES:]
        started = attempt.begun or reused
        loss = Loss(failure=_failure(message, started=started), reason=last_line(message))
        self._lose(attempt, loss)
        _log.warning("%s: %s:\n  %s", work_id, loss.failure, "\n  ".join(lines))
        if any(words in message for words in _PLANNED_REMOVAL):
            trial.max_failures += 1
        elif loss.failure not in self._printed_failures:
            self._printed_failures.add(loss.failure)
            self._print_message(f"{work_id}: {loss}")
        if loss.failure is Failure.NOT_STARTED:
            hopeless = any(words in message for words in _IMPORT_FAILED)
            self._note_not_started(loss, hopeless=hopeless)
            attempt.hopeless = hopeless  # not set if that raises: a resume retries the work

    def _note_not_started(self, loss: Loss, *, hopeless: bool) -> None:
        self._num_not_started += 1
        most = 1 if hopeless else max(FIRST_LOSSES, len(self._running))
        if not self._any_started and self._num_not_started >= most:
            raise NotStartedError(
                f"no process for trials has started ({self._num_not_started} tried): "
                f"{loss.reason}\nProcesses cannot reach this machine, or lack a package. Find out "
                "which with: sft-sweep doctor (for a cluster: sft-sweep doctor --address ADDRESS)"
            )

    def requeue(self, work_id: str) -> bool:
        """Return work to the broker if Tune gave it up too early; return whether it did.

        A process that dies between two pieces of work fails the second one twice: once for its
        death, and once for the call that was to give it the work. Tune retries after the first
        failure, but takes the second for final, because no process has the work by then.
        """
        attempt = self._running.get(work_id)
        if attempt is None or attempt.hopeless or not attempt.trial.should_recover():
            return False
        if work_of(attempt.trial).attempt > MAX_RETRIES:
            return False
        del self._running[work_id]
        self._broker.requeue(work_id)
        return True

    def end(self, work_id: str) -> Loss:
        """Forget settled work and its checkpoint; return the loss of its last process.

        Without a recorded loss it is `WORKER_LOST`.
        """
        attempt = self._running.pop(work_id, None)
        if self._checkpoint_actor is not None:
            self._checkpoint_actor.remove.remote(work_id)
        return (attempt and attempt.loss) or Loss(failure=Failure.WORKER_LOST)

    def enforce(self) -> None:
        """Kill processes whose work exceeds the time limit of a trial or the limit of silence."""
        now = time.monotonic()
        silence = self._query_silence()
        for work_id, attempt in self._running.items():
            if attempt.loss is not None:
                continue
            if attempt.trial.temporary_state.ray_actor is None:
                attempt.since = now  # it waits for a process; that time does not count
            elif self._limit_s is not None and now - attempt.since > self._limit_s:
                attempt.trial.max_failures = 0  # a retry would take as long
                self._kill(attempt, Failure.TRIAL_TIME_LIMIT)
            elif silence is not None:
                silent_s = min(now - attempt.since, silence.get(work_id, now - attempt.since))
                if silent_s > self._silence_limit_s:
                    self._kill(attempt, Failure.HUNG)

    def _query_silence(self) -> dict[str, float] | None:
        """Seconds of silence by work id, from the previous query; None if no answer has arrived.

        The driver never waits for the checkpoint actor: each call reads the answer to the previous
        query, if it has arrived, and sends the next one. Empty without a checkpoint actor.
        """
        if self._checkpoint_actor is None:
            return {}
        answer = None
        if self._silence_ref is not None and ray.wait([self._silence_ref], timeout=0)[0]:
            try:
                answer = ray.get(self._silence_ref)
            except ray.exceptions.RayError:  # the actor is restarting
                answer = None
            self._silence_ref = None
        if self._silence_ref is None:
            self._query()
        return answer

    def _send_query(self) -> None:
        self._silence_ref = self._checkpoint_actor.silence.remote()

    def _lose(self, attempt: _Attempt, loss: Loss) -> None:
        attempt.loss = loss
        self._broker.note_loss(work_of(attempt.trial).work_id, loss)

    def _kill(self, attempt: _Attempt, failure: Failure) -> None:
        self._lose(attempt, Loss(failure=failure))
        ray.kill(attempt.trial.temporary_state.ray_actor)


def _failure(message: str, *, started: bool) -> Failure:
    """The kind of a loss, from Ray's error message.

    Args:
        message: the message.
        started: whether the process had started.
    """
    if _HOST_OOM in message:
        return Failure.HOST_OOM
    return Failure.WORKER_LOST if started else Failure.NOT_STARTED


def _newest_error(trial: Trial) -> str:
    """Ray's message about the newest failure of a trial; empty without one."""
    file = Path(trial.error_file) if trial.error_file else None
    text = file.read_text(errors="replace") if file is not None and file.is_file() else ""
    return text.rpartition("Failure #")[2]
