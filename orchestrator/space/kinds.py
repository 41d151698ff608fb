"""Registries of section models by kind, open to other packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from orchestrator.space.section import Section
from trainable.registry import Registry

AnySection = TypeVar("AnySection", bound=Section)


def registry_of(
    base: Callable[[], type[Section]],
    *,
    tag: str,
    group: str,
    what: str,
    own: Mapping[str, Callable[[], type[AnySection]]],
) -> Registry[type[AnySection]]:
    """Return a registry of the models of a section, by the value of its key `tag`.

    Args:
        base: returns the class that all models derive from.
        tag: key that names the kind; its default in each model is the name of that kind.
        group: entry-point group of other packages.
        what: noun for one kind, for messages.
        own: loaders of the built-in models by kind; their modules import this one.
    """

    def problem(name: str, found: object) -> str | None:
        wanted = base()
        if not (isinstance(found, type) and issubclass(found, wanted)):
            return f"it is {found!r}; allowed: a subclass of {wanted.__module__}.{wanted.__name__}"
        if abstract := sorted(getattr(found, "__abstractmethods__", ())):
            return f"{found.__name__} lacks {', '.join(abstract)}"
        if found.model_fields[tag].default != name:
            return f"{found.__name__}.{tag} has to have the default {name!r}, its own name"
        bare = [key for key in found.model_fields if not found.has_setting(key)]
        if bare:
            return f"{found.__name__}: no Setting says what its keys may be: {', '.join(bare)}"
        return None

    return Registry(group, what=what, own=own, problem=problem)


def one_of(kinds: Mapping[str, object]) -> str:
    """Return the names of the kinds as `one of ...`, for messages."""
    return f"one of {', '.join(kinds)}"
