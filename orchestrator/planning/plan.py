"""The plan of a sweep: its studies, trials, baselines and number of updates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.methods import WITHOUT_BACKBONE_METHODS, Method
from orchestrator.planning.inputs import Inputs, inputs_of, sizes_are_open
from orchestrator.space import Range, SearchSpace, Value, id_part, short_names
from orchestrator.space.problems import space_error
from orchestrator.space.search_section import MIN_PER_CLASS
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset, validation_parts
from trainable.errors import DataError
from trainable.spec.refusals import shown
from trainable.spec.settings import SETTINGS, UNITS
from trainable.spec.trial_spec import LabelBudget, TrialSpec


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """The plan of the study of one label budget.

    Attributes:
        name: name of the study.
        budget: the label budget, as in the file.
        labels_used: images drawn, for training and validation together.
        labels_per_class: labels per class; for a budget that is not per class the mean,
            labels_used / num_classes. Of masks, labelled examples in all.
        folds: number of validation folds.
        trials: number of trials.
        fresh: whether each repeat draws other labels; otherwise only the training seed differs.
        most_baselines: upper bound of the number of baselines; see the function of this name.
    """

    name: str
    budget: LabelBudget
    labels_used: int
    labels_per_class: float
    folds: int
    trials: int
    fresh: bool = True
    most_baselines: int


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One baseline of one study.

    Attributes:
        study: name of the study.
        method: `probe`, or one of `WITHOUT_BACKBONE_METHODS`.
        backbone: the probed backbone, as the file spells it; None without one.
        short_name: short name of the backbone; None without one, and in journals of version 0.1.0.
        size: side of the input images in pixels, or most tokens of a text; None for the size at
            which the weights were trained, and without a backbone.
        precision: precision of the backbone's forward pass; may be `auto`.
        reading: how the backbone reads its input, by the names of `READINGS`; may be `auto`.
        variant: suffix that distinguishes several probes of one backbone, such as `64px`,
            `96px-bf16` or `cls`; None if there is only one.
    """

    study: str
    method: str
    backbone: str | None
    short_name: str | None = None
    size: int | None = None
    precision: str = "fp32"
    reading: tuple[tuple[str, str], ...] = ()
    variant: str | None = None

    @property
    def trial_id(self) -> str:
        """Id of the baseline in tables, such as `b5-probe-resnet18`."""
        name = self.backbone if self.short_name is None else id_part(self.short_name)
        return "-".join(filter(None, (self.study, self.method, name, self.variant)))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a sweep.

    Attributes:
        studies: in ascending order of labels.
        baselines: baselines of all studies, in the order of the studies. Probes that depend on the
            finalists are not among them; see `probe_beside`.
        num_test: images of the test split.
        most_updates: optimizer updates if nothing is pruned, those of finalists included.
    """

    studies: tuple[StudyPlan, ...]
    baselines: tuple[Baseline, ...]
    num_test: int
    most_updates: int


def _allowed(most: int, space: SearchSpace) -> str:
    """The allowed range of a per-class label budget, in words.

    Args:
        most: images of the largest class in the pool.
        space: the search space; validation inside the budget needs `MIN_PER_CLASS` labels.
    """
    least = 1 if space.validation.outside else MIN_PER_CLASS
    if most < least:
        return f"too few for any budget, which takes {least}"
    return f"allowed are {least} to {most}, or `all`"


def make_plan(space: SearchSpace, images: LabelledExamples, *, where: str) -> Plan:
    """The plan of a sweep over these images.

    Args:
        space: the search space.
        images: images of the pool and the test split.
        where: name of the search-space file, for messages.

    Raises:
        SpaceError: the images do not suffice for a label budget, or none is in the test split; the
            message lists every problem.
    """
    problems: list[str] = []
    studies = []
    pool = images.indices(Split.POOL)
    sizes = [int((images.labels[pool] == label).sum()) for label in range(len(images.strata))]
    most = max(sizes, default=0)
    for budget in space.label_budgets:
        given = budget.to_json()
        if budget.per_class is not None and budget.per_class > most:
            problems.append(
                f"search.label_budget: got {given}; the largest class has {most} images outside "
                f"the test split: {_allowed(most, space)}"
            )
            continue
        if budget.total is not None and budget.total > len(pool):
            problems.append(
                f"search.label_budget: got {shown(given)}; there are {len(pool)} images outside "
                "the test split"
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
                labels_per_class=used / len(images.strata) if per_class is None else per_class,
                folds=len(folds),
                trials=trials_per_study(space),
                fresh=used < len(pool),
                most_baselines=most_baselines(space, budget.study),
            )
        )
    num_test = len(images.indices(Split.TEST))
    if not num_test:
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
        num_test=num_test,
        most_updates=sum(steps * (s.trials * s.folds + finals) for s in studies),
    )


def trials_per_study(space: SearchSpace) -> int:
    """Number of trials per label budget; a grid has at most one per point."""
    if space.sampler.every_combination:
        return min(space.trials, space.grid_size() or space.trials)
    return space.trials


def baselines_of(space: SearchSpace, study: str) -> list[Baseline]:
    """The baselines of one study that are known before it starts.

    These are one baseline without a backbone, and one probe per backbone and `inputs_of` it; an
    open range of sizes has a probe at each end.
    """
    found = [
        Baseline(study=study, method=method, backbone=None)
        for method in space.baselines
        if method in WITHOUT_BACKBONE_METHODS
    ]
    if Method.PROBE in space.baselines:
        possible = inputs_of(space)
        found += [
            _probe(study, backbone, inputs, possible, unit=UNITS[space.modality])
            for backbone, all_of_it in possible.items()
            for inputs in all_of_it
        ]
    return found


def most_baselines(space: SearchSpace, study: str) -> int:
    """Upper bound of a study's baselines: `baselines_of` it, and a late probe per finalist.

    Finalists get late probes only if sizes are open; see `sizes_are_open`.
    """
    late = Method.PROBE in space.baselines and sizes_are_open(space)
    finalists = min(space.finalists.count, trials_per_study(space)) if late else 0
    return len(baselines_of(space, study)) + finalists


def probe_beside(space: SearchSpace, study: str, trial: TrialSpec) -> Baseline | None:
    """The probe with the backbone, size and precision of a trial; None without probes."""
    if Method.PROBE not in space.baselines:
        return None
    inputs = Inputs.of(trial, modality=space.modality)
    return _probe(study, trial.backbone, inputs, inputs_of(space), unit=UNITS[space.modality])


def _probe(
    study: str,
    backbone: str,
    inputs: Inputs,
    possible: Mapping[str, Sequence[Inputs]],
    *,
    unit: str,
) -> Baseline:
    """A probe; `variant` has its size or precision if they differ between probes of a backbone.

    Args:
        study: name of the study.
        backbone: the probed backbone.
        inputs: size and precision of the probe.
        possible: `inputs_of` the search space.
        unit: unit of the size, for `variant`.
    """
    variant = None
    if len(possible[backbone]) > 1:
        all_of_them = [one for several in possible.values() for one in several]
        size = "auto" if inputs.size is None else inputs.size
        parts: list[tuple[str, Collection[object]]] = [
            (f"{size}{unit}", {one.size for one in all_of_them}),
            (inputs.precision, {one.precision for one in all_of_them}),
        ]
        for name, value in inputs.reading:
            values = list(dict.fromkeys(dict(one.reading)[name] for one in all_of_them))
            parts.append((_reading_part(name, value, values), values))
        variant = "-".join(part for part, values in parts if len(values) > 1)
    return Baseline(
        study=study,
        method=Method.PROBE,
        backbone=backbone,
        short_name=short_names(possible)[backbone],
        size=inputs.size,
        precision=inputs.precision,
        reading=inputs.reading,
        variant=variant,
    )


def _reading_part(name: str, value: str, values: Sequence[str]) -> str:
    """How ids of probes name a value of a setting; texts that anybody may write by their number."""
    setting = SETTINGS[name]
    return value if setting.text is None else f"{name}{values.index(value) + 1}"


def largest_value(space: SearchSpace, key: str) -> int:
    """The largest value of an integer key of `training:`, whether fixed or an axis."""
    axis = space.axes.get(key)
    largest: list[Value] = []
    if axis is None or not axis.always_applies:
        largest.append(space.training[key])
    for domain in axis.domains if axis is not None else ():
        largest.extend([domain.high] if isinstance(domain, Range) else domain.each())
    return max(int(value) for value in largest)
