"""Coverage of a network by weights: entries are marked before loading; marked ones are missing.

Comparing names is not enough: sources translate them, skip misfits and keep initial values; and two
entries may share one tensor, which a file stores once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainable.backbones.naming import few
from trainable.backbones.weights import Arrays

_MARKS: Mapping[int, tuple[torch.dtype, int]] = {
    1: (torch.uint8, 0x5A),
    2: (torch.int16, 0x7FED),
    4: (torch.int32, 0x7FEDBEEF),
    8: (torch.int64, 0x7FFEDBEEFDEADBEE),
}
"""By the width of a value in bytes, the bits that mark it; as a float of any width they are a NaN
that no computation produces."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Result of comparing weights with the entries of a network.

    Attributes:
        missing: entries of the network that the weights do not fill.
        left_over: entries of the weights that the network does not have.
        misshapen: by name, entries with different shapes: a text with both shapes.
    """

    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    misshapen: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.left_over or self.misshapen)

    def __str__(self) -> str:
        parts = (
            ("missing", self.missing),
            ("left over", self.left_over),
            ("of another shape", tuple(self.misshapen.values())),
        )
        return "; ".join(f"{what}: {few(names)}" for what, names in parts if names)

    def outside(self, module: str) -> Coverage:
        """Return the same without the entries of one module."""
        return Coverage(
            missing=tuple(name for name in self.missing if not is_inside(name, module)),
            left_over=tuple(name for name in self.left_over if not is_inside(name, module)),
            misshapen={n: text for n, text in self.misshapen.items() if not is_inside(n, module)},
        )

    @property
    def gaps(self) -> tuple[str, ...]:
        """Entries of the network that are not filled."""
        return (*self.missing, *self.misshapen)


def compare(model: nn.Module, arrays: Arrays) -> Coverage:
    """Compare weights with a model by names and shapes alone.

    Args:
        model: the model; it is not changed.
        arrays: the weights, by the names of the model.
    """
    entries = {
        name: entry
        for name, entry in model.state_dict(keep_vars=True).items()
        if isinstance(entry, Tensor) and entry.numel()
    }
    misshapen = _misshapen(entries, arrays)
    filled = {id(e) for name, e in entries.items() if name in arrays and name not in misshapen}
    return Coverage(
        missing=tuple(
            name
            for name, entry in entries.items()
            if name not in misshapen and id(entry) not in filled and not is_counter(name)
        ),
        left_over=tuple(name for name in arrays if name not in entries and not is_counter(name)),
        misshapen=misshapen,
    )


def load(model: nn.Module, arrays: Arrays, *, heads: Sequence[str]) -> Coverage:
    """Load weights into a model; entries that do not fit are skipped.

    Args:
        model: filled in place.
        arrays: the weights.
        heads: modules that will be replaced: not loaded, and left out of the result.
    """

    def in_head(name: str) -> bool:
        return any(is_inside(name, head) for head in heads)

    state = OrderedDict(
        (name, torch.tensor(array))
        for name, array in arrays.items()
        if not in_head(name) and not is_counter(name)
    )
    state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]  # some layers ask
    with watched_loading() as seen:
        model.load_state_dict(state, strict=False)
    return Coverage(
        missing=tuple(name for name in seen[-1].missing if not in_head(name)),
        left_over=seen[-1].left_over,
        misshapen=seen[-1].misshapen,
    )


def is_inside(name: str, module: str) -> bool:
    """Return whether an entry of a state dict is inside a module."""
    return name.startswith(f"{module}.")


def is_counter(name: str) -> bool:
    """Return whether an entry counts updates, which frozen statistics do not need."""
    return name.rpartition(".")[2] == "num_batches_tracked"


@contextmanager
def watched_loading() -> Iterator[list[Coverage]]:
    """Yield a list that gets the coverage of every module loaded in the block, in order.

    The loaded values are bit-identical to those without this context. A misfit is not an error: the
    caller inspects the coverage.
    """
    seen: list[Coverage] = []
    own = nn.Module.load_state_dict

    def load_state_dict(
        module: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        del strict
        entries = _entries(module)
        misshapen = _misshapen(entries, state_dict)
        kept = {
            name: entry.clone()
            for name, entry in entries.items()
            if name not in state_dict or name in misshapen
        }
        for entry in entries.values():
            _mark(entry)
        try:
            result = own(module, state_dict, strict=False, assign=assign)
        except RuntimeError:
            if not misshapen:
                raise
            result = own(module, _without(state_dict, misshapen), strict=False, assign=assign)
        entries = _entries(module)
        marked = [name for name, entry in entries.items() if _is_marked(entry)]
        for name in marked:
            if name in kept:
                entries[name].copy_(kept[name])
        missing = (name for name in marked if name not in misshapen and not is_counter(name))
        seen.append(
            Coverage(
                missing=tuple(missing),
                left_over=tuple(n for n in result.unexpected_keys if not is_counter(n)),
                misshapen={name: misshapen[name] for name in marked if name in misshapen},
            )
        )
        return result

    nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign,assignment]
    try:
        yield seen
    finally:
        nn.Module.load_state_dict = own  # type: ignore[method-assign]


def _entries(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a state dict, sharing their memory."""
    return {
        name: entry
        for name, entry in module.state_dict().items()
        if isinstance(entry, Tensor) and entry.numel() and not entry.is_meta
    }


def _misshapen(entries: Mapping[str, Tensor], state: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: f"{name} is {tuple(state[name].shape)} instead of {tuple(entry.shape)}"
        for name, entry in entries.items()
        if name in state and tuple(state[name].shape) != tuple(entry.shape)
    }


def _without(state: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    rest = OrderedDict((name, entry) for name, entry in state.items() if name not in names)
    rest._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]
    return rest


def _mark(entry: Tensor) -> None:
    bits, mark = _bits(entry)
    bits.fill_(mark)


def _is_marked(entry: Tensor) -> bool:
    bits, mark = _bits(entry)
    return bool((bits == mark).all())


def _bits(entry: Tensor) -> tuple[Tensor, int]:
    """Return the memory of an entry as integers, and the integer that marks it."""
    if entry.is_complex():
        entry = torch.view_as_real(entry)
    kind, mark = _MARKS[entry.element_size()]
    return entry.detach().view(kind), mark
