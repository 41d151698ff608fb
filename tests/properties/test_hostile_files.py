"""Whatever lies in a search-space file or a table of images: an answer or a message, no crash."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.datasets.sections import TableSection
from orchestrator.errors import SpaceError, UsageError
from orchestrator.space import SearchSpace, load_space
from orchestrator.space.build_space import build_space
from tests.builders.prepared import load_images
from tests.orchestrator.datasets.conftest import encoded, write

LAWS = settings(
    deadline=None,
    max_examples=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
VALID = b"""name: pets
dataset: {source: digits}
search:
  backbone: [tiny_strokes, tiny_untrained]
  freeze_depth: {low: 0.0, high: 1.0, step: 0.25}
  lr: {low: 1.0e-4, high: 3.0e-2, log: true}
  label_budget: [2, 5, all]
training: {steps: 100, reports: 5}
pruner: {name: median, n_startup_trials: 6}
trials: 24
"""
KEYS = [*yaml.safe_load(VALID), "low", "high", "when", "cases", "<<", "name", "augment", "1"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=10),
    st.sampled_from(["1e-4", "all", "tiny_*", "../..", "a" * 5000, "\x00", "=1+1", "<script>"]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=20,
)


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder in an empty folder, so that what escapes it is seen."""
    with tempfile.TemporaryDirectory() as outer:
        inner = Path(outer) / "inner"
        inner.mkdir()
        yield inner
        assert list(Path(outer).iterdir()) == [inner]


def read_space(content: bytes) -> SearchSpace | str:
    """The space of a file, or what is said of it."""
    with folder() as home:
        (home / "pets.yaml").write_bytes(content)
        found: SearchSpace | str
        try:
            found = load_space(home / "pets.yaml")
        except (SpaceError, UsageError) as error:
            found = str(error)
        assert isinstance(found, SearchSpace) or str(home / "pets.yaml") in found
        assert len(list(home.iterdir())) == 1
        return found


@LAWS
@given(content=st.binary(max_size=300))
def test_bytes_are_a_space_or_told_to_be_none(content: bytes) -> None:
    read_space(content)


@LAWS
@given(start=st.integers(0, len(VALID)), length=st.integers(0, 40), put=st.binary(max_size=12))
def test_a_file_with_a_part_of_it_overwritten_is_read_or_told(
    start: int, length: int, put: bytes
) -> None:
    found = read_space(VALID[:start] + put + VALID[start + length :])
    assert isinstance(found, SearchSpace) or found


@LAWS
@given(tree=st.dictionaries(st.sampled_from(KEYS), TREES, max_size=8))
def test_any_tree_of_known_keys_is_read_or_told(tree: dict[str, Any]) -> None:
    given_space = yaml.safe_load(VALID) | tree
    found = read_space(yaml.safe_dump(given_space, allow_unicode=True).encode("utf-8", "replace"))
    if isinstance(found, SearchSpace):  # then it is a sound one
        assert build_space(found.to_json()) == found


CELLS = st.one_of(
    st.sampled_from(
        [
            *("0.png", "1.png", "sub/2.png", "sub", ".", "", "..", "link", "link/0.png"),
            *("../secret.png", "/etc/passwd", "sub/../0.png", "~/0.png", "file:///etc/passwd"),
            *("=cmd|' /C calc'!A0", "<script>alert(1)</script>", "x; DROP TABLE trials", "a\x00b"),
            *("C:\\windows\\win.ini", "\\\\host\\share", "x" * 5000, "\u202e.png", "\ud800"),
        ]
    ),
    st.text(max_size=12),
)
ROWS = st.lists(st.tuples(CELLS, CELLS), max_size=12)


@contextmanager
def photos() -> Iterator[Path]:
    """A folder with three digits, a way out of it, and a picture outside that nobody may read."""
    with tempfile.TemporaryDirectory() as top:
        # Missing files are looked for in the folders above, too; these are small.
        outer = Path(top) / "of" / "mine"
        home = outer / "photos"
        for number, name in enumerate(("0.png", "1.png", "sub/2.png")):
            write(home / name, encoded(number))
        write(outer / "secret.png", encoded(9))
        (home / "link").symlink_to(outer)
        yield home
        assert {path.name for path in outer.iterdir()} == {"photos", "secret.png"}


def check_images(home: Path, table: Path) -> None:
    """What the table names is read, or told; and nothing outside its folder is."""
    before = sorted(home.rglob("*"))
    try:
        images = load_images(TableSection(path=str(table), root=str(home)), seed=0)
    except UsageError:
        pass
    else:
        root = home.resolve()
        assert all((home / path).resolve().is_relative_to(root) for path in images.paths)
    assert sorted(home.rglob("*")) == before


@LAWS
@given(rows=ROWS, good=st.booleans())
def test_a_csv_table_reads_no_file_outside_its_root(
    rows: list[tuple[str, str]], good: bool
) -> None:
    with photos() as home:
        table = home / "labels.csv"
        with table.open("w", newline="", encoding="utf-8", errors="replace") as sink:
            writer = csv.writer(sink)
            writer.writerow(["path", "label"])
            if good:
                writer.writerows([("0.png", "a"), ("1.png", "a"), ("sub/2.png", "b")])
            writer.writerows([(path.replace("\x00", ""), label) for path, label in rows])
        check_images(home, table)


@LAWS
@given(rows=ROWS)
def test_a_parquet_table_reads_no_file_outside_its_root(rows: list[tuple[str, str]]) -> None:
    with photos() as home:
        table = home / "labels.parquet"
        columns = [[cell.encode("utf-8", "replace").decode() for cell in row] for row in rows]
        paths, labels = ([row[i] for row in columns] for i in range(2))
        pq.write_table(pa.table({"path": pa.array(paths, pa.string()), "label": labels}), table)
        check_images(home, table)


@LAWS
@example(content=b"\x80\r", ending=".csv")
@given(content=st.binary(max_size=400), ending=st.sampled_from([".csv", ".tsv", ".parquet"]))
def test_any_bytes_are_a_table_or_told_to_be_none(content: bytes, ending: str) -> None:
    with photos() as home:
        table = home / f"labels{ending}"
        table.write_bytes(content)
        check_images(home, table)
