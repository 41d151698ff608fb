"""Reader of pickled tensors that imports and calls nothing the pickle names.

PyTorch's restricted reader takes tensors, numbers, texts and their containers. Checkpoints hold
settings and measurements beside the weights: objects of the types below are read as stand-ins that
hold nothing. What a pickle wants beyond that is refused with its name, in words of our own, for
PyTorch's advise to load the file without restraint.
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
    """Stands for an object whose contents are of no use here."""

    def __new__(cls, *args: object) -> _Nothing:
        del args
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        del state


class _Mapping:
    """Stands for a mapping of another type; what is made is a plain one, which can be filled."""

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
"""By the stand-in, the types that it stands for; none of them says anything about weights."""

_SAFE: list[Any] = [(stand_in, name) for stand_in, names in _STANDS_FOR.items() for name in names]

_GLOBAL = re.compile(
    r"GLOBAL (\S+)|(?:function|but got) <(?:class|function|built-in \w+) '?([^'> ]+)"
)
"""What PyTorch says that a pickle wanted."""


def read_pickle(file: IO[bytes]) -> Any:
    """Read a file written by `torch.save`: tensors on the CPU and plain values beside them.

    Raises:
        BackboneError: the pickle is damaged, or wants more; without the file's name.
        OSError: the file cannot be read.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_SAFE):
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read raises
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
    """The first class or function that a bare pickle names, found without making anything.

    `pickle.dump` writes a form that PyTorch's reader knows nothing of.
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
