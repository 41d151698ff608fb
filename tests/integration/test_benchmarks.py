"""The benchmark programs run to their end in their smallest size: they reach into the code."""

from __future__ import annotations

import sys

import pytest

from tests.integration.conftest import REPOSITORY, TIMEOUT_S, finished

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * TIMEOUT_S)]

QUICK = {
    "coverage": ("--quick",),
    "freezing": ("--quick",),
    "mask_coverage": ("--quick",),
    "overhead": ("--quick",),
    "own_images": ("--images", "200", "--side", "16"),
    "reading": ("--trials", "50"),
    "scaling": ("--quick",),
    "selection": ("--quick",),
    "sharing": ("--quick", "--cases", "equal", "limit", "--depths", "head"),
    "slots": ("--quick",),
    "start": ("--quick", "--baseline", "HEAD"),
    "text_rows": ("--quick",),
    "text_trainer": ("--quick",),
    "trial_profile": ("--backbone", "tiny_strokes", "--image-size", "8", "--steps", "4"),
}
NEEDED = {"text_rows": ["transformers"], "text_trainer": ["transformers", "accelerate"]}
"""What some of them import and a contributor may lack."""


@pytest.mark.parametrize("name", QUICK)
def test_it_prints_its_table(name: str) -> None:
    for package in NEEDED.get(name, ()):
        pytest.importorskip(package)
    done = finished(
        [sys.executable, "-m", f"tests.benchmarks.{name}", *QUICK[name]], cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    assert "| ---" in done.stdout
