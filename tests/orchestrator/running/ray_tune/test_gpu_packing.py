"""GPU packing on a cluster with a fake GPU; the measured memory is made up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import ray
import yaml

from orchestrator.datasets.dataset import read_dataset
from orchestrator.datasets.image_reader import Demand
from orchestrator.planning.gpu_memory import GpuMemory, heaviest_trials
from orchestrator.planning.plan import make_plan
from orchestrator.running.ray_tune import gpu_packing
from orchestrator.running.ray_tune.authentication import loopback_only
from orchestrator.running.ray_tune.capacity import TrialResources
from orchestrator.running.ray_tune.object_store import SharedObjects, put_objects
from orchestrator.space import parse_space
from trainable import backbones as registry
from trainable.spec.trial_spec import CacheMode

WHOLE = TrialResources(cpus=1, gpus=1)
ENOUGH_S = 300


@pytest.fixture(scope="module")
def driver() -> Iterator[ProcessPoolExecutor]:
    """A driver in a process of its own, because Ray kills a driver whose node is lost."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_start_ray).result(ENOUGH_S)
        yield pool
        pool.submit(ray.shutdown).result(ENOUGH_S)


def _start_ray() -> None:
    with loopback_only():
        ray.init(
            address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False
        )


def _pack(*, stopping: bool = False) -> tuple[TrialResources, str]:
    """Print the result of packing and its log messages."""
    values = {
        "dataset": {"source": "digits"},
        "search": {"backbone": "tiny_strokes", "label_budget": [2]},
        "training": {"steps": 2, "reports": 1},
    }
    space = parse_space(yaml.safe_dump(values), where="pets.yaml")
    demand = Demand(budgets=space.label_budgets, repeats=1, seed=0)
    images = read_dataset(space.dataset, demand=demand, where="pets.yaml", keep_val=False).images
    trials = heaviest_trials(space, make_plan(space, images, where="pets.yaml"))
    weights = {"tiny_strokes": registry.load_weights("tiny_strokes")}
    shared = put_objects(
        images,
        weights,
        {"tiny_strokes": {}},
        {"tiny_strokes": {}},
        cache=CacheMode.NEVER,
        checkpoint_actor=None,
        checkpoint_s=60,
    )
    log = _Log()
    logging.getLogger("sft_sweep").addHandler(log)
    logging.getLogger("sft_sweep").setLevel(logging.INFO)
    packed = gpu_packing.pack_gpu(WHOLE, shared, trials, stopping=lambda: stopping)
    return packed, "\n".join(log.lines)


def _pack_by_a_stand_in() -> tuple[TrialResources, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_packing, "_MemoryProbe", _StandIn)
        return _pack()


class _StandIn(gpu_packing._MemoryProbe):
    def measure(self, shared: SharedObjects, task: dict[str, object]) -> GpuMemory:
        vars(gpu_packing)["held_memory"] = lambda: (20 * 2**30, 80 * 2**30)
        return super().measure(shared, task)


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_trials_get_the_fraction_that_the_heaviest_needs(driver: ProcessPoolExecutor) -> None:
    packed, log = driver.submit(_pack_by_a_stand_in).result(ENOUGH_S)
    assert packed == TrialResources(cpus=1, gpus=0.3333)
    assert "3 trials on each, which hold 20.0 GiB at most" in log


def test_without_a_measurement_each_trial_gets_a_gpu(driver: ProcessPoolExecutor) -> None:
    # The measurement fails, because there is no GPU.
    packed, log = driver.submit(_pack).result(ENOUGH_S)
    assert packed == WHOLE
    assert "one for each trial" in log
    assert driver.submit(_pack, stopping=True).result(ENOUGH_S)[0] == WHOLE
