"""What a sweep will do, worked out before anything is created: studies, trials, slots, updates."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.space import Choice, Fixed, Range, SearchSpace, Value, id_part, short_names
from orchestrator.space.problems import space_error
from trainable.budget import draw_subset, validation_parts
from trainable.errors import DataError
from trainable.images import LabelledImages, Split
from trainable.spec import LabelBudget


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """One label budget.

    Attributes:
        name: of the study.
        budget: as in the file.
        labels_used: images drawn, for training and validation together.
        labels_per_class: the budget, or labels_used / num_classes where it is not per class.
        folds: validation parts.
        trials: to be tried.
        fresh: whether repeats draw other labels, and do not vary the training seed alone.
    """

    name: str
    budget: LabelBudget
    labels_used: int
    labels_per_class: float
    folds: int
    trials: int
    fresh: bool = True


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One baseline of one study.

    Attributes:
        study: name of the study.
        method: `pixels` or `probe`.
        backbone: whose features are probed, as the file spells it; None for pixels.
        short_name: of the backbone; None for pixels, and in the journals of 0.1.0.
    """

    study: str
    method: str
    backbone: str | None
    short_name: str | None = None

    @property
    def trial_id(self) -> str:
        """The id that tables show."""
        name = self.backbone if self.short_name is None else id_part(self.short_name)
        return "-".join(filter(None, (self.study, self.method, name)))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole sweep.

    Attributes:
        studies: in ascending order of labels.
        baselines: of all studies, in the order of the studies.
        num_test: images of the test split.
        chance: share of the labels that a constant guess of the commonest class gets right there.
        most_updates: optimizer updates if nothing is pruned, finalists included.
    """

    studies: tuple[StudyPlan, ...]
    baselines: tuple[Baseline, ...]
    num_test: int
    chance: float
    most_updates: int


def make_plan(space: SearchSpace, images: LabelledImages, *, where: str) -> Plan:
    """The plan of a sweep over these images.

    Args:
        space: what is asked.
        images: pool and test split.
        where: name of the search-space file, for messages.

    Raises:
        SpaceError: the images cannot serve a label budget; every such problem is named.
    """
    problems: list[str] = []
    studies = []
    pool = images.indices(Split.POOL)
    sizes = [int((images.labels[pool] == label).sum()) for label in range(images.num_classes)]
    most = max(sizes, default=0)
    for budget in space.label_budgets:
        given = budget.to_json()
        if budget.per_class is not None and budget.per_class > most:
            problems.append(
                f"search.label_budget: got {given}; the largest class has {most} images outside "
                f"the test split: allowed are 1 to {most}, or `all`"
            )
            continue
        if budget.total is not None and budget.total > len(pool):
            problems.append(
                f"search.label_budget: got {given}; there are {len(pool)} images outside the test "
                "split"
            )
            continue
        try:
            subset = draw_subset(images, budget=budget, repeat=0, seed=space.seed)
            _, folds = validation_parts(images, subset, validation=space.validation)
        except DataError as error:
            problems.append(f"search.label_budget: got {given}; {error}")
            continue
        used = len(subset)
        per_class = budget.per_class
        studies.append(
            StudyPlan(
                name=budget.study,
                budget=budget,
                labels_used=used,
                labels_per_class=used / images.num_classes if per_class is None else per_class,
                folds=len(folds),
                trials=trials_per_study(space),
                fresh=used < len(pool),
            )
        )
    test = images.labels[images.indices(Split.TEST)]
    if not len(test):
        problems.append("dataset: no image is in the test split; finalists need one")
    if problems:
        raise space_error(where, *problems)
    studies.sort(key=lambda study: (study.labels_per_class, study.name))
    steps = largest_value(space, "steps")
    finals = space.finalists.count * space.finalists.repeats
    return Plan(
        studies=tuple(studies),
        baselines=tuple(
            baseline for study in studies for baseline in baselines_of(space, study.name)
        ),
        num_test=len(test),
        chance=max(int((test == label).sum()) for label in range(images.num_classes)) / len(test),
        most_updates=sum(steps * (s.trials * s.folds + finals) for s in studies),
    )


def trials_per_study(space: SearchSpace) -> int:
    """Trials of each label budget: as asked for, but no more than a grid has points."""
    if space.sampler.name == "grid":
        return min(space.trials, space.grid_size() or space.trials)
    return space.trials


def baselines_of(space: SearchSpace, study: str) -> list[Baseline]:
    """The baselines of one study: pixels once, a probe for each backbone."""
    names = short_names(backbones(space))
    return [
        Baseline(
            study=study, method=method, backbone=backbone, short_name=names.get(backbone or "")
        )
        for method in space.baselines
        for backbone in ([None] if method == "pixels" else names)
    ]


def backbones(space: SearchSpace) -> list[str]:
    """Every backbone that some trial may have, in the order of the file."""
    domains = space.axes["backbone"].domains
    return list(dict.fromkeys(str(value) for domain in domains for value in domain.each()))


def image_sizes(space: SearchSpace, backbone: str) -> list[int | None]:
    """Sides in pixels that trials of a backbone may see it at; None for the weights' own.

    Of a range, its ends.
    """
    axis = space.axes.get("image_size")
    domain = None if axis is None else axis.resolve({"backbone": backbone})
    match domain:
        case None:
            sizes: list[Value] = [space.training["image_size"]]
        case Range(low, high):
            sizes = [low, high]
        case _:
            sizes = list(domain.grid())
    return [None if size == "auto" else int(size) for size in sizes]


def largest_value(space: SearchSpace, key: str) -> int:
    """The largest whole number that a key of `training:` may take, as an axis or fixed."""
    axis = space.axes.get(key)
    if axis is None:
        return int(space.training[key])
    largest = []
    for domain in axis.domains:
        match domain:
            case Fixed(value):
                largest.append(value)
            case Choice(values):
                largest.extend(values)
            case _:
                largest.append(domain.high)
    return max(int(value) for value in largest)
