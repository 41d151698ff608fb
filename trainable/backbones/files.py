"""Reader of tensor files: by content, without running code that a file may hold.

The name of a file says nothing of its form: checkpoints are called .pth, .pt, .bin, .ckpt, .tar.
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

from trainable.backbones.naming import printable
from trainable.backbones.pickles import read_pickle
from trainable.errors import BackboneError

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
_BLOCK_BYTES = 2**20

_BEGIN_BYTES = 512
_LONGEST_HEADER_BYTES = 10**8
"""Of a safetensors file, by its specification."""
_MOST_LEVELS = 5
"""How deep mappings are looked for: {epoch, teacher: {backbone: {...}}} and something to spare."""

_OTHER_FORMS = (
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself. Run: git lfs pull"),
    (rb"\s*<(!doctype|html|\?xml|head)", "a web page, not a file of weights. Download it anew"),
    (rb"\x89HDF\r\n", "an HDF5 file, such as Keras writes"),
    (rb"\x1f\x8b", "compressed by gzip. Unpack it first"),
    (rb"\x93NUMPY", "an array of NumPy"),
)
"""By how a file begins, what it is instead of weights, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The tensors of a file, wherever they lie in it.

    Attributes:
        arrays: by address: the names of the mappings that a tensor lies in and its own, with dots
            between; sorted; floats of any width are float32.
        mappings: by address of a tensor, that of the mapping it lies in; "" is the file's own.
    """

    arrays: dict[str, npt.NDArray[np.generic]]
    mappings: dict[str, str]


def read_stored(path: Path) -> Stored:
    """Every tensor of a file, as deep as checkpoints are nested.

    Raises:
        BackboneError: the file is missing, damaged, unsafe, or holds no tensors by name.
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
    """The tensors of a state dict by name, sorted; floats of any width become float32.

    Raises:
        BackboneError: the file is missing, damaged, unsafe, or no state dict.
    """
    return {name: to_array(tensor) for name, tensor in sorted(read_tensors(path).items())}


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a state dict by name, as they lie there, with what torch notes of versions.

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
    """The tensor as a contiguous array; floats of any width become float32."""
    tensor = tensor.detach().cpu()
    array: npt.NDArray[np.generic] = (
        (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()
    )
    return array


def _content(path: Path) -> Any:
    """Read a file by its content; its name is ignored.

    Raises:
        BackboneError: it is missing, damaged, unsafe, or something else than weights.
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
    """Whether a file begins with the length of a header, and the header."""
    return begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") <= _LONGEST_HEADER_BYTES


def _other_form(begin: bytes) -> str | None:
    """Name of a known file format other than torch's and safetensors', or None."""
    form = _known_form(begin)
    if form is not None:
        return form
    if not begin.startswith((b"PK", b"\x80")):
        shown = printable(begin[:24].decode("latin-1"))
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
    """The address of the mapping, the name and the value of each tensor that has an array."""
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
    """The start of its SHA-256 that a file's name carries, as torchvision's do; or None."""
    found = _HASH_IN_NAME.search(path.name)
    return found[1] if found else None


def is_original(path: Path) -> bool:
    """Whether the content of a file matches the hash in its name.

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
