"""A backbone of the user's own: which function builds it, as a search-space file says it."""

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
    """A backbone that the user's own code builds.

    The function is called as `function(**args)`, and with `image_size=` too where it takes that.
    It returns an nn.Module from images (N, 3, S, S) to logits, whose last nn.Linear or 1x1
    nn.Conv2d is the classifier to replace. A `preprocessing` attribute of the model, a mapping with
    the fields of `Preprocessing`, says what images it was trained on; without it, ImageNet's.

    Attributes:
        name: as conditions and tables show it.
        module: `package.module:function`.
        args: keyword arguments of the function, plain values.
        weights: path of a state dict; None for what the function itself gives the model.
    """

    name: str
    module: str
    args: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> CustomBackbone:
        """The backbone meant by `{name, module, args, weights}`.

        Raises:
            SpecError: keys are unknown or missing, or values not what they may be.
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
        """The mapping that `parse` reads."""
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
