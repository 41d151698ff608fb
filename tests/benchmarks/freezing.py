"""Cost of a training step at each freeze depth, on activations that were computed before.

    python tests/benchmarks/freezing.py [--batch 8] [--quick]

The program prints one table. It has the median time of a step of the suffix (forward, backward and
optimizer), and the memory that a step needs: tensors kept for the backward pass, gradients, and the
optimizer's state. Weights are random, and images have each model's own size. Other depths are
compared with depth 0.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.nn import functional
from torch.optim import AdamW

from trainable.backbones import untrained
from trainable.backbones.cutting.boundaries import boundaries, frozen_boundaries
from trainable.backbones.cutting.split import SplitBackbone, split

MODELS = ("resnet50", "convnext_tiny", "vit_b_16", "efficientnet_b0")
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
NUM_CLASSES = 10


def step_cost(halves: SplitBackbone, images: torch.Tensor, *, steps: int) -> tuple[float, int]:
    """Median seconds of a step, and the peak of the bytes that it needs."""
    activations = halves.prefix(images)
    labels = torch.arange(len(images)) % NUM_CLASSES
    suffix = halves.suffix.eval()
    optimizer = AdamW(suffix.parameters())
    held: dict[int, int] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    seconds = []
    for _ in range(steps + 1):  # the first step creates the optimizer's state and is not timed
        held.clear()
        start = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            loss = functional.cross_entropy(suffix(activations.clone()), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    for parameter in suffix.parameters():  # parameters are in memory whatever is trained
        held.pop(parameter.untyped_storage().data_ptr(), None)
    trained = sum(p.numel() * p.element_size() for p in suffix.parameters() if p.grad is not None)
    return statistics.median(seconds[1:]), sum(held.values()) + 3 * trained


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one small model, one step")
    given = parser.parse_args()
    models, steps = (("resnet18",), 1) if given.quick else (MODELS, given.steps)
    print("| backbone | freeze depth | step, ms | to depth 0 | memory, MiB | to depth 0 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in models:
        backbone = untrained(name)
        size = backbone.weights.preprocessing.size
        traced = backbone.traced(size)
        torch.manual_seed(0)
        images = torch.randn(given.batch, 3, size, size)
        first: tuple[float, int] | None = None
        for depth in DEPTHS:
            frozen = frozen_boundaries(len(boundaries(traced)), depth=depth)
            halves = split(traced, frozen=frozen, num_classes=NUM_CLASSES)
            seconds, memory = step_cost(halves, images, steps=steps)
            first = first or (seconds, memory)
            print(
                f"| {name} | {depth:g} | {1000 * seconds:.1f} | {seconds / first[0]:.3f} "
                f"| {memory / 2**20:.1f} | {memory / first[1]:.3f} |"
            )


if __name__ == "__main__":
    main()
