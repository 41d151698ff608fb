"""The top level of a search-space file: its keys, its name, and the homes of misplaced keys."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.space.axis_values import AXIS_NAMES
from orchestrator.space.dataset_sources import SOURCES
from orchestrator.space.problems import Problems, unknown
from orchestrator.space.section import Section
from orchestrator.space.sections import (
    FinalistsSection,
    LimitsSection,
    ObjectiveSection,
    ResourcesSection,
)
from trainable.spec.refusals import refusal, shown
from trainable.spec.settings import SETTINGS
from trainable.spec.validation import VALIDATION_SETTINGS

TOP_KEYS = (
    "name",
    "task",
    "dataset",
    "search",
    "training",
    "augment",
    "validation",
    "objective",
    "trials",
    "sampler",
    "pruner",
    "finalists",
    "baselines",
    "limits",
    "resources",
    "cache",
    "checkpoint_s",
    "seed",
)
NAME_ALLOWED = "letters, digits, . _ and -, a letter or digit first, 100 at most"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def homes() -> Mapping[str, str]:
    """Return the dotted path of each key that has one home: `hours` -> `limits.hours`.

    Raises:
        PluginError: a source of images that another package adds cannot be loaded.
    """
    found = {name: f"search.{name}" for name in (*AXIS_NAMES, "label_budget")}
    found |= {name: f"training.{name}" for name in SETTINGS}
    plain: dict[str, type[Section]] = {
        "objective": ObjectiveSection,
        "finalists": FinalistsSection,
        "limits": LimitsSection,
        "resources": ResourcesSection,
    }
    found |= {key: f"{name}.{key}" for name, model in plain.items() for key in model.model_fields}
    found |= {key: f"validation.{key}" for key in VALIDATION_SETTINGS}
    found |= {key: f"augment.{key}" for key in ("ops", "views")}
    found |= {key: f"dataset.{key}" for model in SOURCES.values() for key in model.model_fields}
    return found | {key: key for key in TOP_KEYS}


def check_top_keys(given: Mapping[str, object], problems: Problems) -> None:
    """Refuse unknown keys at the top level, and say where they belong."""
    for key in given:
        if key not in TOP_KEYS:
            below = {name: path for name, path in homes().items() if path != name}
            problems.add((key,), unknown("key", key, TOP_KEYS, below))


def read_name(given: object, default: str | None, problems: Problems) -> str:
    """Return the name given, or else the default; an empty text if neither is valid."""
    if given is None and default is not None and _NAME.fullmatch(default):
        return default
    if given is None:
        stem = "" if default is None else f"; the file's own, {shown(default)}, cannot serve"
        problems.add(("name",), f"missing{stem}; allowed: {NAME_ALLOWED}")
    elif isinstance(given, str) and _NAME.fullmatch(given):
        return given
    else:
        quoted = "" if isinstance(given, str) else "; text that looks like a number needs quotes"
        problems.add(("name",), refusal(given, f"{NAME_ALLOWED}{quoted}"))
    return ""
