"""Micro-batches that fit into the GPU's memory, found by halving."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from trainable.device import release_memory
from trainable.errors import GpuMemoryError

ADVICE = (
    "try a smaller image_size, a deeper freeze_depth, or precision: bf16; where BatchNorm is in "
    "train mode, a smaller batch_size or batchnorm: eval"
)
"""What takes less memory; the end of every message."""

_Result = TypeVar("_Result")


def nothing() -> None:
    """Do nothing: for those who listen to no sign of life."""


class MicroBatches:
    """Does work on rows, in smaller and smaller pieces where memory runs out.

    What did not fit once is not tried again: `rows` stays.

    Args:
        device: whose memory it is.
        what: the work, for messages.
        heartbeat: called after every piece that was done, as a sign of life.

    Attributes:
        rows: most rows at a time; None while memory has not run out.
    """

    def __init__(
        self, device: torch.device, *, what: str, heartbeat: Callable[[], None] = nothing
    ) -> None:
        self.rows: int | None = None
        self._device = device
        self._what = what
        self._heartbeat = heartbeat

    def limited(self, most: int) -> int:
        """Rows at a time, `most` or what is known to fit."""
        return most if self.rows is None else min(most, self.rows)

    def fit(
        self, most: int, attempt: Callable[[int], _Result], *, divisible: bool = True
    ) -> _Result:
        """Result of `attempt` for the first number of rows that fits: `most`, then its halves.

        Args:
            most: rows at a time to begin with.
            attempt: takes the number of rows at a time. It starts anew whenever it is called.
            divisible: whether fewer rows at a time give the same result.

        Raises:
            GpuMemoryError: nothing smaller can be tried.
        """
        while True:
            size = self.limited(most)
            with contextlib.suppress(torch.OutOfMemoryError):
                result = attempt(size)
                self._heartbeat()
                return result
            # The traceback, which kept what was half computed, is gone by here.
            if size <= 1 or not divisible:
                raise GpuMemoryError(
                    f"{self._what}: {size} {'row does' if size == 1 else 'rows do'} not fit into "
                    f"the GPU's memory{'' if divisible else ', and need each other'}; {ADVICE}"
                )
            release_memory(self._device)
            self.rows = -(-size // 2)

    def over(self, count: int, *, most: int, attempt: Callable[[slice], _Result]) -> list[_Result]:
        """Results of `attempt` for consecutive micro-batches that together cover rows 0 to `count`.

        Raises:
            GpuMemoryError: one row does not fit.
        """
        results, start = [], 0
        while start < count:

            def piece(size: int, start: int = start) -> tuple[int, _Result]:
                return size, attempt(slice(start, start + size))

            size, result = self.fit(min(most, count - start), piece)
            results.append(result)
            start += size
        return results


class Memory:
    """Micro-batch sizes of one trial, found by halving.

    Args:
        device: whose memory it is.
        heartbeat: see `MicroBatches`.

    Attributes:
        heartbeat: as given, for other work of the trial.
        updates: of the batch of an update.
        evaluation: of what is predicted.
    """

    def __init__(self, device: torch.device, *, heartbeat: Callable[[], None] = nothing) -> None:
        self.heartbeat = heartbeat
        self.updates = MicroBatches(device, what="training", heartbeat=heartbeat)
        self.evaluation = MicroBatches(device, what="prediction", heartbeat=heartbeat)


@contextlib.contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn running out of memory into a `GpuMemoryError` that says what to do.

    Raises:
        GpuMemoryError: memory ran out inside.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition("\n")[0]
        raise GpuMemoryError(f"{what}: {reason}; {ADVICE}") from None
