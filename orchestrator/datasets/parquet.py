"""Parquet files that contain the images themselves, as data sets of Hugging Face do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.datasets import columns
from orchestrator.datasets.files import FETCH, FOLLOW, Refusal, Root, unfetched
from orchestrator.datasets.listing import Ints, Listing, Read
from orchestrator.datasets.sections import ParquetSection
from orchestrator.datasets.table_parts import split_of_file
from orchestrator.datasets.walking import files_below
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import Split
from trainable.errors import DataError

_PATH = ("dataset", "path")
_BATCH_ROWS = 64
"""Number of images that are decoded from their column at a time."""


@dataclass(frozen=True)
class _Part:
    """One file: its path, its name in messages, and its number of rows."""

    path: Path
    shown: str
    num_rows: int


class _Labels(NamedTuple):
    """The label of every row as text, and the classes that occur, in order."""

    texts: list[str]
    class_names: list[str]


def list_images(section: ParquetSection, problems: Problems) -> Listing | None:
    """List the images of all files; add problems if they are not usable.

    Without a split column, files or folders named after splits (`train-00000-of-00002.parquet`)
    say which split their rows are in, if all of them do.
    """
    files = _files(Path(section.path), problems, follow=section.links is not None)
    if not files:
        return None
    parts, tables = [], []
    for file, shown in files:
        table = _read(file, shown, section, problems)
        if table is not None:
            parts.append(_Part(file, shown, len(table)))
            tables.append(table)
    if len(problems):
        return None
    if not _are_alike(tables, parts, problems):
        return None
    table = pa.concat_tables(tables)
    if not len(table):
        problems.add(_PATH, f"{section.path} has no rows")
        return None
    labels = _labels(parts, tables, section.label_column, problems)
    splits = _splits(section, table, parts, problems)
    groups = None
    if section.group is not None:
        key = ("dataset", "group")
        groups = columns.texts(table.column(section.group), key, problems)
    if len(problems) or labels is None:
        return None
    return Listing.of(
        paths=tuple(f"{part.shown}#{row}" for part in parts for row in range(part.num_rows)),
        labels=labels.texts,
        splits=splits,
        groups=groups,
        read=_reader(parts, section.image_column),
        class_names=labels.class_names,
    )


def _are_alike(tables: list[pa.Table], parts: list[_Part], problems: Problems) -> bool:
    """Return whether every column has one type in all files; add problems if not."""
    before = len(problems)
    for name in tables[0].column_names:
        kinds = {
            str(table.schema.field(name).type): part.shown
            for table, part in zip(reversed(tables), reversed(parts), strict=True)
        }
        if len(kinds) > 1:
            told = "; ".join(f"{kind} in {shown}" for kind, shown in sorted(kinds.items()))
            problems.add(
                _PATH, f"column {name!r} differs: {told}. Write it in one type in all files"
            )
    return len(problems) == before


def _files(path: Path, problems: Problems, *, follow: bool) -> list[tuple[Path, str]]:
    """Return the Parquet files, each with its name in messages."""
    if path.is_file():
        return [(path, path.name)]
    if not path.is_dir():
        problems.add(_PATH, f"{path}: no such file or folder")
        return []
    root = Root(path, follow=follow)
    passed_over: list[str] = []
    below = ["/".join((*parts, name)) for parts, name in files_below(root, passed_over=passed_over)]
    found = sorted((one for one in below if one.lower().endswith(".parquet")), key=PurePosixPath)
    refused = {shown: reason for shown in found if (reason := root.refusal(shown)) is not None}
    outside = [shown for shown, reason in refused.items() if reason is Refusal.LINKED]
    if not found:
        linked = f", but links to folders: {some(passed_over)}; {FOLLOW}" if passed_over else ""
        problems.add(_PATH, f"{path} holds no .parquet file{linked}")
    if outside:
        problems.add(_PATH, f"links that lead out of the folder: {some(outside)}; {FOLLOW}")
    dead = [shown for shown, reason in refused.items() if reason is Refusal.DEAD]
    if dead:
        problems.add(
            _PATH,
            f"{len(dead):,} of {len(found):,} files are links to files that are not there: "
            f"{some(dead)}; {FETCH}",
        )
    return [(path / shown, shown) for shown in found if shown not in refused]


def _read(file: Path, shown: str, section: ParquetSection, problems: Problems) -> pa.Table | None:
    """Read every wanted column except the images; only the type of the image column is checked."""
    keys = ("image_column", "label_column", "split_column", "group")
    wanted = [(key, getattr(section, key)) for key in keys]
    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            if not columns.check_columns(wanted, schema.names, problems, where=shown):
                return None
            kind = schema.field(section.image_column).type
            if not _holds_bytes(kind):
                problems.add(
                    ("dataset", "image_column"),
                    f"{shown} has {kind} there; allowed: binary, or a struct with binary `bytes`",
                )
                return None
            names = list(dict.fromkeys(name for _, name in wanted[1:] if name is not None))
            return columns.in_family(opened.read(columns=names).select(names))
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = f"cannot be read: {' '.join(str(error).split())}"
        problems.add(_PATH, f"{shown} {unfetched(file) or reason}")
    return None


def _splits(
    section: ParquetSection, table: pa.Table, parts: list[_Part], problems: Problems
) -> list[Split] | None:
    if section.split_column is not None:
        key = ("dataset", "split_column")
        words = columns.texts(table.column(section.split_column), key, problems)
        return None if words is None else columns.splits(words, key, problems)
    by_file = [split_of_file(part.shown) for part in parts]
    if None in by_file or len(parts) < 2:
        return None
    return [
        split
        for part, split in zip(parts, by_file, strict=True)
        if split is not None
        for _ in range(part.num_rows)
    ]


def _labels(
    parts: list[_Part], tables: list[pa.Table], column: str, problems: Problems
) -> _Labels | None:
    """Return the labels of all files; numbers are named by each file's own metadata.

    If files name their classes, the classes are in that order, with each file appending new ones;
    otherwise they are sorted as numbers, or as texts.
    """
    key = ("dataset", "label_column")
    texts: list[str] = []
    ordered: list[str] = []
    bare: list[str] = []
    named: list[str] = []
    for part, table in zip(parts, tables, strict=True):
        names, values = columns.class_names(table.schema, column), table.column(column)
        texts += columns.texts(values, key, problems, names=names, where=part.shown) or []
        ordered += names
        if part.num_rows:
            has_names = names or not columns.are_numbers(values)
            (named if has_names else bare).append(part.shown)
    if bare and named:
        problems.add(
            key,
            f"numbers without names of classes in {some(bare)}, beside names in {some(named)}; "
            "allowed: one of the two in all files",
        )
    if len(problems):
        return None
    present = set(texts)
    ordered += sorted(present, key=int if bare else str)
    return _Labels(texts, [name for name in dict.fromkeys(ordered) if name in present])


def _reader(parts: list[_Part], column: str) -> Read:
    """Return a function that reads by row group and skips those without a wanted row."""
    starts = list(itertools.accumulate((part.num_rows for part in parts), initial=0))

    def read(rows: Ints) -> Iterator[bytes | DataError]:
        for part, start, stop in zip(parts, starts, starts[1:], strict=False):
            wanted = rows[(rows >= start) & (rows < stop)] - start
            yield from _read_part(part.path, column, wanted)

    return read


def _read_part(path: Path, column: str, rows: Ints) -> Iterator[bytes | DataError]:
    """Yield the images of one file at these ascending rows."""
    if not len(rows):
        return
    with pq.ParquetFile(path) as opened:
        first = 0
        for number in range(opened.num_row_groups):
            last = first + opened.metadata.row_group(number).num_rows
            wanted = rows[(rows >= first) & (rows < last)]
            if len(wanted):
                batches = opened.iter_batches(_BATCH_ROWS, row_groups=[number], columns=[column])
                for batch in batches:
                    inside = wanted[(wanted >= first) & (wanted < first + len(batch))] - first
                    for row in inside:
                        yield _image(batch.column(0)[int(row)])
                    first += len(batch)
            first = last


def _image(value: pa.Scalar) -> bytes | DataError:
    content = value.as_py()
    if isinstance(content, dict):
        content = content["bytes"]
    return DataError("the row holds no bytes") if content is None else bytes(content)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        field = kind.get_field_index("bytes")
        return field >= 0 and _holds_bytes(kind.field(field).type)
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )
