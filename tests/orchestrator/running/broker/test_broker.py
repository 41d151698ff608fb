"""The broker, driven by a fake worker whose curves are a function of the trial's id."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from orchestrator.planning.plan import make_plan
from orchestrator.planning.work import Event, Failure, Kind, Loss, Work
from orchestrator.recording import user_attributes
from orchestrator.recording.journal import SweepJournal
from orchestrator.running.broker.broker import DONE, Broker
from orchestrator.running.broker.pruners import make_pruner
from orchestrator.running.broker.samplers import make_sampler, suggest
from orchestrator.space import SearchSpace, parse_space
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.spec.metrics import Metric

REPORTS = 4
"""Number of reports of a trial, its start included."""
SPACE = {
    "dataset": {"source": "digits"},
    "search": {
        "backbone": ["tiny_strokes", "tiny_untrained"],
        "freeze_depth": [0.0, 0.5, 1.0],
        "lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "label_budget": [2],
    },
    "training": {"steps": 20, "reports": REPORTS - 1},
    "trials": 4,
    "sampler": {"name": "random"},
    "pruner": {"name": "none"},
    "finalists": {"count": 2, "repeats": 2},
    "baselines": [],
}
GRID: dict[str, list[Any]] = {
    "backbone": ["tiny_strokes", "tiny_untrained"],
    "lr": [0.1, 0.01, 0.001],
}

Curve = Callable[[Work], list[float]]


def space_of(search: dict[str, Any] | None = None, **top: Any) -> SearchSpace:
    """`SPACE` with changed keys of `search` and at the top level."""
    values = SPACE | {"search": SPACE["search"] | (search or {})} | top  # type: ignore[operator]
    return parse_space(yaml.safe_dump(values, sort_keys=False), where="pets.yaml")


def make_images() -> LabelledExamples:
    """Ten classes of five images each, and ten test images."""
    return LabelledExamples.from_bytes(
        (f"image {number}".encode() for number in range(60)),
        labels=[number % 10 for number in range(60)],
        split=[Split.POOL] * 50 + [Split.TEST] * 10,
        class_names=[str(label) for label in range(10)],
        paths=[f"{number}.png" for number in range(60)],
    )


IMAGES = make_images()


def random_curve(work: Work) -> list[float]:
    """A noisy curve that rises to a level which depends on the trial."""
    pseudo = random.Random(work.trial_id)
    level = pseudo.random()
    return [level * (n + 1) / REPORTS + 0.1 * pseudo.random() for n in range(REPORTS)]


def events_of(work: Work, curve: Curve = random_curve) -> Iterator[Event]:
    """Yield the events of a piece of work, as a worker sends them."""
    if work.kind is not Kind.TRIAL:
        validation = {metric.value: 0.5 for metric in Metric}
        result = {"of": work.work_id, "validation": validation}
        yield Event(run={"duration_s": 1.0}, result=result, done=True)
        return
    values = curve(work)
    for number, value in enumerate(values):
        yield report_of(work, number, value, done=number == len(values) - 1)


def report_of(work: Work, number: int, value: float, *, done: bool = False) -> Event:
    facts = {
        "spec": work.task,
        "frozen_boundaries": round(4 * work.task["freeze_depth"]),
        "num_boundaries": 4,
        "trainable_params": 1,
    }
    return Event(
        run={"duration_s": float(number)},
        report={
            "report": number,
            "step": 5 * (number + 1),
            "val_objective": value,
            "val_loss": 1.0,
        },
        facts=facts if number == 0 else None,
        done=done,
    )


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Sweep:
    """A sweep's directory, and the work that its brokers have handed out."""

    path: Path
    space: SearchSpace
    clock: Clock = field(default_factory=Clock)
    handed_out: list[Work] = field(default_factory=list)

    @property
    def journal(self) -> Path:
        return self.path / "journal.log"

    @contextmanager
    def open(
        self,
        *,
        slots: int = 1,
        deadline: float | None = None,
        journal: Callable[[Path], SweepJournal] = SweepJournal,
    ) -> Iterator[Broker]:
        """Open a broker for the block; its journal is closed even if work is still running."""
        plan = make_plan(self.space, IMAGES, where="pets.yaml")
        with closing(journal(self.journal)) as opened:
            yield Broker(
                self.space, plan, IMAGES, opened, slots=slots, deadline=deadline, clock=self.clock
            )

    def finish(self, broker: Broker, curve: Curve = random_curve) -> None:
        """Do the remaining work; running pieces of work send their events in turn."""
        out: dict[str, Iterator[Event]] = {}
        while True:
            work = broker.next_work()
            while isinstance(work, Work):
                self.handed_out.append(work)
                out[work.work_id] = events_of(work, curve)
                work = broker.next_work()
            if work == DONE:
                assert not out
                return
            for work_id, events in list(out.items()):
                event = next(events)
                if broker.observe(work_id, event) or event.done:
                    broker.settle(work_id)
                    del out[work_id]

    def run(self, *, slots: int = 1, curve: Curve = random_curve) -> None:
        """Run the whole sweep, or what is left of it."""
        with self.open(slots=slots) as broker:
            self.finish(broker, curve)

    def study(self, name: str = "b2") -> optuna.Study:
        """The study, as Optuna loads it."""
        storage = JournalStorage(JournalFileBackend(str(self.journal)))
        return optuna.load_study(study_name=name, storage=storage)

    def trials(self, name: str = "b2") -> list[FrozenTrial]:
        return self.study(name).get_trials()

    @property
    def handed_out_ids(self) -> list[str]:
        return [work.work_id for work in self.handed_out]


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Sweep]:
    """Makes a sweep of `SPACE` with changed keys of `search` and at the top level."""

    def sweep(search: dict[str, Any] | None = None, *, name: str = "run", **top: Any) -> Sweep:
        (tmp_path / name).mkdir()
        return Sweep(tmp_path / name, space_of(search, **top))

    return sweep


def take(broker: Broker) -> Work:
    work = broker.next_work()
    assert isinstance(work, Work)
    return work


def states(trials: list[FrozenTrial]) -> list[str]:
    return [trial.state.name for trial in trials]


def content(trials: list[FrozenTrial]) -> list[tuple[Any, ...]]:
    """Contents of the journal about trials, except for times."""
    return [
        (t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs, t.system_attrs)
        for t in trials
    ]


# The order of work


def test_with_one_slot_budgets_are_in_strict_order_and_finals_end_each(
    sweep: Callable[..., Sweep],
) -> None:
    both = sweep({"label_budget": [3, 2]}, trials=3, baselines=["pixels", "probe"])
    both.run()
    expected = [
        [
            f"{study}-pixels",
            f"{study}-probe-tiny_strokes",
            f"{study}-probe-tiny_untrained",
            *(f"{study}-{number:04d}" for number in range(3)),
        ]
        for study in ("b2", "b3")
    ]
    ids = both.handed_out_ids
    assert ids[:6] == expected[0]
    assert ids[10:16] == expected[1]
    assert all(work.kind is Kind.FINAL for work in both.handed_out[6:10] + both.handed_out[16:])
    assert [work.repeat for work in both.handed_out[6:10]] == [0, 1, 0, 1]


def test_a_free_slot_goes_on_to_the_next_budget_while_finals_wait(
    sweep: Callable[..., Sweep],
) -> None:
    both = sweep({"label_budget": [2, 3]}, trials=2)
    with both.open(slots=2) as broker:
        first, last = take(broker), take(broker)
        for event in events_of(first):
            broker.observe(first.work_id, event)
        broker.settle(first.work_id)
        assert take(broker).work_id == "b3-0000"
        for event in events_of(last):
            broker.observe(last.work_id, event)
        broker.settle(last.work_id)
        assert take(broker).kind is Kind.FINAL


@pytest.mark.parametrize("slots", [1, 3])
def test_no_more_work_runs_than_there_are_slots(sweep: Callable[..., Sweep], slots: int) -> None:
    with sweep(trials=8).open(slots=slots) as broker:
        out = [take(broker) for _ in range(slots)]
        assert broker.next_work() is None
        broker.settle(out[0].work_id, loss=Loss(failure=Failure.WORKER_LOST))
        take(broker)
        assert broker.next_work() is None


def test_the_number_of_slots_may_change_and_running_work_continues(
    sweep: Callable[..., Sweep],
) -> None:
    with sweep(trials=8).open(slots=1) as broker:
        out = [take(broker)]
        broker.resize(3)
        out += [take(broker), take(broker)]
        assert broker.next_work() is None
        broker.resize(2)
        broker.settle(out[0].work_id, loss=Loss(failure=Failure.WORKER_LOST))
        assert broker.next_work() is None
        assert (broker.activity.busy, broker.activity.slots) == (2, 2)
        broker.settle(out[1].work_id, loss=Loss(failure=Failure.WORKER_LOST))
        take(broker)


def test_open_work_counts_running_work_and_work_that_could_run(sweep: Callable[..., Sweep]) -> None:
    both = sweep({"label_budget": [2, 3]}, trials=3, baselines=["pixels"])
    with both.open(slots=99, deadline=10) as broker:
        assert broker.open_work == 8
        out = [take(broker) for _ in range(3)]
        assert broker.open_work == 8
        broker.settle(out[0].work_id, loss=Loss(failure=Failure.WORKER_LOST))
        assert broker.open_work == 7
        both.clock.now = 11  # past the time limit
        assert broker.open_work == 2 + 1
    with both.open(slots=99) as broker:
        assert broker.open_work == 7
        both.finish(broker)
        assert broker.open_work == 0


def test_a_sweep_is_done_when_everything_has_settled(sweep: Callable[..., Sweep]) -> None:
    one = sweep()
    with one.open(slots=3) as broker:
        one.finish(broker)
        assert broker.next_work() == DONE
    assert one.study().user_attrs[user_attributes.FINISHED]
    assert {trial.state for trial in one.trials()} == {TrialState.COMPLETE}


def test_trials_carry_their_spec_and_their_plan_from_the_ask_on(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep()
    with one.open() as broker:
        work = take(broker)
    (trial,) = one.trials()
    assert work.task["label_budget"] == 2
    assert trial.user_attrs[user_attributes.PLAN]["spec"] == work.task
    assert trial.user_attrs[user_attributes.PLAN]["params"].items() >= trial.params.items()


# Warm start


@pytest.mark.parametrize("pruner", ["none", "hyperband"])
def test_tpe_starts_a_budget_with_the_best_parameters_of_the_next_smaller_one(
    sweep: Callable[..., Sweep], pruner: str
) -> None:
    both = sweep({"label_budget": [2, 3]}, sampler={"name": "tpe"}, pruner={"name": pruner})
    both.run()
    first, *others = both.trials("b3")
    best = max(both.trials("b2"), key=lambda trial: trial.value or 0)
    assert first.params == best.params
    assert first.value != best.value
    assert all(trial.params != best.params for trial in others)


def test_a_smaller_budget_without_a_complete_trial_gives_no_warm_start(
    sweep: Callable[..., Sweep],
) -> None:
    both = sweep({"label_budget": [2, 3]}, sampler={"name": "tpe"}, trials=1)
    with both.open(slots=2) as broker:
        assert take(broker).study == "b2"
        assert take(broker).study == "b3"
    assert "fixed_params" not in both.trials("b3")[0].system_attrs


@pytest.mark.parametrize(
    ("sampler", "search"), [("random", {}), ("grid", {**GRID, "freeze_depth": 1.0})]
)
def test_samplers_that_do_not_learn_get_no_warm_start(
    sweep: Callable[..., Sweep], sampler: str, search: dict[str, Any]
) -> None:
    both = sweep({"label_budget": [2, 3], **search}, sampler={"name": sampler})
    both.run()
    best = max(both.trials("b2"), key=lambda trial: trial.value or 0)
    asked = both.trials("b3")[0]
    if sampler == "random":
        assert "fixed_params" not in asked.system_attrs
    else:  # all budgets have the grid's order, whatever scored best
        assert asked.params == both.trials("b2")[0].params
        assert best.number != 0


# The grid


def test_a_grid_tries_every_point_once(sweep: Callable[..., Sweep]) -> None:
    grid = sweep({**GRID, "freeze_depth": [0.0, 1.0]}, sampler={"name": "grid"}, trials=99)
    grid.run(slots=3)
    points = [tuple(sorted(trial.params.items())) for trial in grid.trials()]
    assert len(points) == len(set(points)) == 12


def test_fewer_trials_than_points_are_spread_over_every_axis(
    sweep: Callable[..., Sweep],
) -> None:
    search: dict[str, list[Any]] = {**GRID, "freeze_depth": [0.0, 0.25, 0.5, 0.75, 1.0]}
    grid = sweep(search, sampler={"name": "grid"}, trials=12)
    grid.run()
    trials = grid.trials()
    assert len({tuple(sorted(trial.params.items())) for trial in trials}) == 12
    for axis, values in search.items():
        assert {trial.params[axis] for trial in trials} == set(values)


# Reports, pruning and the ends of a trial


PRUNERS: list[dict[str, Any]] = [
    {"name": "median", "n_startup_trials": 3, "n_warmup_steps": 1},
    {"name": "percentile", "percentile": 40.0, "n_startup_trials": 3},
    {"name": "hyperband", "reduction_factor": 2},
    {"name": "successive_halving", "reduction_factor": 2},
]


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda pruner: str(pruner["name"]))
def test_recorded_curves_are_pruned_as_optuna_itself_would_prune_them(
    sweep: Callable[..., Sweep], pruner: dict[str, Any], metric: str
) -> None:
    brokered = sweep(
        trials=30, pruner=pruner, sampler={"name": "tpe"}, objective={"metric": metric}
    )
    brokered.run()
    space = brokered.space
    plain = optuna.create_study(
        study_name="b2",  # Hyperband derives brackets from the study's name
        direction="maximize" if metric == "accuracy" else "minimize",
        pruner=make_pruner(space, reports=REPORTS - 1),
    )

    def objective(trial: optuna.Trial) -> float:
        params = suggest(space, trial)
        work = Work(
            kind=Kind.TRIAL,
            study="b2",
            trial_id=user_attributes.trial_id("b2", trial.number),
            task=space.spec(params, space.label_budgets[0]).to_json(),
        )
        for number, value in enumerate(random_curve(work)):
            trial.report(value, step=number)
            if number < REPORTS - 1 and trial.should_prune():
                raise optuna.TrialPruned
        return value

    for number in range(30):
        plain.sampler = make_sampler(space, study="b2", number=number)
        plain.optimize(objective, n_trials=1)
    expected = [(t.state, t.value, t.intermediate_values, t.params) for t in plain.trials]
    found = [(t.state, t.value, t.intermediate_values, t.params) for t in brokered.trials()]
    assert found == expected
    assert {"COMPLETE", "PRUNED"} == set(states(brokered.trials()))


def test_a_trial_is_never_pruned_at_its_last_report(sweep: Callable[..., Sweep]) -> None:
    pruner = {"name": "median", "n_startup_trials": 1, "n_warmup_steps": REPORTS - 1}
    one = sweep(trials=6, pruner=pruner)
    one.run(curve=lambda work: [1.0 / (int(work.trial_id[-4:]) + 1)] * REPORTS)
    assert set(states(one.trials())) == {"COMPLETE"}


def test_without_a_pruner_every_trial_runs_to_its_end(sweep: Callable[..., Sweep]) -> None:
    one = sweep(trials=8)
    one.run(curve=lambda work: [1.0 / (int(work.trial_id[-4:]) + 1)] * REPORTS)
    assert all(len(trial.intermediate_values) == REPORTS for trial in one.trials())


def test_a_pruned_trial_keeps_its_last_report_as_value(sweep: Callable[..., Sweep]) -> None:
    one = sweep(trials=6, pruner={"name": "median", "n_startup_trials": 1})
    one.run(curve=lambda work: [1.0 / (int(work.trial_id[-4:]) + n + 1) for n in range(REPORTS)])
    last = one.trials()[-1]
    assert last.state is TrialState.PRUNED
    assert last.value == last.intermediate_values[max(last.intermediate_values)]
    assert last.user_attrs[user_attributes.RUN]["failure"] is None


def test_a_complete_trial_scores_its_last_report_not_its_best(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(trials=1)
    one.run(curve=lambda work: [0.1, 0.9, 0.5, 0.3])
    assert one.trials()[0].value == 0.3


def test_repeated_calls_change_nothing(sweep: Callable[..., Sweep]) -> None:
    one = sweep(trials=2, pruner={"name": "median", "n_startup_trials": 1})
    with one.open() as broker:
        for _ in range(2):
            work = take(broker)
            for event in events_of(work):
                stop = broker.observe(work.work_id, event)
                known = content(one.trials())
                assert broker.observe(work.work_id, event) == stop
                assert content(one.trials()) == known
                if stop:
                    break
            broker.settle(work.work_id)
            settled = one.journal.read_bytes()
            broker.settle(work.work_id)
            broker.settle(work.work_id, loss=Loss(failure=Failure.WORKER_LOST))
            assert broker.observe(work.work_id, event)
            broker.retry(work.work_id, reason="its process died")
            assert one.journal.read_bytes() == settled


@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda pruner: str(pruner["name"]))
def test_every_further_event_of_a_stopped_trial_is_answered_with_stop(
    sweep: Callable[..., Sweep], pruner: dict[str, Any]
) -> None:
    one = sweep(trials=30, pruner=pruner)
    stopped = 0
    with one.open() as broker:
        while (work := take(broker)).kind is Kind.TRIAL:
            for event in events_of(work):
                if broker.observe(work.work_id, event):
                    stopped += 1
                    assert broker.observe(work.work_id, event)
                    break
            broker.settle(work.work_id)
    assert stopped


def test_a_retry_repeats_no_report_and_keeps_what_was_reported_first(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(trials=1)
    with one.open() as broker:
        work = take(broker)
        for number in range(2):
            broker.observe(work.work_id, report_of(work, number, 0.5))
        broker.retry(work.work_id, reason="its process died")
        for number in range(REPORTS):
            event = report_of(work, number, 0.5 + number / 10, done=number == REPORTS - 1)
            assert not broker.observe(work.work_id, event)
        broker.settle(work.work_id)
    (trial,) = one.trials()
    assert trial.intermediate_values == {0: 0.5, 1: 0.5, 2: 0.7, 3: 0.8}
    assert trial.user_attrs[user_attributes.RUN]["attempt"] == 1
    assert trial.user_attrs[user_attributes.PLAN]["attempt"] == 1
    assert trial.state is TrialState.COMPLETE


def test_attempts_are_counted_over_retries_and_resumes(sweep: Callable[..., Sweep]) -> None:
    one = sweep(trials=1)
    with one.open() as broker:
        work = take(broker)
        again = broker.retry(work.work_id, reason="its process died")
        assert again is not None
        assert (again.attempt, again.task) == (1, work.task)
    with one.open() as broker:
        assert take(broker).attempt == 2
    with one.open() as broker:
        assert take(broker).attempt == 3


def test_a_report_that_an_earlier_attempt_passed_is_not_judged_again(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(trials=8, pruner={"name": "median", "n_startup_trials": 2})
    stopped_at: dict[str, int] = {}
    with one.open() as broker:
        while (work := take(broker)).kind is Kind.TRIAL:
            for number, value in enumerate(random_curve(work)):
                done = number == REPORTS - 1
                if number == 2:  # the process dies, and the next attempt starts from scratch
                    broker.retry(work.work_id, reason="its process died")
                    for early in range(2):
                        again = report_of(work, early, random_curve(work)[early])
                        stop = broker.observe(work.work_id, again)
                        assert not stop, "it had gone on when this was first reported"
                if broker.observe(work.work_id, report_of(work, number, value, done=done)):
                    stopped_at[work.work_id] = number
                    break
            broker.settle(work.work_id)
    undisturbed = sweep(name="b", trials=8, pruner={"name": "median", "n_startup_trials": 2})
    undisturbed.run()
    assert stopped_at
    assert [t.intermediate_values for t in one.trials()] == [
        t.intermediate_values for t in undisturbed.trials()
    ]
    assert states(one.trials()) == states(undisturbed.trials())


def test_a_diverged_trial_is_pruned_with_and_without_a_report(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(trials=2)
    diverged = Event(run={}, failure=Failure.NONFINITE, done=True)
    with one.open() as broker:
        at_once = take(broker)
        assert not broker.observe(at_once.work_id, diverged)
        broker.settle(at_once.work_id)
        later = take(broker)
        broker.observe(later.work_id, report_of(later, 0, 0.25))
        broker.observe(later.work_id, diverged)
        broker.settle(later.work_id)
    trials = one.trials()
    assert states(trials) == ["PRUNED", "PRUNED"]
    assert [trial.value for trial in trials] == [None, 0.25]
    assert [trial.user_attrs[user_attributes.RUN]["failure"] for trial in trials] == [
        "nonfinite"
    ] * 2


@pytest.mark.parametrize("number", [0, REPORTS - 1])
def test_an_objective_of_nan_counts_as_divergence(sweep: Callable[..., Sweep], number: int) -> None:
    one = sweep(trials=1, pruner={"name": "median", "n_startup_trials": 0})
    with one.open() as broker:
        work = take(broker)
        event = report_of(work, number, float("nan"), done=number == REPORTS - 1)
        assert broker.observe(work.work_id, event) == (not event.done)
        broker.settle(work.work_id)
    (trial,) = one.trials()
    assert trial.state is TrialState.PRUNED
    assert trial.user_attrs[user_attributes.RUN]["failure"] == "nonfinite"


def test_a_failed_trial_keeps_the_reason_and_is_not_tried_again(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(trials=1)
    with one.open() as broker:
        work = take(broker)
        broker.observe(work.work_id, report_of(work, 0, 0.5))
        broker.observe(work.work_id, Event(run={}, failure="ValueError: odd", done=True))
        broker.settle(work.work_id)
        assert broker.next_work() == DONE
    (trial,) = one.trials()
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs[user_attributes.RUN]["failure"] == "ValueError: odd"


def test_a_lost_worker_fails_the_trial_and_its_attempts_are_counted(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(trials=2)
    with one.open() as broker:
        silent = take(broker)
        broker.settle(silent.work_id, loss=Loss(failure=Failure.WORKER_LOST))
        heard_of = take(broker)
        broker.observe(heard_of.work_id, report_of(heard_of, 0, 0.5))
        broker.retry(heard_of.work_id, reason="its process died")
        broker.retry(heard_of.work_id, reason="its process died")
        lost = Loss(failure=Failure.WORKER_LOST, reason="its node has died")
        broker.settle(heard_of.work_id, loss=lost)
    trials = one.trials()
    assert states(trials) == ["FAIL", "FAIL"]
    runs = [trial.user_attrs[user_attributes.RUN] for trial in trials]
    assert [(run["failure"], run["attempt"]) for run in runs] == [
        ("worker_lost", 0),
        ("worker_lost", 2),
    ]
    assert [user_attributes.why_failed(run) for run in runs] == [
        "worker_lost",
        "worker_lost: its node has died",
    ]


def test_work_that_ends_without_an_event_counts_as_lost(sweep: Callable[..., Sweep]) -> None:
    one = sweep(trials=1)
    with one.open() as broker:
        broker.settle(take(broker).work_id)
    assert one.trials()[0].user_attrs[user_attributes.RUN]["failure"] == "worker_lost"


def test_unknown_work_is_stopped_and_leaves_no_trace(sweep: Callable[..., Sweep]) -> None:
    one = sweep()
    with one.open() as broker:
        before = one.journal.read_bytes()
        assert broker.observe("b2-0007", Event(run={}))
        broker.settle("b2-0007")
        broker.retry("b2-0007", reason="its process died")
        assert one.journal.read_bytes() == before


# The time limit


def test_after_the_time_limit_no_trial_starts_and_finalists_are_scored(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(trials=9)
    with one.open(slots=3, deadline=100.0) as broker:
        for _ in range(2):
            done = take(broker)
            for event in events_of(done):
                broker.observe(done.work_id, event)
            broker.settle(done.work_id)
        running, at_its_end = take(broker), take(broker)
        broker.observe(running.work_id, report_of(running, 0, 0.5))
        broker.observe(at_its_end.work_id, report_of(at_its_end, 0, 0.5))
        one.clock.now = 100.0
        assert broker.past_deadline
        assert broker.next_work() is None
        assert broker.observe(running.work_id, report_of(running, 1, 0.6))
        broker.settle(running.work_id)
        last = report_of(at_its_end, REPORTS - 1, 0.7, done=True)
        assert not broker.observe(at_its_end.work_id, last)
        broker.settle(at_its_end.work_id)
        one.finish(broker)
    trials = one.trials()
    assert states(trials) == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    assert trials[2].user_attrs[user_attributes.RUN]["failure"] == "time_limit"
    assert trials[2].value == 0.6
    assert {work.kind for work in one.handed_out} == {Kind.FINAL}
    assert len(one.handed_out) == 4


def test_a_time_limit_that_is_over_at_once_still_ends(sweep: Callable[..., Sweep]) -> None:
    one = sweep({"label_budget": [2, 3]}, baselines=["pixels"])
    with one.open(deadline=0.0) as broker:
        one.finish(broker)
    assert one.handed_out_ids == ["b2-pixels", "b3-pixels"]


# Finals and baselines


def test_finals_are_recorded_with_the_study_and_only_complete_trials_have_some(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(trials=12, pruner=PRUNERS[0])
    one.run()
    complete = {t.number for t in one.trials() if t.state is TrialState.COMPLETE}
    assert len(complete) < 12
    finals = {
        key: value for key, value in one.study().user_attrs.items() if key.startswith("final/")
    }
    owners = {key.split("/")[1] for key in finals}
    assert sorted(finals) == sorted(
        f"final/{owner}/{repeat}" for owner in owners for repeat in (0, 1)
    )
    assert len(owners) == 2
    assert {int(owner[-4:]) for owner in owners} <= complete
    for key, value in finals.items():
        assert value["result"]["of"] == key.removeprefix("final/")
        assert value["task"]["repeat"] == int(key[-1])
        assert value["run"]["failure"] is None


def test_failed_finals_and_baselines_are_recorded_and_not_repeated(
    sweep: Callable[..., Sweep],
) -> None:
    one = sweep(trials=1, baselines=["pixels"])
    with one.open() as broker:
        pixels = take(broker)
        broker.observe(pixels.work_id, Event(run={}, failure="DataError: odd", done=True))
        broker.settle(pixels.work_id)
        trial = take(broker)
        for event in events_of(trial):
            broker.observe(trial.work_id, event)
        broker.settle(trial.work_id)
        broker.settle(take(broker).work_id, loss=Loss(failure=Failure.WORKER_LOST))
    attributes = one.study().user_attrs
    assert attributes["baseline/pixels"]["result"] is None
    assert attributes["baseline/pixels"]["run"]["failure"] == "DataError: odd"
    assert attributes["final/b2-0000/0"]["run"]["failure"] == "worker_lost"
    one.run()
    assert one.handed_out_ids == ["b2-0000/1"]


def probes_handed_out(sweep: Sweep) -> list[str]:
    return [w.trial_id for w in sweep.handed_out if w.task.get("method") == "probe"]


def test_finalists_of_sizes_between_the_ends_of_a_range_get_a_probe_each_before_their_finals(
    sweep: Callable[..., Sweep],
) -> None:
    search = {"backbone": "tiny_strokes", "image_size": {"low": 32, "high": 512}}
    one = sweep(search, trials=8, baselines=["probe"])
    one.run()
    finals = [work for work in one.handed_out if work.kind is Kind.FINAL]
    sizes = dict.fromkeys(work.task["image_size"] for work in finals)
    assert len(sizes) == 2
    beside = [f"b2-probe-tiny_strokes-{size}px" for size in sizes]
    ends = ["b2-probe-tiny_strokes-32px", "b2-probe-tiny_strokes-512px"]
    assert probes_handed_out(one) == [*ends, *beside]
    assert one.handed_out_ids.index(beside[-1]) < one.handed_out_ids.index(finals[0].work_id)
    recorded = {k for k in one.study().user_attrs if k.startswith("baseline/")}
    assert recorded == {f"baseline/probe/tiny_strokes/{i.split('-')[-1]}" for i in [*ends, *beside]}


def test_probes_of_finalists_are_neither_repeated_nor_left_out_after_a_death(
    sweep: Callable[..., Sweep],
) -> None:
    search = {"backbone": "tiny_strokes", "image_size": {"low": 32, "high": 512}}
    undisturbed = sweep(search, name="undisturbed", trials=8, baselines=["probe"])
    undisturbed.run()
    one = sweep(search, trials=8, baselines=["probe"])
    with one.open() as broker:
        while len(probes_handed_out(one)) < 4:
            work = take(broker)
            one.handed_out.append(work)
            if len(probes_handed_out(one)) < 4:  # the last one is running when the process dies
                for event in events_of(work):
                    if broker.observe(work.work_id, event):
                        break
                broker.settle(work.work_id)
    lost = one.handed_out.pop()
    one.run()
    assert one.handed_out_ids == undisturbed.handed_out_ids
    assert lost.work_id in one.handed_out_ids


def test_probes_of_finalists_do_not_change_the_choice_of_finalists(
    sweep: Callable[..., Sweep],
) -> None:
    search = {
        "backbone": "tiny_strokes",
        "image_size": {"low": 32, "high": 512},
        "freeze_depth": [0.0, 0.5, 1.0],
    }
    settings: dict[str, Any] = {"trials": 12, "baselines": ["probe"]}

    def deeper_is_worse(work: Work) -> list[float]:
        return [0.9 - 0.5 * work.task["freeze_depth"]] * 4

    def hand_out(one: Sweep, most: int) -> None:
        """Do work in which probes at the ends of the range score 0, and all other probes 1."""
        with one.open() as broker:
            while len(one.handed_out) < most and isinstance(work := broker.next_work(), Work):
                one.handed_out.append(work)
                for event in events_of(work, deeper_is_worse):
                    if work.task.get("method") == "probe":
                        good = float(work.task["image_size"] not in (32, 512))
                        validation = {"accuracy": good, "log_loss": 1 - good}
                        event = replace(event, result={"validation": validation})
                    broker.observe(work.work_id, event)
                broker.settle(work.work_id)

    undisturbed, one = (sweep(search, name=name, **settings) for name in ("undisturbed", "one"))
    hand_out(undisturbed, most=100)
    finals = [work.kind is Kind.FINAL for work in undisturbed.handed_out]
    for most in range(finals.index(True) - 1, finals.index(True) + 2):
        hand_out(one, most=most)
    hand_out(one, most=100)
    assert one.handed_out_ids == undisturbed.handed_out_ids


def test_no_probe_follows_if_every_size_of_the_trials_has_one(
    sweep: Callable[..., Sweep],
) -> None:
    search = {"backbone": "tiny_strokes", "image_size": {"low": 32, "high": 96, "step": 32}}
    one = sweep(search, trials=8, baselines=["probe"])
    one.run()
    assert probes_handed_out(one) == [f"b2-probe-tiny_strokes-{size}px" for size in (32, 64, 96)]


# Resume


def test_a_resumed_sweep_repeats_nothing_that_has_settled(sweep: Callable[..., Sweep]) -> None:
    one = sweep({"label_budget": [2, 3]}, trials=4, baselines=["pixels"])
    with one.open(slots=3) as broker:
        out = [take(broker) for _ in range(3)]
        for work in out[:2]:  # the baseline and the first trial
            for event in events_of(work):
                broker.observe(work.work_id, event)
            broker.settle(work.work_id)
        for number in range(2):
            broker.observe(out[2].work_id, report_of(out[2], number, 0.5))
        unheard_of = take(broker)
    with one.open(slots=3) as broker:
        again, never_began = take(broker), take(broker)
        assert (again.work_id, again.attempt, again.task) == (out[2].work_id, 1, out[2].task)
        assert (never_began.work_id, never_began.task) == (unheard_of.work_id, unheard_of.task)
        for work in (again, never_began):
            for event in events_of(work):
                broker.observe(work.work_id, event)
            broker.settle(work.work_id)
        one.finish(broker)
    settled_before = {work.work_id for work in out[:2]}
    assert not settled_before & set(one.handed_out_ids)
    for name in ("b2", "b3"):
        assert states(one.trials(name)) == ["COMPLETE"] * 4
    repeated = one.trials()[1]
    assert repeated.intermediate_values[0] == repeated.intermediate_values[1] == 0.5
    assert repeated.user_attrs["report/0"]["val_objective"] == 0.5
    assert repeated.user_attrs[user_attributes.RUN]["attempt"] == 1


def test_a_resume_tries_no_trial_again_however_it_ended(sweep: Callable[..., Sweep]) -> None:
    one = sweep(trials=3)
    with one.open() as broker:
        for failure in ("ValueError: odd", Failure.NONFINITE, None):
            work = take(broker)
            ended = Event(run={}, failure=failure, done=True)
            for event in events_of(work) if failure is None else [report_of(work, 0, 0.5), ended]:
                broker.observe(work.work_id, event)
            broker.settle(work.work_id)
    before = content(one.trials())
    one.run()
    assert states(one.trials()) == ["FAIL", "PRUNED", "COMPLETE"]
    assert {work.kind for work in one.handed_out} == {Kind.FINAL}
    assert content(one.trials()) == before


def test_a_finished_sweep_has_nothing_left(sweep: Callable[..., Sweep]) -> None:
    one = sweep(baselines=["pixels"])
    one.run(slots=2)
    before = content(one.trials()), one.study().user_attrs
    with one.open() as broker:
        assert broker.next_work() == DONE
    assert (content(one.trials()), one.study().user_attrs) == before


class Died(BaseException):
    """The simulated death of the driver, which no code catches."""


def dying_journal(appends: int) -> Callable[[Path], SweepJournal]:
    """A journal whose process dies after a number of records."""

    class DyingJournal(SweepJournal):
        left = appends

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            if self.left == 0:
                raise Died
            self.left -= 1
            super().append_logs(logs)

    return DyingJournal


@pytest.mark.parametrize(
    ("sampler", "search"),
    [
        ({"name": "tpe", "n_startup_trials": 2}, {"label_budget": [2, 3]}),
        ({"name": "random"}, {}),
        ({"name": "grid"}, {**GRID, "freeze_depth": 1.0}),
    ],
    ids=["tpe", "random", "grid"],
)
def test_a_sweep_that_died_at_any_record_comes_to_the_same_end(
    sweep: Callable[..., Sweep], sampler: dict[str, Any], search: dict[str, Any]
) -> None:
    top: dict[str, Any] = {
        "trials": 4,
        "sampler": sampler,
        "pruner": {"name": "median", "n_startup_trials": 1},
        "baselines": ["pixels"],
        "finalists": {"count": 1, "repeats": 2},
    }
    whole = sweep(search, name="whole", **top)
    whole.run()
    names = [study.name for study in make_plan(whole.space, IMAGES, where="").studies]

    def outcome(one: Sweep) -> list[Any]:
        return [
            (
                [(t.number, t.state, t.values, t.params, t.intermediate_values) for t in trials],
                set(one.study(name).user_attrs),
            )
            for name in names
            for trials in [one.trials(name)]
        ]

    expected = outcome(whole)
    records = len(whole.journal.read_bytes().splitlines())
    for appends in range(1, records, 2):
        killed = sweep(search, name=f"killed-{appends}", **top)
        with pytest.raises(Died), killed.open(journal=dying_journal(appends)) as broker:
            killed.finish(broker)
        killed.handed_out.clear()
        killed.run()
        assert outcome(killed) == expected, appends
        assert len(killed.handed_out_ids) == len(set(killed.handed_out_ids))
        assert not any(trial.state is TrialState.RUNNING for trial in killed.trials())


@pytest.mark.parametrize("slots", [2, 3])
def test_no_trial_stays_running_or_is_lost_whenever_the_driver_of_parallel_work_dies(
    sweep: Callable[..., Sweep], slots: int
) -> None:
    top: dict[str, Any] = {"trials": 6, "sampler": {"name": "tpe"}, "pruner": PRUNERS[0]}
    for appends in range(20, 100, 16):
        killed = sweep(name=f"killed-{appends}", **top)
        with (
            pytest.raises(Died),
            killed.open(slots=slots, journal=dying_journal(appends)) as broker,
        ):
            killed.finish(broker)
        killed.run(slots=slots)
        trials = killed.trials()
        assert [trial.number for trial in trials] == list(range(6))
        assert set(states(trials)) <= {"COMPLETE", "PRUNED"}
