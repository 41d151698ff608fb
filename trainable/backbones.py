"""The shelf of backbones: `NAME[@WEIGHTS]` -> weights as arrays -> a model ready to be traced.

`load_weights` touches files and belongs to the driver; `build` turns its result into a model
anywhere, without files.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

from trainable import zoo
from trainable.errors import BackboneError
from trainable.graphs import TracedBackbone, trace


@dataclass(frozen=True)
class Preprocessing:
    """How encoded images become the input of a backbone.

    Attributes:
        image_size: side of the square input, in pixels.
        mean: of each of the three channels, on the 0..1 scale.
        std: of each of the three channels, on the 0..1 scale.
    """

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Weights:
    """A backbone with its weights, as plain arrays that can be mapped read-only.

    Attributes:
        backbone: `NAME[@WEIGHTS]` as the user wrote it.
        source: which weights these are, as tables show it.
        preprocessing: what they were trained on.
        arrays: the state dict; the head's entries may be missing.
        digest: SHA-256 of names and values.
    """

    backbone: str
    source: str
    preprocessing: Preprocessing
    arrays: Mapping[str, npt.NDArray[np.generic]]
    digest: str


class Backbone:
    """A backbone in this process: built once, traced once per image size, never trained itself.

    Raises:
        BackboneError: the weights do not fit.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._model = build(weights)
        self._traced: dict[int, TracedBackbone] = {}

    def traced(self, image_size: int) -> TracedBackbone:
        """Its graph for square images of `image_size` pixels."""
        if image_size not in self._traced:
            self._traced[image_size] = trace(self._model, image_size=image_size)
        return self._traced[image_size]


def known_problem(backbone: str) -> str | None:
    """What is wrong with a backbone's name, or None; no weights are read."""
    name, at, weights = backbone.partition("@")
    if name not in zoo.ENTRIES:
        near = difflib.get_close_matches(name, zoo.ENTRIES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"got {backbone!r}; unknown backbone; known: {', '.join(zoo.ENTRIES)}{hint}"
    if at:
        return (
            f"got {backbone!r}; {name} has one set of weights: write {name} alone, not @{weights}"
        )
    return None


def load_weights(backbone: str) -> Weights:
    """The weights that `NAME[@WEIGHTS]` means, read from where they lie.

    Raises:
        BackboneError: the name is unknown, or a file is missing or damaged.
    """
    problem = known_problem(backbone)
    if problem is not None:
        raise BackboneError(problem)
    path = zoo.weights_path(backbone)
    try:
        state = load_file(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise BackboneError(f"{path}: cannot be read as safetensors: {error}") from error
    except Exception as error:  # safetensors raises its own class, which has no stable home
        raise BackboneError(f"{path}: damaged: {error}. Install sft-sweep again") from error
    arrays = {name: tensor.numpy() for name, tensor in sorted(state.items())}
    return Weights(
        backbone=backbone,
        source=zoo.ENTRIES[backbone].name,
        preprocessing=Preprocessing(image_size=zoo.IMAGE_SIZE, mean=zoo.MEAN, std=zoo.STD),
        arrays=arrays,
        digest=_digest(arrays),
    )


def build(weights: Weights) -> nn.Module:
    """The backbone with these weights, in eval mode; the arrays are copied, never written to.

    Raises:
        BackboneError: the weights do not fit the architecture.
    """
    model = zoo.build()
    state = {name: torch.tensor(array) for name, array in weights.arrays.items()}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # a shape differs
        raise BackboneError(f"{weights.backbone}: the weights do not fit: {error}") from None
    missing = [name for name in missing if not name.startswith("head.")]
    if missing or unexpected:
        raise BackboneError(
            f"{weights.backbone}: the weights do not fit: missing {missing}, unknown {unexpected}"
        )
    return model.eval()


def _digest(arrays: Mapping[str, npt.NDArray[np.generic]]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
