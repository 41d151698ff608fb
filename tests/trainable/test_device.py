"""What a process gives back to the system."""

from __future__ import annotations

import platform

import pytest

from tests.builders.programs import printed_by


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
def test_memory_of_freed_tensors_goes_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    keeping = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184"
    monkeypatch.setenv("GLIBC_TUNABLES", keeping)
    program = """
from pathlib import Path

import torch

from trainable.device import release_memory


def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


before = held()
tensor = torch.ones(64, 2**20)
del tensor
print(held() - before > 250)
release_memory(torch.device("cpu"))
print(held() - before < 10)
"""
    assert printed_by(program).split() == ["True", "True"]
