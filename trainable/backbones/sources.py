"""Where backbones come from, by their names: one `BackboneSource` each.

A name of a shipped backbone is checked without importing torch, so that a search-space file is
checked before anything that takes seconds.
"""

from __future__ import annotations

import difflib
import fnmatch

from trainable.backbones import shipped
from trainable.backbones.source import BackboneSource, NetworkBuilder
from trainable.backbones.weights import RANDOM, BackboneInfo
from trainable.errors import BackboneError
from trainable.registry import Registry

CUSTOM = "custom"
"""What weights name as their source that the user's own code gave; it has no names of its own."""


def _shipped() -> BackboneSource:
    return shipped


def _torchvision() -> BackboneSource:
    from trainable.backbones import torchvision_models

    return torchvision_models


def _timm() -> BackboneSource:
    from trainable.backbones import timm_models

    return timm_models


def _transformers() -> BackboneSource:
    from trainable.backbones import transformers_models

    return transformers_models


def _problem(name: str, found: object) -> str | None:
    if name == CUSTOM:
        return "this name is taken; rename it"
    if not isinstance(found, BackboneSource):
        return (
            f"it is no source of backbones, but {type(found).__name__}; allowed: what has all of "
            "trainable.backbones.source.BackboneSource"
        )
    return None


SOURCES: Registry[BackboneSource] = Registry(
    "sft_sweep.backbone_sources",
    what="a source of backbones",
    own={
        "shipped": _shipped,
        "torchvision": _torchvision,
        "timm": _timm,
        "transformers": _transformers,
    },
    problem=_problem,
)
"""By the name that weights give their source; asked for names in this order, ours first."""


def names(pattern: str = "*") -> list[str]:
    """The known names that match a glob pattern, shipped ones first.

    Those of a source with a prefix, such as timm's more than a thousand, are asked for by patterns
    that begin with it. A name that no list has, such as that of a folder, stands for itself.
    """
    prefixed = [s for s in SOURCES.values() if s.PREFIX and pattern.startswith(s.PREFIX)]
    asked = prefixed or [source for source in SOURCES.values() if not source.PREFIX]
    every = [name for source in asked for name in source.names()]
    found = [name for name in every if fnmatch.fnmatchcase(name, pattern)]
    if not found and any(source.problem(pattern, "") is None for source in prefixed):
        return [pattern]
    return found


def expand(pattern: str) -> list[str]:
    """The backbones meant by `NAME[@WEIGHTS]` whose NAME may be a glob pattern.

    A name that matches nothing is returned as it is, for `known_problem` to tell.
    """
    name, at, wanted = pattern.partition("@")
    if source_of(name) is shipped:
        return [pattern]
    return [match + at + wanted for match in names(name)] or [pattern]


def known_problem(backbone: str) -> str | None:
    """What is wrong with `NAME[@WEIGHTS]`, or None; no weights are read."""
    name, _, wanted = backbone.partition("@")
    source = source_of(name)
    if source is None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"got {backbone!r}; unknown backbone{hint or '.'} See: sft-sweep backbones"
    problem = source.problem(name, wanted)
    return None if problem is None else f"got {backbone!r}; {problem}"


def describe(name: str) -> BackboneInfo:
    """What is known of a backbone's default weights without reading them.

    Raises:
        BackboneError: the name is unknown.
    """
    return source_of_name(name).describe(name)


def without_weights(name: str) -> str:
    """The backbone with random weights, as a search space would name it."""
    return name if source_of(name) is shipped else f"{name}@{RANDOM}"


def source_of_name(name: str) -> BackboneSource:
    """The source of a backbone whose weights do not matter.

    Raises:
        BackboneError: this is no name of one.
    """
    source = source_of(name)
    if source is None:
        raise BackboneError(
            known_problem(name) or f"got {name!r}; a name alone is due here, without weights"
        )
    problem = known_problem(without_weights(name))
    if problem is not None:
        raise BackboneError(problem)
    return source


def source_of(name: str) -> BackboneSource | None:
    """The source that a name belongs to, without weights; None if it is no name of any."""
    return next((source for source in SOURCES.values() if source.owns(name)), None)


def builder_called(name: str) -> NetworkBuilder:
    """What builds the networks of weights that name it as their source; it alone is imported.

    Raises:
        PluginError: no package that is installed here has such a source.
    """
    if name == CUSTOM:
        from trainable.backbones import custom_models

        return custom_models
    return SOURCES[name]
