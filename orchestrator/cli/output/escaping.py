"""Escaping of untrusted text (class names, paths, sweep names) for CSV and Markdown cells."""

from __future__ import annotations

import re
import sys

from orchestrator.text import printable

_FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are full-width
_MARKDOWN = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def csv_cell(value: object) -> object:
    """The value of a CSV cell; a text that a spreadsheet would run as a formula gets a quote.

    If stdout is a terminal, non-printable characters are replaced as well; see `printable`. Values
    that are no text are returned unchanged.
    """
    if not isinstance(value, str):
        return value
    text = printable(value) if sys.stdout.isatty() else value
    return f"'{text}" if value.startswith(_FORMULA_STARTS) else text


def markdown_cell(text: str) -> str:
    """The text of one Markdown table cell, its Markdown and HTML markup escaped."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", printable(text))
    return re.sub(r"[&<>]", lambda found: _HTML[found[0]], escaped)
