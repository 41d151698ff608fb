"""Training checkpoints: contents of two files, verified before they are used.

Nothing is unpickled: values are JSON, tensors are safetensors, and each comes with its hash.
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
"""Raised whenever the same names would come to mean something else."""
_SEPARATOR = "/"
_MOST_S = 1e12


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of something in training, made of parts that have names.

    Attributes:
        values: JSON values; those of a part lie under its name.
        tensors: on the CPU, each with memory of its own; the name of a part, `/`, and the name
            within it for those of a part.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def of_parts(cls, parts: Mapping[str, Checkpoint]) -> Checkpoint:
        """One checkpoint that holds some others; `part` gives them back."""
        return cls(
            {name: part.values for name, part in parts.items()},
            {
                f"{name}{_SEPARATOR}{inner}": tensor
                for name, part in parts.items()
                for inner, tensor in part.tensors.items()
            },
        )

    def part(self, name: str) -> Checkpoint:
        """The part of this name.

        Raises:
            CheckpointError: there is none.
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
        """The whole number of this name, from 0 to `most`.

        Raises:
            CheckpointError: there is none.
        """
        value = self.values.get(name)
        if type(value) is not int or not 0 <= value <= most:
            raise CheckpointError(
                f"{name}: the checkpoint has {value!r}; allowed: 0 to {most}; start from scratch"
            )
        return value

    def seconds(self, name: str) -> float:
        """The finite number of this name, at least 0.

        Raises:
            CheckpointError: there is none.
        """
        value = self.values.get(name)
        if not isinstance(value, int | float) or not 0 <= value <= _MOST_S:
            raise CheckpointError(
                f"{name}: the checkpoint has {value!r}; allowed: seconds; start from scratch"
            )
        return float(value)

    def check_tensors(self, expected: Mapping[str, Tensor]) -> None:
        """Make sure that the tensors have the names, shapes and types of others.

        Raises:
            CheckpointError: they differ; the message names the first.
        """
        for name in sorted(self.tensors.keys() | expected.keys()):
            found, wanted = (_described(where.get(name)) for where in (self.tensors, expected))
            if found != wanted:
                raise CheckpointError(
                    f"{name}: the checkpoint has {found}; this training has {wanted}; "
                    "start from scratch"
                )

    def to_files(self) -> tuple[str, bytes]:
        """One line of JSON, and the content of a safetensors file, for `from_files`."""
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
        """The checkpoint that `to_files` made.

        Raises:
            CheckpointError: it is not whole, or was written in another format.
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
    """Hash of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _described(tensor: Tensor | None) -> str:
    return "none" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"


def _damaged(why: str) -> CheckpointError:
    return CheckpointError(f"checkpoint: damaged: {why}; start from scratch")
