"""Measuring, on a GPU of the cluster, how many trials fit on one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import ray

from orchestrator.planning.gpu_memory import GpuMemory, pieces_per_gpu, share_of_gpu
from orchestrator.planning.work import Kind, Work
from orchestrator.running.ray_tune.capacity import TrialResources
from orchestrator.running.ray_tune.object_store import ObjectStoreReader, SharedObjects
from orchestrator.running.worker.worker import perform
from trainable.device import held_memory
from trainable.spec.trial_spec import TrialSpec

MEASURE_S = 180.0
"""How long measuring may take before trials get whole GPUs instead, in seconds."""

POLL_S = 0.5

_log = logging.getLogger("sft_sweep")


def pack_gpu(
    piece: TrialResources,
    shared: SharedObjects,
    trials: Sequence[TrialSpec],
    *,
    stopping: Callable[[], bool],
) -> TrialResources:
    """A piece of work with the share of a GPU that trials take; a whole one where that is open.

    Args:
        piece: with a whole GPU.
        shared: what lies in the object store.
        trials: of each backbone the one that takes most memory.
        stopping: whether to leave it at that.
    """
    gauge = ray.remote(num_cpus=piece.cpus, num_gpus=1)(_Gauge)
    gauges = [gauge.remote() for _ in trials]
    asked = [
        one.measure.remote(shared, spec.to_json()) for one, spec in zip(gauges, trials, strict=True)
    ]
    until = time.monotonic() + MEASURE_S
    waiting = asked
    try:
        while waiting and not stopping() and time.monotonic() < until:
            done, waiting = ray.wait(waiting, timeout=POLL_S)
            for answer in done:
                ray.kill(gauges[asked.index(answer)])  # the next one waits for its GPU
        footprints = ray.get(asked, timeout=0.1)
    except ray.exceptions.RayError as error:
        _log.warning("GPUs: one for each trial, as what trials hold was not measured: %s", error)
        return piece
    finally:
        for one in gauges:
            ray.kill(one)
    pieces = pieces_per_gpu(footprints)
    held = max(footprint.held_bytes for footprint in footprints)
    _log.info("GPUs: %d trials on each, which hold %.1f GiB at most", pieces, held / 2**30)
    return TrialResources(cpus=piece.cpus, gpus=share_of_gpu(pieces))


class _Gauge:
    """A process that is gone with all that it held once it is killed.

    Not a task: Ray aborts a driver that cancels one by force just as it ends.
    """

    def measure(self, shared: SharedObjects, task: dict[str, object]) -> GpuMemory:
        """What a trial holds of a GPU that it has for itself, up to its first report.

        Raises:
            RuntimeError: it failed, for want of memory for one.
        """
        fetcher = ObjectStoreReader(shared)
        work = Work(kind=Kind.TRIAL, study="measured", trial_id="measured", task=task)
        for event in perform(work, images=fetcher.images, backbone=fetcher.backbone):
            if event.failure is not None:
                raise RuntimeError(event.failure)
            held, total = held_memory()  # while the trial is there
            return GpuMemory(held_bytes=held, total_bytes=total)
        raise RuntimeError("it reported nothing")
