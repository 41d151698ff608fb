"""What an actor does with one piece of work. Knows nothing of Ray.

Whatever goes wrong inside comes out as a last event with a failure: only a lost process is left
for Ray to notice.
"""

from __future__ import annotations

import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from orchestrator.arrays import to_text
from orchestrator.work import Event, Failure, Kind, Work
from trainable import device as devices
from trainable.backbones import Backbone
from trainable.baselines import run_baseline
from trainable.errors import TrainableError
from trainable.features import FeatureCounts
from trainable.finetune import DivergedError, Trial
from trainable.images import LabelledImages
from trainable.keeping import FeatureCache
from trainable.results import TestResult
from trainable.spec import LabelBudget, Metric, TrialSpec, Validation

TRACEBACK_LINES = 15


def perform(
    work: Work,
    *,
    images: Callable[[], LabelledImages],
    backbone: Callable[[str], Backbone],
    cache: Callable[[], FeatureCache | None] = lambda: None,
) -> Iterator[Event]:
    """Do the work and yield events; the last one is `done`.

    Args:
        work: what to do.
        images: gives the images of the sweep, fetched once a process.
        backbone: gives the backbone of a name, built once a process.
        cache: gives what keeps features, opened once a process; None to compute them each time.
    """
    clock = _Clock()
    perform_one = {Kind.TRIAL: _trial, Kind.FINAL: _final, Kind.BASELINE: _baseline}[work.kind]
    try:
        clock.cache = cache()
        yield from perform_one(work, images(), backbone, clock)
    except DivergedError:
        yield Event(run=clock.read(), failure=Failure.NONFINITE, done=True)
    except TrainableError as error:
        yield Event(run=clock.read(), failure=f"{type(error).__name__}: {error}", done=True)
    except Exception as error:
        tail = "".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:]
        print("\n".join(tail), file=sys.stderr)  # Ray carries it to the driver's log
        run = {**clock.read(), "traceback": "\n".join(tail)}
        yield Event(run=run, failure=f"{type(error).__name__}: {error}", done=True)
    finally:
        clock.trial = None  # what it still held could not be given back
        devices.release_memory(devices.default_device())


class _Clock:
    """Host, device, times, memory and frozen computation of one attempt."""

    def __init__(self) -> None:
        self.trial: Trial | None = None
        self.counts = FeatureCounts()
        self.cache: FeatureCache | None = None
        self._started_at = datetime.now(tz=UTC)
        self._start = time.perf_counter()

    def read(self) -> dict[str, Any]:
        device = devices.default_device()
        counts = self.trial.counts if self.trial else self.counts
        return {
            **(self.trial.timings if self.trial else {}),
            "cache_hits": counts.hits,
            "cache_misses": counts.misses,
            "prefix_flops_asked": counts.asked_flops,
            "prefix_flops_computed": counts.computed_flops,
            "cache_warning": self.cache.store.warning if self.cache else None,
            "duration_s": time.perf_counter() - self._start,
            "peak_memory_bytes": devices.peak_memory_bytes(device),
            "device": devices.describe(device),
            "host": platform.node(),
            "started_at": self._started_at.isoformat(),
            "finished_at": datetime.now(tz=UTC).isoformat(),
        }


def _trial(
    work: Work, images: LabelledImages, backbone: Callable[[str], Backbone], clock: _Clock
) -> Iterator[Event]:
    spec = TrialSpec.from_json(work.task)
    trial = clock.trial = Trial(spec, images, backbone(spec.backbone), cache=clock.cache)
    facts: dict[str, Any] | None = trial.facts().to_json()
    for report in trial.reports():
        last = report.report == spec.reports - 1
        yield Event(run=clock.read(), report=asdict(report), facts=facts, done=last)
        facts = None


def _final(
    work: Work, images: LabelledImages, backbone: Callable[[str], Backbone], clock: _Clock
) -> Iterator[Event]:
    spec = TrialSpec.from_json(work.task)
    trial = clock.trial = Trial(spec, images, backbone(spec.backbone), cache=clock.cache)
    result = trial.refit()
    yield Event(run=clock.read(), result=_test_json(result), done=True)


def _baseline(
    work: Work, images: LabelledImages, backbone: Callable[[str], Backbone], clock: _Clock
) -> Iterator[Event]:
    task = work.task
    network = None if task["backbone"] is None else backbone(task["backbone"])
    result = run_baseline(
        images,
        backbone=network,
        budget=LabelBudget.parse(task["label_budget"]),
        validation=Validation.parse(task["validation"]),
        objective=Metric(task["objective"]),
        repeats=task["repeats"],
        seed=task["seed"],
        image_size=task["image_size"],
        cache=clock.cache,
        counts=clock.counts,
    )
    yield Event(
        run=clock.read(),
        result={
            "weights": network.weights.version if network else None,
            "inverse_penalty": result.inverse_penalty,
            "num_features": result.num_features,
            "labels_used": result.labels_used,
            "num_classes": images.num_classes,
            "folds": result.folds,
            "validation": asdict(result.validation),
            "tests": [_test_json(test) for test in result.tests],
        },
        done=True,
    )


def _test_json(result: TestResult) -> dict[str, Any]:
    return {
        "scores": asdict(result.scores),
        "predicted": to_text(result.predicted.astype(np.int32)),
        "probability": to_text(result.probability),
        "label_probability": to_text(result.label_probability),
    }
