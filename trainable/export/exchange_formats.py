"""A network as files that do not need its code: torch.export and ONNX."""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainable.errors import ExportError

TORCH_FILE = "model.pt2"
ONNX_FILE = "model.onnx"

TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest logit if that exceeds 1."""

_MOST_INLINE_BYTES = 1_900 * 2**20
"""Largest size of weights inside an ONNX file, which protobuf limits to 2 GiB."""


Batch = tuple[Tensor, ...]
"""What a network takes at a time, content first; all have one number of examples."""

_BATCH = "batch"


@dataclass(frozen=True)
class NetworkInput:
    """An input of an exported network.

    Attributes:
        name: what files call it.
        axes: names of the axes of any size behind the first, which is the number of examples.
    """

    name: str
    axes: Mapping[int, str] = field(default_factory=dict)

    @property
    def dynamic(self) -> dict[int, str]:
        """Names of all axes of any size."""
        return {0: _BATCH, **self.axes}


@dataclass(frozen=True)
class ExchangeForms:
    """The result of writing one of the files.

    Attributes:
        file: its name.
        problem: why it was not written; None if it was.
        difference: largest absolute difference of its logits to the network's; None if no runtime
            for it is installed.
    """

    file: str
    problem: str | None = None
    difference: float | None = None


def write_portable(
    network: nn.Module,
    batches: Sequence[Batch],
    folder: Path,
    *,
    inputs: Sequence[NetworkInput],
    about: Mapping[str, str],
) -> list[ExchangeForms]:
    """Write the network as `model.pt2` and `model.onnx`, and compare each with the network.

    Both map the inputs to `logits`, (N, C). A file that cannot be made is left out, with the reason
    in the result.

    Args:
        network: the network in eval mode, on the CPU.
        batches: to compare on, each of 3 examples and more.
        folder: folder for the files.
        inputs: of the network, in the order of a batch.
        about: metadata of the ONNX file.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        program = _exported(network, batches[0], inputs)
    except Exception as error:  # its tracer raises arbitrary errors
        problem = f"torch.export cannot follow the network: {_first_line(error)}"
        return [ExchangeForms(TORCH_FILE, problem), ExchangeForms(ONNX_FILE, problem)]
    with torch.no_grad():
        compared = [(batch, network(*batch)) for batch in batches]
    writers: dict[str, Callable[[Path], float | None]] = {
        TORCH_FILE: lambda path: _write_torch(program, path, compared),
        ONNX_FILE: lambda path: _write_onnx(program, path, compared, inputs, about),
    }
    found = []
    for name, write in writers.items():
        try:
            found.append(ExchangeForms(name, difference=write(folder / name)))
        except OSError:
            raise
        except Exception as error:
            for path in folder.glob(f"{name}*"):
                path.unlink()
            found.append(ExchangeForms(name, f"cannot be written: {_first_line(error)}"))
    return found


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference of logits.

    Raises:
        ExportError: it exceeds rounding errors, see `TOLERANCE`.
    """
    largest = float((found - expected).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    if not largest <= allowed:
        raise ExportError(f"its logits differ by {largest:.2g}; allowed are {allowed:.2g}")
    return largest


def check_logits(found: Tensor, expected: Tensor, *, backbone: str, what: str) -> None:
    """Check that a form of a network gives the logits of the trained one.

    Args:
        found: (N, C) logits of that form.
        expected: (N, C) logits of the trained network.
        backbone: name of the backbone, for the message.
        what: the form, for the message.

    Raises:
        ExportError: they differ by more than rounding.
    """
    try:
        difference(found, expected)
    except ExportError as error:
        raise ExportError(
            f"{backbone}: the network {what} is not the one that was trained: {error}"
        ) from None


def _exported(
    network: nn.Module, batch: Batch, inputs: Sequence[NetworkInput]
) -> torch.export.ExportedProgram:
    number = torch.export.Dim(_BATCH)
    # How large another axis may be is for the network to say.
    shapes = tuple({0: number, **dict.fromkeys(one.axes, torch.export.Dim.AUTO)} for one in inputs)
    with warnings.catch_warnings():  # about torch's internals; results are compared
        warnings.simplefilter("ignore")
        program = torch.export.export(network, batch, dynamic_shapes=shapes, strict=False)
    _check_dynamic(program, inputs)
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:  # paths of this machine's files
                node.meta.pop("stack_trace", None)
    return program


def _check_dynamic(program: torch.export.ExportedProgram, inputs: Sequence[NetworkInput]) -> None:
    """Refuse a program that is right for one size of an axis alone.

    Raises:
        ExportError: it is.
    """
    given = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for one, name in zip(inputs, program.graph_signature.user_inputs, strict=True):
        shape = given[str(name)].meta["val"].shape
        for axis, called in one.dynamic.items():
            if not isinstance(shape[axis], torch.SymInt):
                raise ExportError(f"it is right for one {called} alone, {shape[axis]}")


Compared = Sequence[tuple[Batch, Tensor]]
"""Batches with the (N, C) logits of the network."""


def _write_torch(program: torch.export.ExportedProgram, path: Path, compared: Compared) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = io.BytesIO()  # torch's own writer aborts the process if the disk is full
        torch.export.save(program, content)
        path.write_bytes(content.getbuffer())
        loaded = torch.export.load(path).module()
    return _compare(loaded, compared)


def _write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    compared: Compared,
    inputs: Sequence[NetworkInput],
    about: Mapping[str, str],
) -> float | None:
    import onnx

    names = [one.name for one in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = torch.onnx.export(
            program,
            dynamo=True,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=tuple(one.dynamic for one in inputs),
            verbose=False,
        )
    made.model.metadata_props.update(about)
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    made.save(path, external_data=size > _MOST_INLINE_BYTES)
    onnx.checker.check_model(path)
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(*batch: Tensor) -> Tensor:
        given = {name: value.numpy() for name, value in zip(names, batch, strict=True)}
        (logits,) = session.run(None, given)
        return torch.from_numpy(np.asarray(logits))

    return _compare(run, compared)


def _compare(run: Callable[..., Tensor], compared: Compared) -> float:
    """Return the largest difference over all batches, and the first example of each alone."""
    with torch.no_grad():
        return max(
            max(
                difference(run(*batch), expected),
                difference(run(*(value[:1] for value in batch)), expected[:1]),
            )
            for batch, expected in compared
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def onnx_notes(*, class_names: list[str], preprocessing: Mapping[str, Any]) -> dict[str, str]:
    """Return metadata of an ONNX file, for users who only have that file."""
    return {
        "class_names": json.dumps(class_names),
        "preprocessing": json.dumps(dict(preprocessing)),
    }
