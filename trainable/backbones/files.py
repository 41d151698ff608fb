"""State dicts in files: read without running anything that the file may hold."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
import zipfile
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
    return {name: to_array(tensor) for name, tensor in sorted(read_tensors(path).items())}


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a state dict by name, as they lie there, with what torch notes of versions.

    Raises:
        BackboneError: see `read_state_dict`.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            with warnings.catch_warnings():  # of pickle protocols: what cannot be read raises
                warnings.simplefilter("ignore", UserWarning)
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
    return state


def to_array(tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    """The tensor as a contiguous array; floats of any width become float32."""
    tensor = tensor.detach().cpu()
    array: npt.NDArray[np.generic] = (
        (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()
    )
    return array


def named_hash(path: Path) -> str | None:
    """The start of its SHA-256 that a file's name carries, as torchvision's do; or None."""
    found = _HASH_IN_NAME.search(path.name)
    return found[1] if found else None


def is_original(path: Path) -> bool:
    """Whether a file is the one that the hash in its name stands for.

    A file of somebody's own under such a name is not, and may be read all the same.

    Raises:
        BackboneError: it is not, and it is damaged: its parts do not have their own checksums.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest().startswith(named_hash(path) or "-"):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        damaged = str(error)
    if damaged is not None:
        raise BackboneError(
            f"{path}: damaged ({damaged}), and its SHA-256 begins with {digest.hexdigest()[:8]}, "
            f"not with {named_hash(path)} as its name says. Delete it; it is fetched again where "
            "there is a network"
        )
    return False
