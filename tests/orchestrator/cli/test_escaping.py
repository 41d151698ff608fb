from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.escaping import csv_cell, markdown_cell
from orchestrator.formats import plain


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1"],
)
def test_a_text_that_could_be_a_formula_gets_a_quote(text: str) -> None:
    assert csv_cell(text) == "'" + text


@pytest.mark.parametrize("value", ["tiny", "a=b", "", "1-2", -0.5, -3, None, True])
def test_other_values_stay_as_they_are(value: object) -> None:
    assert csv_cell(value) is value


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("tiny_strokes", "tiny_strokes"),
        ("resnet50@none", "resnet50@none"),
        ("a|b", "a\\|b"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a & b &lt;", "a &amp; b &amp;lt;"),
        ("[x](javascript:y)", "\\[x\\](javascript:y)"),
        ("![x](y)", "!\\[x\\](y)"),
        ("**b** _i_ `c` ~~s~~", "\\*\\*b\\*\\* \\_i\\_ \\`c\\` \\~\\~s\\~\\~"),
        ("a\\|b", "a\\\\\\|b"),
        ("two\nlines", "two?lines"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, escaped: str) -> None:
    assert markdown_cell(text) == escaped


@given(st.text())
def test_what_is_plain_steers_no_terminal(text: str) -> None:
    assert plain(text).isprintable()
    assert len(plain(text)) == len(text)
    assert plain(plain(text)) == plain(text)


def test_marks_that_turn_the_direction_of_writing_are_not_plain() -> None:
    assert plain("gnp.\u202egpj") == "gnp.?gpj"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_a_markdown_cell_is_one_cell_of_one_row_without_html(text: str) -> None:
    cell = markdown_cell(text)
    assert len(cell.splitlines()) <= 1
    assert "<" not in cell
    assert "|" not in cell.replace("\\\\", "").replace("\\|", "")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r")))
def test_a_csv_cell_comes_back_as_one_cell(text: str) -> None:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerow([csv_cell(text), "next"])
    (row,) = csv.reader(io.StringIO(sink.getvalue(), newline=""))
    assert row == [csv_cell(text), "next"]
