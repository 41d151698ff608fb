from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.journal import SweepJournal
from orchestrator.plan import Plan, make_plan
from orchestrator.progress import measure, remaining_share
from orchestrator.projection import load_studies
from orchestrator.sharing import measure_savings
from orchestrator.space import SearchSpace, parse_space
from orchestrator.studies import StudyBroker
from orchestrator.work import Event, Failure, Kind, Work
from trainable.images import LabelledImages, Split
from trainable.spec import Metric

RESULT = {"validation": {metric.value: 0.5 for metric in Metric}}
IMAGES = LabelledImages.from_bytes(
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
def _broker(path: Path, space: SearchSpace, *, slots: int = 1) -> Iterator[StudyBroker]:
    with closing(SweepJournal(path / "journal.log")) as journal:
        yield StudyBroker(space, _plan(space), IMAGES, journal, slots=slots)


def _take(broker: StudyBroker) -> Work:
    work = broker.next_work()
    assert isinstance(work, Work)
    return work


def _report(work: Work, number: int, value: float) -> Event:
    return Event(
        run={},
        report={"report": number, "val_objective": value, "val_loss": 1.0},
        facts={
            "spec": work.task,
            "frozen_boundaries": 0,
            "num_boundaries": 4,
            "trainable_params": 1,
        },
        done=number == 1,
    )


def _complete(broker: StudyBroker, work: Work, value: float = 0.5) -> None:
    if work.kind is Kind.TRIAL:
        for number in range(2):
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
    assert remaining_share(_plan(space), [first, second]) == 1


def test_trials_are_counted_by_their_state(tmp_path: Path) -> None:
    space = _space(baselines=[])
    with _broker(tmp_path, space, slots=4) as broker:
        better, pruned, failed, running = (_take(broker) for _ in range(4))
        _complete(broker, better, 0.75)
        broker.observe(pruned.work_id, _report(pruned, 0, 0.9))
        broker.settle(pruned.work_id)
        broker.settle(failed.work_id, failure=Failure.WORKER_LOST)
        broker.observe(running.work_id, _report(running, 0, 0.8))
        first, _ = measure(space, broker.studies)
    assert (first.complete, first.pruned, first.failed, first.running) == (1, 1, 1, 1)
    assert (first.settled, first.failures) == (3, 1)
    assert first.best == 0.75  # neither the pruned nor the running trial counts


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
    assert remaining_share(_plan(space), progress) == 0


def test_what_is_left_shrinks_with_everything_that_settles(tmp_path: Path) -> None:
    space = _space()
    shares = [1.0]
    with _broker(tmp_path, space) as broker:
        while isinstance(work := broker.next_work(), Work):
            _complete(broker, work)
            shares.append(remaining_share(_plan(space), measure(space, broker.studies)))
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) == len(shares)
    assert shares[-1] == pytest.approx(0)


def test_slots_are_busy_while_work_is_out(tmp_path: Path) -> None:
    with _broker(tmp_path, _space(), slots=3) as broker:
        assert (broker.activity.busy, broker.activity.slots) == (0, 3)
        works = [_take(broker) for _ in range(3)]
        assert broker.activity.busy == 3
        for left, work in zip((2, 1, 0), works, strict=True):
            _complete(broker, work)
            assert broker.activity.busy == left


def _settle_with(broker: StudyBroker, *, asked: float, computed: float) -> None:
    work = _take(broker)
    run = {"prefix_flops_asked": asked, "prefix_flops_computed": computed}
    if work.kind is Kind.TRIAL:
        broker.observe(work.work_id, replace(_report(work, 1, 0.5), run=run))
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
        broker.settle(_take(broker).work_id, failure=Failure.WORKER_LOST)  # says nothing of it
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
