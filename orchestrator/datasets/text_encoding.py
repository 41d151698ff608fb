"""Bytes of text files -> text, in the encoding that is named or that a byte order mark tells."""

from __future__ import annotations

import codecs

from orchestrator.space.problems import Problems
from trainable.modalities.text.decoding import UTF_8, decode_text
from trainable.spec.refusals import refusal

_KEY = ("dataset", "encoding")
_ALLOWED = "an encoding that Python knows, such as utf-8, latin-1, cp1252 or utf-16"
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_known(encoding: str | None, problems: Problems) -> bool:
    """Whether Python can read text in an encoding; a problem where it cannot."""
    try:
        b" ".decode(encoding or UTF_8)
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
        encoding: as Python calls it; None for UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        DataError: see `decode_text`.
    """
    marked = "utf-16" if content.startswith(_UTF_16_MARKS) else UTF_8
    return decode_text(content, encoding=encoding or marked)
