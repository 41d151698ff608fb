"""Plain values -> a checked `SearchSpace`, or an error with every problem."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.space.cross_checks import (
    check_gpus,
    check_modality,
    check_reports,
    check_sampler,
    check_task,
    check_training_axes,
)
from orchestrator.space.dataset_sources import SOURCES
from orchestrator.space.parse_axes import Registry
from orchestrator.space.parse_sections import (
    read_augment,
    read_baselines,
    read_kind,
    read_section,
    read_training,
    read_validation,
)
from orchestrator.space.problems import NO_FILE, Problems
from orchestrator.space.pruners import PRUNERS
from orchestrator.space.samplers import SAMPLERS
from orchestrator.space.search_section import read_search
from orchestrator.space.search_space import SearchSpace
from orchestrator.space.sections import (
    FinalistsSection,
    LimitsSection,
    ObjectiveSection,
    PlainSection,
    ResourcesSection,
)
from orchestrator.space.top_level import check_top_keys, homes, read_name
from trainable.spec.metrics import METRICS


def build_space(
    given: Mapping[str, object],
    *,
    where: str = NO_FILE,
    default_name: str | None = None,
    registry: Registry | None = None,
    problems: Problems | None = None,
) -> SearchSpace:
    """Return the search space of plain values, from a file or from `SearchSpace.to_json`.

    Args:
        given: the values by key.
        where: name of their origin, for messages.
        default_name: name if the values give none; None if they must give one.
        registry: registry of backbones, to check and expand their names; None takes every name.
        problems: problems that were found before; they are reported with the others.

    Raises:
        SpaceError: with every problem.
    """
    problems = Problems(where) if problems is None else problems
    check_top_keys(given, problems)
    name = read_name(given.get("name"), default_name, problems)
    dataset = read_kind(
        SOURCES,
        ("dataset",),
        given.get("dataset"),
        problems,
        tag="source",
        default="digits",
        required=True,
    )
    validation = read_validation(("validation",), given.get("validation"), problems)
    search = read_search(
        given.get("search"),
        problems,
        homes=homes,
        registry=registry,
        validation=None if problems.concern(("validation",)) else validation,
    )
    axes = search.axes
    training = read_training(("training",), given.get("training"), problems, homes=homes)
    augment = read_augment(("augment",), given.get("augment"), problems)
    objective = read_section(ObjectiveSection, ("objective",), given.get("objective"), problems)
    plain_given = {
        key: given[key] for key in PlainSection.model_fields if given.get(key) is not None
    }
    plain = read_section(PlainSection, (), plain_given, problems)
    sampler = read_kind(
        SAMPLERS, ("sampler",), given.get("sampler"), problems, tag="name", default="tpe"
    )
    pruner = read_kind(
        PRUNERS, ("pruner",), given.get("pruner"), problems, tag="name", default="median"
    )
    finalists = read_section(FinalistsSection, ("finalists",), given.get("finalists"), problems)
    modality = check_modality(axes, given, registry, problems)
    check_task(dataset.task, axes, given, registry, problems)
    baselines = read_baselines(
        ("baselines",),
        given.get("baselines"),
        problems,
        task=dataset.task,
        modality=None if registry is None else modality,
    )
    limits = read_section(LimitsSection, ("limits",), given.get("limits"), problems)
    resources = read_section(ResourcesSection, ("resources",), given.get("resources"), problems)
    check_training_axes(axes, given.get("training"), problems)
    check_reports(axes, training, problems)
    check_sampler(axes, sampler, problems)
    check_gpus(resources, problems)
    problems.raise_if_any(given)
    return SearchSpace(
        name=name,
        dataset=dataset,
        axes=axes,
        custom=search.custom,
        label_budgets=search.label_budgets,
        training=training,
        augment=augment,
        validation=validation,
        objective=objective.metric or METRICS[dataset.task][0],
        objective_open=objective.metric is None,
        trials=plain.trials,
        sampler=sampler,
        pruner=pruner,
        finalists=finalists,
        baselines=baselines,
        limits=limits,
        resources=resources,
        cache=plain.cache,
        checkpoint_s=plain.checkpoint_s,
        seed=plain.seed,
    )
