"""Checks across sections of a search space."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.space.axes import Axis, Range
from orchestrator.space.parse_axes import Registry
from orchestrator.space.problems import Problems
from orchestrator.space.samplers import SamplerSection
from orchestrator.space.sections import (
    SMALLEST_SHARE,
    ResourcesSection,
)
from trainable.spec.augmentation import WITHOUT_MASKS
from trainable.spec.metrics import METRICS, Metric
from trainable.spec.refusals import refusal, shown
from trainable.spec.setting import Value
from trainable.spec.settings import DEFAULTS, FOR_IMAGES, FOR_TEXTS, SETTINGS

_IMAGE = "image"


def check_training_axes(
    axes: Mapping[str, Axis], given_training: object, problems: Problems
) -> None:
    """Refuse a training setting that is also an axis that always applies."""
    if not isinstance(given_training, Mapping):
        return
    for name in given_training:
        if name in SETTINGS and name in axes and axes[name].always_applies:
            problems.add(("training", name), f"given as search.{name} too; give one of the two")


def check_modality(
    axes: Mapping[str, Axis],
    given: Mapping[str, object],
    registry: Registry | None,
    problems: Problems,
) -> str:
    """Refuse backbones for different kinds of examples, and keys for another kind than theirs.

    Args:
        axes: the axes of the search space.
        given: the file's content.
        registry: registry of backbones; None checks nothing.
        problems: takes what is wrong.

    Returns:
        The kind of example that the backbones take: `image` or `text`.
    """
    if registry is None or "backbone" not in axes or problems.concern(("search", "backbone")):
        return _IMAGE
    names = [str(name) for domain in axes["backbone"].domains for name in domain.each()]
    modalities = {registry.modality_of_name(name): name for name in names}
    if len(modalities) > 1:
        shown_names = " and ".join(f"{name} for {kind}s" for kind, name in modalities.items())
        problems.add(("search", "backbone"), f"got {shown_names}; a sweep has one kind of example")
    (modality, backbone), *_ = modalities.items()
    for kind, settings in (("image", FOR_IMAGES), ("text", FOR_TEXTS)):
        for section in ("search", "training"):
            content = given.get(section)
            if kind == modality or not isinstance(content, Mapping):
                continue
            for name in settings:
                if content.get(name, DEFAULTS[name]) != DEFAULTS[name]:
                    problems.add((section, name), f"is for {kind}s; {backbone} takes {modality}s")
    if given.get("augment") is not None and modality != _IMAGE:
        problems.add(("augment",), f"is for images; {backbone} takes {modality}s. Leave it out")
    return modality


def check_task(
    task: str,
    axes: Mapping[str, Axis],
    given: Mapping[str, object],
    registry: Registry | None,
    problems: Problems,
) -> None:
    """Refuse what does not belong to the task of the data: metrics, backbones, transforms.

    Args:
        task: what the labels are.
        axes: the axes of the search space.
        given: the file's content.
        registry: registry of backbones; None does not check these.
        problems: takes what is wrong.
    """
    wanted = given.get("task", task)
    if wanted != task:
        problems.add(("task",), f"got {shown(wanted)}; the data source is for {task}: leave it out")
    objective = given.get("objective")
    metric = objective.get("metric") if isinstance(objective, Mapping) else None
    if metric in set(Metric) and metric not in METRICS[task]:
        allowed = ", ".join(one.value for one in METRICS[task])
        problems.add(("objective", "metric"), refusal(metric, f"for {task} {allowed}"))
    if task == "segmentation" and (unable := _unable_to_move_masks(given.get("augment"))):
        problems.add(
            ("augment", "ops"),
            f"got {', '.join(unable)}, which cannot move masks; allowed for {task}: others, such "
            "as horizontal_flip, affine, color_jitter",
        )
    if registry is None or "backbone" not in axes or problems.concern(("search", "backbone")):
        return
    names = [str(name) for domain in axes["backbone"].domains for name in domain.each()]
    for name in names:
        if registry.task_of_name(name) not in ("classification", task):
            problems.add(
                ("search", "backbone"),
                f"got {name}, which is for {registry.task_of_name(name)}; the data are for {task}",
            )


def _unable_to_move_masks(augment: object) -> list[str]:
    """Names of the transforms of `augment:` that choose among others, and know no masks."""
    listed = augment.get("ops") if isinstance(augment, Mapping) else None
    names = [
        str(next(iter(item), "")) if isinstance(item, Mapping) else str(item)
        for item in (listed if isinstance(listed, list) else [])
    ]
    return [name for name in names if name in WITHOUT_MASKS]


def check_reports(
    axes: Mapping[str, Axis], training: Mapping[str, Value], problems: Problems
) -> None:
    """Refuse more reports than steps: the most reports against the fewest steps.

    Skipped if either of them has a problem already.
    """
    if any(
        problems.concern((section, name))
        for section in ("search", "training")
        for name in ("reports", "steps")
    ):
        return
    most, reports_key = _extreme("reports", axes, training, largest=True)
    fewest, steps_key = _extreme("steps", axes, training, largest=False)
    if most > fewest:
        path = tuple(reports_key.split("."))
        problems.add(
            path, f"got {shown(most)}; allowed: at most {steps_key}, which can be {shown(fewest)}"
        )


def check_sampler(
    axes: Mapping[str, Axis], sampler: SamplerSection | None, problems: Problems
) -> None:
    """Refuse continuous axes if the sampler tries every combination."""
    if sampler is None or not sampler.every_combination:
        return
    for axis in axes.values():
        if any(domain.num_values() is None for domain in axis.domains):
            problems.add(
                ("search", axis.name),
                f"a continuous range; the {sampler.name} sampler needs a list or a range with step",
            )


def check_gpus(resources: ResourcesSection, problems: Problems) -> None:
    """Refuse GPU counts that Ray cannot place: it shares single GPUs only."""
    wanted = resources.gpus_per_trial
    if isinstance(wanted, str) or wanted == int(wanted) or SMALLEST_SHARE <= wanted < 1:
        return
    problems.add(
        ("resources", "gpus_per_trial"),
        refusal(wanted, f"auto, a whole number, or a share of one GPU from {SMALLEST_SHARE:g}"),
    )


def _extreme(
    name: str, axes: Mapping[str, Axis], training: Mapping[str, Value], *, largest: bool
) -> tuple[int | float, str]:
    """Return the largest or smallest value of a training setting, and the key that sets it."""
    found: list[tuple[int | float, str]] = []
    axis = axes.get(name)
    silent = training[name]
    if (axis is None or not axis.always_applies) and not isinstance(silent, str):
        found.append((silent, f"training.{name}"))
    for domain in axis.domains if axis is not None else ():
        if isinstance(domain, Range):
            numbers: tuple[Value, ...] = (domain.low, domain.high)
        else:
            numbers = domain.grid()
        found += [(number, f"search.{name}") for number in numbers if not isinstance(number, str)]
    return max(found) if largest else min(found)
