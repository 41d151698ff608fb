"""Measuring, on a GPU of the cluster, how many trials fit on one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import ray

from orchestrator.footprint import Footprint, pieces_per_gpu, share_of_gpu
from orchestrator.tuning.capacity import Piece
from orchestrator.tuning.shared import Fetcher, Shared
from orchestrator.work import Kind, Work
from orchestrator.worker import perform
from trainable.device import held_memory
from trainable.spec import TrialSpec

MEASURE_S = 180.0
"""How long measuring may take before trials get whole GPUs instead, in seconds."""

POLL_S = 0.5

_log = logging.getLogger("sft_sweep")


def pack(
    piece: Piece, shared: Shared, trials: Sequence[TrialSpec], *, stopping: Callable[[], bool]
) -> Piece:
    """A piece of work with the share of a GPU that trials take; a whole one where that is open.

    Args:
        piece: with a whole GPU.
        shared: what lies in the object store.
        trials: of each backbone the one that takes most memory.
        stopping: whether to leave it at that.
    """
    measure = ray.remote(num_cpus=piece.cpus, num_gpus=1, max_retries=0, max_calls=1)(_measure)
    asked = [measure.remote(shared, spec.to_json()) for spec in trials]
    until = time.monotonic() + MEASURE_S
    waiting = asked
    while waiting and not stopping() and time.monotonic() < until:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=POLL_S)
    try:
        footprints = ray.get(asked, timeout=0.1)
    except ray.exceptions.RayError as error:
        for one in asked:
            ray.cancel(one, force=True)
        _log.warning("GPUs: one for each trial, as what trials hold was not measured: %s", error)
        return piece
    pieces = pieces_per_gpu(footprints)
    held = max(footprint.held_bytes for footprint in footprints)
    _log.info("GPUs: %d trials on each, which hold %.1f GiB at most", pieces, held / 2**30)
    return Piece(cpus=piece.cpus, gpus=share_of_gpu(pieces))


def _measure(shared: Shared, task: dict[str, object]) -> Footprint:
    """What a trial holds of a GPU that it has for itself, up to its first report.

    Raises:
        RuntimeError: it failed, for want of memory for one.
    """
    fetcher = Fetcher(shared)
    work = Work(kind=Kind.TRIAL, study="measured", trial_id="measured", task=task)
    for event in perform(work, images=fetcher.images, backbone=fetcher.backbone):
        if event.failure is not None:
            raise RuntimeError(event.failure)
        held, total = held_memory()  # while the trial is there
        return Footprint(held_bytes=held, total_bytes=total)
    raise RuntimeError("it reported nothing")
