"""Escaping of arbitrary text for Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from trainable.spec import refusals

_SPECIAL = re.compile(
    r"[^\w ,.;()%=/+-]"  # quotes, brackets, stars, pipes, colons, ...
    r"|_(?!\w)|(?<!\w)_"  # an underscore inside a word has no meaning
    r"|^[ =+-]|[ ]$|(?<=www)\.",
    re.IGNORECASE,
)


def escaped(text: object) -> str:
    """Return the text escaped for the inside of a line of Markdown or HTML.

    Special characters become numeric character references, which are never parsed as markup
    (CommonMark 0.31, section 2.5); unprintable ones become Python escapes.
    """
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", refusals.escaped(str(text)))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table; cells are escaped, the header is not."""
    return [
        f"| {' | '.join(header)} |",
        f"|{' --- |' * len(header)}",
        *(f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows),
    ]
