"""The sources of backbones by name, each a `BackboneSource`.

Names of shipped backbones are checked without importing torch, so that a search-space file is
checked before slow imports.
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
"""Source of weights of backbones built by the user's code; it has no names of its own."""


def _shipped() -> BackboneSource:
    return shipped


def _torchvision() -> BackboneSource:
    from trainable.backbones import torchvision_models

    return torchvision_models


def _torchvision_segmentation() -> BackboneSource:
    from trainable.backbones import torchvision_segmentation

    return torchvision_segmentation


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
        "torchvision_segmentation": _torchvision_segmentation,
        "timm": _timm,
        "transformers": _transformers,
    },
    problem=_problem,
)
"""Sources by the name in `Weights.source`; names are looked up in this order, ours first."""


def names(pattern: str = "*") -> list[str]:
    """Return the known names that match a glob pattern, shipped ones first.

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
    """Return the backbones that match `NAME[@WEIGHTS]`, where NAME can be a glob pattern.

    Of models for several tasks that one pattern matches, those for classification are meant, which
    serve for every task. A name that matches nothing is returned unchanged; `known_problem` then
    reports it.
    """
    name, at, wanted = pattern.partition("@")
    if source_of(name) is shipped:
        return [pattern]
    matches = names(name)
    general = [match for match in matches if task_of_name(match) == "classification"]
    return [match + at + wanted for match in general or matches] or [pattern]


def known_problem(backbone: str) -> str | None:
    """Return the problem with `NAME[@WEIGHTS]`, or None; no weights are read."""
    name, _, wanted = backbone.partition("@")
    source = source_of(name)
    if source is None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"got {backbone!r}; unknown backbone{hint or '.'} See: sft-sweep backbones"
    problem = source.problem(name, wanted)
    return None if problem is None else f"got {backbone!r}; {problem}"


def describe(name: str) -> BackboneInfo:
    """Return metadata of a backbone's default weights without reading them.

    Raises:
        BackboneError: the name is unknown.
    """
    return source_of_name(name).describe(name)


def modality_of_name(name: str) -> str:
    """Return the kind of example that a backbone takes: `image` or `text`.

    Args:
        name: `NAME[@WEIGHTS]`, or the name of a backbone of the user's own code, which takes
            images.
    """
    source = source_of(name.partition("@")[0])
    return str(getattr(source, "MODALITY", "image"))


def task_of_name(name: str) -> str:
    """Return what a backbone is for as it was pretrained: `classification` or `segmentation`.

    Args:
        name: see `modality_of_name`.
    """
    source = source_of(name.partition("@")[0])
    return str(getattr(source, "TASK", "classification"))


def without_weights(name: str) -> str:
    """Return the backbone with random weights, as a search space names it."""
    return name if source_of(name) is shipped else f"{name}@{RANDOM}"


def source_of_name(name: str) -> BackboneSource:
    """Return the source of a backbone whose weights do not matter.

    Raises:
        BackboneError: there is no backbone of this name.
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
    """Return the source of a name without weights, or None."""
    return next((source for source in SOURCES.values() if source.owns(name)), None)


def builder_called(name: str) -> NetworkBuilder:
    """Return the builder for the source of some weights; only its module is imported.

    Raises:
        PluginError: no installed package has such a source.
    """
    if name == CUSTOM:
        from trainable.backbones import custom_models

        return custom_models
    return SOURCES[name]
