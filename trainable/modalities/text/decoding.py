"""Encoded bytes -> text, with the place in the bytes where they cannot be read."""

from __future__ import annotations

import codecs

from trainable.errors import DataError

UTF_8 = "utf-8"
"""How examples are stored, whatever encoding their source had."""

_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks and what they say; UTF-32's begins with UTF-16's, and so is asked for first."""


def decode_text(encoded: bytes, *, encoding: str = UTF_8) -> str:
    """The text, without a byte-order mark.

    Args:
        encoded: as its file is.
        encoding: one that Python knows.

    Raises:
        DataError: it cannot be decoded; the message says where in it and why, and knows no path.
    """
    try:
        text = encoded.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(_undecodable(encoded, encoding, error)) from None
    except (UnicodeError, LookupError) as error:
        raise DataError(
            f"cannot be decoded: got encoding {encoding!r} ({error}); allowed: encodings of text "
            "that Python knows, such as utf-8, latin-1, cp1252 or utf-16"
        ) from None
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        raise DataError(
            f"cannot be decoded: a NUL character at position {text.index(chr(0)):,}; it is binary, "
            "or text in UTF-16: say so with encoding: utf-16"
        )
    return text


def check_text(encoded: bytes, *, encoding: str = UTF_8) -> None:
    """Refuse what cannot be decoded, and what has nothing to read in it.

    Raises:
        DataError: see `decode_text`; or the text is blank.
    """
    if is_blank(decode_text(encoded, encoding=encoding)):
        raise DataError("the text is blank: it holds nothing but white space; leave it out")


def is_blank(text: str) -> bool:
    """Whether a text has no visible character."""
    return not any(letter.isprintable() and not letter.isspace() for letter in text)


def _undecodable(encoded: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    line = encoded.count(b"\n", 0, error.start) + 1
    marked = next((name for mark, name in _WIDE_MARKS if encoded.startswith(mark)), None)
    advice = (
        f"its first bytes say {marked}: write encoding: {marked}"
        if marked is not None
        else "write its encoding, such as encoding: cp1252 or latin-1, or save it in UTF-8"
    )
    return (
        f"cannot be decoded: byte 0x{encoded[error.start]:02x} at position {error.start:,} (line "
        f"{line:,}) is not {encoding}; {advice}"
    )
