"""One trial: fine-tune the folds of a label budget in lockstep and report what they predict.

Nothing here reads or writes files, prints, or remembers anything between trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from trainable import device as devices
from trainable.backbones import Backbone
from trainable.cutting.split import SplitBackbone
from trainable.data.labelled_images import LabelledImages, Split
from trainable.data.subsets import Fold, draw_subset, validation_parts
from trainable.errors import DataError, SpecError
from trainable.features.cache import FeatureCache
from trainable.features.reader import FeatureCounts
from trainable.micro_batches import Memory, memory_errors, nothing
from trainable.spec.trial_spec import TrialSpec
from trainable.training.checkpoint import Checkpoint
from trainable.training.examples import ExampleReader
from trainable.training.head_learner import HeadLearners
from trainable.training.learner import DivergedError, Examples
from trainable.training.logistic import LinearClassifier
from trainable.training.loop import AfterUpdate, Clock, TrainingLoop
from trainable.training.probe import Probe, ProbeMemo, probe_of_draw
from trainable.training.results import Report, TestResult, TrialFacts
from trainable.training.setup import TrialSetup
from trainable.training.suffix_learner import SuffixLearners
from trainable.training.validation import HeldOut

__all__ = ["DivergedError", "Fitted", "Trial"]

_PARTS = 20
"""Times that training on the whole budget tells how far it is."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """What a configuration became when it was trained on its whole budget.

    Attributes:
        split: the backbone as it was cut, untrained.
        suffix: activations at the cut -> logits, trained; in eval mode, on the trial's device.
        spec: the recipe; nothing in it is `auto`.
        indices: (M,) int64 of the images that it learnt from.
    """

    split: SplitBackbone
    suffix: fx.GraphModule
    spec: TrialSpec
    indices: npt.NDArray[np.int64]


class Trial:
    """One configuration on one label budget.

    Args:
        spec: the configuration.
        images: all images that it may touch; the subset is drawn from their pool.
        backbone: the one that `spec.backbone` names.
        device: to compute on; the default is the visible GPU, else the CPU.
        cache: where the frozen prefix's activations are kept; None computes them here.
        probes: remembers the probes that heads start from; None fits them here.
        heartbeat: called now and then while there is progress, as a sign of life.

    Raises:
        SpecError, DataError, BackboneError: it cannot be run.
    """

    def __init__(
        self,
        spec: TrialSpec,
        images: LabelledImages,
        backbone: Backbone,
        *,
        device: torch.device | None = None,
        cache: FeatureCache | None = None,
        probes: ProbeMemo | None = None,
        heartbeat: Callable[[], None] = nothing,
    ) -> None:
        self._clock = Clock()
        self._device = device or devices.default_device()
        self._images = images
        self._probes = probes
        devices.reset_peak_memory(self._device)
        self._memory = Memory(self._device, heartbeat=heartbeat)
        self._batch_size = 1  # of the training that began last
        self._subset = draw_subset(
            images, budget=spec.label_budget, repeat=spec.repeat, seed=spec.seed
        )
        self._configuration = TrialSetup(
            spec, backbone, num_classes=images.num_classes, device=self._device
        )
        self._reader = ExampleReader(
            spec,
            images,
            backbone,
            frozen=self._configuration.split.frozen,
            image_size=self._configuration.image_size,
            device=self._device,
            cache=cache,
            heartbeat=heartbeat,
        )
        self._clock.lap("setup_s")

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by what they were spent on, the attempts included that this one goes on from."""
        return self._clock.timings

    @property
    def counts(self) -> FeatureCounts:
        """What was asked for of the frozen prefix, and what it took."""
        return self._reader.counts

    @property
    def micro_batches(self) -> int:
        """Pieces that a batch is computed in; 1 until the GPU's memory has run out."""
        rows = self._memory.updates.rows
        return 1 if rows is None else -(-self._batch_size // rows)

    def reports(
        self, *, start: Checkpoint | None = None, after_update: AfterUpdate | None = None
    ) -> Iterator[Report]:
        """Train the folds in lockstep; yield a report of the start, then `spec.reports` more.

        Report 0 comes before any update, the last one at the last step.

        On a processor, going on from a checkpoint gives what an undisturbed training gives, to the
        bit; times include those that led to the checkpoint.

        Args:
            start: goes on from here, with the report that was being trained for then.
            after_update: called after every update of a fold with a function that gives the present
                state; until the next update it may be called.

        Raises:
            DivergedError: loss or predictions are not finite.
            DataError: the budget cannot pay for validation.
            CheckpointError: `start` is of another training. No report was yielded then, and a new
                `Trial` can start from scratch.
            GpuMemoryError: the GPU's memory does not hold what cannot be cut into pieces.
        """
        with memory_errors("training"):
            rows, folds = self._parts()
            spec = self._configuration.resolve(min(len(fold.train) for fold in folds))
            self._clock.mark()
            examples = self._reader.plain(rows)
            training = examples if spec.augment is None else self._reader.views(self._subset)
            probe = self._probe(spec)
            self._clock.lap("features_s")
            validated = [rows[fold.val] for fold in folds]
            course = self._course(
                [training.at(self._reader.view_rows(fold.train)) for fold in folds],
                names=[f"fold{number}" for number in range(len(folds))],
                seen=[*(rows[fold.train] for fold in folds), *validated],
                spec=spec,
                initial_heads=probe.folds if probe else None,
                start=start,
                after_update=after_update,
            )
            held_out = HeldOut(
                [
                    examples.at(torch.from_numpy(fold.val).to(self._device)).activations
                    for fold in folds
                ],
                labels=torch.from_numpy(self._images.labels[np.concatenate(validated)]),
                spec=spec,
            )
            for span in course.spans(spec.reports):
                self._clock.mark()
                loss = course.advance(span)
                scores, share = held_out.scores(course.learners)
                self._clock.lap("train_s")
                yield Report(
                    report=span.number,
                    step=span.step,
                    train_loss=loss if span.step else None,
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
        """Train once on the whole budget and predict the test split.

        Args:
            start: see `reports`.
            after_update: see `reports`.

        Raises:
            DivergedError: loss or predictions are not finite.
            DataError: there is no test image.
            SpecError: the spec leaves `interpolation` to validation.
            CheckpointError, GpuMemoryError: see `reports`.
        """
        test = self._images.indices(Split.TEST)
        if not len(test):
            raise DataError("there is no test image; a refit is always scored on the test split")
        with memory_errors("training"):
            learners = self._train_whole(start=start, after_update=after_update)
            predictions = []
            for some in self._reader.few_at_a_time(test):
                self._clock.mark()
                unseen = self._reader.plain(some)
                self._clock.lap("features_s")
                predictions += learners.log_probabilities([unseen.activations])
                self._clock.lap("train_s")
        return TestResult.of(torch.cat(predictions), torch.from_numpy(self._images.labels[test]))

    def fit(self, watch: Callable[[int], None] | None = None) -> Fitted:
        """Train as `refit` does, and hand out what was trained; no test image is touched.

        Args:
            watch: called now and then with the updates made so far.

        Raises:
            DivergedError: the loss is not finite.
            SpecError, GpuMemoryError: see `refit`.
        """
        with memory_errors("training"):
            learners = self._train_whole(watch=watch)
        return Fitted(
            split=self._configuration.split,
            suffix=self._configuration.trained_suffix(learners),
            spec=self._configuration.resolve(len(self._subset)),
            indices=self._subset,
        )

    def facts(self) -> TrialFacts:
        """What was resolved and counted; needs no training.

        Raises:
            DataError: the budget cannot pay for validation.
        """
        _, folds = self._parts()
        return self._configuration.facts(folds, labels_used=len(self._subset))

    def peak_memory_bytes(self) -> int:
        """Most memory held so far: GPU memory of this trial, or memory of this process."""
        return devices.peak_memory_bytes(self._device)

    def _parts(self) -> tuple[npt.NDArray[np.int64], list[Fold]]:
        return validation_parts(
            self._images, self._subset, validation=self._configuration.spec.validation
        )

    def _train_whole(
        self,
        *,
        start: Checkpoint | None = None,
        after_update: AfterUpdate | None = None,
        watch: Callable[[int], None] | None = None,
    ) -> HeadLearners | SuffixLearners:
        """What was trained on the whole drawn subset."""
        spec = self._configuration.resolve(len(self._subset))
        if isinstance(spec.interpolation, str):
            raise SpecError(
                f"interpolation: got {spec.interpolation}, which validation decides; a training on "
                "the whole budget has none. Give the number that the trial's last report has"
            )
        self._clock.mark()
        training = self._reader.views(self._subset)
        probe = self._probe(spec)
        self._clock.lap("features_s")
        course = self._course(
            [training],
            names=["whole"],
            seen=[self._subset],
            spec=spec,
            initial_heads=[probe.whole] if probe else None,
            start=start,
            after_update=after_update,
        )
        for span in course.spans(_PARTS):
            course.advance(span)
            if watch is not None and span.step:
                watch(span.step)
        course.learners.settle(spec.interpolation)
        self._clock.lap("train_s")
        return course.learners

    def _probe(self, spec: TrialSpec) -> Probe | None:
        """What heads start from; None where that is zero.

        Whoever goes on from a checkpoint needs it, too: the start is one end of the path on which
        the weights are taken.
        """
        if spec.head_init == "zero":
            return None
        return probe_of_draw(
            self._images,
            self._subset,
            validation=spec.validation,
            features=self._reader.head_inputs,
            features_key=self._reader.head_inputs_key,
            memo=self._probes,
            heartbeat=self._memory.heartbeat,
        )

    def _course(
        self,
        parts: Sequence[Examples],
        *,
        names: Sequence[str],
        seen: Sequence[npt.NDArray[np.int64]],
        spec: TrialSpec,
        initial_heads: Sequence[LinearClassifier] | None,
        start: Checkpoint | None,
        after_update: AfterUpdate | None,
    ) -> TrainingLoop:
        """The training of one learner for each part, which depends on the images `seen`."""
        self._batch_size = int(spec.batch_size)
        return TrainingLoop(
            self._configuration.learners(
                parts, names=names, spec=spec, initial_heads=initial_heads, memory=self._memory
            ),
            spec=spec,
            about={
                "learners": list(names),
                "weights": self._configuration.backbone.weights.digest,
                "images": self._images.fingerprint_of(seen),
            },
            pieces=self._memory.updates,
            clock=self._clock,
            after_update=after_update,
            start=start,
        )
