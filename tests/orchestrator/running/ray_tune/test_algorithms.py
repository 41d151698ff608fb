"""The layer between Tune and the broker: recording of results, and stopping of trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.planning.work import Event, Kind, Work
from orchestrator.running.ray_tune.algorithms import BrokerScheduler
from orchestrator.running.ray_tune.keys import EVENT, WORK
from orchestrator.running.ray_tune.stopper import SweepStopper

WORK_OUT = Work(kind=Kind.TRIAL, study="b2", trial_id="b2-0000", task={})


@dataclass
class Broker:
    """A broker that records its calls, and always gives the same answer."""

    stop: bool
    told: list[tuple[str, Event]] = field(default_factory=list)

    def observe(self, work_id: str, event: Event) -> bool:
        self.told.append((work_id, event))
        return self.stop


@dataclass
class Trial:
    """The attributes of a Tune trial that the code reads."""

    config: dict[str, Any] = field(default_factory=lambda: {WORK: WORK_OUT.to_text()})


@pytest.mark.parametrize(
    ("stop", "answer"), [(True, BrokerScheduler.STOP), (False, BrokerScheduler.CONTINUE)]
)
def test_tune_stops_a_trial_when_the_broker_says_so_and_not_before(stop: bool, answer: str) -> None:
    broker = Broker(stop)
    scheduler = BrokerScheduler(broker, None, SweepStopper())  # type: ignore[arg-type]
    event = Event(run={}, report={"report": 0, "val_objective": 0.1})
    result = {EVENT: event.to_text()}
    assert scheduler.on_trial_result(None, Trial(), result) == answer
    assert broker.told == [(WORK_OUT.work_id, event)]


class Attempts:
    """Attempts that accept or refuse every trial."""

    def __init__(self, hope: bool) -> None:
        self._hope = hope

    def add(self, trial: Trial) -> bool:
        return self._hope


class Controller:
    """A Tune controller that records which trials are stopped."""

    def __init__(self) -> None:
        self.stopped: list[Trial] = []

    def stop_trial(self, trial: Trial) -> None:
        self.stopped.append(trial)


@pytest.mark.parametrize("hope", [True, False])
def test_tune_stops_a_trial_whose_retry_is_hopeless(hope: bool) -> None:
    scheduler = BrokerScheduler(None, Attempts(hope), SweepStopper())  # type: ignore[arg-type]
    controller, trial = Controller(), Trial()
    scheduler.on_trial_add(controller, trial)
    assert controller.stopped == ([] if hope else [trial])
