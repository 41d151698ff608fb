"""Every key of a search-space file, for the tables in docs/search-space.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.space.axis_values import (
    BACKBONE_ALLOWED,
    BACKBONE_HELP,
    BLOCKS_ALLOWED,
    BLOCKS_HELP,
)
from orchestrator.space.dataset_sources import SOURCES
from orchestrator.space.kinds import one_of
from orchestrator.space.parse_sections import BASELINES, default_baselines
from orchestrator.space.pruners import PRUNERS
from orchestrator.space.samplers import SAMPLERS
from orchestrator.space.search_section import BUDGET_ALLOWED
from orchestrator.space.section import Section
from orchestrator.space.sections import (
    FinalistsSection,
    LimitsSection,
    ObjectiveSection,
    PlainSection,
    ResourcesSection,
)
from orchestrator.space.top_level import NAME_ALLOWED
from trainable.spec.augmentation import OPS, VIEWS
from trainable.spec.settings import CHOICES, DEFAULT_FREEZE_DEPTH, DEFAULT_LR, SETTINGS
from trainable.spec.validation import VALIDATION_SETTINGS


class KnownKey(NamedTuple):
    """One row of the table: dotted key, allowed values, default and description."""

    key: str
    type: str
    default: str
    help: str


def known_keys() -> list[KnownKey]:
    """Return every key of the file, in the order of the documented example."""
    plain = {entry.key: entry for entry in _section("", PlainSection)}
    return [
        KnownKey("name", NAME_ALLOWED, "the file's stem", "what sweeps of this file are called"),
        KnownKey(
            "task",
            "one of classification, segmentation",
            "what the data source is for",
            "what is learnt: a class for each example, or one for each pixel",
        ),
        *_kinds("dataset", SOURCES, tag="source", default="required"),
        *_axes(),
        *(
            KnownKey(
                f"training.{name}",
                setting.allowed,
                _spelled(setting.default),
                setting.help + "; an axis under the same name",
            )
            for name, setting in SETTINGS.items()
        ),
        *_augment(),
        *_validation(),
        *_section("objective.", ObjectiveSection),
        plain["trials"],
        *_kinds("sampler", SAMPLERS, tag="name", default="tpe"),
        *_kinds("pruner", PRUNERS, tag="name", default="median"),
        *_section("finalists.", FinalistsSection),
        KnownKey(
            "baselines",
            f"a list of some of {', '.join(BASELINES)}; pixels are for images, tfidf for texts, "
            "majority for masks",
            f"[{', '.join(default_baselines('classification', 'image'))}]",
            "what finalists are compared with",
        ),
        *_section("limits.", LimitsSection),
        *_section("resources.", ResourcesSection),
        plain["cache"],
        plain["checkpoint_s"],
        plain["seed"],
    ]


def _axes() -> list[KnownKey]:
    defaults = {
        "freeze_depth": _spelled(DEFAULT_FREEZE_DEPTH),
        "frozen_blocks": "none; freeze_depth applies",
        "lr": _spelled(DEFAULT_LR),
    }
    return [
        KnownKey("search.backbone", BACKBONE_ALLOWED, "required", BACKBONE_HELP),
        *(
            KnownKey(f"search.{name}", CHOICES[name].allowed, default, CHOICES[name].help)
            for name, default in defaults.items()
        ),
        KnownKey("search.train_blocks", BLOCKS_ALLOWED, "none; freeze_depth applies", BLOCKS_HELP),
        KnownKey(
            "search.label_budget",
            BUDGET_ALLOWED,
            "required",
            "labelled images for training and validation together; one study each",
        ),
    ]


def _augment() -> list[KnownKey]:
    return [
        KnownKey(
            "augment.ops",
            f"a list of {', '.join(OPS)}; {{NAME: {{argument: value}}}} with arguments",
            "none",
            "random changes of training images, by torchvision.transforms.v2",
        ),
        KnownKey("augment.views", VIEWS.allowed, _spelled(VIEWS.default), VIEWS.help),
    ]


def _validation() -> list[KnownKey]:
    return [
        KnownKey(
            f"validation.{name}",
            setting.allowed,
            "none" if setting.default is None else _spelled(setting.default),
            setting.help,
        )
        for name, setting in VALIDATION_SETTINGS.items()
    ]


def _section(prefix: str, model: type[Section]) -> list[KnownKey]:
    entries = []
    for name, field in model.model_fields.items():
        setting = model.setting(name)
        default = "none" if field.default is None else _spelled(field.default)
        if field.is_required():
            default = "required"
        entries.append(KnownKey(f"{prefix}{name}", setting.allowed, default, setting.help))
    return entries


def _kinds(
    prefix: str, kinds: Mapping[str, type[Section]], *, tag: str, default: str
) -> list[KnownKey]:
    """Return the keys of all kinds, each once, with the kinds that have it."""
    owners: dict[str, list[str]] = {}
    entries: dict[str, KnownKey] = {}
    for kind, model in kinds.items():
        for entry in _section(f"{prefix}.", model):
            owners.setdefault(entry.key, []).append(kind)
            entries.setdefault(entry.key, entry)
    lines = []
    for key, entry in entries.items():
        if key == f"{prefix}.{tag}":
            lines.append(entry._replace(type=one_of(kinds), default=default))
        elif len(owners[key]) < len(kinds):
            lines.append(entry._replace(help=f"{', '.join(owners[key])}: {entry.help}"))
        else:
            lines.append(entry)
    return lines


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
