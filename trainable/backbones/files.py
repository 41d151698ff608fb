"""State dicts in files: read without running anything that the file may hold."""

from __future__ import annotations

import hashlib
import pickle
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from trainable.errors import BackboneError

SUFFIXES = (".safetensors", ".pth", ".pt")

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
_BLOCK_BYTES = 2**20


def read_state_dict(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The tensors of a state dict by name, sorted; floats of any width become float32.

    Raises:
        BackboneError: the file is missing, damaged, no state dict, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BackboneError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(
            f"{path}: refused: {reason}. Only tensors are read from a pickle; save a plain state "
            "dict, best as .safetensors"
        ) from None
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackboneError(f"{path}: damaged or no state dict: {reason}") from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise BackboneError(f"{path}: no state dict; allowed: a mapping from names to tensors")
    return {name: to_array(tensor) for name, tensor in sorted(state.items())}


def to_array(tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    """The tensor as a contiguous array; floats of any width become float32."""
    tensor = tensor.detach().cpu()
    array: npt.NDArray[np.generic] = (
        (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()
    )
    return array


def verify_checksum(path: Path) -> None:
    """Hold a file against the start of its SHA-256 that its name carries, as torchvision's do.

    Raises:
        BackboneError: they differ.
    """
    named = _HASH_IN_NAME.search(path.name)
    if named is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    if not digest.hexdigest().startswith(named[1]):
        raise BackboneError(
            f"{path}: damaged: its SHA-256 begins with {digest.hexdigest()[: len(named[1])]}, not "
            f"with {named[1]} as its name says. Delete the file; it is fetched again where there "
            "is a network"
        )
