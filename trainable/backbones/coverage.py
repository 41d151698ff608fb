"""What weights fill of a network: every entry is marked first, and what is still marked is missing.

Names alone do not tell. Sources translate them, pass over what does not fit, and keep what a layer
was built with; two entries may be one tensor, of which a file holds one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainable.backbones.weights import Arrays

_MARKS: Mapping[int, tuple[torch.dtype, int]] = {
    1: (torch.uint8, 0x5A),
    2: (torch.int16, 0x7FED),
    4: (torch.int32, 0x7FEDBEEF),
    8: (torch.int64, 0x7FFEDBEEFDEADBEE),
}
"""By the width of a value in bytes, bits that mark it; as a float of any width they are a NaN that
no computation gives."""
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How weights and a network fit each other.

    Attributes:
        missing: entries of the network that the weights do not fill.
        left_over: entries of the weights that the network has no place for.
        misshapen: entries that differ in their shapes, with both of them.
    """

    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.left_over or self.misshapen)

    def __str__(self) -> str:
        parts = (
            ("missing", self.missing),
            ("left over", self.left_over),
            ("of another shape", self.misshapen),
        )
        return "; ".join(f"{what}: {_some(names)}" for what, names in parts if names)


def load(model: nn.Module, arrays: Arrays, *, head: str) -> Coverage:
    """Load weights into a model; what they have no fitting entry for stays as it is.

    Args:
        model: filled in place.
        arrays: the weights.
        head: module that is replaced anyway: it keeps what it has, and nothing of it is told.
    """
    entries = model.state_dict()
    misshapen = {
        name: f"{name} is {arrays[name].shape} instead of {tuple(entry.shape)}"
        for name, entry in entries.items()
        if name in arrays and arrays[name].shape != tuple(entry.shape)
        if not is_inside(name, head)
    }
    state = OrderedDict(
        (name, torch.tensor(array))
        for name, array in arrays.items()
        if name not in misshapen and not is_inside(name, head) and not _is_counter(name)
    )
    state._metadata = entries._metadata  # type: ignore[attr-defined]  # some layers ask for it
    with watched_loading() as seen:
        model.load_state_dict(state, strict=False)
    return Coverage(
        missing=tuple(
            name for name in seen[-1].missing if name not in misshapen and not is_inside(name, head)
        ),
        left_over=seen[-1].left_over,
        misshapen=tuple(misshapen.values()),
    )


def is_inside(name: str, module: str) -> bool:
    """Whether an entry of a state dict lies in a module."""
    return name.startswith(f"{module}.")


@contextmanager
def watched_loading() -> Iterator[list[Coverage]]:
    """Yields the coverage of every module that is loaded meanwhile, in the order of loading.

    What a module is left with is to the bit what it would have been left with unwatched.
    """
    seen: list[Coverage] = []
    own = nn.Module.load_state_dict

    def load_state_dict(
        module: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        entries = _entries(module)
        kept = {name: e.clone() for name, e in entries.items() if name not in state_dict}
        for entry in entries.values():
            _mark(entry)
        result = own(module, state_dict, strict=strict, assign=assign)
        entries = _entries(module)
        marked = [name for name, entry in entries.items() if _is_marked(entry)]
        for name in marked:
            if name in kept:
                entries[name].copy_(kept[name])
        seen.append(
            Coverage(
                missing=tuple(name for name in marked if not _is_counter(name)),
                left_over=tuple(n for n in result.unexpected_keys if not _is_counter(n)),
            )
        )
        return result

    nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign,assignment]
    try:
        yield seen
    finally:
        nn.Module.load_state_dict = own  # type: ignore[method-assign]


def _entries(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that a state dict holds, sharing their memory."""
    return {
        name: entry
        for name, entry in module.state_dict().items()
        if isinstance(entry, Tensor) and entry.numel() and not entry.is_meta
    }


def _is_counter(name: str) -> bool:
    """Whether an entry counts updates, which is of no use to what is not updated any more."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def _mark(entry: Tensor) -> None:
    bits, mark = _bits(entry)
    bits.fill_(mark)


def _is_marked(entry: Tensor) -> bool:
    bits, mark = _bits(entry)
    return bool((bits == mark).all())


def _bits(entry: Tensor) -> tuple[Tensor, int]:
    """The memory of an entry as whole numbers, and the one that marks it."""
    if entry.is_complex():
        entry = torch.view_as_real(entry)
    kind, mark = _MARKS[entry.element_size()]
    return entry.detach().view(kind), mark


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
