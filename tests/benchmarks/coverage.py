"""Coverage of confidence intervals in simulated sweeps whose true accuracy is known.

    python tests/benchmarks/coverage.py [--simulations 2000] [--quick]

Every simulation draws new images of four classes, which are Gaussian clouds: a pool of 80 images
per class, and a test set of 80 images in total. Two configurations see each image through noise of
their own. The noise is equally strong, so neither configuration is better, and a statistic that
tells them apart is wrong. Both fit logistic regression by a few steps of gradient descent, as
trials do, in 5 repeats. Each repeat draws fresh labels (nested over budgets, and the same for both
configurations) and fresh batches. With `all` labels, only the batches are drawn.

The true score is the expected score over fresh labels and fresh test images. It is estimated from
other simulations than those that it judges, with five times as many test images. Accuracy is
measured on test images of classes drawn at random, the other metrics on a test set of 5, 15, 25 and
35 images of the four classes. The program prints one table with a row for each metric, budget and
difficulty:

- holds the truth: fraction of intervals around the test score that contain the true score; the
  nominal value is 95 %.
- false "differs": fraction of simulations that call the two configurations different; the nominal
  value is 5 %.
- Both are computed by `orchestrator.recording.statistics.intervals`, and by Student's t over the
  repeats, the usual analysis of a mean and deviation of five runs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import t as student

from orchestrator.recording.class_answers import OUTCOMES, ClassAnswers
from orchestrator.recording.statistics.intervals import difference_interval, score_interval
from orchestrator.recording.statistics.outcomes import Outcomes
from trainable.spec.metrics import Metric

NUM_CLASSES = 4
NUM_FEATURES = 8
POOL_PER_CLASS = 80
NUM_TEST = 80
NUM_REPEATS = 5
BUDGETS = (5, 20, POOL_PER_CLASS)
"""Labels per class; the last budget takes all labels."""
SEPARATIONS = (1.7, 2.3, 3.3)
"""Distances of the class means from the origin, in standard deviations of a class."""

UNEVEN = np.repeat(np.arange(NUM_CLASSES), [5, 15, 25, 35])
"""(80,) labels of a test set whose commonest class has 7 times as many images as its rarest."""

SHARES = tuple(metric for metric in Metric if metric.is_share)
_TIMES_FOR_TRUTH = 5
_OWN_NOISE = 0.3
"""Variance of each configuration's own noise, as a fraction of a class's variance."""
_STEPS = 40
_BATCH = 16
_RATE = 0.3

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class Answers(NamedTuple):
    """Answers of one configuration on one label budget.

    Attributes:
        labels: (N,) class ids of the test images.
        probabilities: (R, N, C) of the classes.
    """

    labels: Indices
    probabilities: Floats

    def outcomes(self, metric: Metric) -> Outcomes:
        """What the test images contribute to a metric."""
        num_repeats, num_images, _ = self.probabilities.shape
        answers = ClassAnswers(
            repeats=np.arange(num_repeats),
            known=np.ones((num_repeats, num_images), dtype=np.bool_),
            predicted=self.probabilities.argmax(axis=2),
            label_probability=self.probabilities[:, np.arange(num_images), self.labels],
            probabilities=self.probabilities.astype(np.float32),
            labels=self.labels,
        )
        return OUTCOMES[metric](answers)


def sweeps(
    rng: np.random.Generator,
    *,
    separation: float,
    num_sweeps: int,
    num_test: int = NUM_TEST,
    num_repeats: int = NUM_REPEATS,
    classes: Indices | None = None,
) -> Iterator[Mapping[int, tuple[Answers, Answers]]]:
    """Yield sweeps over new images: for every budget, the answers of the two configurations.

    Test images have the given `classes`, or else `num_test` classes drawn at random.
    """
    pool_labels = np.repeat(np.arange(NUM_CLASSES), POOL_PER_CLASS)
    for _ in range(num_sweeps):
        pool = _seen(rng, pool_labels, separation)
        test_labels = rng.integers(NUM_CLASSES, size=num_test) if classes is None else classes
        test = _seen(rng, test_labels, separation)
        order = rng.permuted(
            np.tile(np.arange(POOL_PER_CLASS), (num_repeats, NUM_CLASSES, 1)), axis=2
        )
        order += POOL_PER_CLASS * np.arange(NUM_CLASSES)[:, None]
        answers = {}
        for budget in BUDGETS:
            drawn = order[:, :, :budget].reshape(num_repeats, -1)
            weight = _fitted(rng, pool, pool_labels, drawn)
            one, other = softmax(test[:, None] @ weight, axis=3)
            answers[budget] = Answers(test_labels, one), Answers(test_labels, other)
        yield answers


def _seen(rng: np.random.Generator, labels: Indices, separation: float) -> Floats:
    """(2, N, F + 1) images as the two configurations see them, with a constant feature 1."""
    common = rng.standard_normal((len(labels), NUM_FEATURES)) * math.sqrt(1 - _OWN_NOISE)
    own = rng.standard_normal((2, *common.shape)) * math.sqrt(_OWN_NOISE)
    seen = separation * np.eye(NUM_CLASSES, NUM_FEATURES)[labels] + common + own
    return np.concatenate([seen, np.ones((2, len(labels), 1))], axis=2)


def _fitted(rng: np.random.Generator, pool: Floats, labels: Indices, drawn: Indices) -> Floats:
    """(2, R, F + 1, C) weights after training on (R, M) drawn images of the pool."""
    num_repeats, num_drawn = drawn.shape
    weight = np.zeros((2, num_repeats, pool.shape[2], NUM_CLASSES))
    for _ in range(_STEPS):
        positions = rng.integers(num_drawn, size=(num_repeats, _BATCH))
        batch = np.take_along_axis(drawn, positions, axis=1)
        images = pool[:, batch]
        odds = np.exp(images @ weight)
        errors = odds / odds.sum(axis=3, keepdims=True) - np.eye(NUM_CLASSES)[labels[batch]]
        weight -= _RATE / _BATCH * images.swapaxes(2, 3) @ errors
    return weight


def true_scores(
    metric: Metric, *, separation: float, num_sweeps: int, classes: Indices | None
) -> dict[int, float]:
    """Expected score over fresh labels and test images for each budget, equal for both."""
    rng = np.random.default_rng([1, round(1000 * separation)])
    many = None if classes is None else np.tile(classes, _TIMES_FOR_TRUTH)
    found = dict.fromkeys(BUDGETS, 0.0)
    for answers in sweeps(
        rng,
        separation=separation,
        num_sweeps=num_sweeps,
        num_test=_TIMES_FOR_TRUTH * NUM_TEST,
        num_repeats=1,
        classes=many,
    ):
        for budget, both in answers.items():
            scores = [float(one.outcomes(metric).scores.mean()) for one in both]
            found[budget] += sum(scores) / 2 / num_sweeps
    return found


class Shares(NamedTuple):
    """Frequencies of outcomes over all sweeps of one budget; 0 or 1 for a single sweep.

    Attributes:
        held: the interval contained the true accuracy.
        differs: two equal configurations were called different.
        naive_held: as `held`, by Student's t over repeats.
        naive_differs: as `differs`, by the paired t over repeats.
    """

    held: float
    differs: float
    naive_held: float
    naive_differs: float


def judged(both: tuple[Answers, Answers], metric: Metric, *, truth: float) -> Shares:
    """The verdicts of the intervals of two equal configurations."""
    one, other = (answers.outcomes(metric) for answers in both)
    interval = score_interval(one)
    return Shares(
        held=interval.low <= truth <= interval.high,
        differs=not difference_interval(one, other).holds_zero,
        naive_held=_t_holds(one.scores, truth),
        naive_differs=not _t_holds(one.scores - other.scores, 0.0),
    )


def _t_holds(values: Floats, truth: float) -> bool:
    """Whether the t interval of the mean of (R,) values contains the true value."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    return bool(abs(values.mean() - truth) <= student.ppf(0.975, len(values) - 1) * error + 1e-12)


def simulated(
    metric: Metric, *, separation: float, num_sweeps: int, num_for_truth: int
) -> dict[int, tuple[float, Shares]]:
    """By budget the truth and what became of the intervals."""
    classes = None if metric is Metric.ACCURACY else UNEVEN
    truth = true_scores(metric, separation=separation, num_sweeps=num_for_truth, classes=classes)
    verdicts: dict[int, list[Shares]] = {budget: [] for budget in BUDGETS}
    rng = np.random.default_rng([2, round(1000 * separation)])
    for answers in sweeps(rng, separation=separation, num_sweeps=num_sweeps, classes=classes):
        for budget, both in answers.items():
            verdicts[budget].append(judged(both, metric, truth=truth[budget]))
    return {
        budget: (truth[budget], Shares(*(float(share) for share in np.mean(each, axis=0))))
        for budget, each in verdicts.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="50 simulations")
    given = parser.parse_args()
    num_sweeps = 50 if given.quick else given.simulations
    print(
        "| metric | labels | truth | holds the truth | t over repeats "
        '| false "differs" | paired t over repeats |'
    )
    print("| --- |" + " ---: |" * 6, flush=True)
    for metric, separation in product(SHARES, SEPARATIONS):
        results = simulated(
            metric, separation=separation, num_sweeps=num_sweeps, num_for_truth=2 * num_sweeps
        )
        for budget, (truth, shares) in results.items():
            cells = [
                metric.replace("_", " "),
                "all" if budget == POOL_PER_CLASS else str(budget),
                f"{100 * truth:.1f} %",
                *(
                    f"{100 * share:.1f} %"
                    for share in (
                        shares.held,
                        shares.naive_held,
                        shares.differs,
                        shares.naive_differs,
                    )
                ),
            ]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
