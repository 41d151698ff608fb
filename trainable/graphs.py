"""Backbones as torch.fx graphs, with what each node yields: pixels or shapes, how large, how dear.

One mechanism for every model: nothing here knows a family of networks.
"""

from __future__ import annotations

import copy
import inspect
import operator
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from trainable.errors import BackboneError

_RANDOM = ("dropout", "stochasticdepth", "stochastic_depth", "droppath", "drop_path")
_FLAG = "training_flag"
_BATCHES = (2, 3)
_CONSTANTS = (bool, int, float, str, type(None))
_TWO_GRAPHS = (
    "the backbone computes different graphs in train and eval mode, so that it cannot be cut; "
    "switch auxiliary outputs off, or move the difference into a leaf module"
)


class TrainingFlag(nn.Module):
    """Its own `training` attribute, as a value inside a graph."""

    def forward(self) -> bool:
        """Whether the graph runs in train mode."""
        return self.training


_CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Opaque:
    """What tracing does not look into, because torch.fx could not follow.

    Attributes:
        modules: classes whose instances stay one node each.
        functions: whose calls stay one node each.
    """

    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()


class _Tracer(fx.Tracer):
    """Looks into every module but layers: torch's own, what derives from them, and random ones."""

    def __init__(self, opaque: Opaque) -> None:
        super().__init__(autowrap_functions=opaque.functions)
        self._opaque = opaque.modules

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the module stays one node; a random one then follows its mode by itself."""
        derived = any(
            kind.__module__.startswith("torch.nn.") and kind not in _CONTAINERS
            for kind in type(m).__mro__
        )
        random = _is_random_name(type(m).__name__) and not list(m.parameters())
        return (
            isinstance(m, self._opaque)
            or derived
            or random
            or super().is_leaf_module(m, module_qualified_name)
        )


@dataclass(frozen=True)
class NodeFacts:
    """What one node yields for images of the traced size.

    Attributes:
        pixels: whether the value depends on pixel values, and not on shapes alone.
        results: the value for a batch of 2 and of 3 images, on the meta device.
        flops: floating-point operations of this node alone, per image.
    """

    pixels: bool
    results: tuple[Any, Any]
    flops: float

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape per image where the value is one tensor with the batch first, else None."""
        first, second = self.results
        if not (isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)):
            return None
        if not first.dim() or (first.shape[0], second.shape[0]) != _BATCHES:
            return None
        return tuple(first.shape[1:])


@dataclass(frozen=True, eq=False)
class TracedBackbone:
    """A backbone as a graph.

    Attributes:
        module: the graph with the backbone's own submodules and parameters; eval mode.
        facts: per node of `module.graph`.
        head: node of the classifier that fine-tuning replaces; the output comes from it alone.
    """

    module: fx.GraphModule
    facts: dict[fx.Node, NodeFacts]
    head: fx.Node


def trace(model: nn.Module, *, image_size: int, opaque: Opaque = Opaque()) -> TracedBackbone:
    """The graph of `model` for RGB images of image_size x image_size pixels.

    Optional arguments of `forward` are bound to their defaults. Tracing freezes `self.training`
    into arguments of functional dropout and the like; the two traces of eval and train mode are
    compared, and each argument that differs follows the mode of the graph again.

    Args:
        model: to be traced; what is returned shares its parameters.
        image_size: side of the images, in pixels.
        opaque: what torch.fx cannot follow and does not have to.

    Raises:
        BackboneError: the model cannot be traced, or has not one classifier to replace.
    """
    module = _symbolic_trace(model, training=False, opaque=opaque)
    _follow_training_flag(module, _symbolic_trace(model, training=True, opaque=opaque))
    module.eval()
    facts = _examine(module, image_size)
    heads = [node for node in module.graph.nodes if _is_classifier(module, node, facts)]
    if not heads:
        raise BackboneError(
            "the backbone has no classifier to replace; allowed: a last nn.Linear or 1x1 nn.Conv2d"
        )
    if not _all_passes(module, heads[-1], facts):
        raise BackboneError(
            "the backbone's output does not come from its last classifier alone "
            f"({heads[-1].target}); allowed: one head. Choose a variant without auxiliary or "
            "distillation heads"
        )
    return TracedBackbone(module=module, facts=facts, head=heads[-1])


def independent_copy(module: fx.GraphModule) -> fx.GraphModule:
    """A copy that shares no tensor, and whose memory is free as soon as nobody holds it.

    A graph refers back to its module, so that a module with gigabytes of weights, gradients and
    optimizer state would wait for the cycle collector, which counts objects and not bytes. Without
    that reference the graph still runs, but cannot be edited.
    """
    copied = copy.deepcopy(module)
    copied.graph.owning_module = None
    return copied


def _all_passes(module: fx.GraphModule, head: fx.Node, facts: dict[fx.Node, NodeFacts]) -> bool:
    """Whether no pixels get from before a node to the output but through it."""
    nodes = list(module.graph.nodes)
    behind = set(nodes[nodes.index(head) + 1 :])
    return not any(
        facts[source].pixels and source is not head and source not in behind
        for node in behind
        for source in node.all_input_nodes
    )


def _where(error: Exception) -> str:
    """` (file, line N)` of the model's code that tracing stumbled over, or nothing."""
    not_the_model = {Path(torch.__file__).parent, Path(__file__).parent}
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<")
        and not not_the_model & {*Path(frame.filename).parents}
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def is_random(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is dropout or stochastic depth: random in train mode, idle in eval mode."""
    if node.op == "call_module":
        return _is_random_name(type(module.get_submodule(str(node.target))).__name__)
    return _is_random_name(getattr(node.target, "__name__", str(node.target)))


def _is_random_name(name: str) -> bool:
    return name.lower().startswith(_RANDOM) or name.lower().endswith("dropout")


def _symbolic_trace(model: nn.Module, *, training: bool, opaque: Opaque) -> fx.GraphModule:
    parameters = list(inspect.signature(model.forward).parameters.values())
    optional = {
        p.name: p.default for p in parameters[1:] if p.default is not inspect.Parameter.empty
    }
    was_training, attributes = model.training, set(vars(model))
    model.train(training)
    try:
        tracer = _Tracer(opaque)
        graph = tracer.trace(model, concrete_args=optional or None)
        module = fx.GraphModule(tracer.root, graph, type(model).__name__)
    except Exception as error:
        raise BackboneError(
            f"{type(model).__name__} cannot be traced by torch.fx: {error}{_where(error)}. Control "
            "flow that depends on tensors or their shapes has to move into a function decorated "
            "with torch.fx.wrap"
        ) from error
    finally:
        model.train(was_training)
        for name in set(vars(model)) - attributes:  # constants, which fx leaves on the model and
            delattr(model, name)  # would number on from in the next trace
    for node in reversed(module.graph.nodes):  # what binding the optional arguments leaves behind
        is_check = node.op == "call_function" and "_assert" in getattr(node.target, "__name__", "")
        if not node.users and (is_check or node.op == "placeholder" or node.target is operator.eq):
            module.graph.erase_node(node)
    _follow_device(module.graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _follow_device(graph: fx.Graph) -> None:
    """Let tensors that the graph makes be made where its images lie, not where it was traced."""
    images = next(iter(graph.nodes))
    with graph.inserting_after(images):
        device = graph.call_function(getattr, (images, "device"))

    def follow(value: Any) -> Any:
        return device if isinstance(value, torch.device) else value

    for node in graph.nodes:
        node.args = fx.node.map_aggregate(node.args, follow)
        node.kwargs = fx.node.map_aggregate(node.kwargs, follow)


def _follow_training_flag(module: fx.GraphModule, trained: fx.GraphModule) -> None:
    """Let constants that differ between the traces of eval and train mode follow the mode."""
    nodes, others = list(module.graph.nodes), list(trained.graph.nodes)
    if [(n.op, n.target) for n in nodes] != [(n.op, n.target) for n in others]:
        raise BackboneError(_TWO_GRAPHS)
    twin = dict(zip(others, nodes, strict=True))
    flag: fx.Node | None = None
    for node, other in zip(nodes, others, strict=True):
        args, kwargs = list(node.args), dict(node.kwargs)
        trained_args, trained_kwargs = fx.node.map_arg((other.args, other.kwargs), twin.__getitem__)
        if len(args) != len(trained_args) or kwargs.keys() != trained_kwargs.keys():
            raise BackboneError(_TWO_GRAPHS)
        places: list[tuple[Any, int | str, Any]]
        places = [(args, i, trained_args[i]) for i in range(len(args))]
        places += [(kwargs, key, trained_kwargs[key]) for key in kwargs]
        changed = False
        for holder, place, trained_value in places:
            value = holder[place]
            if value == trained_value:
                continue
            if not isinstance(value, _CONSTANTS) or not isinstance(trained_value, _CONSTANTS):
                raise BackboneError(_TWO_GRAPHS)
            if flag is None:
                module.add_submodule(_FLAG, TrainingFlag())
                with module.graph.inserting_before(nodes[0]):
                    flag = module.graph.call_module(_FLAG)
            holder[place] = flag
            if (value, trained_value) != (False, True):
                with module.graph.inserting_before(node):
                    holder[place] = module.graph.call_function(
                        _by_mode, (flag, trained_value, value)
                    )
            changed = True
        if changed:
            node.args, node.kwargs = tuple(args), kwargs
    if flag is not None:
        module.recompile()


def _by_mode(training: bool, in_train: Any, in_eval: Any) -> Any:
    return in_train if training else in_eval


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps each node's value and FLOPs."""

    def __init__(self, module: fx.GraphModule, counter: FlopCounterMode) -> None:
        super().__init__(module)
        self.counter = counter
        self.values: dict[str, Any] = {}
        self.flops: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        before = self.counter.get_total_flops()
        value = super().run_node(n)
        self.values[n.name] = value
        self.flops[n.name] = self.counter.get_total_flops() - before
        return value


def _examine(module: fx.GraphModule, image_size: int) -> dict[fx.Node, NodeFacts]:
    """Facts of every node, from two runs with different batch sizes and no real arithmetic."""
    meta = _without_memory(module)
    recorders = []
    for batch in _BATCHES:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            recorder = _Recorder(meta, counter)
            try:
                recorder.run(torch.empty(batch, 3, image_size, image_size, device="meta"))
            except Exception as error:
                reason = str(error).partition("\n")[0]  # without the interpreter's own trace
                raise BackboneError(
                    f"the backbone refuses RGB images of {image_size} x {image_size} pixels: "
                    f"{reason}. Try another image_size"
                ) from error
            recorders.append(recorder)
    facts: dict[fx.Node, NodeFacts] = {}
    for node in module.graph.nodes:
        results = tuple(recorder.values[node.name] for recorder in recorders)
        from_pixels = any(facts[source].pixels for source in node.all_input_nodes)
        facts[node] = NodeFacts(
            pixels=node.op == "placeholder" or (from_pixels and _holds_tensor(results[0])),
            results=(results[0], results[1]),
            # Of one image more: what does not depend on the batch is no image's cost.
            flops=recorders[1].flops[node.name] - recorders[0].flops[node.name],
        )
    return facts


def _without_memory(module: fx.GraphModule) -> fx.GraphModule:
    """A copy on the meta device, made without copying what may be gigabytes."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        for parameter in module.parameters()
    }
    copied = copy.deepcopy(module, memo).to("meta")
    copied.eval()
    return copied


def _holds_tensor(value: object) -> bool:
    if isinstance(value, tuple | list):
        return any(_holds_tensor(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_tensor(item) for item in value.values())
    return isinstance(value, torch.Tensor)


def _is_classifier(module: fx.GraphModule, node: fx.Node, facts: dict[fx.Node, NodeFacts]) -> bool:
    if node.op != "call_module" or not facts[node].pixels:
        return False
    layer = module.get_submodule(str(node.target))
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)
