"""Labelled examples in a file, for trials without a sweep around them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainable.data.labelled_examples import LabelledExamples
from trainable.data.masks import Masks, decode_mask, mask_digest
from trainable.data.shards import UNREAD, PackedRows
from trainable.errors import DataError

_FORMAT = 2
_NOT_OURS = (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile)

Arrays = Mapping[str, npt.NDArray[Any]]


def save(examples: LabelledExamples, path: Path) -> None:
    """Write all examples to an uncompressed `.npz` without pickles; unread ones stay unread."""
    masks = {} if examples.masks is None else _packed(examples.masks, "mask_")
    np.savez(
        path,
        format=np.int64(_FORMAT),
        **_packed(examples),
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


def _packed(rows: PackedRows, prefix: str = "") -> dict[str, Any]:
    """Bytes, lengths and digests of all rows, as arrays of the file."""
    read = rows.is_read()
    return {
        f"{prefix}data": _joined(rows, read),
        f"{prefix}lengths": np.where(read, rows.stops - rows.starts, UNREAD),
        f"{prefix}digests": rows.digests,
    }


def _unpacked(
    arrays: Arrays, prefix: str = "", *, digest_of: Callable[[bytes], bytes]
) -> dict[str, Any]:
    """The attributes of `PackedRows` from what `_packed` made.

    Args:
        arrays: the arrays of the file.
        prefix: as there.
        digest_of: makes the digest of a row.

    Raises:
        ValueError: the bytes are not those of the lengths or of the digests.
    """
    data, lengths = arrays[f"{prefix}data"], arrays[f"{prefix}lengths"].astype(np.int64)
    digests, read = arrays[f"{prefix}digests"], lengths != UNREAD
    kept = np.where(read, lengths, 0)
    if (kept < 0).any() or kept.sum() != len(data):
        raise ValueError("the lengths of the examples do not add up to their bytes")
    stops = np.cumsum(kept)
    starts = stops - kept
    spans = zip(starts[read], stops[read], strict=True)
    found = b"".join(digest_of(data[start:stop].tobytes()) for start, stop in spans)
    if digests[read].tobytes() != found:
        raise ValueError("the bytes of an example are not those of its hash")
    data.flags.writeable = False
    return {
        "shards": (data,),
        "shard_of": np.where(read, 0, UNREAD),
        "starts": starts,
        "stops": stops,
        "digests": digests,
    }


def _masks(arrays: Arrays) -> Masks | None:
    if "mask_data" not in arrays:
        return None
    return Masks(
        **_unpacked(arrays, "mask_", digest_of=lambda encoded: mask_digest(decode_mask(encoded)))
    )


def _examples(arrays: Arrays) -> LabelledExamples:
    groups = arrays["groups"].astype(np.int64)
    extremes = arrays.get("value_range", np.empty(0, np.int64)).tolist()
    return LabelledExamples(
        **_unpacked(arrays, digest_of=lambda encoded: hashlib.sha256(encoded).digest()),
        labels=arrays["labels"].astype(np.int64),
        split=arrays["split"].astype(np.int64),
        class_names=tuple(str(name) for name in arrays["class_names"]),
        paths=tuple(str(name) for name in arrays["paths"]),
        groups=groups if len(groups) else None,
        value_range=(extremes[0], extremes[1]) if extremes else None,
        modality=str(arrays.get("modality", "image")),
        masks=_masks(arrays),
    )
