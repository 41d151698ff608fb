"""Graphs of text networks by torch.export, for any number and length of texts.

torch.export follows what torch.fx cannot: control flow that depends on shapes is run for symbolic
shapes, and what comes out are PyTorch's own operators. It imports PyTorch's compiler and SymPy, and
so does `export`; a graph that it made needs neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from trainable.backbones.graphs.graph import TracedBackbone, examined
from trainable.backbones.graphs.inputs import TokenInputs
from trainable.backbones.graphs.rebuilding import rebuilt, writes_through_views
from trainable.backbones.graphs.tracing import follow_training_flag
from trainable.errors import BackboneError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

NAMES = ("tokens", "mask")
"""Inputs of a graph, content first."""

HEAD = "head"
"""Name of the layer behind the features, unless the network has something of that name."""

_BATCH = 3

_MOST = sys.maxsize - 1
"""What stands for no limit."""


def export(model: nn.Module, *, size: int) -> TracedBackbone:
    """The graph of a text network, with a head of one output behind its features.

    Args:
        model: in eval mode, from tokens (N, L) int64 and a mask (N, L) int64, 1 for tokens and 0
            for padding, to features (N, D); what is returned shares its parameters.
        size: L that the facts are about, in tokens.

    Raises:
        BackboneError: torch.export cannot follow the model, or it refuses texts of this length.
    """
    program = _Program.of(model, size=size, training=False)
    both = _for_both_modes(program.module, model, size)
    module = program.module if both is None else both
    version = _digest_of_constants(module, model)
    _append_head(module, program.width)
    module.eval()
    return examined(
        module,
        TokenInputs(size),
        sizes=program.sizes,
        version=version,
        without_dropout=both is None,
    )


def _for_both_modes(
    evaluated: fx.GraphModule, model: nn.Module, size: int
) -> fx.GraphModule | None:
    """A graph that is the model in both modes; None where the modes have nothing in common."""
    try:
        module = _Program.of(model, size=size, training=True).module
        follow_training_flag(module, evaluated, trained=True)
    except BackboneError:
        return None
    return module


@dataclass(frozen=True, kw_only=True)
class _Program:
    """What torch.export made of a model in one mode, as a graph like those of torch.fx.

    Attributes:
        module: from `tokens` and `mask` to features.
        width: of the features.
        sizes: lengths of texts that it is right for.
    """

    module: fx.GraphModule
    width: int
    sizes: range

    @classmethod
    def of(cls, model: nn.Module, *, size: int, training: bool) -> _Program:
        program = _exported(model, size=size, training=training)
        (output,) = program.graph.find_nodes(op="output")
        (features,) = output.args[0]
        return cls(
            module=rebuilt(program.module(check_guards=False), model, NAMES),
            width=int(features.meta["val"].shape[-1]),
            sizes=_sizes(program, size),
        )


def _exported(model: nn.Module, *, size: int, training: bool) -> ExportedProgram:
    from torch.export import Dim, export

    device = next(model.parameters()).device
    inputs = TokenInputs(size).make(_BATCH if size != _BATCH else _BATCH + 1, device=device)
    any_size = {0: Dim.AUTO, 1: Dim.AUTO}
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        with _silence(), torch.random.fork_rng(devices=[]):
            program = export(model, inputs, dynamic_shapes=(any_size, any_size), strict=False)
            if writes_through_views(program.graph):
                program = program.run_decompositions({})
            return program
    except Exception as error:  # whatever its tracer stumbles over; there is no list of it
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise BackboneError(f"the backbone cannot be followed by torch.export: {reason}") from error
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what torch tells of how it goes about it: warnings, logs, and whole graphs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _sizes(program: ExportedProgram, size: int) -> range:
    """Lengths that a program computes right: those that take the branches it was exported with."""
    least, most = 2, _MOST
    for node in _inputs(program.graph, program.graph_signature.user_inputs):
        batch, length = (_bounds(program, size) for size in node.meta["val"].shape)
        if batch is None:
            raise BackboneError(
                "the backbone cannot be followed by torch.export: it computes something else for "
                "every number of texts"
            )
        if length is None:
            return range(size, size + 1)
        least, most = max(least, length[0]), min(most, length[1])
    return range(least, most + 1)


def _bounds(program: ExportedProgram, size: int | torch.SymInt) -> tuple[int, int] | None:
    """Least and largest value of a size; None where a program is made for one value alone."""
    if isinstance(size, int):
        return None
    bounds = program.range_constraints.get(size.node.expr)
    if bounds is None:
        return None
    return int(bounds.lower), int(bounds.upper) if bounds.upper < _MOST else _MOST


def _inputs(graph: fx.Graph, names: Iterable[Any]) -> list[fx.Node]:
    wanted = set(names)
    return [node for node in graph.nodes if node.op == "placeholder" and node.name in wanted]


def _append_head(module: fx.GraphModule, width: int) -> None:
    """Put a linear layer of one output behind the features."""
    name = HEAD
    while hasattr(module, name):
        name += "_"
    device = next(module.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module.add_submodule(name, nn.Linear(width, 1, device=device))
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    with module.graph.inserting_before(output):
        output.args = (module.graph.call_module(name, (output.args[0],)),)
    module.recompile()


def _digest_of_constants(module: fx.GraphModule, model: nn.Module) -> str:
    """SHA-256 of the tensors that neither the model's state dict nor the graph's code tells."""
    told = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    digest = hashlib.sha256()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if id(tensor) not in told:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            if not tensor.is_meta:
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
