"""Device, precision and memory of the computation."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator

import torch


def default_device() -> torch.device:
    """The GPU that is visible to this process, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def num_gpus() -> int:
    """GPUs that are visible to this process."""
    return torch.cuda.device_count()


def describe(device: torch.device) -> str:
    """Name of the device as tables show it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def resolve_precision(precision: str, device: torch.device) -> str:
    """`fp32` or `bf16` for the setting `precision`, `auto` included."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" else "fp32"


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context of a forward pass in the resolved precision."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, as pays where there is little to compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def random_state(device: torch.device) -> torch.Tensor:
    """State of the generator that random layers on the device draw from."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def synchronize(device: torch.device) -> None:
    """Wait for queued work, so that a clock read afterwards counts it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of `peak_memory_bytes`, where the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory held: on a GPU since the last reset, on a CPU by this process so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def limit_memory(share: float) -> None:
    """Let this process have no more than a share of its GPU's memory, where it has no whole GPU.

    Beyond it, its allocations fail as on a smaller GPU, and those of its neighbours do not.
    """
    if 0 < share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)


def held_memory() -> tuple[int, int]:
    """Bytes held of the first GPU by all of its processes, and its bytes in all.

    Raises:
        RuntimeError: there is none.
    """
    free, total = torch.cuda.mem_get_info(0)
    return total - free, total


def release_memory(device: torch.device) -> None:
    """Give cached memory back, so that the next trial of this process starts alike."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
