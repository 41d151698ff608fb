"""Tune's searcher and scheduler; both delegate every decision to the broker.

Only the scheduler records reports, only the searcher settles work. Tune calls the scheduler's
`on_trial_result` for every result but a trial's last, and `on_trial_complete` for the last.
"""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from orchestrator.planning.work import Event, Work
from orchestrator.running.broker.broker import DONE, Broker
from orchestrator.running.ray_tune.attempts import Attempts, work_of
from orchestrator.running.ray_tune.keys import EVENT, WORK
from orchestrator.running.ray_tune.ray_internals import is_being_reset
from orchestrator.running.ray_tune.stopper import NotPickled, SweepStopper


class BrokerSearcher(NotPickled, Searcher):
    """Turns the broker's work into Tune trials, and settles the work when a trial ends."""

    def __init__(self, broker: Broker, attempts: Attempts, stopper: SweepStopper) -> None:
        super().__init__()
        self._broker = broker
        self._attempts = attempts
        self._stopper = stopper
        self._work_ids: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of the next Tune trial, None to wait, or `FINISHED`."""
        if self._stopper.stopping:
            return str(Searcher.FINISHED)  # after None, Tune would wait ten minutes for a trial
        with self._stopper.guard():
            work = self._broker.next_work()
            if work == DONE:
                return str(Searcher.FINISHED)
            if isinstance(work, Work):
                self._work_ids[trial_id] = work.work_id
                return {WORK: work.to_text()}
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle the work of a Tune trial, unless it is requeued; see `Attempts.requeue`."""
        del result  # the scheduler has recorded it
        work_id = self._work_ids.pop(trial_id, None)
        if work_id is not None:
            with self._stopper.guard():
                if error and self._attempts.requeue(work_id):
                    return
                loss = self._attempts.end(work_id)
                self._broker.settle(work_id, loss=loss if error else None)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the only state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the only state."""


class BrokerScheduler(NotPickled, FIFOScheduler):
    """Passes every result to the broker, and stops a trial if the broker prunes it."""

    _supports_buffered_results = False

    def __init__(self, broker: Broker, attempts: Attempts, stopper: SweepStopper) -> None:
        super().__init__()
        self._broker = broker
        self._attempts = attempts
        self._stopper = stopper

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Register a new attempt; Tune adds a trial again after its process was lost."""
        with self._stopper.guard():
            if not self._attempts.add(trial):
                tune_controller.stop_trial(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Record why the process of a trial was lost."""
        reused = is_being_reset(tune_controller, trial)
        with self._stopper.guard():
            self._attempts.fail(trial, reused=reused)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Record a result; return whether to continue or stop the trial."""
        del tune_controller
        return str(self.STOP if self._observe(trial, result) else self.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Record the last result of a trial."""
        del tune_controller
        self._observe(trial, result)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """None, so that Tune's own queue decides.

        FIFO would choose the oldest trial that waits for its process. Tune would then give that
        trial a process that has just become free and kill the trial's own, which is still starting:
        if trials are shorter than the start of a process, most slots would stay empty.
        """
        del tune_controller
        return None

    def _observe(self, trial: Trial, result: dict[str, Any]) -> bool:
        if EVENT in result:
            with self._stopper.guard():
                return self._broker.observe(work_of(trial).work_id, Event.from_text(result[EVENT]))
        return False
