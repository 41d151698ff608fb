"""Set-up of a trial's trainings: initial heads, learners, and the loop that updates them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainable.data.labelled_examples import LabelledExamples
from trainable.micro_batches import Memory
from trainable.spec.trial_spec import TrialSpec
from trainable.training.checkpoint import Checkpoint
from trainable.training.examples import ExampleReader
from trainable.training.learner import Examples
from trainable.training.logistic import LinearClassifier
from trainable.training.loop import AfterUpdate, Clock, TrainingLoop
from trainable.training.probe import Probe, ProbeMemo, probe_of_draw
from trainable.training.setup import TrialSetup


class Trainer:
    """Starts the trainings of one trial, on its folds or on its whole budget.

    Args:
        setup: the resolved configuration.
        images: all images that the trial may read.
        subset: (M,) int64 indices of the images that the label budget draws.
        reader: reads the activations of images.
        memory: decides how work is cut into micro-batches.
        clock: clock of the trial.
        probes: memo of the probes that heads start from; None fits them here.
    """

    def __init__(
        self,
        setup: TrialSetup,
        images: LabelledExamples,
        subset: npt.NDArray[np.int64],
        reader: ExampleReader,
        *,
        memory: Memory,
        clock: Clock,
        probes: ProbeMemo | None,
    ) -> None:
        self._setup = setup
        self._images = images
        self._subset = subset
        self._reader = reader
        self._memory = memory
        self._clock = clock
        self._probes = probes
        self._batch_size = 1  # until `loop` is called

    @property
    def micro_batches(self) -> int:
        """Number of micro-batches per batch of the latest loop; 1 until memory has run out."""
        rows = self._memory.updates.rows
        return 1 if rows is None else -(-self._batch_size // rows)

    def probe(self, spec: TrialSpec) -> Probe | None:
        """Return the linear probe that heads start from; None if they start from zeros.

        A training that resumes from a checkpoint needs the probe as well, because the initial
        weights are one end of the interpolation.

        Args:
            spec: the resolved recipe.
        """
        if spec.head_init == "zero":
            return None
        return probe_of_draw(
            self._images,
            self._subset,
            validation=spec.validation,
            features=self._reader.head_features,
            seed=spec.seed,
            device=self._reader.device,
            features_key=self._reader.head_inputs_key,
            memo=self._probes,
            heartbeat=self._memory.heartbeat,
        )

    def loop(
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
        """Return a training loop with one learner for each part.

        Args:
            parts: training examples of each learner.
            names: names of the learners; each name has random draws of its own.
            seen: indices of all images that the training depends on; a checkpoint has their hash.
            spec: the resolved recipe.
            initial_heads: initial head of each learner; None for zeros.
            start: checkpoint to resume from, or None.
            after_update: see `AfterUpdate`.

        Raises:
            CheckpointError: `start` belongs to another training.
        """
        self._batch_size = int(spec.batch_size)
        return TrainingLoop(
            self._setup.learners(
                parts, names=names, spec=spec, initial_heads=initial_heads, memory=self._memory
            ),
            spec=spec,
            about={
                "learners": list(names),
                "weights": self._setup.backbone.weights.digest,
                "images": self._images.fingerprint_of(seen),
            },
            pieces=self._memory.updates,
            clock=self._clock,
            after_update=after_update,
            start=start,
        )
