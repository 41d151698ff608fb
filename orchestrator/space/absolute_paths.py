"""Absolute paths for backbones with weight files or folders, valid from every directory."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.space.axes import Axis, Case, Choice, Condition, Domain, Fixed, Range, matches
from trainable.spec.setting import Value
from trainable.spec.weight_paths import is_path, split_folder


def absolute_path(path: str) -> str:
    """Return the absolute path; `~` is the home folder, relative paths start here.

    If there is no such home, `~` is kept as an ordinary name, as in shells.
    """
    return str(Path(os.path.expanduser(path)).absolute())  # noqa: PTH111  # Path's raises there


def absolute_backbone(backbone: str) -> str:
    """Return `NAME[@WEIGHTS]` with the path of a weight file, or of a folder, made absolute."""
    name, at, weights = backbone.partition("@")
    source, folder = split_folder(name)
    if folder:
        return source + absolute_path(folder) + at + weights
    return name + at + absolute_path(weights) if is_path(weights) else backbone


def relative_backbone(backbone: str) -> str:
    """Return `NAME[@WEIGHTS]` with a file or folder below this directory as a relative path."""
    name, at, weights = backbone.partition("@")
    here = Path.cwd()
    source, folder = split_folder(name)
    if folder and Path(folder).is_relative_to(here):
        return f"{source}./{Path(folder).relative_to(here)}{at}{weights}"
    if not is_path(weights) or not Path(weights).is_relative_to(here):
        return backbone
    return name + at + str(Path(weights).relative_to(here))


def absolute_axes(axes: Mapping[str, Axis]) -> dict[str, Axis]:
    """Return the axes with the paths of weight files among the backbones made absolute.

    Conditions match the same backbones as before.
    """
    domains = axes["backbone"].domains if "backbone" in axes else ()
    spelled = {
        value: absolute_backbone(value)
        for domain in domains
        for value in domain.each()
        if isinstance(value, str)
    }
    return {
        name: Axis(name, tuple(_case(name, case, spelled) for case in axis.cases))
        for name, axis in axes.items()
    }


def _case(axis: str, case: Case, spelled: Mapping[str, str]) -> Case:
    domain = case.domain
    if axis == "backbone":
        domain = _respelled(domain, lambda value: spelled.get(str(value), value))
    when = tuple(
        replace(condition, any_of=_patterns(condition, spelled))
        if condition.axis == "backbone"
        else condition
        for condition in case.when
    )
    return Case(domain, when)


def _respelled(domain: Domain, respell: Callable[[Value], Value]) -> Domain:
    """Return the domain with each value respelled; values that become equal are merged."""
    if isinstance(domain, Range):
        return domain
    values = tuple(dict.fromkeys(respell(value) for value in domain.each()))
    return Choice(values) if len(values) > 1 else Fixed(values[0])


def _patterns(condition: Condition, spelled: Mapping[str, str]) -> tuple[Value, ...]:
    """Return patterns that match the new spellings of the values that they matched before."""
    found: dict[Value, None] = {}
    for pattern in condition.any_of:
        meant = [new for old, new in spelled.items() if matches(pattern, old)]
        if meant == [new for new in spelled.values() if matches(pattern, new)]:
            found[pattern] = None
        else:
            found |= dict.fromkeys(glob.escape(new) for new in meant)
    return tuple(found)
