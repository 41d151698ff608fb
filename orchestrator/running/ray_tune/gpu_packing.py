"""Measurement of the number of trials that fit on one GPU of the cluster."""

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
"""Time limit of the measurement; beyond it each trial gets a whole GPU. In seconds."""

POLL_S = 0.5

_log = logging.getLogger("sft_sweep")


def pack_gpu(
    resources: TrialResources,
    shared: SharedObjects,
    trials: Sequence[TrialSpec],
    *,
    stopping: Callable[[], bool],
) -> TrialResources:
    """The resources of a trial with a measured GPU fraction; a whole GPU if measuring fails.

    Args:
        resources: resources of a trial, with a whole GPU.
        shared: objects in the object store.
        trials: the trial of each backbone that uses the most memory.
        stopping: whether the sweep is stopping; ends the measurement.
    """
    probe_actor = ray.remote(num_cpus=resources.cpus, num_gpus=1)(_MemoryProbe)
    probes = [probe_actor.remote() for _ in trials]
    measurements = [
        one.measure.remote(shared, spec.to_json()) for one, spec in zip(probes, trials, strict=True)
    ]
    until = time.monotonic() + MEASURE_S
    waiting = measurements
    try:
        while waiting and not stopping() and time.monotonic() < until:
            done, waiting = ray.wait(waiting, timeout=POLL_S)
            for answer in done:
                ray.kill(probes[measurements.index(answer)])  # frees its GPU for the next one
        footprints = ray.get(measurements, timeout=0.1)
    except ray.exceptions.RayError as error:
        _log.warning("GPUs: one for each trial; their memory use could not be measured: %s", error)
        return resources
    finally:
        for one in probes:
            ray.kill(one)
    pieces = pieces_per_gpu(footprints)
    held = max(footprint.held_bytes for footprint in footprints)
    _log.info("GPUs: %d trials on each, which hold %.1f GiB at most", pieces, held / 2**30)
    return TrialResources(cpus=resources.cpus, gpus=share_of_gpu(pieces))


class _MemoryProbe:
    """An actor that measures GPU memory; killing its process frees all of it.

    It is not a task, because Ray aborts the driver if it cancels a task by force just as that ends.
    """

    def measure(self, shared: SharedObjects, task: dict[str, object]) -> GpuMemory:
        """Measure the GPU memory of a trial up to its first report, on a GPU of its own.

        Args:
            shared: objects in the object store.
            task: JSON values of the trial's spec.

        Raises:
            RuntimeError: the trial failed, for example for lack of memory.
        """
        reader = ObjectStoreReader(shared)
        work = Work(kind=Kind.TRIAL, study="measured", trial_id="measured", task=task)
        for event in perform(work, images=reader.images, backbone=reader.backbone):
            if event.failure is not None:
                raise RuntimeError(event.failure)
            held, total = held_memory()  # while the trial still exists
            return GpuMemory(held_bytes=held, total_bytes=total)
        raise RuntimeError("it reported nothing")
