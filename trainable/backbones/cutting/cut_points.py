"""The search for the nodes after which a backbone can be cut, and is worth cutting.

A cut hands over the tensors that are alive behind a node: those that carry all that the rest needs
of the content input, of pixels or tokens. What the rest needs of shapes and side inputs alone is
rebuilt behind the cut. Most cuts hand over one tensor. Only where the stretch between two of them
takes more than half of the arithmetic, as in a network whose decoder looks back at its encoder,
cuts that hand over two tensors are looked for within it, then three, and so on. The last cut, which
leaves nothing but the heads, hands over what they need.

Of all such nodes those are worth cutting after that

- are directly followed by a matrix product or convolution. If the only consumer is something
  cheaper (an activation, a normalisation, a pooling, a reshape), the cut comes after it, so that a
  convolution stays with its activation and the smaller tensor is stored. Dropout and stochastic
  depth stay behind the cut, where they can be random. So does what makes the tensor twice as large
  or more, as upsampling does;
- hand over least, of those that have no arithmetic between them; see `_chosen`;
- lie at the end of a block rather than inside it. A class of modules is a block if one of its
  instances cannot be cut inside, as with a skip connection around it; then none of them is cut, so
  that a depth means the same number of blocks whether or not a block has a skip connection.

Nothing is searched for in a graph whose maker says where it is cut.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import fx, nn

from trainable.backbones.graphs.graph import TracedBackbone, live_sets
from trainable.backbones.graphs.tracing import is_random

MOST_TENSORS = 6
"""Most tensors that a cut hands over."""

_DEAR = 0.5
"""Share of the arithmetic before the heads from which a stretch without a cut is looked at again;
at 0.2 there are cuts within the branches of a pyramid."""

_SAVING = 0.75
"""Size from which on a cut of more tensors is preferred, relative to one of fewer: a choice between
the two inputs of a concatenation and its result, one of which was enlarged for it."""

Cuts = dict[fx.Node, tuple[fx.Node, ...]]
"""Nodes to cut after, each with the nodes of the tensors that are handed over."""


def cut_points(traced: TracedBackbone) -> Cuts:
    """Find the nodes to cut a backbone after; they are in no order."""
    if traced.cuts:
        return {node: alive for node, alive in live_sets(traced) if node.name in traced.cuts}
    flops = _flops_up_to(traced)
    whole = max(flops.values(), default=0.0)
    places = _candidates(traced, flops)
    modules = _modules_of(traced)
    found: Cuts = {}
    blocks = set[int]()
    for most in range(1, MOST_TENSORS + 1):
        stretch = _dear_stretch(flops, found)
        if stretch is None:
            break
        chosen = [
            candidate
            for place, alike in places.items()
            if place == whole or any(len(one.tensors) <= most for one in alike)
            for candidate in _chosen(alike)
        ]
        candidates = {one.node: one.tensors for one in chosen}
        inside = _inside(traced, modules, candidates)
        # What is a block where one tensor is handed over is one where several are, too.
        blocks |= _blocks(modules, inside)
        hidden = {
            cut for path, cuts in inside.items() if modules[path].kind in blocks for cut in cuts
        }
        found |= {
            node: tensors
            for node, tensors in candidates.items()
            if node not in hidden
            and (stretch[0] < flops[node] < stretch[1] or flops[node] == whole)
        }
    return found


@dataclass(frozen=True)
class _Candidate:
    """A node to cut after.

    Attributes:
        node: the node.
        tensors: nodes of the tensors that are handed over.
        size: number of their values, per example.
        enlarged: whether the only consumer of the node makes a larger tensor of it.
    """

    node: fx.Node
    tensors: tuple[fx.Node, ...]
    size: int
    enlarged: bool


@dataclass
class _Module:
    """A module of the backbone.

    Attributes:
        kind: a number that it shares with the others of its class.
        nodes: those that do its work, in the order of the graph.
    """

    kind: int
    nodes: list[fx.Node] = field(default_factory=list)


def _modules_of(traced: TracedBackbone) -> dict[str, _Module]:
    """The modules that do something with the content, by their paths."""
    found: dict[str, _Module] = {}
    for node in traced.module.graph.nodes:
        if traced.facts[node].content and not is_idle(traced.module, node):
            for path, kind in traced.facts[node].modules.items():
                found.setdefault(path, _Module(kind)).nodes.append(node)
    return found


def _flops_up_to(traced: TracedBackbone) -> dict[fx.Node, float]:
    """FLOPs up to each node before the first head, its own included, in the order of the graph."""
    found, flops = dict[fx.Node, float](), 0.0
    for node in traced.module.graph.nodes:
        if node in traced.heads:
            break
        flops += traced.facts[node].flops
        found[node] = flops
    return found


def _dear_stretch(flops: Mapping[fx.Node, float], cuts: Cuts) -> tuple[float, float] | None:
    """FLOPs before and behind the stretch that is to be looked at again; None if there is none.

    All of the graph is the first such stretch.
    """
    whole = max(flops.values(), default=0.0)
    if not cuts:
        return 0.0, math.inf
    places = [0.0, *sorted(flops[node] for node in cuts), whole]
    start, stop = max(itertools.pairwise(places), key=lambda pair: pair[1] - pair[0])
    return (start, stop) if stop - start > _DEAR * whole else None


def _candidates(
    traced: TracedBackbone, flops: Mapping[fx.Node, float]
) -> dict[float, list[_Candidate]]:
    """Nodes that arithmetic follows directly, by the FLOPs up to them."""
    found = dict[float, list[_Candidate]]()
    for node, tensors in live_sets(traced):
        if (
            flops.get(node, 0.0) > 0  # else there is nothing to freeze before it
            and node in tensors
            and len(tensors) <= MOST_TENSORS
            and all(traced.facts[one].shape is not None for one in tensors)
            and ((enlarged := _is_enlarged(traced, node)) or _arithmetic_follows(traced, node))
        ):
            candidate = _Candidate(node, tensors, size_of(traced, tensors), enlarged)
            found.setdefault(flops[node], []).append(candidate)
    return found


def _chosen(alike: Sequence[_Candidate]) -> list[_Candidate]:
    """Those to cut after, of candidates with no arithmetic between them.

    The one that hands over least, where more tensors have to save a quarter. All are left that hand
    over one tensor from which no larger one is made, as a pooled vector and the same normalised.
    """
    best = min(reversed(alike), key=lambda one: (len(one.tensors), one.size))
    for one in sorted(alike, key=lambda one: len(one.tensors)):
        if one.size <= _SAVING * best.size:
            best = one
    if best.enlarged or len(best.tensors) > 1:
        return [best]
    return [one for one in alike if len(one.tensors) == 1 and not one.enlarged]


def _arithmetic_follows(traced: TracedBackbone, node: fx.Node) -> bool:
    if is_random(traced.module, node):
        return False
    users = [user for user in node.users if traced.facts[user].content]
    while len(users) == 1 and is_random(traced.module, users[0]):
        users = [user for user in users[0].users if traced.facts[user].content]
    return len(users) != 1 or traced.facts[users[0]].flops > 0


def _is_enlarged(traced: TracedBackbone, node: fx.Node) -> bool:
    """Whether the only consumer makes a tensor of it that is at least twice as large."""
    users = [user for user in node.users if traced.facts[user].content]
    if len(users) != 1 or traced.facts[users[0]].flops > 0:
        return False
    shape = traced.facts[users[0]].shape
    return shape is not None and math.prod(shape) >= 2 * size_of(traced, [node])


def _inside(
    traced: TracedBackbone, modules: Mapping[str, _Module], cuts: Cuts
) -> dict[str, set[fx.Node]]:
    """The cuts amid the arithmetic of each module: not before all of it, and not behind."""
    position = {node: place for place, node in enumerate(traced.module.graph.nodes)}
    found = {}
    for path, module in modules.items():
        dear = [position[node] for node in module.nodes if traced.facts[node].flops]
        around = {cut for cut in cuts if path in traced.facts[cut].modules}
        found[path] = {cut for cut in around if dear and dear[0] <= position[cut] < dear[-1]}
    return found


def _blocks(modules: Mapping[str, _Module], inside: Mapping[str, set[fx.Node]]) -> set[int]:
    """Classes of modules of which an instance cannot be cut inside; see `_Module`."""
    return {
        module.kind
        for path, module in modules.items()
        if not inside[path] and not _is_wrapper(path, modules)
    }


def _is_wrapper(path: str, modules: Mapping[str, _Module]) -> bool:
    """Return whether one submodule does all the work of a module, as in a stage of one block."""
    number = len(modules[path].nodes)
    return any(
        other.startswith(f"{path}.") and len(module.nodes) == number
        for other, module in modules.items()
    )


def is_idle(module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node returns its input unchanged, at least in eval mode."""
    if is_random(module, node):
        return True
    return node.op == "call_module" and isinstance(
        module.get_submodule(str(node.target)), nn.Identity
    )


def shape_of(traced: TracedBackbone, node: fx.Node) -> tuple[int, ...]:
    """Shape per example of the value of a node that is a tensor."""
    shape = traced.facts[node].shape
    assert shape is not None
    return shape


def size_of(traced: TracedBackbone, nodes: Iterable[fx.Node]) -> int:
    """Number of values per example of all nodes together."""
    return sum(math.prod(shape_of(traced, node)) for node in nodes)
