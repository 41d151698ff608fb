"""Reading of pickled tensors without importing or calling anything that the pickle names.

PyTorch's restricted reader accepts tensors, numbers, texts and their containers. Checkpoints have
settings and measurements beside the weights: objects of the types below are read as empty
stand-ins. All other types are refused by name, with a message of our own, because PyTorch's advises
loading the file without restrictions.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
from collections import OrderedDict
from typing import IO, Any

import torch

from trainable.backbones.naming import shortened
from trainable.errors import BackboneError


class _Nothing:
    """A stand-in for an object whose contents are not needed."""

    def __new__(cls, *args: object) -> _Nothing:
        del args
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        del state


class _Mapping:
    """A stand-in for another type of mapping; it becomes an OrderedDict, which can be filled."""

    def __new__(cls, *args: object) -> Any:
        del args
        return OrderedDict()


_PLAIN_TYPES = (
    *("dict", "list", "tuple", "int", "float", "str", "bool"),
    *("object", "frozenset", "range", "slice"),
)
_PATHS = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
_TIMES = ("datetime", "date", "time", "timedelta", "timezone")
_ARRAYS = ("multiarray.scalar", "multiarray._reconstruct")
_OMEGACONF = (
    "dictconfig.DictConfig",
    "listconfig.ListConfig",
    "base.ContainerMetadata",
    "base.Metadata",
    *(f"nodes.{kind}Node" for kind in ("Any", "Boolean", "Float", "Integer", "String")),
)

_STANDS_FOR: dict[type, tuple[str, ...]] = {
    _Nothing: (
        "argparse.Namespace",
        "types.SimpleNamespace",
        "typing.Any",
        "numpy.dtype",
        "numpy.ndarray",
        *(f"numpy.{core}.{name}" for core in ("core", "_core") for name in _ARRAYS),
        *(f"{module}.{kind}" for module in ("pathlib", "pathlib._local") for kind in _PATHS),
        *(f"datetime.{kind}" for kind in _TIMES),
        *(f"builtins.{kind}" for kind in _PLAIN_TYPES),
        *(f"omegaconf.{name}" for name in _OMEGACONF),
    ),
    _Mapping: (
        "collections.defaultdict",
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
    ),
}
"""Types by their stand-in; none of them affects the weights."""

_SAFE: list[Any] = [(stand_in, name) for stand_in, names in _STANDS_FOR.items() for name in names]

_GLOBAL = re.compile(
    r"GLOBAL (\S+)|(?:function|but got) <(?:class|function|built-in \w+) '?([^'> ]+)"
)
"""PyTorch's message about a type that a pickle refers to."""


def read_pickle(file: IO[bytes]) -> Any:
    """Read a file written by `torch.save`: tensors on the CPU, and plain values.

    Raises:
        BackboneError: the pickle is damaged or refers to other types; the message lacks the path.
        OSError: the file cannot be read.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_SAFE):
            warnings.simplefilter("ignore")  # about pickle protocols: unreadable ones raise
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        found = _GLOBAL.search(str(error))
        name = (found[1] or found[2]) if found else _first_global(file)
        what = f"its pickle wants {shortened(name)}" if name else "its pickle holds more"
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        if "TorchScript" not in str(error):
            reason = re.split(r"\n|\. ", str(error), maxsplit=1)[0] or type(error).__name__
            raise BackboneError(f"damaged or no state dict: {shortened(reason)}") from None
        what = "it is a TorchScript archive, which is a program"
    raise BackboneError(
        f"refused: {what}, and only tensors are read. Save the weights alone where the model is at "
        'hand: import torch; torch.save(model.state_dict(), "weights.pth")'
    )


def _first_global(file: IO[bytes]) -> str | None:
    """Return the first class or function that a bare pickle names, without executing it.

    PyTorch's reader does not know the format that `pickle.dump` writes.
    """
    file.seek(0)
    texts: list[str] = []
    try:
        for operation, argument, _ in pickletools.genops(file):
            if operation.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if operation.name == "STACK_GLOBAL" and len(texts) > 1:
                return ".".join(texts[-2:])
            if isinstance(argument, str):
                texts.append(argument)
    except (ValueError, UnicodeDecodeError, IndexError):
        pass
    return None
