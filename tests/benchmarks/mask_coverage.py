"""Coverage of intervals of the mean IoU in simulated sweeps over masks whose true score is known.

    python -m tests.benchmarks.mask_coverage [--simulations 2000] [--quick]

Every simulation draws new test images. An image holds some of five classes, whose shares of its
pixels vary widely; the rarest class is in one image of four. How many of its pixels are right
depends on the class, on the image (some are hard, for every network), on the network and image, on
the draw of labels of the repeat (a lucky draw, for every network), and on network and draw. Wrong
pixels are given to the other classes in proportions of the image's own. The two networks of a
simulation are equally good, so a statistic that tells them apart is wrong.

The true score is the expected mean IoU over fresh draws and fresh test images. It is estimated from
other simulations than those that it judges, with five times as many images. One row is printed for
each number of images and of repeats:

- holds the truth: fraction of intervals around the test score that contain the true score; the
  nominal value is 95 %;
- false "differs": fraction of simulations that call the two networks different; 5 % are nominal.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from orchestrator.recording.mask_answers import MaskAnswers
from orchestrator.recording.statistics.intervals import difference_interval, score_interval
from orchestrator.recording.statistics.outcomes import Outcomes, miou_outcomes
from trainable.spec.metrics import Metric

NUM_CLASSES = 5
PIXELS = 4096
HELD = np.array([1.0, 0.9, 0.7, 0.4, 0.25])
"""Share of the images that hold a class."""
SIZES = np.array([8.0, 4.0, 2.0, 1.0, 0.5])
"""Mean share of an image's pixels, relative to the other classes that it holds."""
EASE = np.array([2.5, 1.8, 1.2, 0.6, 0.2])
"""Log-odds that a pixel of a class is right, in the mean."""
OF_IMAGE, OF_DRAW, OWN_OF_IMAGE, OWN_OF_DRAW = 0.8, 0.25, 0.4, 0.15
"""Standard deviations of the log-odds."""
SPREAD = 1.5
"""Concentration of the shares of an image's classes; a smaller one spreads them more."""

IMAGES = (40, 150)
REPEATS = (3, 5)
TIMES_FOR_TRUTH = 5

Counts = NDArray[np.int64]


def sweep(rng: np.random.Generator, *, images: int, repeats: int) -> tuple[Counts, Counts]:
    """(R, N, C, 3) counts of two equally good networks on the same images and draws."""
    held = rng.random((images, NUM_CLASSES)) < HELD
    weights = rng.gamma(SPREAD, SIZES / SPREAD, (images, NUM_CLASSES)) * held
    true = rng.multinomial(PIXELS, weights / weights.sum(axis=1, keepdims=True))
    hard = rng.normal(0, OF_IMAGE, (images, 1))
    lucky = rng.normal(0, OF_DRAW, (repeats, 1, 1))
    taken = rng.dirichlet(np.full(NUM_CLASSES, 0.5), images)
    return tuple(  # type: ignore[return-value]  # of two
        _counts(
            rng,
            true,
            EASE
            + hard
            + lucky
            + rng.normal(0, OWN_OF_IMAGE, (images, 1))
            + rng.normal(0, OWN_OF_DRAW, (repeats, 1, 1)),
            taken,
        )
        for _ in range(2)
    )


def _counts(
    rng: np.random.Generator, true: Counts, odds: NDArray[np.float64], taken: NDArray[np.float64]
) -> Counts:
    found = rng.binomial(true, expit(odds))
    wrong = true - found
    # A wrong pixel of a class goes to any other one, by what the image makes likely.
    to = np.repeat(taken[:, None], NUM_CLASSES, axis=1) * (1 - np.eye(NUM_CLASSES)) + 1e-12
    moved = rng.multinomial(wrong, to / to.sum(axis=2, keepdims=True))
    given = found + moved.sum(axis=2)
    return np.stack([found, np.broadcast_to(true, found.shape), given], axis=-1)


def outcomes(counts: Counts) -> Outcomes:
    """What a sweep makes of the counts."""
    answers = MaskAnswers(
        repeats=np.arange(len(counts)),
        known=np.ones(counts.shape[:2], dtype=np.bool_),
        pixels=counts,
        losses=np.zeros(counts.shape[:2]),
    )
    return answers.outcomes(Metric.MIOU)


def truth(rng: np.random.Generator, *, simulations: int) -> float:
    """The expected mean IoU over fresh draws and images."""
    images = TIMES_FOR_TRUTH * max(IMAGES)
    scores = [
        miou_outcomes(counts).scores.mean()
        for _ in range(simulations)
        for counts in sweep(rng, images=images, repeats=1)
    ]
    return float(np.mean(scores))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="20 simulations")
    options = parser.parse_args()
    number = 20 if options.quick else options.simulations
    rng = np.random.default_rng(0)
    expected = truth(rng, simulations=number)
    print(f"{number} simulated sweeps; true mean IoU {expected:.3f}\n")
    print('| images | repeats | holds the truth, % | false "differs", % | half width, points |')
    print("| ---: | ---: | ---: | ---: | ---: |")
    for images in IMAGES:
        for repeats in REPEATS:
            held, differs, widths = 0, 0, []
            for _ in range(number):
                one, other = map(outcomes, sweep(rng, images=images, repeats=repeats))
                interval = score_interval(one)
                held += interval.low <= expected <= interval.high
                widths.append((interval.high - interval.low) / 2)
                differs += not difference_interval(one, other).holds_zero
            print(
                f"| {images} | {repeats} | {100 * held / number:.1f} | "
                f"{100 * differs / number:.1f} | {100 * np.median(widths):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
