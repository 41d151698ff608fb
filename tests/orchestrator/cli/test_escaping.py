from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.main import run
from orchestrator.cli.output.escaping import csv_cell, markdown_cell
from orchestrator.text import printable, printable_lines
from tests.orchestrator.datasets.conftest import encoded, write


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
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)
    assert printable(printable(text)) == printable(text)


@given(st.text())
def test_printable_lines_are_as_many_as_there_were(text: str) -> None:
    lines = text.expandtabs().split("\n")
    assert printable_lines(text).split("\n") == [printable(line) for line in lines]


STEERING = "\x1b]0;pwned\x07\x1b[31m"
"""Gives a terminal's window another title, and turns it red."""
SEEN = "?]0;pwned??[31m"


def test_messages_steer_no_terminal_whatever_the_names_of_files_and_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(16):
        write(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", encoded(number))
    write(tmp_path / "photos" / "a" / f"bad{STEERING}.png", b"")
    folder = {"source": "folder", "path": str(tmp_path / "photos")}
    search = {"backbone": "tiny_strokes", "label_budget": [2]}
    (tmp_path / "own.yaml").write_text(json.dumps({"dataset": folder, "search": search}))
    assert run(["validate", str(tmp_path / "own.yaml")]) == 2

    model: dict[str, object] = dict.fromkeys(("source", "architecture", "version", "head"), "x")
    how = {"image_size": 8, "resize_size": 8, "interpolation": "bilinear", "squash": False}
    model |= {"preprocessing": {**how, "mean": [0, 0, 0], "std": [1, 1, 1]}}
    model |= {"format": 1, "backbone": "x", "source": STEERING, "class_names": ["a"]}
    write(tmp_path / "model" / "model.json", json.dumps(model).encode())
    assert run(["predict", str(tmp_path / "model"), "a.png"]) == 2

    messages = capsys.readouterr()
    assert f"bad{SEEN}.png" in messages.err
    assert repr(STEERING) in messages.err  # as Python escapes it: the source of the network
    assert "\x1b" not in messages.out + messages.err


def test_the_log_steers_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    assert run(["validate", "no such file"]) == 2
    logging.getLogger("sft_sweep").warning("b2-0001: %s", STEERING)
    assert caplog.messages == [f"b2-0001: {SEEN}"]


def test_marks_that_turn_the_direction_of_writing_are_not_plain() -> None:
    assert printable("gnp.\u202egpj") == "gnp.?gpj"


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
