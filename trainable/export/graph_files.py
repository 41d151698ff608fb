"""The file of a network's graph, `network.json`, and where its tensors lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, fx

from trainable.backbones.graphs.steps import StepsModule, to_steps
from trainable.errors import BackboneError, ExportError
from trainable.export.model_config import WEIGHTS_FILE

GRAPH_FILE = "network.json"
HEAD_FILE = "head.safetensors"
REST_FILE = "network.safetensors"

_WEIGHT_FILES = (WEIGHTS_FILE, HEAD_FILE, REST_FILE)
_DAMAGED = (BackboneError, KeyError, OSError, RecursionError, TypeError, ValueError)

Places = Mapping[tuple[int, str], tuple[str, str]]
"""File and name of tensors there, by the number of a part and the name in it."""


def write_graph(parts: Sequence[fx.GraphModule], places: Places, folder: Path) -> None:
    """Write a graph, and those of its tensors that are in no file yet.

    Args:
        parts: one behind the other.
        places: of the tensors that are written.
        folder: to write into.

    Raises:
        BackboneError: the graph has more than PyTorch's operators.
    """
    rest: dict[str, Tensor] = {}
    written = []
    for number, part in enumerate(parts):
        steps = to_steps(part)
        tensors = dict((*part.named_parameters(), *part.named_buffers()))
        found: dict[str, dict[str, Any]] = {}
        for name in steps["tensors"]:
            file, key = places.get((number, name), (REST_FILE, f"{number}.{name}"))
            found[name] = {"file": file, "key": key, "shape": list(tensors[name].shape)}
            if file == REST_FILE:
                rest[key] = tensors[name].detach().contiguous().clone()
        written.append(steps | {"tensors": found})
    (folder / GRAPH_FILE).write_text(json.dumps({"parts": written}) + "\n", encoding="utf-8")
    if rest:
        (folder / REST_FILE).write_bytes(save(rest, metadata={"format": "pt"}))


def read_graph(folder: Path) -> list[StepsModule]:
    """Return the parts of a graph, one behind the other.

    Raises:
        ExportError: a file is missing or damaged.
    """
    path = folder / GRAPH_FILE
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        return [_read_part(one, folder) for one in written["parts"]]
    except FileNotFoundError as error:
        raise ExportError(f"{error.filename}: no such file; export the network again") from None
    except SafetensorError as error:
        raise ExportError(f"{folder}: weights are damaged: {error}") from None
    except _DAMAGED as error:
        raise ExportError(f"{path}: cannot be read: {error}") from None


def _read_part(written: Mapping[str, Any], folder: Path) -> StepsModule:
    places: dict[str, Mapping[str, Any]] = dict(written["tensors"])
    files = {place["file"] for place in places.values()}
    if not files <= set(_WEIGHT_FILES):
        raise ValueError(f"got weights in {sorted(files)}; allowed: {', '.join(_WEIGHT_FILES)}")
    for file in files:
        (folder / file).stat()  # what load_file raises for a missing file does not name it
    stored = {file: load_file(folder / file) for file in files}
    tensors = {name: stored[place["file"]][place["key"]] for name, place in places.items()}
    for name, place in places.items():
        if list(tensors[name].shape) != place["shape"]:
            raise ValueError(
                f"{place['file']}: {place['key']} is {list(tensors[name].shape)} instead of "
                f"{place['shape']}"
            )
    return StepsModule({**written, "tensors": list(tensors)}, tensors)
