"""A table in a folder, and what its columns are, as far as names and values tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from orchestrator.datasets.columns import in_family
from orchestrator.datasets.files import Refusal, Root, is_image, suffix_of
from orchestrator.datasets.name_keys import likeness
from orchestrator.datasets.sections import TableSection
from orchestrator.datasets.splits import split_of
from orchestrator.datasets.table_file import TABLE_SUFFIXES, open_table
from orchestrator.datasets.table_parts import table_parts
from orchestrator.datasets.table_paths import remedies, spelled
from orchestrator.space.problems import Problems
from trainable.errors import DataError

_PATH_NAMES = ("path", "filepath", "file", "filename", "imagepath", "image", "imageid", "id")
_LABEL_NAMES = (
    *("label", "labels", "class", "classname", "labelname", "category", "target"),
    *("species", "diagnosis", "dx", "breed", "y"),
)
_TEXT_NAMES = (
    *("text", "sentence", "question", "utterance", "query", "message", "review", "comment"),
    *("content", "body", "document", "description", "title"),
)
"""What columns are called, without blanks and underscores, the likeliest first."""
_LEAST_WORDS = 2
"""Words in the mean value of a column of texts that is called otherwise."""

_Columns = Mapping[str, list[str]]
_Likelihood = Callable[[str, Sequence[str]], tuple[int, int] | None]
"""Name and values of a column -> sort key, smallest for the likeliest; None if it is ruled out."""


class Guess(NamedTuple):
    """A table of images or texts.

    Attributes:
        section: `dataset:` for it.
        other_labels: other columns that may have the classes.
    """

    section: TableSection
    other_labels: tuple[str, ...]


def guess_table(place: Path) -> Guess | None:
    """Return the first table at a place whose paths lead to images, or None.

    Args:
        place: a table file, or a folder with one in it or in a folder inside. Images are searched
            in that folder, or in the parent of the table's own folder.
    """
    within = place.absolute().parent.parent if place.is_file() else place.absolute()
    for path in _tables(place):
        columns = _columns(path)
        for path_column in _likely(columns, _path_likelihood):
            found = _with_paths(path, columns, path_column, within)
            if found is not None:
                return found
    return None


def guess_texts(place: Path) -> Guess | None:
    """The first table at a place that has a column of texts and one of their classes, or None.

    Args:
        place: the file of a table; a folder with one in it, or in a folder inside, or with a table
            for each split; or a data set that Hugging Face saved.
    """
    whole = [place] if place.is_dir() and table_parts(place, Problems(str(place))) else []
    for path in (*whole, *_tables(place)):
        parts = table_parts(path, Problems(str(path)))
        columns = _columns(parts[0].path) if parts else {}
        for text_column in _likely(columns, _text_likelihood):
            others = {name: values for name, values in columns.items() if name != text_column}
            labels = _likely(others, _label_likelihood)
            if labels:
                section = TableSection(
                    path=str(path.absolute()),
                    text_column=text_column,
                    label_column=labels[0],
                    split_column=_split_column(others),
                )
                return Guess(section, tuple(labels[1:]))
    return None


def _tables(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for folder in (place, *sorted(one for one in place.glob("[!.]*/") if one.is_dir())):
        for path in sorted(folder.glob("[!.]*")):
            if suffix_of(path.name) in TABLE_SUFFIXES and path.is_file():
                yield path


def _columns(path: Path) -> _Columns:
    """The columns of text and whole numbers, as text; none where this is no table."""
    if path.is_file() and suffix_of(path.name) not in TABLE_SUFFIXES:
        return {}
    try:
        file = open_table(path)
        if file.lacks_header:
            return {}
        names = [name for name in file.names if file.names.count(name) == 1]
        table = in_family(file.read(names))
    except (OSError, DataError, pa.ArrowException):
        return {}
    return {
        name: [
            "" if value is None else str(value).strip() if file.is_delimited else str(value)
            for value in table.column(name).to_pylist()
        ]
        for name in names
        if pa.types.is_large_string(kind := table.schema.field(name).type)
        or pa.types.is_integer(kind)
    }


def _likely(columns: _Columns, likelihood: _Likelihood) -> list[str]:
    """Return the columns that are not ruled out, the likeliest first."""
    by_name = {name: likelihood(name, values) for name, values in columns.items()}
    possible = [name for name, how in by_name.items() if how is not None]
    return sorted(possible, key=lambda name: by_name[name] or ())


def _path_likelihood(name: str, values: Sequence[str]) -> tuple[int, int] | None:
    """Paths differ from each other, for an image has one label."""
    if 2 * len(set(values)) <= len(values):
        return None
    share = sum(is_image(value) for value in values) / max(1, len(values))
    rank = _rank(name, _PATH_NAMES)
    return None if share <= 0.5 and rank == len(_PATH_NAMES) else (int(share <= 0.5), rank)


def _text_likelihood(name: str, values: Sequence[str]) -> tuple[int, int] | None:
    """Texts differ from each other; the longest are the likeliest, after what names tell."""
    num_words = sum(len(value.split()) for value in values)
    rank = _rank(name, _TEXT_NAMES)
    if 2 * len(set(values)) <= len(values) or any(map(is_image, values)):
        return None
    if rank == len(_TEXT_NAMES) and num_words < _LEAST_WORDS * len(values):
        return None
    return rank, -num_words


def _split_column(columns: _Columns) -> str | None:
    """The column whose values all name splits."""
    return next((name for name, values in columns.items() if _names_splits(values)), None)


def _label_likelihood(name: str, values: Sequence[str]) -> tuple[int, int] | None:
    count = len(set(values))
    if not 2 <= count <= len(values) / 2 or _names_splits(values):
        return None
    return _rank(name, _LABEL_NAMES), count


def _rank(name: str, known: Sequence[str]) -> int:
    plain = likeness(name).replace("_", "").replace(" ", "").replace("-", "")
    return known.index(plain) if plain in known else len(known)


def _names_splits(values: Sequence[str]) -> bool:
    return all(split_of(word) is not None for word in set(values))


def _with_paths(path: Path, columns: _Columns, path_column: str, within: Path) -> Guess | None:
    """Return the section if most paths of the column lead to files, perhaps with further keys."""
    others = {name: values for name, values in columns.items() if name != path_column}
    labels = _likely(others, _label_likelihood)
    root, keys = _root(path.absolute().parent, columns[path_column])
    paths, _ = spelled(columns[path_column], _refused(columns[path_column], root), root)
    refused = _refused(paths, root)
    if 2 * len(refused) > len(set(paths)):
        found = [
            one
            for one in remedies(paths, refused, root)
            if one.root is None or one.root.is_relative_to(within)
        ]
        if not found:
            return None
        keys = found[0].keys()
    if not labels:
        return None
    section = TableSection(
        path=str(path.absolute()),
        path_column=path_column,
        label_column=labels[0],
        split_column=_split_column(others),
    )
    return Guess(section.model_copy(update=keys), tuple(labels[1:]))


def _root(folder: Path, paths: Sequence[str]) -> tuple[Root, dict[str, str]]:
    """Return the folder of a table, and the key that its links need if they lead out of it."""
    root = Root(folder)
    if all(root.refusal(path) is not Refusal.LINKED for path in paths):
        return root, {}
    return Root(folder, follow=True), {"links": "follow"}


def _refused(paths: Sequence[str], root: Root) -> list[str]:
    return [path for path in dict.fromkeys(paths) if root.refusal(path) is not None]
