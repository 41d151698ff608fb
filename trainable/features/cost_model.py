"""Cost model of the feature cache: time to compute rows against time to write and read them.

    keep a boundary if  FLOPs from the next kept boundary below it / FLOPs per second
                          + values from that boundary on / values per second
                        > bytes of a row / bytes written per second / READS
                          + bytes of a row / bytes read per second

The values of all tensors count because small operations wait for memory: a MobileNet takes seven
times as long as its FLOPs say, a ResNet hardly longer. A short probe measures the speeds once per
machine, and a file beside the store remembers them. The decision changes how long a sweep takes and
nothing else.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from torch.nn import functional

from trainable.atomic_files import atomic_write
from trainable.backbones.cutting.boundaries import Boundary
from trainable.device import one_thread
from trainable.spec.trial_spec import CacheMode

READS = 4
"""Assumed number of trials that read a row after it was written, by which its write is divided."""

VALUE_BYTES = 4
"""Bytes of one activation, which is stored as fp32."""

_SHARE_OF_STORE = 0.25
"""Largest fraction of the store that the rows of one boundary may take with `auto`."""
_PROBE_BYTES = 16 * 2**20
_PROBE_S = 0.025
_SPEEDS_FILE = "speeds.json"
_GPU_FACTOR = 100.0
"""Speed of a GPU over that of one processor core. A rough guess suffices: a wrong factor costs time
and changes no result."""


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Throughput of this machine.

    Attributes:
        flops: FLOPs per second of a convolution in fp32, in one thread.
        values: values per second of operations that wait for memory, in fp32, in one thread.
        read_bytes: bytes per second read from the store, copied and checked.
        write_bytes: bytes per second written to the store.
    """

    flops: float
    values: float
    read_bytes: float
    write_bytes: float

    def compute_s(self, boundary: Boundary) -> float:
        """Estimate the seconds of a forward pass of one example up to a boundary."""
        return boundary.flops / self.flops + boundary.values / self.values


@dataclass(frozen=True, kw_only=True)
class Level:
    """Decision on caching one boundary.

    Attributes:
        boundary: the place to cut.
        bytes: bytes of a row.
        kept: whether rows are stored.
    """

    boundary: Boundary
    bytes: int
    kept: bool


def levels(
    cuts: Sequence[Boundary],
    *,
    mode: CacheMode,
    speeds: Speeds,
    rows: int,
    max_bytes: int,
) -> list[Level]:
    """Return the decision on caching each boundary, in the order of `cuts`.

    Args:
        cuts: boundaries of a backbone, shallowest first.
        mode: `always` keeps every boundary, `never` none; `auto` keeps those that save time and
            whose rows take at most a quarter of the store.
        speeds: throughput of this machine.
        rows: number of rows that a sweep may ask for at one boundary.
        max_bytes: size limit of the store.
    """
    found, below_s = [], 0.0
    for cut in cuts:
        size = math.prod(cut.shape) * VALUE_BYTES
        compute_s = speeds.compute_s(cut)
        store_s = size / speeds.write_bytes / READS + size / speeds.read_bytes
        pays = compute_s - below_s > store_s and fits(size, rows=rows, max_bytes=max_bytes)
        kept = mode is CacheMode.ALWAYS or (mode is CacheMode.AUTO and pays)
        found.append(Level(boundary=cut, bytes=size, kept=kept))
        if kept:
            below_s = compute_s
    return found


def fits(row_bytes: int, *, rows: int, max_bytes: int) -> bool:
    """Whether so many rows of this size take at most a quarter of a store of `max_bytes`."""
    return row_bytes * rows <= max_bytes * _SHARE_OF_STORE


def speeds_of(folder: Path, *, device: torch.device) -> Speeds:
    """Return the throughput of this machine; the first call measures it, in a tenth of a second.

    Args:
        folder: folder of the store; a file in it keeps the measured speeds.
        device: the device that computes features.
    """
    path = folder / _SPEEDS_FILE
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        given = json.loads(path.read_text(encoding="utf-8"))
        speeds = Speeds(**{name: float(value) for name, value in given.items()})
        if all(math.isfinite(value) and value > 0 for value in asdict(speeds).values()):
            return _on(device, speeds)
    speeds = _probe(folder)
    with contextlib.suppress(OSError), atomic_write(path, "w", durable=False) as sink:
        json.dump(asdict(speeds), sink)
    return _on(device, speeds)


def _on(device: torch.device, speeds: Speeds) -> Speeds:
    if device.type != "cuda":
        return speeds
    flops, values = speeds.flops * _GPU_FACTOR, speeds.values * _GPU_FACTOR
    return replace(speeds, flops=flops, values=values)


def _probe(folder: Path) -> Speeds:
    content = np.random.default_rng(0).integers(0, 256, _PROBE_BYTES, dtype=np.uint8)
    path = folder / f"{uuid4().hex}.tmp"
    write_s = read_s = math.inf
    try:
        start = time.perf_counter()
        path.write_bytes(content.data)
        write_s = time.perf_counter() - start
        start = time.perf_counter()
        mapped = np.memmap(path, np.uint8, "r")
        zlib.crc32(mapped.copy().data)
        read_s = time.perf_counter() - start
    except OSError:  # a folder that cannot be written stores nothing, so that speeds do not matter
        write_s = read_s = 1.0
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
    return Speeds(
        flops=_flops_per_second(),
        values=_values_per_second(),
        read_bytes=_PROBE_BYTES / read_s,
        write_bytes=_PROBE_BYTES / write_s,
    )


def _flops_per_second() -> float:
    """Return the best measured FLOPs per second of a 3x3 convolution of 64 channels, batch 16.

    Such convolutions are common in the middle of a network.
    """
    images, weight = torch.randn(16, 64, 16, 16), torch.randn(64, 64, 3, 3)
    each = 2 * 16 * 16 * 16 * 64 * 64 * 9
    return each / _shortest_s(lambda: functional.conv2d(images, weight, padding=1))


def _values_per_second() -> float:
    """Return the best measured values per second of a block that computes little for each value.

    It is a depthwise convolution with its norm and activation, of 64 channels and batch 16.
    """
    images, weight = torch.randn(16, 64, 32, 32), torch.randn(64, 1, 3, 3)
    mean, variance = torch.zeros(64), torch.ones(64)

    def block() -> None:
        values = functional.conv2d(images, weight, padding=1, groups=64)
        functional.relu(functional.batch_norm(values, mean, variance))

    return 3 * images.numel() / _shortest_s(block)


def _shortest_s(work: Callable[[], object]) -> float:
    """Return the shortest time of a call within `_PROBE_S`, in one thread."""
    best, end = math.inf, time.perf_counter() + _PROBE_S
    with one_thread(), torch.inference_mode():
        while math.isinf(best) or time.perf_counter() < end:  # at least once on a busy machine
            start = time.perf_counter()
            work()
            best = min(best, time.perf_counter() - start)
    return best
