"""Profile of a trial's time by freeze depth, with an empty and with a full feature store.

    python tests/benchmarks/trial_profile.py [--backbone resnet18@none] [--image-size 64]
        [--depths 0 0.5 1] [--labels 10] [--steps 20] [--threads 1]

One process trains on the embedded digits. PyTorch's profiler measures the parts of `train_s` that
forward passes, backward passes and optimizer steps take; the rest is Python, scores and
predictions. The profiler itself takes time, so that only the fractions are meaningful, not the
seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from orchestrator.datasets import digits
from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples
from trainable.device import default_device
from trainable.features.cache import FeatureCache
from trainable.features.cost_model import speeds_of
from trainable.features.store import FeatureStore
from trainable.spec.trial_spec import CacheMode, LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.trial import Trial

_BACKWARD = "autograd::engine::evaluate_function"
_OPTIMIZER = "Optimizer.step"


def shares(events: list[tuple[str, float]], train_s: float) -> tuple[float, float]:
    """Fractions of the training time that backward passes and optimizer steps take."""
    backward = sum(seconds for name, seconds in events if name.startswith(_BACKWARD))
    optimizer = sum(seconds for name, seconds in events if name.startswith(_OPTIMIZER))
    return backward / train_s, optimizer / train_s


def run(trial: Trial) -> tuple[float, list[tuple[str, float]]]:
    """Run a trial; return its timings, and the profiler's seconds by name of operation."""
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        list(trial.reports())
    seconds = time.perf_counter() - start
    events = [(event.key, event.cpu_time_total / 1e6) for event in profiled.key_averages()]
    return seconds, events


def row(
    images: LabelledExamples, backbone: Backbone, spec: TrialSpec, cache: FeatureCache, store: str
) -> str:
    """The table's row for one trial."""
    start = time.perf_counter()
    trial = Trial(spec, images, backbone, cache=cache)
    _, events = run(trial)
    total = time.perf_counter() - start
    setup, features, train = (trial.timings[name] for name in ("setup_s", "features_s", "train_s"))
    backward, optimizer = shares(events, train)
    return (
        f"| {spec.freeze_depth:g} | {store} | {total:.2f} | {setup / total:.1%} "
        f"| {features / total:.1%} | {train / total:.1%} | {backward:.1%} | {optimizer:.1%} "
        f"| {trial.counts.hits} | {trial.counts.misses} |"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18@none")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--depths", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--labels", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    images = digits.load(test=None, seed=0)
    backbone = Backbone(load_weights(given.backbone))
    backbone.traced(given.image_size)
    print(
        "| depth | store | s | set-up | features | training | backward | optimizer | hits |", end=""
    )
    print(" misses |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for depth in given.depths:
            spec = TrialSpec(
                backbone=given.backbone,
                lr=1e-3,
                label_budget=LabelBudget(given.labels),
                freeze_depth=depth,
                validation=Validation(2),
                steps=given.steps,
                reports=4,
                image_size=given.image_size,
            )
            place = Path(folder) / str(depth)
            speeds = speeds_of(Path(folder), device=default_device())
            for store in ("empty", "full"):
                cache = FeatureCache(
                    store=FeatureStore(place),
                    mode=CacheMode.AUTO,
                    speeds=speeds,
                    num_images=len(images),
                )
                print(row(images, backbone, spec, cache, store), flush=True)


if __name__ == "__main__":
    main()
