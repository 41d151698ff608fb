"""Pretrain the backbones of the zoo on generated images.

    python -m tools.zoo.pretrain strokes
    python -m tools.zoo.pretrain fractals
    python -m tools.zoo.pretrain untrained --output weights

Strokes take about 5 minutes on 2 idle cores; a batch of fractals costs 10 ms of CPU more, which is
estimated to add up to a minute. The same torch build on the same kind of CPU with the same number
of threads gives the same bits; others round differently.

The settings were chosen without digits, by what the features are worth on other characters: 41
letters in 12 of the Hershey stroke fonts, drawn with pens of 2 to 5 px on 32x32, reduced to 8x8;
20 letters at a time, 1, 2, 5 and 10 labels each, logistic regression on frozen features. Compared
were runs of 1,000 steps, one seed each, so that differences below a point mean nothing. Better by
a point or two: three blocks at full resolution and one at quarter resolution rather than two and
two, two or three strokes a glyph rather than one to three, more slant and stretch (at 1 and 2
labels), label smoothing 0.1 (at 5 and 10). No better: more or less wander of the control points,
even ink, a cosine classifier, batches of 128. Worse: a stronger bend, stopping at half resolution.
Everything else was set once, the learning rate and the fit to the box included, the latter from the
published description of the digits, whose images played no part.

Fractals take the settings found for strokes. Of their own, two were compared on such letters by one
run each of 1,000 steps: a pen was better by 2 to 6 points than marking each cell that a point hits,
and choosing the moves of the chaos game once for a class no worse than anew for each image, and
cheaper. Numbers of maps and points, scales and changes of the maps were set once.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from tools.zoo.fractals import Fractals
from tools.zoo.strokes import StrokeGlyphs
from trainable.backbones.zoo import MEAN, STD, WEIGHTS_FOLDER, build
from trainable.backbones.zoo.trunk import Trunk


class ImageClasses(Protocol):
    """Classes of generated images."""

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:
        """Images (N, 1, 8, 8) in 0..1 of the classes `labels` (N,)."""
        ...


class ImageClassesFactory(Protocol):
    """Makes classes of generated images, their look decided by `generator`."""

    def __call__(self, *, num_classes: int, generator: Generator) -> ImageClasses:
        """Classes made with `generator`, which is advanced by the call."""
        ...


GENERATORS: Mapping[str, ImageClassesFactory] = {
    "strokes": StrokeGlyphs,
    "fractals": Fractals,
}


@dataclass(frozen=True)
class Settings:
    """How a trunk is pretrained.

    Attributes:
        steps: optimizer updates.
        batch_size: images a step; each is generated for the step and seen once.
        num_classes: classes to tell apart.
        lr: peak learning rate of AdamW, after a linear warm-up and before a half cosine to zero.
        weight_decay: of convolutions and head; none on biases and norms.
        warmup_fraction: share of the steps spent warming up.
        label_smoothing: share of each target spread over all classes.
        log_every: steps between progress lines.
        seed: of the classes, the images and the initial weights.
    """

    steps: int = 7500
    batch_size: int = 256
    num_classes: int = 1000
    lr: float = 4e-3
    weight_decay: float = 0.02
    warmup_fraction: float = 0.05
    label_smoothing: float = 0.1
    log_every: int = 250
    seed: int = 0


def untrained_trunk(*, num_classes: int, seed: int) -> Trunk:
    """A trunk with random weights that depend on the seed alone; global random state is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(num_classes=num_classes)


def pretrain(
    make_classes: ImageClassesFactory,
    *,
    settings: Settings,
    log: Callable[[str], None],
) -> Trunk:
    """A trunk trained to tell generated classes apart.

    The result depends on the settings, the torch build and the number of threads alone.

    Args:
        make_classes: makes the classes to tell apart.
        settings: the recipe.
        log: takes progress lines.

    Returns:
        The trained trunk, in eval mode.
    """
    random = Generator().manual_seed(settings.seed)
    classes = make_classes(num_classes=settings.num_classes, generator=random)
    trunk = untrained_trunk(num_classes=settings.num_classes, seed=settings.seed)
    # Channels last is the faster layout for convolutions of few channels on a CPU.
    trunk = trunk.to(memory_format=torch.channels_last)
    weights = [p for p in trunk.parameters() if p.ndim > 1]
    biases_and_norms = [p for p in trunk.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": settings.weight_decay},
            {"params": biases_and_norms, "weight_decay": 0.0},
        ],
        lr=settings.lr,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _lr_factor(step, settings=settings)
    )
    trunk.train()
    start_s = time.monotonic()
    for step in range(settings.steps):
        labels = torch.randint(settings.num_classes, (settings.batch_size,), generator=random)
        images = normalise(classes.sample(labels, generator=random))
        logits = trunk(images.contiguous(memory_format=torch.channels_last))
        loss = cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if (step + 1) % settings.log_every == 0 or step + 1 == settings.steps:
            accuracy = (logits.argmax(dim=1) == labels).float().mean().item()
            log(
                f"step {step + 1}/{settings.steps}  loss {loss.item():.3f}  "
                f"accuracy {accuracy:.3f}  {time.monotonic() - start_s:.0f} s"
            )
    return trunk.eval()


def normalise(images: Tensor) -> Tensor:
    """Input (N, 3, H, W) of the trunk from grey images (N, 1, H, W) in 0..1."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return (images - mean[:, None, None]) / std[:, None, None]


def save_weights(trunk: Trunk, path: Path) -> None:
    """Writes the state dict, less the head, as fp32 safetensors."""
    state = {
        name: tensor.contiguous()
        for name, tensor in trunk.state_dict().items()
        if not name.startswith("head.")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)


def _lr_factor(step: int, *, settings: Settings) -> float:
    """Linear warm-up, then a half cosine to zero."""
    warmup_steps = max(1, round(settings.warmup_fraction * settings.steps))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, settings.steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the weights named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.zoo.pretrain",
        description="Write the weights of a zoo backbone.",
    )
    parser.add_argument("images", choices=[*GENERATORS, "untrained"])
    parser.add_argument("--output", type=Path, default=WEIGHTS_FOLDER)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    settings = Settings(steps=options.steps)
    capability = torch.backends.cpu.get_cpu_capability()
    _log(f"torch {torch.__version__}, {capability}, {options.threads} threads, {settings}")
    if options.images == "untrained":
        trunk = untrained_trunk(num_classes=1, seed=settings.seed)
    else:
        trunk = pretrain(GENERATORS[options.images], settings=settings, log=_log)
    path = options.output / f"tiny_{options.images}.safetensors"
    save_weights(trunk, path)
    _log(f"wrote {path} ({path.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
