"""Backbones as torch.fx graphs, with what each node yields: pixels or shapes, how large, how dear.

One mechanism for every model: nothing here knows a family of networks.
"""

from __future__ import annotations

import copy
import inspect
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from trainable.errors import BackboneError

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
        head: node of the classifier that fine-tuning replaces.
    """

    module: fx.GraphModule
    facts: dict[fx.Node, NodeFacts]
    head: fx.Node


def trace(model: nn.Module, *, image_size: int) -> TracedBackbone:
    """The graph of `model` for RGB images of image_size x image_size pixels.

    Optional arguments of `forward` are bound to their defaults. Tracing freezes `self.training`
    into arguments of functional dropout and the like; the two traces of eval and train mode are
    compared, and each argument that differs follows the mode of the graph again.

    Raises:
        BackboneError: the model cannot be traced, or has no classifier to replace.
    """
    module = _symbolic_trace(model, training=False)
    _follow_training_flag(module, _symbolic_trace(model, training=True))
    module.eval()
    facts = _examine(module, image_size)
    heads = [node for node in module.graph.nodes if _is_classifier(module, node, facts)]
    if not heads:
        raise BackboneError(
            "the backbone has no classifier to replace; allowed: a last nn.Linear or 1x1 nn.Conv2d"
        )
    return TracedBackbone(module=module, facts=facts, head=heads[-1])


def _symbolic_trace(model: nn.Module, *, training: bool) -> fx.GraphModule:
    parameters = list(inspect.signature(model.forward).parameters.values())
    optional = {
        p.name: p.default for p in parameters[1:] if p.default is not inspect.Parameter.empty
    }
    was_training, attributes = model.training, set(vars(model))
    model.train(training)
    try:
        module = fx.symbolic_trace(model, concrete_args=optional or None)
    except Exception as error:
        raise BackboneError(
            f"{type(model).__name__} cannot be traced by torch.fx: {error}. Control flow that "
            "depends on tensor values has to move into a leaf module or a torch.fx.wrap function"
        ) from error
    finally:
        model.train(was_training)
        for name in set(vars(model)) - attributes:  # constants, which fx leaves on the model and
            delattr(model, name)  # would number on from in the next trace
    for node in reversed(module.graph.nodes):  # what binding the optional arguments leaves behind
        is_check = node.op == "call_function" and "_assert" in getattr(node.target, "__name__", "")
        if not node.users and (is_check or node.op == "placeholder" or node.target is operator.eq):
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


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
    meta = copy.deepcopy(module).to("meta").eval()
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
            flops=recorders[0].flops[node.name] / _BATCHES[0],
        )
    return facts


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
