"""Fit of weights to a network whose head is replaced: every other entry must be filled."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from trainable.backbones.coverage import Coverage, compare, is_counter, is_inside
from trainable.backbones.graphs.heads import can_classify
from trainable.backbones.weights import Arrays
from trainable.errors import BackboneError


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Weights that fit a network, apart from its head.

    Attributes:
        arrays: arrays by name; in the network's names if the source translates them.
        left_over: entries that the network does not have.
        model: the network; its values are arbitrary.
        heads: modules that are, or may be, the replaced head.
    """

    arrays: Arrays
    left_over: tuple[str, ...]
    model: nn.Module
    heads: tuple[str, ...]


def fit_by_names(model: nn.Module, arrays: Arrays, adapted: Arrays) -> Fit:
    """Return the fit of weights to a network that loads them under their own names.

    The head is only known after tracing; here any single layer that could be it may be missing.

    Args:
        model: the network; its values are ignored.
        arrays: the weights.
        adapted: the same weights, adapted to the network.

    Raises:
        BackboneError: more than a head is missing.
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
    """Return the misfits outside the last layer that could be the head."""
    could_be = [name for name, layer in model.named_modules() if can_classify(layer)]
    return found.outside(could_be[-1]) if could_be else found


def misfit(found: Coverage) -> BackboneError:
    """Return the error for weights that do not fit."""
    return BackboneError(
        f"the weights do not fit the architecture: {found}. Name the backbone that they were "
        "trained as, or other weights"
    )


def entries_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the required entries of a model's state dict, its head included."""
    return {
        name: entry
        for name, entry in model.state_dict(keep_vars=True).items()
        if isinstance(entry, Tensor) and not is_counter(name)
    }
