"""Arithmetic that no schedule can avoid, and how long this machine takes for it.

Of the frozen part each image is needed once; where several cuts are tried, the shallower ones lie
on the way to the deepest. Every update has a forward and a backward pass through the blocks that
learn, counted as torch runs it, and so without a gradient for what comes out of the frozen ones; an
image that is drawn twice for an update is needed once. Every report has a forward pass over what is
held out. Optimizers, decoding, and whatever else is no convolution or matrix product count nothing.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.sharing.work import (
    EVALUATION_BATCH,
    IMAGE_SIZE,
    NUM_CLASSES,
    SLOTS,
    Parts,
    Work,
    halves,
    load_network,
    to_training,
)

PARTS = ("frozen part", "updates", "reports")

Key = tuple[str, int, int]
"""One of `PARTS`, the number of frozen blocks, and the images of a pass."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass costs.

    Attributes:
        flops: floating-point operations.
        seconds: median of several, on one thread, while the other slots are as busy.
    """

    flops: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one of `PARTS` costs in all.

    Attributes:
        part: which.
        flops: floating-point operations.
        seconds: they take with all slots busy.
    """

    part: str
    flops: float
    seconds: float


def least(path: Path, *, times: int) -> list[Share]:
    """The shares of the work in a file.

    Args:
        path: of the work.
        times: passes that are timed of each kind.
    """
    counts = needed_passes(Work.load(path))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SLOTS, mp_context=context) as pool:
        runs = [pool.submit(measure, path, list(counts), times) for _ in range(SLOTS)]
        measured = [run.result() for run in runs]
    shares = []
    for part in PARTS:
        keys = [key for key in counts if key[0] == part]
        flops = sum(counts[key] * measured[0][key].flops for key in keys)
        # Each slot does passes at its own pace, until together they have done all.
        seconds = sum(counts[key] / sum(1 / one[key].seconds for one in measured) for key in keys)
        shares.append(Share(part=part, flops=flops, seconds=seconds))
    return shares


def needed_passes(work: Work) -> dict[Key, float]:
    """How many passes of each kind the trials need."""
    counts: dict[Key, float] = {}

    def need(key: Key, number: float) -> None:
        counts[key] = counts.get(key, 0.0) + number

    frozen = [trial.num_frozen for trial in work.trials if trial.num_frozen]
    if frozen:  # subsets nest, so that the deepest cut needs the images of them all
        folds = [fold for parts in work.folds.values() for fold in parts]
        images = len({name for fold in folds for name in (*fold.train, *fold.val)})
        size = min(images, EVALUATION_BATCH)
        need((PARTS[0], max(frozen), size), images / size)
    for trial in work.trials:
        for fold in work.folds[trial.budget]:
            distinct = expected_distinct(fold)
            size = round(distinct)
            need((PARTS[1], trial.num_frozen, size), work.task.steps * distinct / size)
            size = min(len(fold.val), EVALUATION_BATCH)
            number = work.task.reports * len(fold.val) / size
            need((PARTS[2], trial.num_frozen, size), number)
    return counts


def expected_distinct(fold: Parts) -> float:
    """How many different images an update sees on average, drawn with replacement."""
    count = len(fold.train)
    return count * (1 - (1 - 1 / count) ** fold.batch_size)


def measure(path: Path, keys: list[Key], times: int) -> dict[Key, Pass]:
    """What passes cost in this process."""
    torch.set_num_threads(1)
    network = load_network(Work.load(path).weights)
    costs = {}
    for part, num_frozen, size in keys:
        frozen, learning = halves(network, num_frozen)
        images = torch.randn(size, 3, IMAGE_SIZE, IMAGE_SIZE)
        with torch.no_grad():
            activations = frozen(images)
        if part == PARTS[0]:
            costs[part, num_frozen, size] = cost(_forward(frozen, images), times=times)
        elif part == PARTS[1]:
            costs[part, num_frozen, size] = cost(_update(learning, activations), times=times)
        else:
            costs[part, num_frozen, size] = cost(
                _forward(learning.eval(), activations), times=times
            )
    return costs


def _forward(module: torch.nn.Module, images: torch.Tensor) -> Callable[[], object]:
    @torch.no_grad()
    def run() -> object:
        return module(images)

    return run


def _update(module: torch.nn.Module, activations: torch.Tensor) -> Callable[[], object]:
    to_training(module)
    labels = torch.arange(len(activations)) % NUM_CLASSES

    def run() -> None:
        module.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(module(activations.clone()), labels)
        loss.backward()  # type: ignore[no-untyped-call]

    return run


def cost(run: Callable[[], object], *, times: int) -> Pass:
    """FLOPs of one call, and the median seconds of several."""
    with FlopCounterMode(display=False) as counter:  # also the call that warms up
        run()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return Pass(flops=float(counter.get_total_flops()), seconds=statistics.median(seconds))
