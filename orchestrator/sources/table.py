"""A CSV or Parquet table with a row an image: path and label, maybe split and group."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from orchestrator.sources import columns
from orchestrator.sources.files import Root, file_reader
from orchestrator.sources.likeness import alike, escaped, likeness
from orchestrator.sources.listing import Listing, Note
from orchestrator.space import TableSection
from orchestrator.space.problems import Problems, some

_PATH = ("dataset", "path")
_PATHS = ("dataset", "path_column")
_MOST_SOUGHT = 5
"""Paths for which files that look alike are looked for."""


def list_images(section: TableSection, problems: Problems) -> Listing | None:
    """The images that the table names; what is wrong with it goes to the problems."""
    path = Path(section.path)
    folder = Path(section.root) if section.root is not None else path.parent
    if section.root is not None and not folder.is_dir():
        problems.add(("dataset", "root"), f"{folder}: no such folder")
    table = _read(path, section, problems)
    if table is None:
        return None
    if not len(table):
        problems.add(_PATH, f"{path} has no rows")
        return None
    paths = _texts(table, section, "path_column", problems)
    labels = _texts(table, section, "label_column", problems)
    words = _texts(table, section, "split_column", problems)
    groups = _texts(table, section, "group", problems)
    splits = None if words is None else columns.splits(words, ("dataset", "split_column"), problems)
    notes = []
    if paths is not None and folder.is_dir():
        notes = _check_paths(paths, Root(folder), problems)
    if len(problems) or paths is None or labels is None:
        return None
    return Listing.of(
        paths=paths,
        labels=labels,
        splits=splits,
        groups=groups,
        read=file_reader(folder, paths),
        notes=notes,
    )


def _read(path: Path, section: TableSection, problems: Problems) -> pa.Table | None:
    """The wanted columns of the table; every column of a CSV file as text."""
    wanted = {
        key: getattr(section, key)
        for key in ("path_column", "label_column", "split_column", "group")
    }
    if path.is_dir():
        problems.add(_PATH, f"{path} is a folder; allowed: a CSV or Parquet file")
        return None
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".parquet", ".pq"):
        problems.add(_PATH, f"got {path}; allowed: .csv, .tsv or .parquet (save sheets as CSV)")
        return None
    try:
        if kind in (".parquet", ".pq"):
            known = pq.read_schema(path).names
        else:
            parsing = pyarrow.csv.ParseOptions(
                delimiter="\t" if kind == ".tsv" else ",", newlines_in_values=True
            )
            with pyarrow.csv.open_csv(path, parse_options=parsing) as opened:
                known = opened.schema.names
        if not columns.check_columns(list(wanted.items()), known, problems, where=str(path)):
            return None
        names = list(dict.fromkeys(name for name in wanted.values() if name is not None))
        if kind in (".parquet", ".pq"):
            return pq.ParquetFile(path).read(columns=names)
        return pyarrow.csv.read_csv(
            path,
            parse_options=parsing,
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except FileNotFoundError:
        problems.add(_PATH, f"{path}: no such file")
    except UnicodeDecodeError:  # by the names of columns; Arrow tells of values itself
        problems.add(_PATH, f"{path} cannot be read: the names of its columns are not UTF-8")
    except (OSError, pa.ArrowException) as error:
        problems.add(_PATH, f"{path} cannot be read: {' '.join(str(error).split())}")
    return None


def _texts(
    table: pa.Table, section: TableSection, key: str, problems: Problems
) -> list[str] | None:
    name = getattr(section, key)
    if name is None:
        return None
    names = columns.class_names(table.schema, name) if key == "label_column" else []
    return columns.texts(table.column(name), ("dataset", key), problems, names=names)


def _check_paths(paths: list[str], root: Root, problems: Problems) -> list[Note]:
    """Problems for files that are missing, lie outside the root or are named twice."""
    refused: dict[str, list[str]] = {}
    for path in paths:
        reason = root.refusal(path)
        if reason is not None:
            refused.setdefault(reason, []).append(path)
    for reason, bad in refused.items():
        problems.add(
            _PATHS, f"{len(bad):,} of {len(paths):,} {reason}: {some(bad)}{_twins(bad, root)}"
        )
    twice = [path for path, count in Counter(paths).items() if count > 1]
    notes = []
    for members in alike(paths, key=lambda path: likeness(os.path.normpath(path))):
        if len({root.identity(path) for path in members}) < len(members):
            twice += members
        else:
            notes.append(escaped(members))
    if twice:
        problems.add(
            _PATHS, f"paths in several rows, though an image has one label: {escaped(twice)}"
        )
    if not notes:
        return []
    return [Note(f"paths that look alike, each with a file of its own: {len(notes):,}", (*notes,))]


def _twins(paths: list[str], root: Root) -> str:
    """What a problem line adds where files lie there that look like some of those it names."""
    found = [
        f"{twin!a} for {path!a}"
        for path in paths[:_MOST_SOUGHT]
        if (twin := root.twin(path)) is not None
    ]
    return f"; there are files that look alike: {', '.join(found)}" if found else ""
