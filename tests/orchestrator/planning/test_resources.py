"""Check of a trial's resources against this machine."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.planning import resources
from orchestrator.planning.resources import problems_here
from orchestrator.space import ResourcesSection
from trainable import device


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four processors and two GPUs."""
    monkeypatch.setattr(resources, "usable_processors", lambda: 4)
    monkeypatch.setattr(device, "num_gpus", lambda: 2)


@pytest.mark.parametrize("gpus", ["auto", 0, 0.5, 2])
def test_resources_that_the_machine_has_are_no_problem(gpus: Any) -> None:
    assert problems_here(ResourcesSection(cpus_per_trial=4, gpus_per_trial=gpus)) == []


def test_missing_resources_are_problems_that_name_what_there_is() -> None:
    processors, gpus = problems_here(ResourcesSection(cpus_per_trial=4.5, gpus_per_trial=3))
    assert processors == (
        "resources.cpus_per_trial: got 4.5; this program may use 4 processors of this machine. "
        "Allowed here: at most 4; for a cluster, name it with --address"
    )
    assert gpus == (
        "resources.gpus_per_trial: got 3; PyTorch finds 2 GPUs on this machine. "
        "Allowed here: auto, or at most 2; for a cluster, name it with --address"
    )


def test_a_fraction_of_a_gpu_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "num_gpus", lambda: 0)
    (problem,) = problems_here(ResourcesSection(gpus_per_trial=0.5))
    assert "got 0.5; PyTorch finds 0 GPUs on this machine. Allowed here: auto or 0" in problem
