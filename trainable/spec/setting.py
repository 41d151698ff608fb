"""Allowed values of one key, for its checks, its messages and the documentation.

Numbers have one canonical type per key (int or float), so that `1` and `1.0` are equal in every
setting.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from enum import StrEnum

from trainable.spec.refusals import refusal

Value = int | float | str
"""The value of an axis."""

_MAX_WHOLE = 2**63


class Text(StrEnum):
    """Kinds of free text that a key accepts, as messages name them."""

    NAME = "text"
    COLUMN = "the name of one column (pairs of texts are not supported yet)"
    PROMPT = 'text, "" for none'
    PATH = "a path"
    PATTERN = "a regular expression"

    def accepts(self, value: str) -> bool:
        """Return whether the text is of this kind."""
        if self is Text.PATTERN:
            try:
                re.compile(value)
            except re.error:
                return False
        return (bool(value) or self is Text.PROMPT) and "\0" not in value


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Allowed values of one key, in search-space files and in trial specifications.

    Attributes:
        help: one line for docs/search-space.md.
        default: value if none is given; None if there is none, or if its section sets it.
        low: smallest number allowed; None if only words are allowed.
        high: largest number allowed; None for no limit.
        low_excluded: whether `low` itself is refused.
        high_excluded: whether `high` itself is refused.
        integer: whether numbers have to be whole.
        words: texts allowed, beside or instead of a number.
        text: kind of free text allowed; None if only `words` are allowed.
        flag: whether only true and false are allowed.
        several: whether a list of distinct such values is due.
    """

    help: str
    default: Value | None = None
    low: float | None = None
    high: float | None = None
    low_excluded: bool = False
    high_excluded: bool = False
    integer: bool = False
    words: tuple[str, ...] = ()
    text: Text | None = None
    flag: bool = False
    several: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        parts = ["true or false"] if self.flag else []
        if self.low is not None:
            kind = "a whole number" if self.integer else "a number"
            low = f"above {self.low:g}" if self.low_excluded else f"from {self.low:g}"
            high = ""
            if self.high is not None:
                high = f" and below {self.high:g}" if self.high_excluded else f" to {self.high:g}"
            parts.append(f"{kind} {low}{high}")
        if self.words:
            parts.append(("one of " if len(self.words) > 1 else "") + ", ".join(self.words))
        if self.text is not None:
            parts.append(self.text.value)
        return ("a list, each " if self.several else "") + " or ".join(parts)

    def accepts(self, value: object) -> bool:
        """Return whether the value is allowed; a bool is never a number."""
        if self.several:
            one = replace(self, several=False)
            listed = value if isinstance(value, list | tuple) else []
            return 0 < len(listed) == len({*map(str, listed)}) and all(map(one.accepts, listed))
        if self.flag:
            return isinstance(value, bool)
        if isinstance(value, str):
            return value in self.words or (self.text is not None and self.text.accepts(value))
        number = finite_number(value)
        if number is None or self.low is None:
            return False
        if self.integer and (number != int(number) or abs(number) >= _MAX_WHOLE):
            return False
        if number < self.low or (self.low_excluded and number == self.low):
            return False
        return self.high is None or (
            number < self.high or (number == self.high and not self.high_excluded)
        )

    def canonical(self, value: Value) -> Value:
        """Return the canonical form of an accepted value."""
        if isinstance(value, str | bool):
            return value
        return int(value) if self.integer else float(value) + 0.0

    def problem(self, value: object) -> str | None:
        """Return the message for a value that is not allowed; None for an allowed one."""
        return None if self.accepts(value) else refusal(value, self.allowed, self.words)


def finite_number(value: object) -> int | float | None:
    """Return the value if it is a finite float or an int below 2^63 in size, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if abs(value) < _MAX_WHOLE else None
    return value if math.isfinite(value) else None
