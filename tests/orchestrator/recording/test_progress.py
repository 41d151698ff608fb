import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.planning.plan import Plan, make_plan
from orchestrator.planning.work import Event, Failure, Kind, Loss, Work
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.progress import measure, training
from orchestrator.recording.projection import load_studies
from orchestrator.recording.savings import measure_savings
from orchestrator.recording.time_left import TimeLeft, Training
from orchestrator.running.broker.broker import Broker
from orchestrator.space import SearchSpace, parse_space
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.spec.metrics import Metric

RESULT = {"validation": {metric.value: 0.5 for metric in Metric}}
IMAGES = LabelledExamples.from_bytes(
    (f"image {number}".encode() for number in range(60)),
    labels=[number % 10 for number in range(60)],
    split=[Split.POOL] * 50 + [Split.TEST] * 10,
    class_names=[str(label) for label in range(10)],
    paths=[f"{number}.png" for number in range(60)],
)


def _space(**top: Any) -> SearchSpace:
    values = {
        "dataset": {"source": "digits"},
        "search": {"backbone": ["tiny_strokes", "tiny_untrained"], "label_budget": [3, 2]},
        "training": {"steps": 4, "reports": 2},
        "trials": 4,
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "finalists": {"count": 2, "repeats": 3},
        "baselines": ["pixels", "probe"],
    }
    return parse_space(yaml.safe_dump(values | top), where="pets.yaml")


def _plan(space: SearchSpace) -> Plan:
    return make_plan(space, IMAGES, where="pets.yaml")


@contextmanager
def _broker(path: Path, space: SearchSpace, *, slots: int = 1) -> Iterator[Broker]:
    with closing(SweepJournal(path / "journal.log")) as journal:
        yield Broker(space, _plan(space), IMAGES, journal, slots=slots)


def _take(broker: Broker) -> Work:
    work = broker.next_work()
    assert isinstance(work, Work)
    return work


def _report(work: Work, number: int, value: float) -> Event:
    step = work.task["steps"] * number // work.task["reports"]
    return Event(
        run={},
        report={"report": number, "step": step, "val_objective": value, "val_loss": 1.0},
        facts={
            "spec": work.task,
            "frozen_boundaries": 0,
            "num_boundaries": 4,
            "trainable_params": 1,
        },
        done=number == 2,
    )


def _complete(broker: Broker, work: Work, value: float = 0.5) -> None:
    if work.kind is Kind.TRIAL:
        for number in range(3):
            broker.observe(work.work_id, _report(work, number, value))
    else:
        broker.observe(work.work_id, Event(run={}, result=RESULT, done=True))
    broker.settle(work.work_id)


def test_a_sweep_that_has_not_begun_has_everything_before_it(tmp_path: Path) -> None:
    space = _space()
    with _broker(tmp_path, space) as broker:
        first, second = measure(space, broker.studies)
    assert (first.study, second.study) == ("b2", "b3")
    assert (first.labels_per_class, first.total, first.settled) == (2, 4, 0)
    assert (first.others_done, first.others_total) == (0, 3 + 2 * 3)
    assert (first.best, first.failures, first.finished) == (None, 0, False)
    assert (first.steps, first.finals_total, first.updates_left) == (4, 6, 16)
    # A trial of 4 updates by 3 folds or 2, in batches of 20 or 30, and 6 finals, of each budget.
    left = 20 * 4 * (4 * 2 + 6) + 30 * 4 * (4 * 3 + 6)
    assert training(_plan(space), [first, second], busy=0) == Training(0.0, 0.0, left)


def test_every_probe_that_may_follow_is_expected_from_the_start(tmp_path: Path) -> None:
    search = {"backbone": "tiny_strokes", "label_budget": [2]}
    totals = set()
    space = _space(search=search | {"image_size": {"low": 8, "high": 64}})
    with _broker(tmp_path, space) as broker:
        while isinstance(work := broker.next_work(), Work):
            _complete(broker, work)
            totals.add(measure(space, broker.studies)[0].others_total)
        (study,) = measure(space, broker.studies)
    assert totals == {1 + 2 + 2 + 2 * 3}  # pixels, probes at the ends, beside finalists, finals
    assert study.others_done == study.others_total


def test_a_sweep_of_version_0_1_expects_the_baselines_of_its_day(tmp_path: Path) -> None:
    search = {"backbone": "tiny_strokes", "label_budget": [2], "image_size": [8, 16, 32]}
    space = _space(search=search)
    with _broker(tmp_path, space) as broker:
        study = broker.studies["b2"]
        assert measure(space, broker.studies)[0].others_total == 1 + 3 + 2 * 3
        about = {k: v for k, v in study.user_attrs["about"].items() if k != "most_baselines"}
        study.set_user_attr("about", about)
        assert measure(space, broker.studies)[0].others_total == 1 + 1 + 2 * 3


def test_trials_are_counted_by_their_state(tmp_path: Path) -> None:
    space = _space(baselines=[])
    with _broker(tmp_path, space, slots=4) as broker:
        better, pruned, failed, running = (_take(broker) for _ in range(4))
        _complete(broker, better, 0.75)
        broker.observe(pruned.work_id, _report(pruned, 1, 0.9))
        broker.settle(pruned.work_id)
        broker.settle(failed.work_id, loss=Loss(failure=Failure.WORKER_LOST))
        broker.observe(running.work_id, _report(running, 1, 0.8))
        first, _ = measure(space, broker.studies)
    assert (first.complete, first.pruned, first.failed, first.running) == (1, 1, 1, 1)
    assert (first.settled, first.failures) == (3, 1)
    assert first.best == 0.75  # neither the pruned nor the running trial counts
    assert (first.updates_done, first.updates_due, first.updates_left) == (4 + 2 + 2, 2, 2)


def test_the_best_of_a_loss_is_the_lowest(tmp_path: Path) -> None:
    space = _space(baselines=[], objective={"metric": "log_loss"})
    with _broker(tmp_path, space) as broker:
        for value in (0.5, 0.25, 0.75):
            _complete(broker, _take(broker), value)
        assert measure(space, broker.studies)[0].best == 0.25


def test_finals_and_baselines_are_counted_and_their_failures_too(tmp_path: Path) -> None:
    space = _space(trials=1, search={"backbone": "tiny_strokes", "label_budget": [2]})
    with _broker(tmp_path, space) as broker:
        broker.settle(_take(broker).work_id)  # a baseline without a result
        for _ in range(4):
            _complete(broker, _take(broker))
        (study,) = measure(space, broker.studies)
        assert (study.others_done, study.others_failed, study.failures) == (4, 1, 1)
        assert (study.others_total, study.finished) == (2 + 3, False)
        _complete(broker, _take(broker))
        assert broker.next_work() == "done"
        (study,) = measure(space, broker.studies)
        assert (study.others_done, study.others_total, study.finished) == (5, 5, True)


def test_a_finished_sweep_has_nothing_left_however_few_finalists_it_found(tmp_path: Path) -> None:
    space = _space(trials=2, search={"backbone": "tiny_strokes", "label_budget": [2]}, baselines=[])
    with _broker(tmp_path, space) as broker:
        while isinstance(work := broker.next_work(), Work):
            broker.settle(work.work_id)
        progress = measure(space, broker.studies)
    assert (progress[0].failed, progress[0].others_total, progress[0].finished) == (2, 0, True)
    assert training(_plan(space), progress, busy=0) == Training(0.0, 0.0, 0.0)


def test_what_is_left_shrinks_with_everything_that_settles(tmp_path: Path) -> None:
    space = _space(baselines=[])
    with _broker(tmp_path, space) as broker:
        found = [_training(space, broker)]
        while isinstance(work := broker.next_work(), Work):
            _complete(broker, work)
            found.append(_training(space, broker))
    for before, after in itertools.pairwise(found):
        assert after.left < before.left
        assert after.done + after.left == before.done + before.left
    assert found[-1].left == 0


def test_a_final_that_is_out_may_be_done_and_a_trial_up_to_its_next_report(tmp_path: Path) -> None:
    space = _space(trials=1, search={"backbone": "tiny_strokes", "label_budget": [2]}, baselines=[])
    with _broker(tmp_path, space, slots=2) as broker:
        trial = _take(broker)
        assert _training(space, broker).due == 0  # the first report is of the start
        broker.observe(trial.work_id, _report(trial, 0, 0.5))
        assert _training(space, broker).due == 20 * 2 * 2
        assert _training(space, broker).done == 0
        broker.observe(trial.work_id, _report(trial, 1, 0.5))
        assert _training(space, broker).done == 20 * 2 * 2
        _complete(broker, trial)
        assert _training(space, broker).due == 0
        _take(broker)
        assert _training(space, broker).due == 20 * 4
        _take(broker)
        assert _training(space, broker).due == 2 * 20 * 4


def _training(space: SearchSpace, broker: Broker) -> Training:
    return training(_plan(space), measure(space, broker.studies), busy=broker.activity.busy)


@pytest.mark.parametrize("pruned", [0, 3], ids=["nothing pruned", "every third pruned"])
@pytest.mark.parametrize(
    "changes",
    [
        {"trials": 1, "search": {"backbone": "tiny_strokes", "label_budget": [2]}},
        {"trials": 4},
        {"trials": 2, "finalists": {"count": 2, "repeats": 6}},
        {"training": {"steps": 400, "reports": 4}},
    ],
    ids=["one long trial", "several", "mostly finals", "rare reports"],
)
def test_time_left_never_rises_at_an_even_pace(
    changes: dict[str, Any], pruned: int, tmp_path: Path
) -> None:
    space = _space(**{"training": {"steps": 40, "reports": 10}, "baselines": ["pixels"], **changes})
    steps, reports = int(space.training["steps"]), int(space.training["reports"])
    now, told_of = 0.0, 0
    time_left = TimeLeft(lambda: now)
    found: list[tuple[float, float]] = []

    def look(broker: Broker) -> None:
        left = time_left(_training(space, broker))
        assert left is None or told_of
        if left is not None:
            found.append((now, left))

    def train(broker: Broker, work: Work, event: Event, *, seconds: float) -> None:
        nonlocal now, told_of
        for _ in range(20):
            look(broker)
            now += seconds / 20
        broker.observe(work.work_id, event)
        told_of += 1
        if event.done:
            broker.settle(work.work_id)
        look(broker)

    with _broker(tmp_path, space) as broker:
        studies = {study.name: study for study in _plan(space).studies}
        look(broker)
        while isinstance(work := broker.next_work(), Work):
            final_s = 0.01 * steps * studies[work.study].labels_used  # which is a batch
            if work.kind is not Kind.TRIAL:
                if work.kind is Kind.BASELINE:
                    _complete(broker, work)
                else:
                    train(broker, work, Event(run={}, result={}, done=True), seconds=final_s)
                continue
            seconds = final_s * studies[work.study].folds / reports
            for number in range(reports + 1):
                last = number == reports
                event = replace(_report(work, number, 0.5), done=last)
                train(broker, work, event, seconds=seconds if number else 0.0)
                if not last and pruned and int(work.trial_id[-1]) % pruned == 1:
                    broker.settle(work.work_id)
                    break
    for (_, earlier), (_, later) in itertools.pairwise(found):
        assert later <= earlier + 1e-6
    for at, left in found:
        assert left >= now - at - 1e-6
    assert len(found) > 20
    at, left = found[-5]
    assert left == pytest.approx(now - at)  # at last nothing more can be pruned


def test_slots_are_busy_while_work_is_out(tmp_path: Path) -> None:
    with _broker(tmp_path, _space(), slots=3) as broker:
        assert (broker.activity.busy, broker.activity.slots) == (0, 3)
        works = [_take(broker) for _ in range(3)]
        assert broker.activity.busy == 3
        for left, work in zip((2, 1, 0), works, strict=True):
            _complete(broker, work)
            assert broker.activity.busy == left


def _settle_with(broker: Broker, *, asked: float, computed: float) -> None:
    work = _take(broker)
    run = {"prefix_flops_asked": asked, "prefix_flops_computed": computed}
    if work.kind is Kind.TRIAL:
        broker.observe(work.work_id, replace(_report(work, 2, 0.5), run=run))
    else:
        broker.observe(work.work_id, Event(run=run, result=RESULT, done=True))
    broker.settle(work.work_id)


def test_what_sharing_saves_is_counted_as_work_settles_and_over_a_resume(tmp_path: Path) -> None:
    space = _space(baselines=["pixels"])
    with _broker(tmp_path, space) as broker:
        saved = [broker.activity.saved_fraction]
        _settle_with(broker, asked=40.0, computed=40.0)  # a baseline
        saved.append(broker.activity.saved_fraction)
        _settle_with(broker, asked=60.0, computed=10.0)  # a trial
        saved.append(broker.activity.saved_fraction)
        assert saved == [None, 0.0, 0.5]
        broker.settle(
            _take(broker).work_id, loss=Loss(failure=Failure.WORKER_LOST)
        )  # says nothing of it
        before = broker.activity
        assert before == replace(before, busy=0, slots=1, asked_flops=100.0, computed_flops=50.0)
        savings = measure_savings(broker.studies.values())
    assert (savings.asked_flops, savings.computed_flops) == (100.0, 50.0)
    with _broker(tmp_path, space) as broker:
        assert broker.activity == before


def test_measuring_copies_no_attribute_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = _space()
    with _broker(tmp_path, space) as broker:
        for _ in range(8):
            _complete(broker, _take(broker))
        measured = measure(space, broker.studies)

        def refuse(value: object) -> None:
            raise AssertionError(f"copied: {value}")

        monkeypatch.setattr("copy.deepcopy", refuse)
        assert measure(space, broker.studies) == measured
        assert measure_savings(broker.studies.values()).hits == 0


def test_readers_of_the_journal_see_the_same_progress(tmp_path: Path) -> None:
    space = _space()
    with _broker(tmp_path, space, slots=3) as broker:
        for _ in range(6):
            _complete(broker, _take(broker))
        _take(broker)
        assert measure(space, load_studies(tmp_path)) == measure(space, broker.studies)
