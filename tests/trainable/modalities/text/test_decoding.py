from __future__ import annotations

import codecs

import pytest

from trainable.errors import DataError
from trainable.modalities.text.decoding import check_text, decode_text, is_blank


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("utf-8", "Größe 大小"), ("latin-1", "Größe"), ("cp1252", "“quoted”"), ("utf-16", "大小")],
)
def test_a_text_is_decoded_in_the_encoding_that_is_named(encoding: str, text: str) -> None:
    assert decode_text(text.encode(encoding), encoding=encoding) == text


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, b""])
def test_a_byte_order_mark_is_no_part_of_the_text(mark: bytes) -> None:
    assert decode_text(mark + b"card") == "card"


def test_a_byte_that_is_not_of_the_encoding_is_told_with_its_position_and_line() -> None:
    encoded = b"one\ntwo\nthe fianc\xe9 of\n"
    with pytest.raises(DataError, match=r"byte 0xe9 at position 17 \(line 3\) is not utf-8"):
        decode_text(encoded)


def test_an_encoding_that_would_do_is_suggested() -> None:
    with pytest.raises(DataError, match="such as encoding: cp1252 or latin-1"):
        decode_text(b"\xf0 latin")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_the_encoding_that_a_byte_order_mark_tells_of_is_suggested(encoding: str) -> None:
    with pytest.raises(DataError, match=f"its first bytes say {encoding}: write encoding"):
        decode_text("card".encode(encoding))


@pytest.mark.parametrize("encoding", ["klingon", "hex"])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(DataError, match=f"got encoding '{encoding}'.*allowed: .*cp1252"):
        decode_text(b"card", encoding=encoding)


def test_binary_content_is_refused() -> None:
    with pytest.raises(DataError, match="a NUL character at position 1; it is binary"):
        decode_text("card".encode("utf-16-le"))


@pytest.mark.parametrize("text", ["", "  \n\t", "\u00a0\u3000", "\u200b\ufeff"])
def test_a_text_without_a_visible_character_is_blank(text: str) -> None:
    assert is_blank(text)
    with pytest.raises(DataError, match="the text is blank"):
        check_text(text.encode())


@pytest.mark.parametrize("text", ["?", "大", "\U0001f600", " a "])
def test_a_text_with_one_visible_character_is_not_blank(text: str) -> None:
    check_text(text.encode())
