"""A network as files that do not need its code: torch.export and ONNX."""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    network: nn.Module, examples: Tensor, folder: Path, *, about: Mapping[str, str]
) -> list[ExchangeForms]:
    """Write the network as `model.pt2` and `model.onnx`, and compare each with the network.

    Both map `images`, (N, 3, S, S) float32 with any N, to `logits`. A file that cannot be made is
    left out, with the reason in the result.

    Args:
        network: the network in eval mode, on the CPU.
        examples: (B, 3, S, S) float32 with B >= 3, to compare on.
        folder: folder for the files.
        about: metadata of the ONNX file.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        program = _exported(network, examples)
    except Exception as error:  # its tracer raises arbitrary errors
        problem = f"torch.export cannot follow the network: {_first_line(error)}"
        return [ExchangeForms(TORCH_FILE, problem), ExchangeForms(ONNX_FILE, problem)]
    with torch.no_grad():
        expected = network(examples)
    writers: dict[str, Callable[[Path], float | None]] = {
        TORCH_FILE: lambda path: _write_torch(program, path, examples, expected),
        ONNX_FILE: lambda path: _write_onnx(program, path, examples, expected, about),
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


def _exported(network: nn.Module, examples: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():  # about torch's internals; results are compared
        warnings.simplefilter("ignore")
        program = torch.export.export(
            network, (examples,), dynamic_shapes=({0: batch},), strict=False
        )
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:  # paths of this machine's files
                node.meta.pop("stack_trace", None)
    return program


def _write_torch(
    program: torch.export.ExportedProgram, path: Path, examples: Tensor, expected: Tensor
) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = io.BytesIO()  # torch's own writer aborts the process if the disk is full
        torch.export.save(program, content)
        path.write_bytes(content.getbuffer())
        loaded = torch.export.load(path).module()
    return _compare(loaded, examples, expected)


def _write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    examples: Tensor,
    expected: Tensor,
    about: Mapping[str, str],
) -> float | None:
    import onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
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

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(np.asarray(logits))

    return _compare(run, examples, expected)


def _compare(run: Callable[[Tensor], Tensor], examples: Tensor, expected: Tensor) -> float:
    """Return the largest difference over a batch of all examples and a batch of one."""
    with torch.no_grad():
        return max(
            difference(run(examples), expected),
            difference(run(examples[:1]), expected[:1]),
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
