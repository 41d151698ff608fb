"""Whatever texts a table holds come out of it as they went in."""

import csv
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestrator.datasets.table_file import open_table

LAWS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
PARTS = st.sampled_from(
    [*'",;\t|\r\n', '""', "\r\n", "\x85", "\u2028", "\x0b", "\x1c", "a", "B c", "é", "🎉", "text"]
)
TEXTS = st.lists(PARTS, min_size=1, max_size=8).map("".join).filter(str.strip)
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(["x", "NA", "1"])), min_size=1, max_size=12)


def read(folder: str, name: str, content: str) -> list[tuple[str, str]]:
    path = Path(folder) / name
    path.write_bytes(content.encode())
    table = open_table(path, wanted=["text", "label"]).read(["text", "label"])
    return list(
        zip(table.column("text").to_pylist(), table.column("label").to_pylist(), strict=True)
    )


@LAWS
@given(rows=ROWS, delimiter=st.sampled_from([",", ";", "\t"]), quoting=st.sampled_from([0, 1]))
def test_a_written_table_is_read_as_it_was_written(
    rows: Sequence[tuple[str, str]], delimiter: str, quoting: int
) -> None:
    if delimiter == "\t":  # one mark that opens, or one field of several lines: nothing tells
        assume(not any("\t" in text and set("\r\n") & set(text) for text, _ in rows))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "written.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(
                file, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoting else csv.QUOTE_MINIMAL
            )
            writer.writerows([("text", "label"), *rows])
        found = read(folder, "t.csv", path.read_bytes().decode())
    assert found == list(rows)


@LAWS
@given(rows=ROWS, escaped=st.booleans())
def test_lines_of_json_are_read_as_they_were_written(
    rows: Sequence[tuple[str, str]], escaped: bool
) -> None:
    lines = [
        json.dumps({"text": text, "label": label}, ensure_ascii=escaped) for text, label in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        assert read(folder, "t.jsonl", "\n".join(lines)) == list(rows)
        assert read(folder, "t.json", f"[{', '.join(lines)}]") == list(rows)
