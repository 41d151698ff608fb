"""Graphs of torch.export made into graphs like those of torch.fx.

They hold PyTorch's operators in place of layers. What changes beside is what cutting asks for:
shapes come from a side input and never from the content input, parameters lie where they are first
used, devices follow the inputs, and nothing is left that only checks.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from trainable.backbones.graphs.tracing import follow_device
from trainable.errors import BackboneError

_CHECKS = ("_assert", "sym_constrain_range", "_check")
"""What names of operators begin with that compute nothing and refuse values."""

_HALVED = frozenset({"addmm", "baddbmm", "bmm", "einsum", "linear", "matmul", "mm"})
"""Operators that autocast computes in half precision."""

_REPLACED: Mapping[Any, Any] = {
    torch.ops.aten.detach_.default: torch.ops.aten.detach.default,
    torch.ops.aten.view.default: torch.ops.aten.reshape.default,
}
"""Operators with others that take their place. Which tensors can be viewed depends on the kernels
of attention, and so on the device."""


def rebuilt(lifted: fx.GraphModule, model: nn.Module, names: tuple[str, ...]) -> fx.GraphModule:
    """A graph of torch.export with the parameters and buffers of its model, under their names.

    Tensors that are no parameters or buffers of the model become buffers that are not saved.

    Args:
        lifted: what `ExportedProgram.module` gives.
        model: what was exported.
        names: of the inputs, content first; the last one has the sizes of the first.

    Raises:
        BackboneError: something depends on more than shapes of the content input, or is computed by
            more than operators.
    """
    rebuilding = _Rebuilding(lifted, model, names)
    rebuilding.copy_all()
    return rebuilding.module()


def writes_through_views(graph: fx.Graph) -> bool:
    """Whether a graph writes into memory that it reads under another name afterwards."""
    position = {node: i for i, node in enumerate(graph.nodes)}

    def is_read_after(alias: fx.Node, write: fx.Node) -> bool:
        if _written(alias) is _written(write):
            return False
        return alias.op != "call_function" or any(
            position[user] > position[write] for user in alias.users
        )

    return any(
        is_read_after(alias, node)
        for node in graph.nodes
        if _writes(node)
        for alias in _aliases(node)
    )


def _written(node: fx.Node) -> fx.Node:
    """The node whose value others wrote into to get this one's."""
    while _writes(node):
        node = node.all_input_nodes[0]
    return node


def _aliases(node: fx.Node) -> set[fx.Node]:
    """A node and all whose values may share memory with its own."""
    found, waiting = set[fx.Node](), [node]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [user for user in node.users if _is_view(user)]
            waiting += node.all_input_nodes[:1] if _is_view(node) else []
    return found


def in_full_precision(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Call an operator on tensors as if there were no autocast."""
    values = [each for given in args for each in (given if isinstance(given, list) else [given])]
    kind = next(value.device.type for value in values if isinstance(value, Tensor))
    if not torch.amp.is_autocast_available(kind):
        return operation(*args, **kwargs)
    with torch.autocast(kind, enabled=False):
        return operation(*args, **kwargs)


class _Rebuilding:
    """Copies a graph node by node."""

    def __init__(self, lifted: fx.GraphModule, model: nn.Module, names: tuple[str, ...]) -> None:
        self._lifted = lifted
        self._model = model
        self._own = {
            id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())
        }
        self._graph = fx.Graph()
        self._tensors: dict[str, Tensor] = {}
        self._attributes: dict[str, fx.Node] = {}
        self._copied: dict[fx.Node, Any] = {}  # numbers and tuples of nodes are values, too
        self._content = set[fx.Node]()
        self._dimensions: dict[Any, tuple[fx.Node, int]] = {}
        self._sizes: dict[Any, fx.Node] = {}
        given = [node for node in lifted.graph.nodes if node.op == "placeholder"]
        for node, name in zip(given, names, strict=True):
            self._last = self._copied[node] = self._graph.placeholder(name)
        for node in given:  # the content input has the sizes of the last side input
            self._note_sizes(node.meta["val"], self._last)
        self._content.add(self._copied[given[0]])

    def copy_all(self) -> None:
        """Copy the whole graph, its output without the tuple around it."""
        (result,) = self._copy_block(self._lifted)
        self._graph.output(result)

    def module(self) -> fx.GraphModule:
        """The copy, with the tensors that it uses."""
        follow_device(self._graph, self._last)
        self._graph.eliminate_dead_code()
        module = fx.GraphModule(self._tensors, self._graph, type(self._model).__name__)
        saved = self._model.state_dict().keys()
        for name, buffer in list(module.named_buffers()):
            if name not in saved:
                path, _, last = name.rpartition(".")
                module.get_submodule(path).register_buffer(last, buffer, persistent=False)
        return module

    def _copy_block(self, block: fx.GraphModule) -> tuple[Any, ...]:
        """Copy the nodes of a graph whose placeholders are there; returns what it puts out."""
        for node in block.graph.nodes:
            if _is_check(node):
                block.graph.erase_node(node)
        block.graph.eliminate_dead_code()
        for node in block.graph.nodes:
            if node.op == "call_function":
                self._copied[node] = self._copy(node)
        (output,) = block.graph.find_nodes(op="output")
        return tuple(self._resolved(output.args[0]))

    def _copy(self, node: fx.Node) -> Any:
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return self._inlined(node)
        args, kwargs = self._resolved(node.args), self._resolved(node.kwargs)
        if node.target is operator.getitem and isinstance(args[0], tuple):
            return args[0][args[1]]
        from_content = any(
            self._copied.get(source) in self._content for source in node.all_input_nodes
        )
        if from_content and not _holds_tensor(node.meta["val"]):
            return self._of_shapes(node)
        target: Any = _REPLACED.get(node.target, node.target)
        if _writes(node):
            target = getattr(getattr(torch.ops.aten, _name(target)[:-1]), target._overloadname)
        if not from_content and _name(target) in _HALVED:
            # Angles and biases of positions, which stand for no example's own values.
            target, args = in_full_precision, (target, *args)
        copied = self._graph.create_node("call_function", target, args, kwargs, node.name)
        copied.meta["nn_module_stack"] = {
            key: (path, kind)
            for key, (path, kind) in node.meta.get("nn_module_stack", {}).items()
            if path
        }
        if from_content:
            self._content.add(copied)
        else:
            self._note_sizes(node.meta["val"], copied)
        if _writes(node):
            self._overwrite(self._copied[node.all_input_nodes[0]], copied)
        return copied

    def _overwrite(self, old: Any, new: fx.Node) -> None:
        """Let what is copied from here on use a new value in place of an old one."""
        for node in [node for node, copied in self._copied.items() if copied is old]:
            self._copied[node] = new

    def _resolved(self, value: Any) -> Any:
        """Arguments of a node with the copies of the nodes in them."""
        return fx.node.map_arg(value, self._fetch)

    def _fetch(self, node: fx.Node) -> Any:
        if node not in self._copied and node.op == "get_attr":
            self._copied[node] = self._attribute(str(node.target))
        return self._copied[node]

    def _attribute(self, target: str) -> fx.Node:
        path, _, last = target.rpartition(".")
        tensor = getattr(self._lifted.get_submodule(path), last)
        name = self._own.get(id(tensor), target)
        if name not in self._attributes:
            self._tensors[name] = tensor
            self._attributes[name] = self._graph.get_attr(name)
        return self._attributes[name]

    def _of_shapes(self, node: fx.Node) -> Any:
        """A number that comes from the content input, by shapes of what does not."""
        value = node.meta["val"]
        if isinstance(value, bool | int | float):
            return value
        size = value.node.expr
        if size not in self._dimensions:
            raise BackboneError(
                "the backbone cannot be cut: it computes with a number that comes from the values "
                f"or from inner shapes of its input ({size})"
            )
        if size not in self._sizes:
            self._sizes[size] = self._graph.call_function(
                torch.ops.aten.sym_size.int, self._dimensions[size]
            )
        return self._sizes[size]

    def _note_sizes(self, value: Any, copied: fx.Node) -> None:
        """Remember which sizes a tensor has that does not depend on the content input."""
        if isinstance(value, Tensor):
            sizes: tuple[Any, ...] = tuple(value.shape)  # whole numbers, symbolic ones among them
            for dimension, size in enumerate(sizes):
                if isinstance(size, torch.SymInt):
                    self._dimensions.setdefault(size.node.expr, (copied, dimension))

    def _inlined(self, node: fx.Node) -> tuple[Any, ...]:
        """The outputs of a block, such as one without gradients, its nodes copied one by one."""
        name = str(node.target)
        if name not in ("wrap_with_set_grad_enabled", "wrap_with_autocast"):
            raise BackboneError(f"the backbone cannot be cut: it uses torch's {name}")
        named = next(source for source in node.all_input_nodes if source.op == "get_attr")
        block = getattr(node.graph.owning_module, str(named.target))
        given = [inner for inner in block.graph.nodes if inner.op == "placeholder"]
        for inner, outer in zip(given, node.args[-len(given) :], strict=True):
            self._copied[inner] = self._resolved(outer)
        results = self._copy_block(block)
        if name == "wrap_with_set_grad_enabled" and not node.args[0]:
            return tuple(map(self._detached, results))
        return results

    def _detached(self, value: Any) -> Any:
        if not isinstance(value, fx.Node):
            return value
        detached = self._graph.call_function(torch.ops.aten.detach.default, (value,))
        if value in self._content:
            self._content.add(detached)
        return detached


def _writes(node: fx.Node) -> bool:
    """Whether a node changes values of its first input."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable and node.target not in _REPLACED


def _is_view(node: fx.Node) -> bool:
    """Whether a node's value may share memory with one that it was made of."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(result.alias_info for result in schema.returns)


def _name(target: Any) -> str:
    """Name of an operator without its overload."""
    return str(getattr(target, "__name__", target)).partition(".")[0]


def _is_check(node: fx.Node) -> bool:
    return node.op == "call_function" and _name(node.target).startswith(_CHECKS)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_holds_tensor, value))
    return isinstance(value, Tensor)
