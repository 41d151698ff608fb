"""Text from outside in Markdown: shown as it is, whatever it looks like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from trainable.spec import refusals

_SPECIAL = re.compile(
    r"[^\w ,.;()%=/+-]"  # quotes, brackets, stars, pipes, colons, ...
    r"|_(?!\w)|(?<!\w)_"  # an underscore inside a word means nothing
    r"|^[ =+-]|[ ]$|(?<=www)\.",
    re.IGNORECASE,
)


def escaped(text: object) -> str:
    """The text for the midst of a line of Markdown or HTML, where nothing of it has a meaning.

    What could have one becomes a numeric character reference, which is never taken for markup
    (CommonMark 0.31, section 2.5); what cannot be seen is spelt.
    """
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", refusals.escaped(str(text)))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table; cells are escaped, the header is not."""
    return [
        f"| {' | '.join(header)} |",
        f"|{' --- |' * len(header)}",
        *(f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows),
    ]
