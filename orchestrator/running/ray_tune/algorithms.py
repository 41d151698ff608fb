"""Tune's searcher and scheduler, both thin: what they decide, the broker decides.

The scheduler alone reports, the searcher alone settles. Tune asks the scheduler about a result
unless that result is the trial's last; then it tells the scheduler that the trial is complete.
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
    """Gives Tune the broker's work, and the broker the end of each Tune trial."""

    def __init__(self, broker: Broker, attempts: Attempts, control: SweepStopper) -> None:
        super().__init__()
        self._broker = broker
        self._attempts = attempts
        self._control = control
        self._work_ids: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of the next Tune trial, None to wait, or that there is no more."""
        if self._control.stopping:
            return str(Searcher.FINISHED)  # for None, Tune would wait ten minutes for a trial
        with self._control.guard():
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
        """Settle the work of a Tune trial, unless Tune has lost it on the way to a process."""
        del result  # the scheduler has reported it
        work_id = self._work_ids.pop(trial_id, None)
        if work_id is not None:
            with self._control.guard():
                if error and self._attempts.requeue(work_id):
                    return
                loss = self._attempts.end(work_id)
                self._broker.settle(work_id, loss=loss if error else None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the only state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the only state."""


class BrokerScheduler(NotPickled, FIFOScheduler):
    """Passes every result to the broker and stops a trial when the broker says so."""

    _supports_buffered_results = False

    def __init__(self, broker: Broker, attempts: Attempts, control: SweepStopper) -> None:
        super().__init__()
        self._broker = broker
        self._attempts = attempts
        self._control = control

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Follow a trial, which Tune adds again when its process was lost."""
        with self._control.guard():
            if not self._attempts.add(trial):
                tune_controller.stop_trial(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Note why the process of a trial was lost."""
        reused = is_being_reset(tune_controller, trial)
        with self._control.guard():
            self._attempts.fail(trial, reused=reused)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Report, and continue or stop."""
        del tune_controller
        return str(self.STOP if self._observe(trial, result) else self.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Report what came with the last result."""
        del tune_controller
        self._observe(trial, result)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """None, so that Tune's own queue decides.

        The choice of FIFO is the oldest trial that waits for its process. Tune would give it one
        that has just come free and kill its own, still starting: with trials shorter than the
        start of a process most slots would stay empty.
        """
        del tune_controller
        return None

    def _observe(self, trial: Trial, result: dict[str, Any]) -> bool:
        if EVENT in result:
            with self._control.guard():
                return self._broker.observe(work_of(trial).work_id, Event.from_text(result[EVENT]))
        return False
