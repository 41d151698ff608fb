"""Trials that go wrong by themselves: recorded once with a reason, while the others go on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from orchestrator.recording.tables import read_table
from tests.integration.faults.sweeps import kill, runs_of, settled, start

pytestmark = pytest.mark.faults

SPACE = """
name: own
dataset: {source: digits}
search:
  backbone: [{name: own, module: "networks:BUILD"}, tiny_strokes]
  lr: {low: 1.0e-3, high: 1.0e-2, log: true}
  label_budget: [2]
training: {steps: 6, reports: 2, batch_size: 16}
trials: 4
sampler: {name: random}
pruner: {name: none}
finalists: {count: 1, repeats: 2}
baselines: []
"""

NETWORKS = '''
import torch
from torch import nn


@torch.fx.wrap
def on_small_gpu(images, most):
    """What the memory of a GPU holds when it trains no more than some images."""
    if torch.is_grad_enabled() and images.requires_grad and len(images) > most:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    return images


@torch.fx.wrap
def with_a_bug(images):
    """With a bug that the rehearsal of two images before a sweep does not meet."""
    if torch.is_grad_enabled() and images.requires_grad and len(images) > 2:
        raise IndexError("off by one")
    return images


class Network(nn.Module):
    def __init__(self, middle):
        super().__init__()
        self.first, self.last = nn.Linear(64 * 3, 8), nn.Linear(8, 10)
        self.middle = middle
        self.preprocessing = {"image_size": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}

    def forward(self, images):
        return self.last(self.middle(self.first(images.flatten(1))).relu())


def frugal():
    return Network(lambda images: on_small_gpu(images, 4))


def hopeless():
    return Network(lambda images: on_small_gpu(images, 0))


def buggy():
    return Network(lambda images: with_a_bug(images))
'''


def launch_own(folder: Path, build: str) -> tuple[int, str, Path]:
    """A sweep over a network of one's own and one that is not."""
    (folder / "networks.py").write_text(NETWORKS)
    (folder / "own.yaml").write_text(SPACE.replace("BUILD", build))
    overrides = ("trials=4", "search.label_budget=[2]", "training.steps=6", "training.reports=2")
    sweep = start(
        folder / "runs",
        "search.backbone=" + SPACE.split("backbone: ")[1].split("\n")[0].replace("BUILD", build),
        *overrides,
        space=folder / "own.yaml",
        cwd=folder,
    )
    code, messages = sweep.end()
    return code, messages, sweep.path


def by_backbone(path: Path) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for row in read_table(path, "trials").to_pylist():
        if row["method"] == "finetune":
            found.setdefault(row["backbone"], []).append(row)
    return found


@pytest.mark.slow
def test_a_batch_that_a_gpu_cannot_hold_is_computed_in_parts_and_that_is_recorded(
    tmp_path: Path,
) -> None:
    code, messages, path = launch_own(tmp_path, "frugal")
    assert code == 0, messages
    rows = by_backbone(path)
    assert {row["state"] for row in rows["own"]} == {"complete"}
    assert {row["micro_batches"] for row in rows["own"]} == {4}  # 16 images, 4 at a time
    assert {row["micro_batches"] for row in rows["tiny_strokes"]} == {1}


@pytest.mark.parametrize(
    ("build", "failure", "told"),
    [
        pytest.param("hopeless", "cuda_oom", "batch", marks=pytest.mark.slow),
        ("buggy", "IndexError: off by one", "in with_a_bug"),
    ],
)
def test_what_cannot_heal_is_recorded_once_with_its_reason(
    tmp_path: Path, build: str, failure: str, told: str
) -> None:
    code, messages, path = launch_own(tmp_path, build)
    assert code == 3, messages
    rows = by_backbone(path)
    assert {(row["state"], row["failure"]) for row in rows["own"]} == {("failed", failure)}
    assert {row["attempt"] for row in rows["own"]} == {0}
    assert {row["state"] for row in rows["tiny_strokes"]} == {"complete"}
    log = (path / "sweep.log").read_text()
    assert log.count(f": {failure}\n") == len(rows["own"])
    assert told in log
    assert "Traceback" not in messages


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_an_answer_and_not_tried_again(out: Path) -> None:
    sweep = start(out, "search.lr=1e30", "search.label_budget=[2]", "trials=2")
    code, messages = sweep.end()
    assert code == 0, messages
    for run in runs_of(sweep.path).values():
        assert (run["failure"], run["attempt"]) == ("nonfinite", 0)
    rows = read_table(sweep.path, "trials").to_pylist()
    assert {row["state"] for row in rows if row["method"] == "finetune"} == {"pruned"}


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_by_its_time_limit_and_the_others_go_on(out: Path) -> None:
    sweep = start(out, "limits.trial_minutes=0.4")
    sweep.wait_until(lambda path: settled(path) >= 1 and bool(sweep.workers()))
    kill(sweep.workers()[:1], signal.SIGSTOP)
    code, messages = sweep.end()
    assert code == 3, messages
    failures = [run["failure"] for run in runs_of(sweep.path).values()]
    assert failures.count("trial_time_limit") <= 1  # it may have been a final
    assert "trial_time_limit" in (sweep.path / "sweep.log").read_text()
    assert len(failures) == 8


@pytest.mark.slow
def test_a_process_that_gives_no_sign_of_life_is_replaced(out: Path) -> None:
    sweep = start(out, "limits.silent_minutes=0.4")
    sweep.wait_until(lambda path: settled(path) >= 1 and bool(sweep.workers()))
    kill(sweep.workers()[:1], signal.SIGSTOP)
    code, messages = sweep.end()
    assert code == 0, messages
    assert "follows: hung" in (sweep.path / "sweep.log").read_text()
    assert {run["failure"] for run in runs_of(sweep.path).values()} == {None}


def test_a_host_without_memory_fails_trials_after_some_attempts_and_not_the_driver(
    out: Path,
) -> None:
    overrides = (
        "search.label_budget=[2]",
        "trials=1",
        "resources.max_concurrent=1",
        "baselines=[]",
    )
    sweep = start(out, *overrides, env={"RAY_memory_usage_threshold": "0.001"})
    code, messages = sweep.end()
    assert code == 3, messages
    (run,) = runs_of(sweep.path).values()
    assert (run["failure"], run["attempt"]) == ("host_oom", 2)
    assert "Traceback" not in messages
