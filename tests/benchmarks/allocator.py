"""Processor time of training with the allocator's settings of a private cluster, and without.

    python -m tests.benchmarks.allocator [--batch 16] [--steps 3] [--rounds 3] [--quick]

Each measurement is a process of its own with one thread, for the C library reads its settings at
its start. The processes with and without take turns, so that a busy machine slows both. The table
has the medians of processor time (of program and system) of a training step of all layers, the page
faults of a step, and the most memory held; the last column says whether all losses are equal to the
bit. Weights are random, and images have each model's own size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from itertools import chain
from typing import Any

import torch
from torch.nn import functional
from torch.optim import AdamW

from orchestrator.running.ray_tune.private_head import SETTINGS
from trainable.backbones import untrained
from trainable.backbones.cutting.split import split
from trainable.device import peak_memory_bytes

MODELS = ("mobilenet_v2", "efficientnet_b0", "resnet50")
VARIABLE = "GLIBC_TUNABLES"
NUM_CLASSES = 10


def measure(name: str, *, batch: int, steps: int) -> dict[str, Any]:
    """What `steps` steps cost in this process, after two that are not counted.

    Returns:
        `seconds` of processor and `faults` of pages, both of a step; `peak` memory of the process
        in MiB; `losses` of all steps.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = untrained(name)
    size = backbone.weights.preprocessing.size
    network = split(backbone.traced(size), frozen=0, num_classes=NUM_CLASSES).suffix.eval()
    optimizer = AdamW(network.parameters())
    images = torch.randn(batch, 3, size, size)
    labels = torch.arange(batch) % NUM_CLASSES

    def step() -> float:
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    losses = [step(), step()]
    before = resource.getrusage(resource.RUSAGE_SELF)
    losses += [step() for _ in range(steps)]
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": spent / steps,
        "faults": (after.ru_minflt - before.ru_minflt) / steps,
        "peak": peak_memory_bytes(torch.device("cpu")) / 2**20,
        "losses": losses,
    }


def in_a_process(name: str, *, batch: int, steps: int, tuned: bool) -> dict[str, Any]:
    """`measure` in a process with or without the settings."""
    env = {key: value for key, value in os.environ.items() if key != VARIABLE}
    if tuned:
        env[VARIABLE] = SETTINGS[VARIABLE]
    command = [sys.executable, "-m", "tests.benchmarks.allocator", "--measure", name]
    command += ["--batch", str(batch), "--steps", str(steps)]
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one small model, one round")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, batch=given.batch, steps=given.steps)))
        return
    models, rounds = (("mobilenet_v2",), 1) if given.quick else (MODELS, given.rounds)
    print("| backbone | settings | a step, s | to default | page faults | peak, MiB | losses |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    for name in models:
        runs: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for _ in range(rounds):
            for tuned, measured in runs.items():
                once = in_a_process(name, batch=given.batch, steps=given.steps, tuned=tuned)
                measured.append(once)
        default = statistics.median(each["seconds"] for each in runs[False])
        same = all(each["losses"] == runs[False][0]["losses"] for each in chain(*runs.values()))
        for tuned, measured in runs.items():
            median = {
                key: statistics.median(each[key] for each in measured)
                for key in ("seconds", "faults", "peak")
            }
            print(
                f"| {name} | {'private cluster' if tuned else 'default'} "
                f"| {median['seconds']:.2f} | {median['seconds'] / default:.2f} "
                f"| {median['faults']:.0f} | {median['peak']:.0f} "
                f"| {'equal' if same else 'not equal'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
