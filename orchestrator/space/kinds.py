"""Sections of several kinds: registries of their models, which other packages add to."""

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
    """A registry of the models of a section, by the word that its key `tag` gives.

    Args:
        base: loads the class that all of them derive from.
        tag: the key that names the kind; its default in a model is the name of that kind.
        group: of the entry points of other packages.
        what: what one of them is, for messages.
        own: what loads our own, which lie in rooms above this one.
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
    """The words that name the kinds, for messages."""
    return f"one of {', '.join(kinds)}"
