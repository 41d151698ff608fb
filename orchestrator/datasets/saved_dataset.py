"""A data set that Hugging Face's `save_to_disk` wrote: Arrow files in a folder, read by pyarrow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

_STATE = "state.json"
_SPLITS = "dataset_dict.json"


class SavedDataset:
    """One split of a saved data set; see `orchestrator.datasets.table_file.TableFile`.

    The names of class ids are in the metadata of the schema; see `columns.class_names`.

    Args:
        path: the folder with `state.json`.

    Raises:
        OSError: a file cannot be read.
        pa.ArrowInvalid: the folder is not as `save_to_disk` leaves it.
    """

    is_delimited = False
    lacks_header = False
    notes: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self._files = _data_files(path)
        with pa.memory_map(str(self._files[0])) as source, pa.ipc.open_stream(source) as reader:
            self.names: Sequence[str] = reader.schema.names

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The columns, file after file."""
        tables = []
        for file in self._files:
            with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
                tables.append(reader.read_all().select(list(columns)))
        return pa.concat_tables(tables).replace_schema_metadata(tables[0].schema.metadata)


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder holds a saved data set, or one split of one."""
    return (path / _STATE).is_file()


def saved_splits(path: Path) -> list[str] | None:
    """The names of the splits, each a folder in a saved dictionary of splits; None for no such.

    Raises:
        OSError: its list of splits cannot be read.
        pa.ArrowInvalid: that is no list of names.
    """
    listed = path / _SPLITS
    if not listed.is_file():
        return None
    splits = _json(listed, "splits")
    if not isinstance(splits, list) or not all(isinstance(name, str) for name in splits):
        raise pa.ArrowInvalid(f"{_SPLITS} names no splits")
    return [str(name) for name in splits]


def _data_files(path: Path) -> list[Path]:
    listed = _json(path / _STATE, "_data_files")
    names = (
        [one.get("filename") for one in listed if isinstance(one, dict)]
        if isinstance(listed, list)
        else []
    )
    files = [path / Path(name).name for name in names if isinstance(name, str)]
    if not files:
        raise pa.ArrowInvalid(f"{_STATE} names no files of data")
    return files


def _json(path: Path, key: str) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))[key]
    except (ValueError, KeyError, TypeError):
        raise pa.ArrowInvalid(f"{path.name} has no {key!r}") from None
