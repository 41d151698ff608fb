"""Training checkpoints, and their two files, which are verified before they are used.

Nothing is unpickled: values are stored as JSON, tensors as safetensors, and each with its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from trainable.errors import CheckpointError

_FORMAT = 1
"""Version of the format; a change that gives the same names another meaning increases it."""
_SEPARATOR = "/"
_MOST_S = 1e12
"""Most seconds that a checkpoint may name."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a training. It may consist of named parts, each of which is a checkpoint.

    Attributes:
        values: JSON values by name; the values of a part are one object under the part's name.
        tensors: tensors by name, on the CPU, each with memory of its own; a tensor of a part is
            called `PART/NAME`.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def of_parts(cls, parts: Mapping[str, Checkpoint]) -> Checkpoint:
        """Return one checkpoint made of several; `part` returns each of them."""
        return cls(
            {name: part.values for name, part in parts.items()},
            {
                f"{name}{_SEPARATOR}{inner}": tensor
                for name, part in parts.items()
                for inner, tensor in part.tensors.items()
            },
        )

    def part(self, name: str) -> Checkpoint:
        """Return the part of this name.

        Raises:
            CheckpointError: there is no such part.
        """
        values = self.values.get(name)
        if not isinstance(values, dict):
            raise CheckpointError(f"{name}: missing in the checkpoint; start from scratch")
        start = f"{name}{_SEPARATOR}"
        return Checkpoint(
            values,
            {
                inner.removeprefix(start): tensor
                for inner, tensor in self.tensors.items()
                if inner.startswith(start)
            },
        )

    def count(self, name: str, *, most: int) -> int:
        """Return the whole number of this name, from 0 to `most`.

        Raises:
            CheckpointError: the value is missing or not such a number.
        """
        value = self.values.get(name)
        if type(value) is not int or not 0 <= value <= most:
            raise CheckpointError(
                f"{name}: the checkpoint has {value!r}; allowed: 0 to {most}; start from scratch"
            )
        return value

    def seconds(self, name: str) -> float:
        """Return the seconds of this name: a finite number, at least 0.

        Raises:
            CheckpointError: the value is missing or not such a number.
        """
        value = self.values.get(name)
        if not isinstance(value, int | float) or not 0 <= value <= _MOST_S:
            raise CheckpointError(
                f"{name}: the checkpoint has {value!r}; allowed: seconds; start from scratch"
            )
        return float(value)

    def check_tensors(self, expected: Mapping[str, Tensor]) -> None:
        """Make sure that the tensors have the same names, shapes and dtypes as the expected ones.

        Raises:
            CheckpointError: they differ; the message names the first difference.
        """
        for name in sorted(self.tensors.keys() | expected.keys()):
            found, wanted = (_described(where.get(name)) for where in (self.tensors, expected))
            if found != wanted:
                raise CheckpointError(
                    f"{name}: the checkpoint has {found}; this training has {wanted}; "
                    "start from scratch"
                )

    def to_files(self) -> tuple[str, bytes]:
        """Return one line of JSON and the content of a safetensors file, for `from_files`."""
        content = safetensors.torch.save(self.tensors)
        head = {
            "format": _FORMAT,
            "tensors_sha256": hashlib.sha256(content).hexdigest(),
            "values_sha256": _digest(self.values),
            "values": self.values,
        }
        return json.dumps(head), content

    @classmethod
    def from_files(cls, text: str, content: bytes) -> Checkpoint:
        """Return the checkpoint that `to_files` wrote.

        Args:
            text: the line of JSON.
            content: content of the safetensors file.

        Raises:
            CheckpointError: the checkpoint is damaged, or was written in another format.
        """
        try:
            return cls._of_files(text, content)
        except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            raise _damaged(f"{type(error).__name__}: {error}") from None

    @classmethod
    def _of_files(cls, text: str, content: bytes) -> Checkpoint:
        head = json.loads(text)
        if not isinstance(head, dict):
            raise _damaged("its values are not a JSON object")
        if head.get("format") != _FORMAT:
            raise CheckpointError(
                f"checkpoint: got format {str(head.get('format'))[:40]}; this version reads "
                f"{_FORMAT}; start from scratch"
            )
        values = head.get("values")
        if not isinstance(values, dict) or head.get("values_sha256") != _digest(values):
            raise _damaged("its values are not those of their hash")
        if head.get("tensors_sha256") != hashlib.sha256(content).hexdigest():
            raise _damaged("its tensors are not those of their hash")
        return cls(values, safetensors.torch.load(content))


def _digest(values: dict[str, Any]) -> str:
    """Return the SHA-256 of JSON values, which does not depend on the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _described(tensor: Tensor | None) -> str:
    return "none" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"


def _damaged(why: str) -> CheckpointError:
    return CheckpointError(f"checkpoint: damaged: {why}; start from scratch")
