"""Run one trial: fine-tune the folds of a label budget in lockstep and report their predictions.

Nothing here reads or writes files, prints, or keeps state between trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from trainable import device as devices
from trainable.backbones import Backbone
from trainable.backbones.cutting.split import SplitBackbone
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import Fold, draw_subset, validation_parts
from trainable.errors import DataError
from trainable.features.cache import FeatureCache
from trainable.features.reader import FeatureCounts
from trainable.micro_batches import Memory, memory_errors, nothing
from trainable.spec.trial_spec import TrialSpec
from trainable.tasks import TestResult, joined, task_called
from trainable.training.checkpoint import Checkpoint
from trainable.training.examples import ExampleReader
from trainable.training.loop import AfterUpdate, Clock, TrainingLoop
from trainable.training.probe import ProbeMemo
from trainable.training.recipe import resolve_views
from trainable.training.results import Report, TrialFacts
from trainable.training.setup import TrialSetup
from trainable.training.trainer import Trainer
from trainable.training.validation import HeldOut
from trainable.training.whole_training import WholeTraining, train_whole


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """A network that was trained on the whole label budget of a trial.

    Attributes:
        split: the backbone, cut into prefix and suffix, untrained.
        suffix: trained network from activations at the cut to logits; in eval mode, on the trial's
            device.
        spec, lr_factor: see `WholeTraining`.
        indices: (M,) int64 indices of the training images.
    """

    split: SplitBackbone
    suffix: fx.GraphModule
    spec: TrialSpec
    lr_factor: float | None
    indices: npt.NDArray[np.int64]


class Trial:
    """One configuration on one label budget.

    Args:
        spec: the configuration.
        images: all images that the trial may read; the subset is drawn from their pool.
        backbone: the backbone that `spec.backbone` names.
        device: the device to compute on; the default is the visible GPU, else the CPU.
        cache: the feature cache of the frozen prefix; None computes the activations here.
        probes: memo of the probes that heads start from; None fits them here.
        heartbeat: called regularly while there is progress.

    Attributes:
        lr_factor: see `WholeTraining`; None before a training on the whole budget.

    Raises:
        SpecError, DataError, BackboneError: the trial cannot be run.
    """

    def __init__(
        self,
        spec: TrialSpec,
        images: LabelledExamples,
        backbone: Backbone,
        *,
        device: torch.device | None = None,
        cache: FeatureCache | None = None,
        probes: ProbeMemo | None = None,
        heartbeat: Callable[[], None] = nothing,
    ) -> None:
        self.lr_factor: float | None = None
        self._clock = Clock()
        self._device = device or devices.default_device()
        self._images = images
        self._task = task_called(images.task)
        devices.reset_peak_memory(self._device)
        self._subset = draw_subset(
            images, budget=spec.label_budget, repeat=spec.repeat, seed=spec.seed
        )
        spec = resolve_views(spec, len(self._subset))
        self._setup = TrialSetup(
            spec, backbone, num_classes=images.num_classes, device=self._device
        )
        self._reader = ExampleReader(
            spec,
            images,
            self._setup.backbone,
            frozen=self._setup.split.frozen,
            size=self._setup.size,
            device=self._device,
            cache=cache,
            heartbeat=heartbeat,
        )
        self._trainer = Trainer(
            self._setup,
            images,
            self._subset,
            self._reader,
            memory=Memory(self._device, heartbeat=heartbeat),
            clock=self._clock,
            probes=probes,
        )
        self._clock.lap("setup_s")

    @property
    def timings(self) -> dict[str, float]:
        """Seconds per phase, including earlier attempts that this one resumed."""
        return self._clock.timings

    @property
    def counts(self) -> FeatureCounts:
        """Cache hits and misses of the frozen prefix, and its FLOPs."""
        return self._reader.counts

    @property
    def micro_batches(self) -> int:
        """Number of micro-batches per batch; 1 until the GPU's memory has run out."""
        return self._trainer.micro_batches

    def reports(
        self, *, start: Checkpoint | None = None, after_update: AfterUpdate | None = None
    ) -> Iterator[Report]:
        """Train the folds in lockstep; yield report 0, then `spec.reports` more.

        Report 0 comes before any update, the last report after the last update.

        On a CPU, a training resumed from a checkpoint gives the same bits as an uninterrupted one;
        its times include the time up to the checkpoint.

        Args:
            start: checkpoint to resume from; reports before its step are not repeated.
            after_update: called after every update of a fold with a function that returns the
                current state; the function is valid until the next update.

        Raises:
            DivergedError: loss or predictions are not finite.
            DataError: the budget is too small for validation.
            CheckpointError: `start` belongs to another training. No report was yielded then, and a
                new `Trial` can start from scratch.
            GpuMemoryError: the GPU's memory is too small for what cannot be cut into micro-batches.
        """
        with memory_errors("training"):
            rows, folds = self._parts()
            spec = self._setup.resolve(min(len(fold.train) for fold in folds))
            self._clock.mark()
            examples = self._reader.plain(rows)
            training = examples if spec.augment is None else self._reader.views(self._subset)
            probe = self._trainer.probe(spec)
            self._clock.lap("features_s")
            loop = self._trainer.loop(
                [training.at(self._reader.view_rows(fold.train)) for fold in folds],
                names=[f"fold{number}" for number in range(len(folds))],
                seen=[rows[part] for part in (*(f.train for f in folds), *(f.val for f in folds))],
                spec=spec,
                initial_heads=probe.folds if probe else None,
                start=start,
                after_update=after_update,
            )
            held_out = HeldOut(
                [examples.at(torch.from_numpy(fold.val).to(self._device)) for fold in folds],
                task=self._task,
                spec=spec,
            )
            for segment in loop.spans(spec.reports):
                self._clock.mark()
                loss = loop.advance(segment)
                scores, share = held_out.scores(loop.learners)
                self._clock.lap("train_s")
                yield Report(
                    report=segment.number,
                    step=segment.step,
                    train_loss=loss if segment.step else None,
                    val_loss=scores.log_loss,
                    val_accuracy=scores.accuracy,
                    val_balanced_accuracy=scores.balanced_accuracy,
                    val_objective=scores.objective(spec.objective),
                    elapsed_s=self._clock.elapsed_s,
                    interpolation=share,
                )

    def refit(
        self, *, start: Checkpoint | None = None, after_update: AfterUpdate | None = None
    ) -> TestResult:
        """Train once on the whole budget and return the predictions of the test split.

        An `auto` is resolved by the whole budget, not as `reports` does it by the folds: to train
        what a trial validated, give the spec of its `facts`.

        Args:
            start: see `reports`.
            after_update: see `reports`.

        Raises:
            DivergedError: predictions are not finite.
            DataError: there is no test image.
            SpecError: the spec leaves `interpolation` to validation.
            CheckpointError, GpuMemoryError: see `reports`.
        """
        test = self._images.indices(Split.TEST)
        if not len(test):
            raise DataError("there is no test image; a refit is always scored on the test split")
        with memory_errors("training"):
            learners = self._train_whole(start=start, after_update=after_update).learners
            outcomes = []
            for some in self._reader.few_at_a_time(test):
                self._clock.mark()
                unseen = self._reader.plain(some)
                self._clock.lap("features_s")
                outcomes += learners.outcomes([unseen])
                self._clock.lap("train_s")
        return self._task.result(
            joined(outcomes),
            all_probabilities=self._setup.spec.objective.needs_all_probabilities,
        )

    def fit(self, watch: Callable[[int], object] | None = None) -> Fitted:
        """Train as `refit` does and return the trained network; no test image is read.

        Args:
            watch: called regularly with the number of updates made so far.

        Raises:
            SpecError, GpuMemoryError: see `refit`.
        """
        with memory_errors("training"):
            trained = self._train_whole(watch=watch)
        return Fitted(
            split=self._setup.split,
            suffix=self._setup.trained_suffix(trained.learners),
            spec=trained.spec,
            lr_factor=trained.lr_factor,
            indices=self._subset,
        )

    def facts(self) -> TrialFacts:
        """Return the resolved spec and the counts of the trial; needs no training.

        Raises:
            DataError: the budget is too small for validation.
        """
        _, folds = self._parts()
        return self._setup.facts(folds, labels_used=len(self._subset))

    def peak_memory_bytes(self) -> int:
        """Return the peak memory so far: GPU memory of this trial, or memory of this process."""
        return devices.peak_memory_bytes(self._device)

    def _parts(self) -> tuple[npt.NDArray[np.int64], list[Fold]]:
        return validation_parts(self._images, self._subset, validation=self._setup.spec.validation)

    def _train_whole(
        self,
        *,
        start: Checkpoint | None = None,
        after_update: AfterUpdate | None = None,
        watch: Callable[[int], object] | None = None,
    ) -> WholeTraining:
        """Train on the whole drawn subset; see `train_whole`."""
        spec = self._setup.resolve(len(self._subset))
        self._clock.mark()
        training = self._reader.views(self._subset)
        probe = self._trainer.probe(spec)
        self._clock.lap("features_s")

        def loop_of(spec: TrialSpec, start: Checkpoint | None) -> TrainingLoop:
            return self._trainer.loop(
                [training],
                names=["whole"],
                seen=[self._subset],
                spec=spec,
                initial_heads=[probe.whole] if probe else None,
                start=start,
                after_update=after_update,
            )

        trained = train_whole(
            spec, loop_of, num_classes=self._images.num_classes, start=start, watch=watch
        )
        self._clock.lap("train_s")
        self.lr_factor = trained.lr_factor
        return trained
