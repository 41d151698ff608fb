from __future__ import annotations

import html

import pytest

from orchestrator.reading.export.markdown import escaped, table


@pytest.mark.parametrize(
    "text",
    [
        *("<script>alert(1)</script>", "[a](javascript:b)", "![x](http://y)", "**bold** _it_"),
        *(
            "| a | b |",
            "`code`",
            "# title",
            "- item",
            "=1+1",
            "$x$",
            "http://a.b",
            "www.a.b",
            "&lt;",
        ),
    ],
)
def test_nothing_has_a_meaning_and_nothing_is_lost(text: str) -> None:
    found = escaped(text)
    assert html.unescape(found) == text
    for char in "<>[]`*|#!$\"'\\":
        assert char not in found.replace("&#", "")
    assert "://" not in found
    assert "www." not in found


def test_ordinary_names_are_left_as_they_are() -> None:
    for text in ("tiny_strokes", "b5-0007", "Golden retriever", "ünder (old), 5 %"):
        assert escaped(text) == text


def test_what_cannot_be_seen_is_spelt() -> None:
    assert html.unescape(escaped("a\nb\x1b[31m\u202e")) == "a\\nb\\x1b[31m\\u202e"


def test_a_table_has_a_line_for_its_header_and_each_row() -> None:
    assert table(("", "n"), [("a|b", 1)]) == ["|  | n |", "| --- | --- |", "| a&#124;b | 1 |"]
