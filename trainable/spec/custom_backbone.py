"""A backbone built by the user's code: the function, as a search-space file names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainable.errors import SpecError

_KEYS = ("name", "module", "args", "weights")
_BUILDER = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_RESERVED = "@*?[:"


@dataclass(frozen=True, kw_only=True)
class CustomBackbone:
    """A backbone that the user's code builds.

    The function is called as `function(**args)`, with `image_size=` added if it has that parameter.
    It returns an nn.Module from images (N, 3, S, S) to logits, whose last nn.Linear or 1x1
    nn.Conv2d is the classifier to replace. The preprocessing is the model's `preprocessing`
    attribute, a mapping with the fields of `Preprocessing`; without one it is ImageNet's.

    Attributes:
        name: name in conditions and tables.
        module: `package.module:function`.
        args: keyword arguments of the function, plain values.
        weights: path of a state dict; None for the weights that the function sets.
    """

    name: str
    module: str
    args: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> CustomBackbone:
        """Parse `{name, module, args, weights}`.

        Raises:
            SpecError: a key is unknown or missing, or a value is not allowed.
        """
        name, module = given.get("name"), given.get("module")
        args, weights = given.get("args"), given.get("weights")
        problems = [
            f"{key!r} is unknown; known: {', '.join(_KEYS)}" for key in given if key not in _KEYS
        ]
        if not isinstance(name, str) or not _is_name(name):
            problems.append(f"name: got {name!r}; allowed: text for tables, without {_RESERVED}")
        if not isinstance(module, str) or not _BUILDER.fullmatch(module):
            problems.append(f"module: got {module!r}; allowed: package.module:function")
        if args is not None and not (
            isinstance(args, Mapping) and all(isinstance(key, str) for key in args)
        ):
            problems.append(f"args: got {args!r}; allowed: a mapping of keyword arguments")
        if weights is not None and not isinstance(weights, str):
            problems.append(f"weights: got {weights!r}; allowed: the path of a state dict")
        if problems:
            raise SpecError("; ".join(problems))
        return cls(name=str(name), module=str(module), args=dict(args or {}), weights=weights)

    def to_json(self) -> dict[str, Any]:
        """Return the mapping that `parse` reads."""
        data: dict[str, Any] = {"name": self.name, "module": self.module}
        if self.args:
            data["args"] = dict(self.args)
        if self.weights is not None:
            data["weights"] = self.weights
        return data


def _is_name(text: str) -> bool:
    return (
        bool(text) and text.isprintable() and text == text.strip() and not set(text) & {*_RESERVED}
    )
