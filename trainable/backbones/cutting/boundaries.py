"""Cut points of a backbone, and the number of them that a freeze depth covers.

A boundary is a node of the graph after which nothing else that depends on the content input, on
pixels or tokens, is alive: one tensor carries everything that the rest needs. What the rest needs
of shapes and side inputs alone is rebuilt behind the cut. Of all such nodes those are worth cutting
at that

- are directly followed by a matrix product or convolution. If the only consumer is something
  cheaper (an activation, a normalisation, a pooling, a reshape), the cut comes after it, so that a
  convolution stays with its activation and the smaller tensor is stored. Dropout and stochastic
  depth stay behind the cut, where they can be random;
- lie at the end of a block rather than inside it. A class of modules is a block if one of its
  instances cannot be cut inside, as with a skip connection around it; then none of them is cut, so
  that a depth means the same number of blocks whether or not a block has a skip connection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from weakref import WeakKeyDictionary

from torch import fx, nn

from trainable.backbones.graphs.graph import TracedBackbone, lone_carriers, parameter_names
from trainable.backbones.graphs.tracing import is_random
from trainable.errors import BackboneError, SpecError


@dataclass(frozen=True)
class Boundary:
    """A place to cut a backbone.

    Attributes:
        node: name of the graph node whose value is handed over.
        shape: of that value, per example.
        params: number of parameters before the cut.
        flops: of the forward pass before the cut, per example.
    """

    node: str
    shape: tuple[int, ...]
    params: int
    flops: float


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
    cuts = _outside_blocks(traced, _single_tensors(traced))
    if not cuts:
        raise BackboneError("the backbone has no place to cut before its head")
    sizes = {name: parameter.numel() for name, parameter in traced.module.named_parameters()}
    found, params, flops = [], set[str](), 0.0
    for node in traced.module.graph.nodes:
        flops += traced.facts[node].flops
        params |= parameter_names(traced.module, node)
        if node in cuts:
            shape = traced.facts[node].shape
            assert shape is not None
            count = sum(sizes[name] for name in params)
            found.append(Boundary(node=node.name, shape=shape, params=count, flops=flops))
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


def _single_tensors(traced: TracedBackbone) -> list[fx.Node]:
    """Nodes before the head that alone carry content on, and that arithmetic follows directly."""
    carriers = set(lone_carriers(traced))
    found, flops = [], 0.0
    for node in traced.module.graph.nodes:
        if node is traced.head:
            break
        flops += traced.facts[node].flops
        if (
            node in carriers
            and flops > 0  # else there is nothing to freeze before it
            and traced.facts[node].shape is not None
            and _arithmetic_follows(traced, node)
        ):
            found.append(node)
    return found


def _arithmetic_follows(traced: TracedBackbone, node: fx.Node) -> bool:
    if is_random(traced.module, node):
        return False
    users = [user for user in node.users if traced.facts[user].content]
    while len(users) == 1 and is_random(traced.module, users[0]):
        users = [user for user in users[0].users if traced.facts[user].content]
    return len(users) != 1 or traced.facts[users[0]].flops > 0


def _outside_blocks(traced: TracedBackbone, cuts: list[fx.Node]) -> set[fx.Node]:
    """Return the cuts that are not inside an instance of a class of blocks."""
    work: dict[str, list[fx.Node]] = {}
    for node in traced.module.graph.nodes:
        if traced.facts[node].content and not is_idle(traced.module, node):
            for path in traced.facts[node].modules:
                work.setdefault(path, []).append(node)
    position = {node: i for i, node in enumerate(traced.module.graph.nodes)}
    inside: dict[str, set[fx.Node]] = {}
    for path, nodes in work.items():
        dear = [position[node] for node in nodes if traced.facts[node].flops]
        around = {cut for cut in cuts if path in traced.facts[cut].modules}
        inside[path] = {cut for cut in around if dear and dear[0] <= position[cut] < dear[-1]}
    kinds = {path: kind for facts in traced.facts.values() for path, kind in facts.modules.items()}
    blocks = {
        kinds[path]
        for path, nodes in work.items()
        if not inside[path] and not _is_wrapper(path, len(nodes), work)
    }
    hidden = {cut for path in work if kinds[path] in blocks for cut in inside[path]}
    return set(cuts) - hidden


def _is_wrapper(path: str, num_nodes: int, work: dict[str, list[fx.Node]]) -> bool:
    """Return whether one submodule does all the work of a module, as in a stage of one block."""
    return any(
        other.startswith(f"{path}.") and len(nodes) == num_nodes for other, nodes in work.items()
    )


def is_idle(module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node returns its input unchanged, at least in eval mode."""
    if is_random(module, node):
        return True
    return node.op == "call_module" and isinstance(
        module.get_submodule(str(node.target)), nn.Identity
    )
