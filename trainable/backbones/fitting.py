"""Fit of weights to a network whose head is replaced: every other entry has to be filled."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from trainable.backbones.coverage import Coverage, compare, is_counter, is_inside
from trainable.backbones.graphs.graph import can_classify
from trainable.backbones.weights import Arrays
from trainable.errors import BackboneError


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Weights that fit a network, its head aside.

    Attributes:
        arrays: by the names of the network, where the source translates them.
        left_over: entries that the network has no place for.
        model: the network, whose names count and whose values do not.
        heads: modules that are replaced anyway, or may be.
    """

    arrays: Arrays
    left_over: tuple[str, ...]
    model: nn.Module
    heads: tuple[str, ...]


def fit_by_names(model: nn.Module, arrays: Arrays, adapted: Arrays) -> Fit:
    """Fit of weights to a network that loads them under their own names.

    Which layer is its head comes out when it is traced; here any one that could be may be empty.

    Args:
        model: the network, whose values do not count.
        arrays: the weights.
        adapted: the same as the network takes them.

    Raises:
        BackboneError: more than a head is not covered.
    """
    found = compare(model, adapted)
    heads = [
        name
        for name, layer in model.named_modules()
        if can_classify(layer) and all(is_inside(gap, name) for gap in found.gaps)
    ]
    if found.gaps and not heads:
        raise misfit(_body_of(found, model))
    return Fit(
        arrays=arrays,
        left_over=found.left_over,
        model=model,
        heads=tuple(heads) if found.gaps else (),
    )


def _body_of(found: Coverage, model: nn.Module) -> Coverage:
    """What does not fit, the last layer that could be the head aside, which is replaced anyway."""
    could_be = [name for name, layer in model.named_modules() if can_classify(layer)]
    return found.outside(could_be[-1]) if could_be else found


def misfit(found: Coverage) -> BackboneError:
    """Error for weights that do not fit."""
    return BackboneError(
        f"the weights do not fit the architecture: {found}. Name the backbone that they were "
        "trained as, or other weights"
    )


def entries_of(model: nn.Module) -> dict[str, Tensor]:
    """Entries required in a model's state dict, its head included."""
    return {
        name: entry
        for name, entry in model.state_dict(keep_vars=True).items()
        if isinstance(entry, Tensor) and not is_counter(name)
    }
