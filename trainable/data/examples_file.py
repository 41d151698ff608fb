"""Labelled examples in a file, for trials without a sweep around them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainable.data.labelled_examples import LabelledExamples
from trainable.data.masks import Masks
from trainable.data.shards import UNREAD, PackedRows
from trainable.errors import DataError

_FORMAT = 2
_NOT_OURS = (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile)

Arrays = Mapping[str, npt.NDArray[Any]]


def save(examples: LabelledExamples, path: Path) -> None:
    """Write all examples to an uncompressed `.npz` without pickles; unread ones stay unread."""
    read = examples.is_read()
    masks: dict[str, Any] = {} if examples.masks is None else _mask_arrays(examples.masks)
    np.savez(
        path,
        format=np.int64(_FORMAT),
        data=_joined(examples, read),
        lengths=np.where(read, examples.stops - examples.starts, UNREAD),
        digests=examples.digests,
        labels=examples.labels,
        split=examples.split,
        class_names=np.asarray(examples.class_names, dtype=np.str_),
        paths=np.asarray(examples.paths, dtype=np.str_),
        groups=np.empty(0, np.int64) if examples.groups is None else examples.groups,
        value_range=np.asarray(examples.value_range or (), dtype=np.int64),
        modality=np.asarray(examples.modality),
        **masks,
    )


def load(path: Path) -> LabelledExamples:
    """Return the examples that `save` wrote.

    Raises:
        DataError: the file is missing, damaged, or not one that `save` wrote.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if int(arrays["format"]) != _FORMAT:
                raise ValueError(f"format {arrays['format']}; this version reads {_FORMAT}")
            return _examples({name: arrays[name] for name in arrays.files})
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; write one with trainable.data.examples_file.save"
        ) from None
    except _NOT_OURS as error:
        raise DataError(
            f"{path}: not a file written by trainable.data.examples_file.save: {error}"
        ) from None


def _joined(rows: PackedRows, read: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The bytes of all rows that were read, one after another."""
    places = zip(rows.shard_of[read], rows.starts[read], rows.stops[read], strict=True)
    parts = [rows.shards[shard][start:stop] for shard, start, stop in places]
    return np.concatenate([*parts, np.empty(0, np.uint8)])


def _mask_arrays(masks: Masks) -> dict[str, npt.NDArray[Any]]:
    read = masks.is_read()
    return {
        "mask_data": _joined(masks, read),
        "mask_lengths": np.where(read, masks.stops - masks.starts, UNREAD),
        "mask_digests": masks.digests,
    }


def _masks(arrays: Arrays) -> Masks | None:
    if "mask_data" not in arrays:
        return None
    lengths = arrays["mask_lengths"].astype(np.int64)
    read = lengths != UNREAD
    stops = np.cumsum(np.where(read, lengths, 0))
    return Masks(
        shards=(arrays["mask_data"],),
        shard_of=np.where(read, 0, UNREAD),
        starts=stops - np.where(read, lengths, 0),
        stops=stops,
        digests=arrays["mask_digests"],
    )


def _examples(arrays: Arrays) -> LabelledExamples:
    data, lengths, digests = arrays["data"], arrays["lengths"], arrays["digests"]
    read = lengths != UNREAD
    kept = lengths[read]
    if (kept < 0).any() or kept.sum() != len(data):
        raise ValueError("the lengths of the examples do not add up to their bytes")
    stops = np.cumsum(kept)
    packed = LabelledExamples.from_bytes(
        (data[stop - n : stop].tobytes() for stop, n in zip(stops, kept, strict=True)),
        labels=arrays["labels"][read],
        split=arrays["split"][read],
        class_names=[str(name) for name in arrays["class_names"]],
        paths=[str(name) for name in arrays["paths"][read]],
    )
    if not np.array_equal(packed.digests, digests[read]):
        raise ValueError("the bytes of an example are not those of its hash")
    places = np.full((3, len(lengths)), UNREAD, dtype=np.int64)
    places[:, read] = packed.shard_of, packed.starts, packed.stops
    shard_of, starts, stops = places
    groups = arrays["groups"].astype(np.int64)
    extremes = arrays.get("value_range", np.empty(0, np.int64)).tolist()
    return replace(
        packed,
        shard_of=shard_of,
        starts=starts,
        stops=stops,
        digests=digests,
        labels=arrays["labels"].astype(np.int64),
        split=arrays["split"].astype(np.int64),
        paths=tuple(str(name) for name in arrays["paths"]),
        groups=groups if len(groups) else None,
        value_range=(extremes[0], extremes[1]) if extremes else None,
        modality=str(arrays.get("modality", "image")),
        masks=_masks(arrays),
    )
