"""The default objective: accuracy, or balanced accuracy if the classes are skewed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from orchestrator.space import SearchSpace
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.spec.metrics import Metric

MOST_SKEW = Fraction(3, 2)
"""Accuracy is the default objective up to this ratio of the commonest class's share to its share
under balance, 1 / classes."""


def decide_objective(
    space: SearchSpace, images: LabelledExamples
) -> tuple[SearchSpace, str | None]:
    """The space with its objective decided, and one line that says which and why.

    Accuracy on a skewed set measures mostly the commonest class: a classifier fitted to a balanced
    draw loses there what it gains on the rare classes. So the default is balanced accuracy if, in
    any set that scores are computed on, the commonest class exceeds `MOST_SKEW` times its share
    under balance; otherwise accuracy. The sets are the test split and the validation images: a
    validation split outside the budget, or the budget's own draw. A budget per class draws evenly.
    `all` and totals draw in the proportions of the pool, so the pool counts for them; otherwise a
    sweep with a balanced test split would be ranked by skewed validation scores. If the pool is
    nearly balanced, the two metrics agree and either serves.

    Args:
        space: the search space as it was read.
        images: images of the sweep with their splits.

    Returns:
        The space, and the line; None if the file names an objective, or the labels are masks.
    """
    if not space.objective_open:
        return space, None
    if images.masks is not None:
        return replace(space, objective_open=False), None
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
    """Yield name and split of each set that scores are computed on and that may be skewed."""
    yield "test images", Split.TEST
    if space.validation.outside:
        yield "validation images", Split.VAL
    elif any(budget.per_class is None for budget in space.label_budgets):
        yield "images that labels are drawn from", Split.POOL


def _skew(images: LabelledExamples, split: Split, what: str) -> str | None:
    """A description of the skew of a split; None if it is at most `MOST_SKEW`.

    Args:
        images: images of the sweep.
        split: the split to measure.
        what: name of the set in the description.
    """
    counts = np.bincount(images.labels[images.indices(split)], minlength=images.num_classes)
    total, commonest = int(counts.sum()), int(counts.argmax())
    if int(counts[commonest]) * images.num_classes <= MOST_SKEW * total:
        return None
    share = counts[commonest] / total
    return (
        f"class {images.class_names[commonest]!r} has {100 * share:.1f} % of the {what}, "
        f"{share * images.num_classes:.2g} times its share under balance"
    )
