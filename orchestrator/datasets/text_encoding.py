"""Bytes of text files -> text, in the encoding that `dataset.encoding` names."""

from __future__ import annotations

import codecs

from orchestrator.space.problems import Problems
from trainable.spec.refusals import refusal

DEFAULT_ENCODING = "utf-8"
_KEY = ("dataset", "encoding")
_ALLOWED = "an encoding that Python knows, such as utf-8, latin-1, cp1252 or utf-16"
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class EncodingError(Exception):
    """Bytes that are no text in the encoding that was to be used; the message says where."""


def is_known(encoding: str | None, problems: Problems) -> bool:
    """Whether Python can read text in an encoding; a problem where it cannot."""
    try:
        b" ".decode(encoding or DEFAULT_ENCODING)
    except UnicodeError:  # half a character of UTF-16
        return True
    except LookupError:  # codecs of bytes, such as hex, included
        problems.add(_KEY, refusal(encoding, _ALLOWED))
        return False
    return True


def decoded(content: bytes, encoding: str | None) -> str:
    """The text of a file, without its byte order mark.

    Args:
        content: the whole file.
        encoding: as Python calls it; None for UTF-8, or what a byte order mark says.

    Raises:
        EncodingError: some bytes are no such text; the first is named with its position.
    """
    marked = _marked(content)
    used = encoding or marked or DEFAULT_ENCODING
    if marked == "utf-8-sig" and codecs.lookup(used).name == "utf-8":
        used = marked
    try:
        return content.decode(used)
    except UnicodeError as error:
        raise EncodingError(_described(content, encoding or used, error)) from None


def _marked(content: bytes) -> str | None:
    """The encoding that a byte order mark tells."""
    return next(
        (name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), None
    )


def _described(content: bytes, encoding: str, error: UnicodeError) -> str:
    """What cannot be decoded, where it is, and what to do."""
    name = encoding.removesuffix("-sig")
    if not isinstance(error, UnicodeDecodeError):  # such as UTF-16 without a byte order mark
        return f"is no text in {name}: {error}; say another dataset.encoding"
    line = content.count(b"\n", 0, error.start) + 1
    hint = "such as latin-1 or cp1252" if codecs.lookup(name).name == "utf-8" else "such as utf-8"
    return (
        f"is no text in {name}: byte 0x{content[error.start]:02x} at position {error.start:,}, in "
        f"line {line:,}; say another dataset.encoding, {hint}, or save the file in UTF-8"
    )
