"""Boundaries of a backbone, and the number of them that a freeze depth covers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from weakref import WeakKeyDictionary

from trainable.backbones.cutting.cut_points import cut_points, is_idle, shape_of, size_of
from trainable.backbones.graphs.facts import parameter_names
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.errors import BackboneError, SpecError


@dataclass(frozen=True)
class Boundary:
    """A place to cut a backbone; see `cut_points`.

    Attributes:
        node: name of the last graph node before the cut.
        shape: of what is handed over, per example: the shape of the node's value; if there are
            several tensors, (number of values,), since they make up one row.
        params: number of parameters before the cut.
        flops: of the forward pass before the cut, per example.
        values: number of values in the tensors that the nodes before the cut give, per example.
        tensors: name of the node and shape of each tensor, if there are several.
    """

    node: str
    shape: tuple[int, ...]
    params: int
    flops: float
    values: int
    tensors: tuple[tuple[str, tuple[int, ...]], ...] = ()


def boundaries(traced: TracedBackbone) -> list[Boundary]:
    """Return the boundaries, shallowest first; the last one is directly before the head.

    Raises:
        BackboneError: there is none.
    """
    if traced not in _found:
        _found[traced] = _find(traced)
    return list(_found[traced])


_found: WeakKeyDictionary[TracedBackbone, list[Boundary]] = WeakKeyDictionary()
"""A cache: a trial asks several times, and a graph never changes."""


def _find(traced: TracedBackbone) -> list[Boundary]:
    cuts = cut_points(traced)
    if not cuts:
        raise BackboneError("the backbone has no place to cut before its head")
    sizes = {name: parameter.numel() for name, parameter in traced.module.named_parameters()}
    found, params, flops, values = [], set[str](), 0.0, 0
    for node in traced.module.graph.nodes:
        facts = traced.facts[node]
        flops += facts.flops
        if facts.content and facts.shape is not None and not is_idle(traced.module, node):
            values += math.prod(facts.shape)
        params |= parameter_names(traced.module, node)
        if node in cuts:
            tensors = tuple((one.name, shape_of(traced, one)) for one in cuts[node])
            several = len(tensors) > 1
            found.append(
                Boundary(
                    node=node.name,
                    shape=(size_of(traced, cuts[node]),) if several else tensors[0][1],
                    params=sum(sizes[name] for name in params),
                    flops=flops,
                    values=values,
                    tensors=tensors if several else (),
                )
            )
    return found


def frozen_boundaries(
    num_boundaries: int,
    *,
    depth: float | None = None,
    blocks: int | None = None,
    train: tuple[int, int] | None = None,
) -> int:
    """Return the number of boundaries in the prefix, from exactly one of three arguments.

    Args:
        num_boundaries: number of boundaries of the backbone.
        depth: share of them, 0..1, rounded to the nearest, ties to the shallower; or None.
        blocks: their number, -1 for all; or None.
        train: first and last block that is trained, from 1; or None.

    Raises:
        SpecError: more blocks than the backbone has.
    """
    if train is not None:
        if train[1] > num_boundaries:
            first, last = train
            raise SpecError(
                f"train_blocks: got {first}-{last}; this backbone has {num_boundaries} blocks"
            )
        return train[0] - 1
    if depth is not None:
        # repr() gives the decimal that was written, so that 0.7 of 5 is exactly 3.5, a tie.
        return math.ceil(Fraction(repr(float(depth))) * num_boundaries - Fraction(1, 2))
    assert blocks is not None
    if blocks > num_boundaries:
        raise SpecError(
            f"frozen_blocks: got {blocks}; this backbone has {num_boundaries} boundaries"
        )
    return num_boundaries if blocks == -1 else blocks


def parameter_depths(traced: TracedBackbone) -> dict[str, int]:
    """Return the distance of every parameter from the head in boundaries, 0 after the last."""
    cuts = {boundary.node for boundary in boundaries(traced)}
    remaining = len(cuts)
    depths: dict[str, int] = {}
    for node in traced.module.graph.nodes:
        for name in parameter_names(traced.module, node):
            depths.setdefault(name, remaining)
        remaining -= node.name in cuts
    return depths
