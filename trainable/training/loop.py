"""The training loop: from the first update or a checkpoint to the last update."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from trainable.errors import CheckpointError
from trainable.micro_batches import MicroBatches
from trainable.spec.trial_spec import TrialSpec
from trainable.training.checkpoint import Checkpoint
from trainable.training.head_learner import HeadLearners
from trainable.training.suffix_learner import SuffixLearners

_KINDS = ("setup_s", "features_s", "train_s")

AfterUpdate = Callable[[Callable[[], Checkpoint]], object]
"""Called after every update with a function that returns the state of the training."""


class Clock:
    """Measures the time of a trial, including earlier attempts that this one resumes.

    Attributes:
        timings: seconds spent so far, by phase.
    """

    def __init__(self) -> None:
        self._start = self._mark = time.perf_counter()
        self.timings = dict.fromkeys(_KINDS, 0.0)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the trial began."""
        return time.perf_counter() - self._start

    def mark(self) -> None:
        """Begin a lap; the time since the last lap counts for no phase."""
        self._mark = time.perf_counter()

    def lap(self, kind: str) -> None:
        """Add the time of the current lap to a phase, and begin the next lap."""
        now = time.perf_counter()
        self.timings[kind] += now - self._mark
        self._mark = now

    def state(self) -> Checkpoint:
        """Return the time spent so far, as values of a checkpoint."""
        return Checkpoint({"elapsed_s": self.elapsed_s, **self.timings}, {})

    def check(self, state: Checkpoint) -> None:
        """Make sure that a state has all times of a clock.

        Raises:
            CheckpointError: a time is missing or not a number of seconds.
        """
        for name in ("elapsed_s", *_KINDS):
            state.seconds(name)

    def restore(self, state: Checkpoint) -> None:
        """Add the time that earlier attempts spent."""
        self._start -= state.seconds("elapsed_s")
        for kind in _KINDS:
            self.timings[kind] += state.seconds(kind)


@dataclass(frozen=True)
class Segment:
    """A sequence of consecutive updates between two reports.

    Attributes:
        number: number of the segment; 0 is the start, which has no update.
        since: number of updates made before the segment.
        step: number of updates made at its end.
    """

    number: int
    since: int
    step: int


class TrainingLoop:
    """One training of a trial.

    Args:
        learners: the learners, before their first update.
        spec: the resolved recipe.
        about: JSON values that identify the training; a checkpoint that differs in one of them is
            refused.
        pieces: micro-batch size of updates.
        clock: clock of the trial.
        after_update: see `AfterUpdate`.
        start: checkpoint to resume from; None starts from scratch.

    Attributes:
        learners: as given.

    Raises:
        CheckpointError: `start` belongs to another training; nothing was changed.
    """

    def __init__(
        self,
        learners: HeadLearners | SuffixLearners,
        *,
        spec: TrialSpec,
        about: Mapping[str, Any],
        pieces: MicroBatches,
        clock: Clock,
        after_update: AfterUpdate | None = None,
        start: Checkpoint | None = None,
    ) -> None:
        self.learners = learners
        self._spec = spec
        whole = {"spec": spec.to_json(), **about, "torch": torch.__version__}
        self._about: dict[str, Any] = json.loads(json.dumps(whole))  # tuples become lists
        self._pieces = pieces
        self._clock = clock
        self._after_update = after_update
        if start is not None:
            self._go_on_from(start)

    def spans(self, number: int) -> Iterator[Segment]:
        """Yield the start, then the training in `number` segments of about equal length.

        Segments that ended before the checkpoint are left out.
        """
        stops = [0, *(round(self._spec.steps * n / number) for n in range(number + 1))]
        reached = self.learners.step
        for index, (since, step) in enumerate(itertools.pairwise(stops)):
            if step >= reached:
                yield Segment(index, since, step)

    def advance(self, span: Segment) -> float:
        """Make the remaining updates of a segment; return its mean loss, see `Learner.advance`."""
        return self.learners.advance(span.step, since=span.since, after_update=self._after)

    def state(self) -> Checkpoint:
        """Return everything that the rest of the training depends on."""
        state = Checkpoint.of_parts(
            {"learners": self.learners.state(), "time": self._clock.state()}
        )
        return Checkpoint(
            {"about": self._about, "rows": self._pieces.rows, **state.values}, state.tensors
        )

    def _after(self) -> None:
        self._clock.lap("train_s")
        if self._after_update is not None:
            self._after_update(self.state)

    def _go_on_from(self, start: Checkpoint) -> None:
        _check_same(start.values.get("about"), self._about)
        learners, spent = start.part("learners"), start.part("time")
        rows = None
        if start.values.get("rows") is not None:
            rows = max(1, start.count("rows", most=int(self._spec.batch_size)))
        self.learners.check(learners)
        self._clock.check(spent)
        self.learners.restore(learners)
        self._clock.restore(spent)
        self._pieces.rows = rows


def lr_of(checkpoint: Checkpoint) -> object:
    """Return the learning rate of the training that a checkpoint is of; None if it tells none."""
    about = checkpoint.values.get("about")
    spec = about.get("spec") if isinstance(about, dict) else None
    return spec.get("lr") if isinstance(spec, dict) else None


def _check_same(found: object, wanted: Mapping[str, Any], path: str = "") -> None:
    """Raise a `CheckpointError` that names the first value that differs."""
    if not isinstance(found, dict):
        raise CheckpointError("about: missing in the checkpoint; start from scratch")
    for key in dict.fromkeys((*wanted, *found)):
        was, now = found.get(key), wanted.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            _check_same(was, now, f"{path}{key}.")
        elif was != now:
            raise CheckpointError(
                f"{path}{key}: the checkpoint is of {was!r}; this training has {now!r}; "
                "start from scratch"
            )
