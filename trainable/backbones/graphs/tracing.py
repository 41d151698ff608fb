"""Tracing of models to torch.fx graphs that are equivalent in both modes and on any device."""

from __future__ import annotations

import inspect
import operator
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from trainable.backbones.graphs.comparing import defaults, differing_constants, is_dropout
from trainable.errors import BackboneError

_RANDOM = ("dropout", "stochasticdepth", "stochastic_depth", "droppath", "drop_path")
_FLAG = "training_flag"
_CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class LeafModules:
    """Modules and functions that stay one node each because torch.fx cannot trace them.

    Attributes:
        modules: classes of leaf modules.
        functions: leaf functions.
        version: version of the library of both, which their results depend on.
    """

    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()
    version: str | None = None


TRANSPARENT = LeafModules()
"""For models that torch.fx can trace completely."""


class TrainingFlag(nn.Module):
    """A module that returns its own `training` attribute, for use in a graph."""

    def forward(self) -> bool:
        """Return whether the graph runs in train mode."""
        return self.training


def traced_module(model: nn.Module, *, leaf_modules: LeafModules) -> fx.GraphModule:
    """Trace a model to a graph with its own submodules and parameters, in eval mode.

    Optional arguments of `forward` are bound to their defaults. Tracing turns `self.training` into
    constant arguments, for example of functional dropout. So the traces of eval and train mode are
    compared, and each argument that differs is made to follow the mode of the graph.

    Raises:
        BackboneError: the model cannot be traced; the message says where and what to do.
    """
    module = _symbolic_trace(model, training=False, leaf_modules=leaf_modules)
    trained = _symbolic_trace(model, training=True, leaf_modules=leaf_modules)
    follow_training_flag(module, trained, trained=False)
    module.eval()
    return module


def is_random(module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node is dropout or stochastic depth, which are identities in eval mode."""
    if node.op == "call_module":
        return _is_random_name(type(module.get_submodule(str(node.target))).__name__)
    name = getattr(node.target, "__name__", str(node.target))
    return _is_random_name(name.partition(".")[0])  # what follows is the overload of an operator


class _Tracer(fx.Tracer):
    """Traces into every module except layers: torch's own, subclasses of them, and random ones."""

    def __init__(self, leaf_modules: LeafModules) -> None:
        super().__init__(autowrap_functions=leaf_modules.functions)
        self._leaf_modules = leaf_modules.modules

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether the module stays one node; a random one then follows its mode."""
        derived = any(
            kind.__module__.startswith("torch.nn.") and kind not in _CONTAINERS
            for kind in type(m).__mro__
        )
        random = _is_random_name(type(m).__name__) and not list(m.parameters())
        return (
            isinstance(m, self._leaf_modules)
            or derived
            or random
            or super().is_leaf_module(m, module_qualified_name)
        )


def _is_random_name(name: str) -> bool:
    return name.lower().startswith(_RANDOM) or name.lower().endswith("dropout")


def _symbolic_trace(
    model: nn.Module, *, training: bool, leaf_modules: LeafModules
) -> fx.GraphModule:
    parameters = list(inspect.signature(model.forward).parameters.values())
    optional = {
        p.name: p.default for p in parameters[1:] if p.default is not inspect.Parameter.empty
    }
    was_training, attributes = model.training, set(vars(model))
    model.train(training)
    try:
        tracer = _Tracer(leaf_modules)
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
        for name in set(vars(model)) - attributes:  # constants that fx leaves on the model; the
            delattr(model, name)  # next trace would continue their numbers
    for node in reversed(module.graph.nodes):  # left over from binding the optional arguments
        is_check = node.op == "call_function" and "_assert" in getattr(node.target, "__name__", "")
        if not node.users and (is_check or node.op == "placeholder" or node.target is operator.eq):
            module.graph.erase_node(node)
    follow_device(module.graph, next(iter(module.graph.nodes)))
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _where(error: Exception) -> str:
    """Return ` (file, line N)` of the model's code where tracing failed, or ""."""
    not_the_model = {Path(torch.__file__).parent, Path(__file__).parents[2]}
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<")
        and not not_the_model & {*Path(frame.filename).parents}
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def follow_device(graph: fx.Graph, given: fx.Node) -> None:
    """Let tensors that the graph makes be made where an input lies, not where it was traced.

    Args:
        graph: changed in place.
        given: placeholder of the input.
    """
    with graph.inserting_after(given):
        device = graph.call_function(getattr, (given, "device"))

    def follow(value: Any) -> Any:
        return device if isinstance(value, torch.device) else value

    for node in graph.nodes:
        node.args = fx.node.map_aggregate(node.args, follow)
        node.kwargs = fx.node.map_aggregate(node.kwargs, follow)


def follow_training_flag(module: fx.GraphModule, other: fx.GraphModule, *, trained: bool) -> None:
    """Let constants that differ between the graphs of eval and train mode follow the mode.

    Of graphs of operators that of train mode is to be taken: in eval mode what uses the input of
    dropout may as well use its output.

    Args:
        module: the graph of one mode; changed in place.
        other: the graph of the other mode.
        trained: whether `module` is that of train mode.

    Raises:
        BackboneError: the graphs differ in more than constants; `module` is as it was.
    """
    changes: list[tuple[fx.Node, int | str, tuple[Any, Any]]] = [
        (node, place, (own, its) if trained else (its, own))
        for node, place, own, its in differing_constants(module.graph, other.graph)
    ]
    dropout = [node for node in module.graph.nodes if is_dropout(node)]
    changes += [(node, 2, (True, False)) for node in dropout if node.args[2] is True]
    if not changes:
        return
    module.add_submodule(_FLAG, TrainingFlag())
    with module.graph.inserting_before(next(iter(module.graph.nodes))):
        flag = module.graph.call_module(_FLAG)
    for node, place, (in_train, in_eval) in changes:
        follower = flag
        if (in_train, in_eval) != (True, False):
            with module.graph.inserting_before(node):
                follower = module.graph.call_function(_by_mode, (flag, in_train, in_eval))
        if isinstance(place, int):
            missing = defaults(node)[len(node.args) : place]
            node.args = (*node.args[:place], *missing, follower, *node.args[place + 1 :])
        else:
            node.update_kwarg(place, follower)
    module.recompile()


def follows_mode(node: fx.Node) -> bool:
    """Whether a node is a value (flag, in train mode, in eval mode) that follows the mode."""
    return node.target is _by_mode


def _by_mode(training: bool, in_train: Any, in_eval: Any) -> Any:
    return in_train if training else in_eval
