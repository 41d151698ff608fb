"""Runs of Ray Tune with real processes, in which only the work of actors is simulated."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState
from ray import cloudpickle

from orchestrator.planning.plan import make_plan
from orchestrator.planning.work import Event, Kind, Work
from orchestrator.recording import user_attributes
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.projection import load_studies
from orchestrator.running.broker.broker import DONE, Broker
from orchestrator.running.ray_tune import run
from orchestrator.running.ray_tune.actor import SweepActor
from orchestrator.running.ray_tune.attempts import Attempts, NotStartedError
from orchestrator.running.ray_tune.capacity import TrialResources
from orchestrator.running.ray_tune.run import run_work
from orchestrator.running.ray_tune.stopper import SweepStopper
from orchestrator.space import LimitsSection, SearchSpace, parse_space
from trainable.data.labelled_examples import LabelledExamples, Split

pytestmark = pytest.mark.usefixtures("local_ray")

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors cannot import test modules

REPORTS, SLOTS = 2, 2
IMAGES = LabelledExamples.from_bytes(
    (f"image {number}".encode() for number in range(60)),
    labels=[number % 10 for number in range(60)],
    split=[Split.POOL] * 50 + [Split.TEST] * 10,
    class_names=[str(label) for label in range(10)],
    paths=[f"{number}.png" for number in range(60)],
)


class FakeActor(SweepActor):
    """An actor that reports at once; subclasses interfere before reports."""

    def setup(self, config: dict[str, Any], folder: str = "") -> None:
        self.folder = Path(folder)
        super().setup(config)

    def events(self, work: Work) -> Iterator[Event]:
        run = {"duration_s": 0.0, "pid": os.getpid()}
        if work.kind is not Kind.TRIAL:
            yield Event(run=run, result={"of": work.work_id}, done=True)
            return
        for number in range(REPORTS):
            self.before_report(work, number)
            yield Event(
                run=run,
                report={
                    "report": number,
                    "step": number,
                    "val_objective": 0.5 + number / 10,
                    "val_loss": 1.0,
                },
                facts={
                    "spec": work.task,
                    "frozen_boundaries": 0,
                    "num_boundaries": 4,
                    "trainable_params": 1,
                },
                done=number == REPORTS - 1,
            )

    def before_report(self, work: Work, number: int) -> None:
        """Do something before each report; subclasses override it."""


class WaitingActor(FakeActor):
    """An actor that waits for others in every trial, for less time than a process start takes."""

    def before_report(self, work: Work, number: int) -> None:
        (self.folder / f"up-{os.getpid()}").touch()
        until = time.monotonic() + 0.5
        while len(list(self.folder.glob("up-*"))) < SLOTS and time.monotonic() < until:
            time.sleep(0.01)


class RaisingActor(FakeActor):
    """An actor that raises an exception in one trial."""

    def before_report(self, work: Work, number: int) -> None:
        if (work.trial_id, number) == ("b2-0001", 1):
            raise ValueError("odd")


class DyingActor(FakeActor):
    """An actor whose process dies once in one trial, and always in another."""

    def before_report(self, work: Work, number: int) -> None:
        marker = self.folder / f"died-{work.trial_id}"
        once = work.trial_id == "b2-0001" and not marker.exists()
        if number == 1 and (once or work.trial_id == "b2-0003"):
            with marker.open("a") as file:
                file.write("x")
            os._exit(1)


class ShakyActor(FakeActor):
    """An actor whose process dies once between two pieces of work."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        marker = self.folder / "shaken"
        if not marker.exists():
            marker.touch()
            os._exit(1)
        return super().reset_config(new_config)


class UnstartableActor(FakeActor):
    """An actor that cannot import a module."""

    def setup(self, config: dict[str, Any], folder: str = "") -> None:
        raise ModuleNotFoundError("No module named 'pets'")


class HangingActor(FakeActor):
    """An actor whose process hangs in one trial."""

    def before_report(self, work: Work, number: int) -> None:
        if (work.trial_id, work.attempt, number) == ("b2-0001", 0, 1):
            os.kill(os.getpid(), signal.SIGSTOP)


class SlowActor(FakeActor):
    """An actor that is busy before later reports of all trials but two, until it is released."""

    def before_report(self, work: Work, number: int) -> None:
        until = time.monotonic() + 60
        if number and int(work.trial_id[-4:]) > 1:
            while not (self.folder / "release").exists() and time.monotonic() < until:
                time.sleep(0.01)


@dataclass(frozen=True)
class Sweep:
    """A sweep's directory, and functions that run it."""

    path: Path
    space: SearchSpace

    def run(
        self,
        actor: type[SweepActor] = FakeActor,
        *,
        stopper: SweepStopper | None = None,
        tick: Callable[[], None] = lambda: None,
        broker: type[Broker] = Broker,
        limits: LimitsSection | None = None,
    ) -> None:
        plan = make_plan(self.space, IMAGES, where="pets.yaml")
        with closing(SweepJournal(self.path / "journal.log")) as journal:
            opened = broker(self.space, plan, IMAGES, journal, slots=SLOTS)
            run_work(
                opened,
                actor,
                parameters={"folder": str(self.path)},
                attempts=Attempts(opened, None, limits or self.space.limits),
                resources=TrialResources(cpus=1, gpus=0),
                stopper=stopper or SweepStopper(),
                tick=tick,
            )

    def is_done(self) -> bool:
        """Whether no work is left."""
        plan = make_plan(self.space, IMAGES, where="pets.yaml")
        with closing(SweepJournal(self.path / "journal.log")) as journal:
            return Broker(self.space, plan, IMAGES, journal, slots=1).next_work() == DONE

    def trials(self, study: str = "b2") -> list[FrozenTrial]:
        return load_studies(self.path)[study].get_trials()


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Sweep]:
    def sweep(*budgets: int, trials: int) -> Sweep:
        values = {
            "dataset": {"source": "digits"},
            "search": {"backbone": "tiny_strokes", "label_budget": list(budgets)},
            "training": {"steps": 4, "reports": REPORTS},
            "trials": trials,
            "sampler": {"name": "random"},
            "pruner": {"name": "none"},
            "finalists": {"count": 1, "repeats": 2},
            "baselines": ["pixels"],
        }
        return Sweep(tmp_path, parse_space(yaml.safe_dump(values), where="pets.yaml"))

    return sweep


def test_two_studies_are_done_by_as_many_processes_as_there_are_slots(
    sweep: Callable[..., Sweep],
) -> None:
    both = sweep(2, 3, trials=40)
    ticks: list[float] = []
    both.run(WaitingActor, tick=lambda: ticks.append(time.monotonic()))
    pids = set()
    for study in ("b2", "b3"):
        trials = both.trials(study)
        assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 40
        assert all(trial.intermediate_values == {0: 0.5, 1: 0.6} for trial in trials)
        assert {trial.user_attrs[user_attributes.RUN]["attempt"] for trial in trials} == {0}
        pids |= {trial.user_attrs[user_attributes.RUN]["pid"] for trial in trials}
        attributes = load_studies(both.path)[study].user_attrs
        assert attributes["baseline/pixels"]["result"] == {"of": f"{study}-pixels"}
        assert sum(key.startswith("final/") for key in attributes) == 2
    assert len(pids) == SLOTS
    assert both.is_done()
    assert len(ticks) > 1


def test_a_finished_sweep_runs_again_without_doing_anything(sweep: Callable[..., Sweep]) -> None:
    one = sweep(2, trials=1)
    one.run()
    before = one.trials()
    one.run()
    assert one.trials() == before


def test_an_exception_that_escapes_an_actor_fails_its_trial_alone(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(2, trials=4)
    one.run(RaisingActor)
    trials = one.trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    run = trials[1].user_attrs[user_attributes.RUN]
    assert (run["failure"], run["attempt"]) == ("ValueError: odd", 0)
    assert one.is_done()


@pytest.mark.faults
def test_a_lost_process_is_replaced_and_its_trial_tried_again(
    sweep: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_RETRIES", 1)  # fewer retries, because each starts a process
    one = sweep(2, trials=4)
    one.run(DyingActor)
    trials = one.trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3 + ["FAIL"]
    runs = [trial.user_attrs[user_attributes.RUN] for trial in trials]
    assert (runs[1]["attempt"], runs[1]["failure"]) == (1, None)
    assert trials[1].intermediate_values == {0: 0.5, 1: 0.6}
    assert (runs[3]["attempt"], runs[3]["failure"]) == (1, "worker_lost")
    deaths = {path.name: path.stat().st_size for path in one.path.glob("died-*")}
    assert deaths == {"died-b2-0001": 1, "died-b2-0003": 2}
    assert one.is_done()


@pytest.mark.faults
def test_a_process_that_is_lost_between_two_pieces_of_work_costs_no_more_than_an_attempt(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(2, trials=4)
    one.run(ShakyActor)
    assert (one.path / "shaken").exists()
    trials = one.trials()
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    runs = [trial.user_attrs[user_attributes.RUN] for trial in trials]
    assert sum(run["attempt"] for run in runs) <= 1  # none if the lost work was a final
    assert one.is_done()


@pytest.mark.faults
def test_processes_that_cannot_start_end_the_run_with_their_reason_and_leave_it_resumable(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(2, trials=4)
    with pytest.raises(NotStartedError, match="No module named 'pets'"):
        one.run(UnstartableActor)
    assert {trial.state for trial in one.trials()} <= {TrialState.RUNNING}
    assert not one.is_done()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("limits", "state", "failure", "attempt"),
    [
        (LimitsSection(trial_minutes=0.2), "FAIL", "trial_time_limit", 0),
        (LimitsSection(silent_minutes=0.2), "COMPLETE", None, 1),
    ],
    ids=["takes too long", "is silent for too long"],
)
def test_a_process_that_hangs_is_ended_and_the_others_go_on(
    sweep: Callable[..., Sweep],
    limits: LimitsSection,
    state: str,
    failure: str | None,
    attempt: int,
) -> None:
    one = sweep(2, trials=4)
    one.run(HangingActor, limits=limits)
    trials = one.trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", state, "COMPLETE", "COMPLETE"]
    run = trials[1].user_attrs[user_attributes.RUN]
    assert (run["failure"], run["attempt"]) == (failure, attempt)
    assert one.is_done()


class FaultyBroker(Broker):
    """A broker that raises at the first report."""

    def observe(self, work_id: str, event: Event) -> bool:
        raise OSError("no room")


def test_an_exception_in_the_broker_ends_the_run_and_is_raised(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(2, trials=4)
    with pytest.raises(OSError, match="no room"):
        one.run(broker=FaultyBroker)
    assert not one.is_done()


def test_an_exception_in_the_tick_ends_the_run_and_is_raised(sweep: Callable[..., Sweep]) -> None:
    def tick() -> None:
        raise OSError("no room for tables")

    with pytest.raises(OSError, match="no room for tables"):
        sweep(2, trials=4).run(tick=tick)


def test_a_stop_ends_the_run_within_seconds_and_leaves_it_resumable(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(2, trials=5)
    stopper = SweepStopper()
    requested_at: list[float] = []

    def stop_once_two_are_slow() -> None:
        trials = one.trials()
        slow = [trial for trial in trials[2:] if trial.intermediate_values]
        if len(slow) == SLOTS and not requested_at:
            requested_at.append(time.monotonic())
            stopper.request_stop()
            # Tune waits ten seconds for a busy actor, and ignores the results of stopped trials.
            threading.Timer(1, (one.path / "release").touch).start()

    one.run(SlowActor, stopper=stopper, tick=stop_once_two_are_slow)
    assert time.monotonic() - requested_at[0] < 10
    before = one.trials()
    assert [trial.state.name for trial in before[:2]] == ["COMPLETE"] * 2
    assert {trial.state for trial in before[2:]} == {TrialState.RUNNING}
    one.run()
    after = one.trials()
    assert [trial.state for trial in after] == [TrialState.COMPLETE] * 5
    assert [trial.params for trial in after[: len(before)]] == [trial.params for trial in before]
    attempts = [trial.user_attrs[user_attributes.RUN]["attempt"] for trial in after]
    assert attempts == [0, 0, 1, 1, 0]
    assert one.is_done()


def test_a_stop_before_anything_began_does_no_work(sweep: Callable[..., Sweep]) -> None:
    one = sweep(2, trials=4)
    stopper = SweepStopper()
    stopper.request_stop()
    one.run(stopper=stopper)
    assert one.trials() == []
    assert not one.is_done()
