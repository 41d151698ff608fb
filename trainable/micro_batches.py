"""Micro-batches that fit into the GPU's memory; their size is found by halving."""

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
"""Settings that take less memory, named at the end of every message."""

_Result = TypeVar("_Result")


def nothing() -> None:
    """Do nothing; the default heartbeat."""


class MicroBatches:
    """Does work on rows in micro-batches, and halves their size when memory runs out.

    A size that did not fit is not tried again.

    Args:
        device: the device whose memory is used.
        what: name of the work, for messages.
        heartbeat: called after every micro-batch, as a sign of life.

    Attributes:
        rows: most rows in a micro-batch; None until memory has run out.
    """

    def __init__(
        self, device: torch.device, *, what: str, heartbeat: Callable[[], None] = nothing
    ) -> None:
        self.rows: int | None = None
        self._device = device
        self._what = what
        self._heartbeat = heartbeat

    def limited(self, most: int) -> int:
        """Number of rows in a micro-batch: `most`, or fewer if memory has run out before."""
        return most if self.rows is None else min(most, self.rows)

    def fit(
        self, most: int, attempt: Callable[[int], _Result], *, divisible: bool = True
    ) -> _Result:
        """Return the result of `attempt` for the largest size of micro-batches that fits.

        Args:
            most: size to try first; its halves follow.
            attempt: takes a size; does all of the work from its beginning.
            divisible: whether smaller micro-batches give the same result.

        Raises:
            GpuMemoryError: one row does not fit, or the work is not divisible.
        """
        while True:
            size = self.limited(most)
            with contextlib.suppress(torch.OutOfMemoryError):
                result = attempt(size)
                self._heartbeat()
                return result
            # Outside `suppress`, no traceback keeps the tensors of the failed attempt alive.
            if size <= 1 or not divisible:
                raise GpuMemoryError(
                    f"{self._what}: {size} {'row does' if size == 1 else 'rows do'} not fit into "
                    f"the GPU's memory{'' if divisible else ', and need each other'}; {ADVICE}"
                )
            release_memory(self._device)
            self.rows = -(-size // 2)

    def over(self, count: int, *, most: int, attempt: Callable[[slice], _Result]) -> list[_Result]:
        """Return results of `attempt` for consecutive micro-batches that cover rows 0 to `count`.

        Args:
            count: number of rows.
            most: most rows in a micro-batch.
            attempt: takes the rows of a micro-batch.

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
        device: the device whose memory is used.
        heartbeat: see `MicroBatches`.

    Attributes:
        heartbeat: as given, for other work of the trial.
        updates: micro-batches of updates.
        evaluation: micro-batches of predictions.
    """

    def __init__(self, device: torch.device, *, heartbeat: Callable[[], None] = nothing) -> None:
        self.heartbeat = heartbeat
        self.updates = MicroBatches(device, what="training", heartbeat=heartbeat)
        self.evaluation = MicroBatches(device, what="prediction", heartbeat=heartbeat)


@contextlib.contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn an out-of-memory error of PyTorch into a `GpuMemoryError` that says what to do.

    Args:
        what: name of the work, for the message.

    Raises:
        GpuMemoryError: memory ran out in the block.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition("\n")[0]
        raise GpuMemoryError(f"{what}: {reason}; {ADVICE}") from None
