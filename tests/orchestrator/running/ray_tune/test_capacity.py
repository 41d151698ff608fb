"""Number of pieces of work that fit on nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import StorageError
from orchestrator.running.ray_tune.capacity import TrialResources, check_room
from orchestrator.space import ResourcesSection


@pytest.mark.parametrize(
    ("cpus", "gpus", "node", "times"),
    [
        (1, 0, {"CPU": 8}, 8),
        (1, 0, {"CPU": 0, "GPU": 4}, 0),
        (1, 0, {}, 0),
        (3, 0, {"CPU": 8}, 2),
        (0.1, 0, {"CPU": 1}, 10),  # in floating point, 1 // 0.1 is 9
        (1, 1, {"CPU": 16, "GPU": 4}, 4),
        (8, 1, {"CPU": 16, "GPU": 4}, 2),
        (1, 2, {"CPU": 16, "GPU": 3}, 1),
        (1, 0.25, {"CPU": 16, "GPU": 2}, 8),
        (1, 0.4, {"CPU": 16, "GPU": 2}, 4),  # two on each GPU, not five on both
        (1, 0.6, {"CPU": 16, "GPU": 4}, 4),
        (1, 1, {"CPU": 16}, 0),
    ],
)
def test_a_piece_fits_as_often_as_ray_places_it(
    cpus: float, gpus: float, node: dict[str, float], times: int
) -> None:
    assert TrialResources(cpus=cpus, gpus=gpus).fits(node) == times


@given(
    cpus=st.integers(1, 400).map(lambda hundredths: hundredths / 100),
    gpus=st.integers(0, 300).map(lambda hundredths: hundredths / 100),
    have_cpus=st.integers(0, 64),
    have_gpus=st.integers(0, 8),
)
def test_what_fits_takes_no_more_than_there_is(
    cpus: float, gpus: float, have_cpus: int, have_gpus: int
) -> None:
    times = TrialResources(cpus=cpus, gpus=gpus).fits({"CPU": have_cpus, "GPU": have_gpus})
    assert times * cpus <= have_cpus + 1e-9
    assert times * gpus <= have_gpus + 1e-9
    assert TrialResources(cpus=cpus, gpus=0).fits({"CPU": have_cpus}) >= times


@pytest.mark.usefixtures("local_ray")
def test_a_trial_that_fits_on_no_node_is_refused_with_what_there_is() -> None:
    check_room(ResourcesSection(cpus_per_trial=2, gpus_per_trial=0))
    with pytest.raises(StorageError, match=r"needs 3 CPUs and 0 GPUs on one node; the cluster has"):
        check_room(ResourcesSection(cpus_per_trial=3, gpus_per_trial=0))
    with pytest.raises(StorageError, match=r"needs 1 CPUs and 8\.5 GPUs on one node"):
        check_room(ResourcesSection(cpus_per_trial=1, gpus_per_trial=8.5))
