"""Text from outside (class names, paths, sweeps), made harmless for where it is printed."""

from __future__ import annotations

import re
import sys

from orchestrator.text import plain

_FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are full-width
_MARKDOWN = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def csv_cell(value: object) -> object:
    """The value of a cell; a text that a spreadsheet would take for a formula gets a quote.

    Where stdout is a terminal, a text is `plain`, too.
    """
    if not isinstance(value, str):
        return value
    text = plain(value) if sys.stdout.isatty() else value
    return f"'{text}" if value.startswith(_FORMULA_STARTS) else text


def markdown_cell(text: str) -> str:
    """The text of one cell of a Markdown table, with no markup of its own, HTML neither."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", plain(text))
    return re.sub(r"[&<>]", lambda found: _HTML[found[0]], escaped)
