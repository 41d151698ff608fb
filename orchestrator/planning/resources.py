"""Check of the resources of a trial against this machine, for sweeps without a cluster."""

from __future__ import annotations

from orchestrator.processors import usable_processors
from orchestrator.space import ResourcesSection
from orchestrator.text import plural


def problems_here(resources: ResourcesSection) -> list[str]:
    """The resources of a trial that this machine lacks, one problem per key of the file.

    Args:
        resources: section `resources` of the search space.
    """
    problems = []
    processors = usable_processors()
    if resources.cpus_per_trial > processors:
        problems.append(
            f"resources.cpus_per_trial: got {resources.cpus_per_trial:g}; this program may use "
            f"{plural(processors, 'processor')} of this machine. "
            f"{_allowed(f'at most {processors}')}"
        )
    wanted = resources.gpus_per_trial
    if not isinstance(wanted, str) and wanted > 0:
        from trainable.device import num_gpus  # imports torch

        gpus = num_gpus()
        if wanted > gpus:
            allowed = f"auto, or at most {gpus}" if gpus else "auto or 0"
            problems.append(
                f"resources.gpus_per_trial: got {wanted:g}; PyTorch finds {plural(gpus, 'GPU')} on "
                f"this machine. {_allowed(allowed)}"
            )
    return problems


def _allowed(here: str) -> str:
    return f"Allowed here: {here}; for a cluster, name it with --address"
