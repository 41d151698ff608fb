"""Device, precision, threads and memory of computations."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from collections.abc import Iterator

import torch


def default_device() -> torch.device:
    """The first GPU that is visible to this process, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def num_gpus() -> int:
    """Number of GPUs that are visible to this process."""
    return torch.cuda.device_count()


def describe(device: torch.device) -> str:
    """Name of a device, as tables show it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def resolve_precision(precision: str, device: torch.device) -> str:
    """`fp32` or `bf16` for the setting `precision`, which may be `auto`."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" else "fp32"


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Context manager for a forward pass in a precision, `fp32` or `bf16`."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def breaks_process(error: BaseException) -> bool:
    """Whether no computation of this process on its GPU can succeed after an error.

    A failed kernel, such as one with an index out of range, leaves the process's CUDA context
    unusable. PyTorch has had a class for such errors since version 2.8.
    """
    kind = getattr(torch, "AcceleratorError", None)
    if kind is None:
        return isinstance(error, RuntimeError) and str(error).startswith("CUDA error")
    return isinstance(error, kind)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread during the block, which is fastest for small computations."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def random_state(device: torch.device) -> torch.Tensor:
    """State of the random number generator that layers on a device use."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all queued work, so that clocks measure that work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Restart the measurement of `peak_memory_bytes` on a GPU; a CPU has no such reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory in bytes: of a GPU since the last reset, of a CPU since this process began."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def limit_memory(share: float) -> None:
    """Limit this process to a share of its GPU's memory; a share of 1 or 0 sets no limit.

    Allocations above the limit fail as on a smaller GPU, and do not disturb other processes.
    """
    if 0 < share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)


def held_memory() -> tuple[int, int]:
    """Bytes of the first GPU's memory that all its processes hold, and its bytes in total.

    Raises:
        RuntimeError: there is no GPU.
    """
    free, total = torch.cuda.mem_get_info(0)
    return total - free, total


def release_memory(device: torch.device) -> None:
    """Return freed memory that PyTorch keeps on a GPU, and the C library on the CPU, to the system.

    So every trial of a process starts alike, and leaves no memory behind.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    with contextlib.suppress(AttributeError):  # it is a function of the GNU C library alone
        ctypes.CDLL(None).malloc_trim(0)
