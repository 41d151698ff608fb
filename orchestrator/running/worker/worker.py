"""Execution of one piece of work, as a stream of events; independent of Ray.

Every exception becomes a last event with a failure, so that Ray has only lost processes to detect.
"""

from __future__ import annotations

import math
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from typing import Any, TypeVar

import torch

from orchestrator.planning.work import Event, Failure, Kind, Work
from orchestrator.recording.array_text import to_text
from orchestrator.running.worker.checkpoints import CheckpointStore, NoCheckpoints, checkpointing
from trainable import device as devices
from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import CheckpointError, GpuMemoryError, TrainableError
from trainable.features.cache import FeatureCache
from trainable.features.reader import FeatureCounts
from trainable.modalities import modality_called
from trainable.spec.metrics import Metric
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.tasks import TestResult
from trainable.training.baselines import run_baseline
from trainable.training.checkpoint import Checkpoint
from trainable.training.learner import DivergedError
from trainable.training.probe import ProbeMemo
from trainable.training.results import Report
from trainable.training.trial import Trial

TRACEBACK_LINES = 15
"""Last lines of a traceback that an event has."""

PROCESS_BROKEN = "process_broken"
"""Key in the run of an event: whether the process is unusable, as after a CUDA error."""

_Begun = TypeVar("_Begun")


def perform(
    work: Work,
    *,
    images: Callable[[], LabelledExamples],
    backbone: Callable[[str], Backbone],
    cache: Callable[[], FeatureCache | None] = lambda: None,
    probes: ProbeMemo | None = None,
    checkpoint_store: CheckpointStore | None = None,
    checkpoint_s: float = math.inf,
) -> Iterator[Event]:
    """Do the work and yield its events; the last one is `done`.

    No `Exception` escapes: each becomes the failure of the last event.

    Args:
        work: the work.
        images: returns the images of the sweep.
        backbone: returns the backbone of a name.
        cache: returns the feature cache; None to compute features each time.
        probes: memo of fitted probes of this process; None to fit them each time.
        checkpoint_store: receives checkpoints and heartbeats, and returns the newest checkpoint;
            None for work without checkpoints.
        checkpoint_s: shortest time between two checkpoints, in seconds.
    """
    attempt = _Attempt(checkpoint_store or NoCheckpoints(), checkpoint_s, probes)
    perform_one = {Kind.TRIAL: _trial, Kind.FINAL: _final, Kind.BASELINE: _baseline}[work.kind]
    try:
        attempt.cache = cache()
        yield from perform_one(work, images(), backbone, attempt)
    except DivergedError:
        yield Event(run=attempt.read(), failure=Failure.NONFINITE, done=True)
    except (GpuMemoryError, torch.OutOfMemoryError) as error:
        run = {**attempt.read(), "traceback": str(error)}
        yield Event(run=run, failure=Failure.CUDA_OOM, done=True)
    except TrainableError as error:
        yield Event(run=attempt.read(), failure=f"{type(error).__name__}: {error}", done=True)
    except Exception as error:
        tail = "".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:]
        print("\n".join(tail), file=sys.stderr)  # Ray carries it to the driver's log
        broken = devices.breaks_process(error)
        run = {**attempt.read(), "traceback": "\n".join(tail), PROCESS_BROKEN: broken}
        yield Event(run=run, failure=f"{type(error).__name__}: {error}", done=True)
    finally:
        attempt.trial = None  # memory that it references could not be released
        devices.release_memory(devices.default_device())


class _Attempt:
    """The state of one attempt: its checkpoint, and the run facts that its events carry."""

    def __init__(
        self, checkpoint_store: CheckpointStore, checkpoint_s: float, probes: ProbeMemo | None
    ) -> None:
        self.checkpoint_store = checkpoint_store
        self.probes = probes
        self.after_update = checkpointing(checkpoint_store, every_s=checkpoint_s)
        self.trial: Trial | None = None
        self.counts = FeatureCounts()
        self.cache: FeatureCache | None = None
        self._from_checkpoint = False
        self._checkpoint_warning: str | None = None
        self._started_at = datetime.now(tz=UTC)
        self._start = time.perf_counter()

    def begin(self, how: Callable[[Checkpoint | None], _Begun]) -> _Begun:
        """Start from the newest checkpoint, or from scratch if there is none or it is invalid.

        Args:
            how: starts from a checkpoint, or from scratch for None.
        """
        saved = self.checkpoint_store.load()
        if saved is not None:
            try:
                begun = how(Checkpoint.from_files(saved.values, saved.tensors))
            except CheckpointError as error:
                self._checkpoint_warning = f"started from scratch: {error}"
            else:
                self._from_checkpoint = True
                return begun
        return how(None)

    def read(self) -> dict[str, Any]:
        """The run facts so far, as JSON values: host, device, times (UTC), memory, cache use."""
        device = devices.default_device()
        counts = self.trial.counts if self.trial else self.counts
        return {
            **(self.trial.timings if self.trial else {}),
            "micro_batches": self.trial.micro_batches if self.trial else None,
            "lr_factor": self.trial.lr_factor if self.trial else None,
            "from_checkpoint": self._from_checkpoint,
            "checkpoint_warning": self._checkpoint_warning,
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
    work: Work, images: LabelledExamples, backbone: Callable[[str], Backbone], attempt: _Attempt
) -> Iterator[Event]:
    spec = TrialSpec.from_json(work.task)

    def begin(start: Checkpoint | None) -> tuple[Trial, Iterator[Report]]:
        trial = _make(spec, images, backbone, attempt)
        reports = trial.reports(start=start, after_update=attempt.after_update)
        return trial, chain([next(reports)], reports)

    trial, reports = attempt.begin(begin)
    facts: dict[str, Any] | None = trial.facts().to_json()
    for report in reports:
        last = report.report == spec.reports  # report 0 precedes training
        yield Event(run=attempt.read(), report=asdict(report), facts=facts, done=last)
        facts = None


def _final(
    work: Work, images: LabelledExamples, backbone: Callable[[str], Backbone], attempt: _Attempt
) -> Iterator[Event]:
    spec = TrialSpec.from_json(work.task)

    def refit(start: Checkpoint | None) -> TestResult:
        trial = _make(spec, images, backbone, attempt)
        return trial.refit(start=start, after_update=attempt.after_update)

    result = attempt.begin(refit)
    yield Event(run=attempt.read(), result=result_json(result), done=True)


def _make(
    spec: TrialSpec,
    images: LabelledExamples,
    backbone: Callable[[str], Backbone],
    attempt: _Attempt,
) -> Trial:
    attempt.trial = Trial(
        spec,
        images,
        backbone(spec.backbone),
        cache=attempt.cache,
        probes=attempt.probes,
        heartbeat=attempt.checkpoint_store.heartbeat,
    )
    return attempt.trial


def _baseline(
    work: Work, images: LabelledExamples, backbone: Callable[[str], Backbone], attempt: _Attempt
) -> Iterator[Event]:
    task = work.task
    modality, name = modality_called(images.modality), task["backbone"]
    network = None if name is None else modality.reading(backbone(name), task)
    result = run_baseline(
        images,
        method=task["method"],
        backbone=network,
        budget=LabelBudget.parse(task["label_budget"]),
        validation=Validation.parse(task["validation"]),
        repeats=task["repeats"],
        seed=task["seed"],
        size=task[modality.setting],
        precision=task["precision"],
        cache=attempt.cache,
        counts=attempt.counts,
        probes=attempt.probes,
        all_probabilities=Metric(task["objective"]).needs_all_probabilities,
        heartbeat=attempt.checkpoint_store.heartbeat,
    )
    yield Event(
        run=attempt.read(),
        result={
            "weights": network.weights.version if network else None,
            "inverse_penalty": result.inverse_penalties[0],
            "inverse_penalties": list(result.inverse_penalties),
            "num_features": result.num_features,
            modality.setting: result.size,
            **(modality.resolved(network.weights) if network else {}),
            "precision": result.precision,
            "labels_used": result.labels_used,
            "num_classes": images.num_classes,
            "folds": result.folds,
            "validation": result.validation.to_json(),
            "tests": [result_json(test) for test in result.tests],
        },
        done=True,
    )


def result_json(result: TestResult) -> dict[str, Any]:
    """A test result as JSON values; arrays as text, those of two dimensions row by row."""
    return {
        "scores": result.scores.to_json(),
        **{name: to_text(array.ravel()) for name, array in result.arrays().items()},
    }
