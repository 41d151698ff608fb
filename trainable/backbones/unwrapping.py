"""Extraction of a network's weights from checkpoints: nested parts, prefixes, extra entries.

Nothing here is specific to a library. Every tensor of a file has an address: the keys of the
mappings around it, and its own. A part of the file is all tensors under one prefix of addresses,
such as `state_dict.module.`, or under the empty one. The part that fits the network, apart from its
head, is used; if several fit and differ, the user has to choose.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from trainable.backbones.coverage import Coverage, is_counter, is_inside
from trainable.backbones.files import Stored, read_stored
from trainable.backbones.fitting import Fit, entries_of, misfit
from trainable.backbones.naming import few, shortened
from trainable.backbones.weights import Arrays, digest_of
from trainable.errors import BackboneError
from trainable.spec.weight_paths import MARK, split_part

_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Names that wrappers of PyTorch insert into the names of modules: DataParallel, the compiler, FSDP
and activation checkpointing."""

_WHOLE_FILE = "."
"""Name of the part of a file that is in no mapping and under no prefix."""


@dataclass(frozen=True, kw_only=True)
class Unwrapped:
    """Weights of a network from a file.

    Attributes:
        arrays: arrays by the names of the network.
        notes: their place in the file, unless they are all of it, and skipped entries.
    """

    arrays: Arrays
    notes: tuple[str, ...] = ()


def unwrap(
    weights: str, *, build: Callable[[], nn.Module], fit: Callable[[Arrays], Fit]
) -> Unwrapped:
    """Extract the weights of a network from a file.

    Args:
        weights: `FILE[#PART]`.
        build: builds the network; its values are ignored.
        fit: fits a state dict to it; raises BackboneError if more than a head is missing.

    Raises:
        BackboneError: the file cannot be read, or no part of it fits, or several different ones do.
    """
    path, named = split_part(weights)
    stored = read_stored(path)
    try:
        if not named and not any(stored.mappings.values()):
            found = _fitting(fit, stored.arrays)
            if found is not None and not found.left_over:
                return Unwrapped(arrays=found.arrays)
        prefix, found = _chosen(path, stored, named, build(), fit)
        rest = _passed_over(found) + _beside(stored, prefix)
    except BackboneError as error:
        raise BackboneError(f"{path}: {error}") from error
    dropped = {name for name in found.left_over if not _is_in(name, found.heads)}
    kept = {name: array for name, array in found.arrays.items() if name not in dropped}
    return Unwrapped(arrays=kept, notes=_notes(stored, prefix, rest))


def _fitting(fit: Callable[[Arrays], Fit], arrays: Arrays) -> Fit | None:
    try:
        return fit(arrays)
    except BackboneError:
        return None


def _chosen(
    path: Path, stored: Stored, named: str, model: nn.Module, fit: Callable[[Arrays], Fit]
) -> tuple[str, Fit]:
    """Return the prefix of the only part that fits, and its fit."""
    prefixes = _prefixes(stored.arrays, model, named)
    found: dict[str, tuple[str, Fit]] = {}
    for prefix in prefixes:
        fitted = _fitting(fit, _part(stored.arrays, prefix, model))
        if fitted is not None:
            used = {n: a for n, a in fitted.arrays.items() if n not in fitted.left_over}
            found.setdefault(digest_of(used), (prefix, fitted))
    if not found:
        raise _no_part(stored, named, prefixes, model, fit)
    if len(found) > 1:
        names = [shortened(prefix.rstrip(".") or _WHOLE_FILE) for prefix, _ in found.values()]
        raise BackboneError(
            f"{len(names)} parts of it fit the network, and they differ: {few(names)}. Write which "
            f"one is meant behind a {MARK}, such as {path}{MARK}{names[0]}"
        )
    return next(iter(found.values()))


def _prefixes(arrays: Arrays, model: nn.Module, named: str) -> list[str]:
    """Return candidate prefixes of addresses for a network, the likeliest first.

    A candidate has at least half of the network's names or, if no prefix has, of its values, as
    when a source translates names.
    """
    entries = entries_of(model)
    num_values = sum(entry.numel() for entry in entries.values())
    names, values = Counter[str](), Counter[str]()
    for address, array in arrays.items():
        for prefix in _beginnings(address):
            names[prefix] += _unwrapped(address[len(prefix) :], entries) in entries
            values[prefix] += array.size
    if named:
        meant = "" if named == _WHOLE_FILE else f"{named}."
        names = Counter({p: n for p, n in names.items() if p.startswith(meant)})
        if not meant:
            names = Counter({"": names[""]})
    by_name = [prefix for prefix in names if 2 * names[prefix] >= len(entries)]
    by_size = [prefix for prefix in names if 2 * values[prefix] >= num_values]
    shared = _shared(arrays)
    return sorted(by_name or by_size, key=lambda p: (-names[p], p != shared, -len(p)))


def _beginnings(address: str) -> list[str]:
    """Return the prefixes of an address: of `a.b.c` these are "", `a.` and `a.b.`."""
    return ["", *(address[: dot.end()] for dot in re.finditer(r"\.", address))]


def _shared(arrays: Arrays) -> str:
    """Return the longest common prefix of all addresses."""
    first, last = min(arrays), max(arrays)
    return max((p for p in _beginnings(first) if last.startswith(p)), key=len)


def _part(arrays: Arrays, prefix: str, model: nn.Module) -> Arrays:
    entries = entries_of(model)
    return {
        _unwrapped(address[len(prefix) :], entries): array
        for address, array in arrays.items()
        if address.startswith(prefix)
    }


def _unwrapped(name: str, entries: Collection[str]) -> str:
    """Return an entry's name without wrappers' names, except a first one, which is a prefix."""
    first, *others = name.split(".")
    if name in entries or _WRAPPERS.isdisjoint(others):
        return name
    return ".".join([first, *(part for part in others if part not in _WRAPPERS)])


def _no_part(
    stored: Stored,
    named: str,
    prefixes: list[str],
    model: nn.Module,
    fit: Callable[[Arrays], Fit],
) -> BackboneError:
    """Return the error that no part fits, with the reason for the likeliest one."""
    if named and not prefixes:
        known = sorted({mapping or _WHOLE_FILE for mapping in stored.mappings.values()})
        return BackboneError(
            f"nothing under {shortened(named)} could be the network; it holds tensors in "
            f"{few(known)}"
        )
    prefix = prefixes[0] if prefixes else _shared(stored.arrays)
    where = f"under {shortened(prefix.rstrip('.'))}: " if prefix else ""
    try:
        fit(_part(stored.arrays, prefix, model))
    except BackboneError as error:
        return BackboneError(f"{where}{error}")
    raise AssertionError("a part that fits is no reason")


def _passed_over(found: Fit) -> tuple[str, ...]:
    """Return names that the network does not have, apart from its head.

    Raises:
        BackboneError: some look like its body: the file is of a larger network of this family.
    """
    entries = entries_of(found.model)
    heads = [_outermost(head, entries) for head in found.heads]
    buffers = {name for name, _ in found.model.named_buffers()}  # including non-persistent ones
    rest = [name for name in found.left_over if name not in buffers and not _is_in(name, heads)]
    kinds = {_kind(name) for name in entries if not _is_in(name, heads)}
    body = tuple(name for name in rest if _kind(name) in kinds)
    if body:
        raise misfit(Coverage(left_over=body))
    return tuple(rest)


def _kind(name: str) -> str:
    """Return the first part of a name without numbers: `layer5` and `layer1` are of one kind."""
    return re.sub(r"\d+", "0", name.partition(".")[0])


def _outermost(head: str, entries: Collection[str]) -> str:
    """Return the largest module that contains nothing but the head."""
    outer = head.rpartition(".")[0]
    if outer and all(is_inside(name, head) for name in entries if is_inside(name, outer)):
        return _outermost(outer, entries)
    return head


def _is_in(name: str, modules: Collection[str]) -> bool:
    return any(is_inside(name, module) for module in modules)


def _beside(stored: Stored, prefix: str) -> tuple[str, ...]:
    """Return names of the other entries in the mapping that a part was taken from."""
    mapping = _mapping(stored, prefix)
    return tuple(
        address.removeprefix(f"{mapping}.")
        for address in stored.arrays
        if stored.mappings[address] == mapping
        and not address.startswith(prefix)
        and not is_counter(address)
    )


def _mapping(stored: Stored, prefix: str) -> str:
    """Return the innermost mapping that a prefix of addresses leads into."""
    around = (m for m in stored.mappings.values() if m and prefix.startswith(f"{m}."))
    return max(around, key=len, default="")


def _notes(stored: Stored, prefix: str, passed_over: tuple[str, ...]) -> tuple[str, ...]:
    mapping = _mapping(stored, prefix)
    lost = prefix.removeprefix(f"{mapping}.")
    taken = [f"those in {shortened(mapping)} of the file"] if mapping else []
    taken += [f"the prefix '{shortened(lost)}' taken off their names"] if lost else []
    notes = [f"weights: {', '.join(taken)}"] if taken else []
    if passed_over:
        notes.append(f"passed over in the file, as the network has no place: {few(passed_over)}")
    return tuple(notes)
