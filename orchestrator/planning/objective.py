"""What trials are judged by where the search-space file leaves it to the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from orchestrator.space import SearchSpace
from trainable.data.labelled_images import LabelledImages, Split
from trainable.spec.trial_spec import Metric

MOST_SKEW = Fraction(3, 2)
"""The commonest class may have this many times its share under balance, 1 / classes, and accuracy
is still the default objective."""


def decide_objective(space: SearchSpace, images: LabelledImages) -> tuple[SearchSpace, str | None]:
    """The space with an objective, and one line that says which and why; None where the file does.

    Accuracy on a skewed set measures the commonest class above all: a classifier fitted to a
    balanced draw loses there what it gains on the rare classes. So the default is balanced accuracy
    where the commonest class exceeds `MOST_SKEW` times its share under balance in any set that
    scores are computed on, else accuracy. These sets are the test split and what validation uses:
    a validation split outside the budget, or the budget's own draw. A budget per class draws
    evenly. `all` and totals draw in the proportions of the pool, so that for them the pool counts,
    too: a balanced test split beside it would be judged by skewed validation otherwise. Where the
    pool is nearly balanced, such a budget needs no rule of its own: the two metrics agree there.

    Args:
        space: as it was read.
        images: of the sweep, every one in its split.
    """
    if not space.objective_open:
        return space, None
    skewed = next(
        filter(None, (_skew(images, split, what) for what, split in _scored(space))), None
    )
    metric, other = Metric.ACCURACY, Metric.BALANCED_ACCURACY
    why = f"no class has more than {float(MOST_SKEW):g} times its share under balance"
    if skewed is not None:
        metric, other, why = other, metric, skewed
    line = (
        f"objective: {metric.value}, because {why}; to choose the other: "
        f"objective: {{metric: {other.value}}}"
    )
    return replace(space, objective=metric, objective_open=False), line


def _scored(space: SearchSpace) -> Iterator[tuple[str, Split]]:
    """The sets that scores are computed on and that may be skewed, with their names."""
    yield "test images", Split.TEST
    if space.validation.outside:
        yield "validation images", Split.VAL
    elif any(budget.per_class is None for budget in space.label_budgets):
        yield "images that labels are drawn from", Split.POOL


def _skew(images: LabelledImages, split: Split, what: str) -> str | None:
    """How far the commonest class of a split exceeds its share; None where that is little."""
    counts = np.bincount(images.labels[images.indices(split)], minlength=images.num_classes)
    total, commonest = int(counts.sum()), int(counts.argmax())
    if int(counts[commonest]) * images.num_classes <= MOST_SKEW * total:
        return None
    share = counts[commonest] / total
    return (
        f"class {images.class_names[commonest]!r} has {100 * share:.1f} % of the {what}, "
        f"{share * images.num_classes:.2g} times its share under balance"
    )
