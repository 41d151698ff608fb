"""Reading of tensor files by their content, without running code in them.

The suffix does not determine the format: checkpoints are called .pth, .pt, .bin, .ckpt, .tar.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from trainable.backbones.naming import shortened
from trainable.backbones.pickles import read_pickle
from trainable.errors import BackboneError

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
_BLOCK_BYTES = 2**20

_BEGIN_BYTES = 512
_LONGEST_HEADER_BYTES = 10**8
"""Limit for the header of a safetensors file, by its specification."""
_MOST_LEVELS = 5
"""Depth to which nested mappings are searched, such as {epoch, teacher: {backbone: {...}}}."""

_OTHER_FORMS = (
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself. Run: git lfs pull"),
    (rb"\s*<(!doctype|html|\?xml|head)", "a web page, not a file of weights. Download it anew"),
    (rb"\x89HDF\r\n", "an HDF5 file, such as Keras writes"),
    (rb"\x1f\x8b", "compressed by gzip. Unpack it first"),
    (rb"\x93NUMPY", "an array of NumPy"),
)
"""First bytes of other formats -> what the file is, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The tensors of a file at any depth.

    Attributes:
        arrays: arrays by address, sorted. An address joins the keys of the mappings around a tensor
            and its own key with dots. Floats of any width become float32.
        mappings: address of the mapping around each tensor, by address; "" for the top level.
    """

    arrays: dict[str, npt.NDArray[np.generic]]
    mappings: dict[str, str]


def read_stored(path: Path) -> Stored:
    """Read every tensor of a file, at any depth of nested checkpoints.

    Raises:
        BackboneError: the file is missing, damaged, unsafe, or has no named tensors.
    """
    mappings: dict[str, str] = {}
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for mapping, name, tensor in _tensors(_content(path)):
        address = _joined(mapping, name)
        mappings[address], arrays[address] = mapping, to_array(tensor)
    if not arrays:
        raise BackboneError(
            f"{path}: refused: no state dict; allowed: a mapping from names to tensors, alone or "
            "in a checkpoint"
        )
    return Stored(arrays=dict(sorted(arrays.items())), mappings=mappings)


def read_state_dict(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read the tensors of a state dict by name, sorted; floats of any width become float32.

    Raises:
        BackboneError: the file is missing, damaged, unsafe, or not a state dict.
    """
    return {name: to_array(tensor) for name, tensor in sorted(read_tensors(path).items())}


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a state dict by name, unchanged, with torch's version metadata.

    Raises:
        BackboneError: see `read_state_dict`.
    """
    state = _content(path)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise BackboneError(f"{path}: refused: no state dict, a mapping from names to tensors")
    return state


def check_safetensors(path: Path) -> None:
    """Refuse a file that is none of safetensors, by its first bytes.

    Raises:
        BackboneError: it cannot be read, or is something else.
    """
    begin = read_begin(path)
    if not _is_safetensors(begin):
        raise BackboneError(f"{path}: {_other_form(begin) or 'refused: a pickle, no safetensors'}")


def read_begin(path: Path) -> bytes:
    """The first bytes of a file, enough to know many forms by.

    Raises:
        BackboneError: it cannot be read, or is known not to be the file that it stands for.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(_BEGIN_BYTES)
    except OSError as error:
        raise BackboneError(f"{path}: cannot be read: {error.strerror}") from None
    form = _known_form(begin)
    if form is not None:
        raise BackboneError(f"{path}: {form}")
    return begin


def to_array(tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    """Return the tensor as a contiguous array; floats of any width become float32."""
    tensor = tensor.detach().cpu()
    array: npt.NDArray[np.generic] = (
        (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()
    )
    return array


def _content(path: Path) -> Any:
    """Read a file by its content; its name is ignored.

    Raises:
        BackboneError: the file is missing, damaged, unsafe, or not a file of weights.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(_BEGIN_BYTES)
            file.seek(0)
            if _is_safetensors(begin):
                return load_file(path)
            problem = _other_form(begin)
            if problem is not None:
                raise BackboneError(problem)
            return read_pickle(file)
    except FileNotFoundError:
        raise BackboneError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise BackboneError(f"{path}: a folder; allowed: the file of weights in it") from None
    except (OSError, SafetensorError) as error:
        raise BackboneError(f"{path}: damaged or no state dict: {error}") from None
    except BackboneError as error:
        raise BackboneError(f"{path}: {error}") from None


def _is_safetensors(begin: bytes) -> bool:
    """Return whether a file begins with a header length and a header."""
    return begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") <= _LONGEST_HEADER_BYTES


def _other_form(begin: bytes) -> str | None:
    """Name of a known file format other than torch's and safetensors', or None."""
    form = _known_form(begin)
    if form is not None:
        return form
    if not begin.startswith((b"PK", b"\x80")):
        shown = shortened(begin[:24].decode("ascii", "backslashreplace"))
        return (
            f'damaged or no file of weights: it begins with "{shown}"; allowed: what torch.save '
            "or safetensors write"
        )
    return None


def _known_form(begin: bytes) -> str | None:
    """What a file is that holds nothing of use, by how it begins, or None."""
    if not begin:
        return "damaged: the file is empty"
    for pattern, what in _OTHER_FORMS:
        if re.match(pattern, begin, re.IGNORECASE):
            return f"refused: this is {what}"
    return None


def _tensors(
    content: Any, at: str = "", level: int = 0, seen: set[int] | None = None
) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Yield mapping address, name and value of each tensor that can become an array."""
    seen = set() if seen is None else seen
    if not isinstance(content, dict) or level >= _MOST_LEVELS or id(content) in seen:
        return
    seen.add(id(content))
    for name, value in content.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, torch.Tensor):
            if value.layout is torch.strided and not (value.is_quantized or value.is_meta):
                yield at, name, value
        else:
            yield from _tensors(value, _joined(at, name), level + 1, seen)


def _joined(mapping: str, name: str) -> str:
    return f"{mapping}.{name}" if mapping else name


def named_hash(path: Path) -> str | None:
    """Return the start of the SHA-256 in a file's name, as torchvision writes it; or None."""
    found = _HASH_IN_NAME.search(path.name)
    return found[1] if found else None


def is_original(path: Path) -> bool:
    """Return whether the content of a file matches the hash in its name.

    A user's own file under such a name does not match, and is still read.

    Raises:
        BackboneError: it does not match and is damaged: its zip checksums are wrong.
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
