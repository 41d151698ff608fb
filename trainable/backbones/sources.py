"""Where backbones come from, by their names: one module a source.

A name of a shipped backbone is checked without importing torch, so that a search-space file is
checked before anything that takes seconds.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
from collections.abc import Iterator
from types import ModuleType

from trainable.backbones import shipped
from trainable.backbones.weights import RANDOM, BackboneInfo
from trainable.errors import BackboneError

MODULES = {
    "shipped": "shipped",
    "torchvision": "torchvision_models",
    "timm": "timm_models",
    "custom": "custom_models",
}
"""By the name of a source, where it is."""


def names(pattern: str = "*") -> list[str]:
    """The known names that match a glob pattern, shipped ones first.

    timm's, more than a thousand, are asked for by patterns that begin with `timm:`.
    """
    first, *others, in_timm = registry()
    sources = [in_timm] if in_timm.owns(pattern) else [first, *others]
    every = [name for source in sources for name in source.names()]
    return [name for name in every if fnmatch.fnmatchcase(name, pattern)]


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
    problem: str | None = source.problem(name, wanted)
    return None if problem is None else f"got {backbone!r}; {problem}"


def describe(name: str) -> BackboneInfo:
    """What is known of a backbone's default weights without reading them.

    Raises:
        BackboneError: the name is unknown.
    """
    entry: BackboneInfo = source_of_name(name).describe(name)
    return entry


def registry() -> Iterator[ModuleType]:
    """The sources whose backbones have names of their own, imported as they are asked."""
    return map(source_called, ("shipped", "torchvision", "timm"))


def without_weights(name: str) -> str:
    """The backbone with random weights, as a search space would name it."""
    return name if source_of(name) is shipped else f"{name}@{RANDOM}"


def source_of_name(name: str) -> ModuleType:
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


def source_of(name: str) -> ModuleType | None:
    """The source that a name belongs to, without weights; None if it is no name of any."""
    return next((source for source in registry() if source.owns(name)), None)


def source_called(name: str) -> ModuleType:
    """The source that weights name; it alone is imported: torchvision and its compiler take 2 s."""
    return importlib.import_module(f"{__package__}.{MODULES[name]}")
