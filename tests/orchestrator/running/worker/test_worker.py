import gc
import json
import weakref
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.datasets.sections import DigitsSection
from orchestrator.planning.work import Event, Failure, Kind, Work
from orchestrator.recording.array_text import from_text
from orchestrator.running.worker import worker
from orchestrator.running.worker.checkpoints import Saved
from orchestrator.running.worker.worker import PROCESS_BROKEN, perform
from tests.builders.prepared import load_images
from trainable import device as devices
from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import DataError
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training import probe
from trainable.training.learner import DivergedError
from trainable.training.probe import Probe, ProbeMemo
from trainable.training.trial import Trial

RUN_KEYS = {
    "micro_batches",
    "lr_factor",
    "from_checkpoint",
    "checkpoint_warning",
    "setup_s",
    "features_s",
    "train_s",
    "cache_hits",
    "cache_misses",
    "prefix_flops_asked",
    "prefix_flops_computed",
    "cache_warning",
    "duration_s",
    "peak_memory_bytes",
    "device",
    "host",
    "started_at",
    "finished_at",
}


pytestmark = pytest.mark.usefixtures("few_penalties")


@cache
def digits() -> LabelledExamples:
    return load_images(DigitsSection(), seed=0)


@cache
def backbone(name: str) -> Backbone:
    return Backbone(load_weights(name))


def _spec(**given: Any) -> TrialSpec:
    values: dict[str, Any] = {
        "backbone": "tiny_strokes",
        "lr": 0.01,
        "label_budget": LabelBudget(per_class=2),
        "freeze_depth": 1.0,
        "steps": 4,
        "reports": 2,
        "interpolation": 1.0,
    }
    return TrialSpec(**(values | given))


def _work(kind: Kind = Kind.TRIAL, task: dict[str, Any] | None = None, **given: Any) -> Work:
    return Work(
        kind=kind,
        study="b2",
        trial_id="b2-0000",
        task=_spec(**given).to_json() if task is None else task,
    )


def _events(
    work: Work, *, images: Callable[[], LabelledExamples] = digits, build: Any = backbone
) -> list[Event]:
    return list(perform(work, images=images, backbone=build))


def _baseline(name: str | None) -> Work:
    return _work(
        Kind.BASELINE,
        {
            "method": "probe" if name else "pixels",
            "backbone": name,
            "label_budget": 2,
            "validation": {"folds": 2},
            "objective": "accuracy",
            "repeats": 2,
            "seed": 0,
            "image_size": None,
            "precision": "auto",
        },
    )


def test_a_trial_gives_each_of_its_reports_and_its_facts_with_the_first() -> None:
    events = _events(_work())
    assert [event.done for event in events] == [False, False, True]
    assert [event.report and event.report["step"] for event in events] == [0, 2, 4]
    assert events[0].facts is not None
    resolved = events[0].facts["spec"]
    assert "auto" not in resolved.values()
    given = {key: value for key, value in _spec().to_json().items() if value != "auto"}
    assert {key: resolved[key] for key in given} == given
    assert events[1].facts is events[2].facts is None
    assert all(event.failure is None and event.result is None for event in events)


def test_a_trial_reports_what_trainable_reports() -> None:
    trial = Trial(_spec(), digits(), backbone("tiny_strokes"))
    expected = [asdict(report) | {"elapsed_s": None} for report in trial.reports()]
    found = [(event.report or {}) | {"elapsed_s": None} for event in _events(_work())]
    assert found == expected


def _outcome(event: Event) -> tuple[Any, Any]:
    report = event.report and {k: v for k, v in event.report.items() if k != "elapsed_s"}
    return report, event.result


def test_a_memo_of_probes_changes_no_result_and_fits_each_probe_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    works = [
        _baseline("tiny_strokes"),
        _work(validation=Validation(2)),
        _work(validation=Validation(2), freeze_depth=0.5),
        _work(Kind.FINAL, validation=Validation(2), repeat=1),
    ]
    forgetting = [_outcome(event) for work in works for event in _events(work)]
    fitted: list[Probe] = []
    fit = probe.fit_probe
    monkeypatch.setattr(
        probe,
        "fit_probe",
        lambda *a, **k: fitted.append(fit(*a, **k)) or fitted[-1],  # type: ignore[func-returns-value]
    )
    memo = ProbeMemo()
    remembering = [
        _outcome(event)
        for work in works
        for event in perform(work, images=digits, backbone=backbone, probes=memo)
    ]
    assert remembering == forgetting
    assert len(fitted) == 2  # one per repeat of the baseline, and no other


@pytest.mark.parametrize("work", [_work(), _work(Kind.FINAL), _baseline(None)])
def test_every_event_survives_json_and_has_host_and_duration(work: Work) -> None:
    for event in _events(work):
        assert Event.from_text(event.to_text()) == event
        missing = set() if work.kind is not Kind.BASELINE else {"setup_s", "features_s", "train_s"}
        assert set(event.run) == RUN_KEYS - missing
        assert event.run["duration_s"] >= 0
        started, finished = (
            datetime.fromisoformat(event.run[key]) for key in ("started_at", "finished_at")
        )
        assert started.tzinfo is not None
        assert started <= finished


def test_work_survives_json() -> None:
    work = _work(Kind.FINAL)
    assert Work.from_text(work.to_text()) == work
    assert (work.work_id, _work().work_id) == ("b2-0000/0", "b2-0000")


def test_a_final_predicts_every_test_image() -> None:
    (event,) = _events(_work(Kind.FINAL, repeat=1))
    assert event.done
    assert event.result is not None
    expected = Trial(_spec(repeat=1), digits(), backbone("tiny_strokes")).refit()
    np.testing.assert_array_equal(
        from_text(event.result["predicted"]), expected.arrays()["predicted"]
    )
    np.testing.assert_array_equal(
        from_text(event.result["probability"]), expected.arrays()["probability"]
    )
    assert event.result["scores"] == expected.scores.to_json()
    assert event.run["lr_factor"] == 1


@pytest.mark.parametrize("name", [None, "tiny_strokes"])
def test_a_baseline_is_validated_and_tested_once_per_repeat(name: str | None) -> None:
    (event,) = _events(_baseline(name))
    assert event.done
    assert event.result is not None
    assert len(event.result["tests"]) == 2
    assert event.result["validation"]["count"] == event.result["labels_used"] == 20
    assert (event.result["weights"] is None) == (name is None)
    assert (event.result["image_size"], event.result["precision"]) == (8, "fp32")
    json.dumps(event.result, allow_nan=False)


def test_divergence_is_the_failure_nonfinite(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(self: Trial, **given: object) -> None:
        raise DivergedError("the training loss was nan by step 2")

    monkeypatch.setattr(Trial, "reports", diverge)
    (event,) = _events(_work())
    assert (event.failure, event.done) == (Failure.NONFINITE, True)


def test_a_huge_learning_rate_diverges() -> None:
    *_, last = _events(_work(lr=1e30, freeze_depth=0.0, steps=20))
    assert (last.failure, last.done) == (Failure.NONFINITE, True)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (DataError("cat.png: torn"), "DataError: cat.png: torn"),
        (KeyError("x"), "KeyError: 'x'"),
        (torch.OutOfMemoryError("out of memory"), "cuda_oom"),
    ],
)
def test_every_error_becomes_a_last_event(
    error: Exception, failure: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def images() -> LabelledExamples:
        raise error

    (event,) = _events(_work(), images=images)
    assert (event.failure, event.done, event.report) == (failure, True, None)
    assert ("traceback" in event.run) == (not isinstance(error, DataError))
    bug = isinstance(error, KeyError)
    assert ("Traceback" in capfd.readouterr().err) == bug  # the traceback is for the driver's log


@pytest.mark.parametrize("has_class", [True, False], ids=["with its class", "before torch 2.8"])
def test_a_process_is_broken_after_an_error_of_its_device_and_not_after_a_bug(
    has_class: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = getattr(torch, "AcceleratorError", RuntimeError) if has_class else RuntimeError
    if not has_class:
        monkeypatch.delattr(torch, "AcceleratorError", raising=False)
    lost = kind("CUDA error: device-side assert triggered")

    def raising(error: Exception) -> Callable[[], LabelledExamples]:
        def images() -> LabelledExamples:
            raise error

        return images

    for error, broken in ((lost, True), (KeyError("x"), False), (RuntimeError("shapes"), False)):
        (event,) = _events(_work(), images=raising(error))
        assert event.run[PROCESS_BROKEN] == broken


class CheckpointStore:
    """A store that keeps all checkpoints and loads a chosen one."""

    def __init__(self, start: Saved | None = None) -> None:
        self.start = start
        self.saved: list[Saved] = []
        self.heartbeats = 0

    def load(self) -> Saved | None:
        return self.start

    def save(self, saved: Saved) -> None:
        self.saved.append(saved)

    def heartbeat(self) -> None:
        self.heartbeats += 1


def _kept(work: Work, checkpoint_store: CheckpointStore) -> list[Event]:
    return list(
        perform(
            work,
            images=digits,
            backbone=backbone,
            checkpoint_store=checkpoint_store,
            checkpoint_s=1e-9,
        )
    )


def _said(events: list[Event]) -> list[tuple[Any, ...]]:
    """Contents of events, except for times."""
    return [
        ((event.report or {}) | {"elapsed_s": None}, event.result, event.facts, event.done)
        for event in events
    ]


@pytest.mark.parametrize("kind", [Kind.TRIAL, Kind.FINAL])
def test_work_that_resumes_from_its_checkpoint_has_the_same_result(kind: Kind) -> None:
    work = _work(kind, freeze_depth=0.5)
    first = CheckpointStore()
    undisturbed = _kept(work, first)
    assert first.saved
    assert first.heartbeats
    assert undisturbed[-1].run["from_checkpoint"] is False
    for saved in first.saved[:: max(1, len(first.saved) // 3)]:
        again = _kept(work, CheckpointStore(saved))
        assert again[-1].run["from_checkpoint"] is True
        assert again[-1].run["checkpoint_warning"] is None
        facts = undisturbed[0].facts
        expected = _said(undisturbed)[-len(again) :]
        assert _said(again) == [
            (expected[0][0], expected[0][1], facts, expected[0][3]),
            *expected[1:],
        ]


@pytest.mark.parametrize("kind", [Kind.TRIAL, Kind.FINAL])
@pytest.mark.parametrize("harm", ["torn", "of other work"])
def test_work_with_an_invalid_checkpoint_starts_from_scratch(kind: Kind, harm: str) -> None:
    work = _work(kind, freeze_depth=0.5)
    donor = CheckpointStore()
    undisturbed = _kept(work, donor)
    if harm == "torn":
        bad = Saved(donor.saved[0].values, donor.saved[0].tensors[:-1])
    else:
        other = CheckpointStore()
        _kept(_work(kind, freeze_depth=0.5, lr=0.02), other)
        bad = other.saved[0]
    again = _kept(work, CheckpointStore(bad))
    assert _said(again) == _said(undisturbed)
    assert again[-1].run["from_checkpoint"] is False
    assert "started from scratch" in again[-1].run["checkpoint_warning"]


def test_a_task_that_is_no_spec_is_a_failure_with_its_reason() -> None:
    (event,) = _events(
        _work(task={"backbone": "tiny_strokes", "lr": 0.1, "label_budget": 2, "x": 1})
    )
    assert event.failure is not None
    assert event.failure.startswith("SpecError: x: unknown")


@pytest.mark.parametrize("cut_short", [False, True])
def test_a_trial_is_freed_before_memory_is_released(
    monkeypatch: pytest.MonkeyPatch, cut_short: bool
) -> None:
    alive: list[bool] = []
    trials: list[weakref.ref[Trial]] = []

    class Watched(Trial):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            trials.append(weakref.ref(self))

    def release(device: torch.device) -> None:
        gc.collect()
        alive.append(trials[-1]() is not None)

    monkeypatch.setattr(worker, "Trial", Watched)
    monkeypatch.setattr(devices, "release_memory", release)
    events = perform(_work(), images=digits, backbone=backbone)
    if cut_short:
        next(events)
    else:
        list(events)
    del events
    assert alive == [False]
