"""Labelled images as contiguous encoded bytes: cheap to ship, mapped read-only by every trial."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainable.errors import DataError

MAX_SHARD_BYTES = 64 * 2**20
"""Longest shard, in bytes, that `LabelledImages.from_bytes` builds (unless one image is longer)."""

_FORMAT = 1


class Split(IntEnum):
    """What an image may be used for."""

    POOL = 0
    TEST = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledImages:
    """N encoded images with one label each.

    Attributes:
        shards: 1-d uint8 arrays of encoded images, one after the other.
        shard_of: (N,) int64 shard of each image.
        starts: (N,) int64 first byte within its shard.
        stops: (N,) int64 one past the last byte within its shard.
        digests: (N, 32) uint8 SHA-256 of the encoded bytes.
        labels: (N,) int64 class ids, 0 <= label < num_classes.
        split: (N,) int64 of `Split`.
        class_names: one name a class id.
        paths: one path an image, as messages and tables show it.
    """

    shards: tuple[npt.NDArray[np.uint8], ...]
    shard_of: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    split: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    paths: tuple[str, ...]

    @classmethod
    def from_bytes(
        cls,
        encoded: Iterable[bytes],
        *,
        labels: npt.ArrayLike,
        split: npt.ArrayLike,
        class_names: Sequence[str],
        paths: Sequence[str],
        max_shard_bytes: int = MAX_SHARD_BYTES,
    ) -> LabelledImages:
        """Images packed into shards, in the order given; hashes are computed here.

        Args:
            encoded: N encoded images.
            labels: (N,) class ids.
            split: (N,) values of `Split`.
            class_names: names of the classes 0, 1, ...
            paths: N paths.
            max_shard_bytes: a shard is closed before it would grow longer than this.

        Raises:
            DataError: lengths differ, a label is out of range, or a split is unknown.
        """
        shards: list[npt.NDArray[np.uint8]] = []
        pending: list[bytes] = []
        shard_of, starts, stops, digests = [], [], [], []
        size = 0

        def close() -> None:
            shards.append(np.frombuffer(b"".join(pending), dtype=np.uint8))
            pending.clear()

        for image in encoded:
            if pending and size + len(image) > max_shard_bytes:
                close()
                size = 0
            shard_of.append(len(shards))
            starts.append(size)
            size += len(image)
            stops.append(size)
            pending.append(image)
            digests.append(np.frombuffer(hashlib.sha256(image).digest(), dtype=np.uint8))
        if pending:
            close()
        return cls(
            shards=tuple(shards),
            shard_of=np.asarray(shard_of, dtype=np.int64),
            starts=np.asarray(starts, dtype=np.int64),
            stops=np.asarray(stops, dtype=np.int64),
            digests=np.asarray(digests, dtype=np.uint8).reshape(-1, 32),
            labels=np.asarray(labels, dtype=np.int64),
            split=np.asarray(split, dtype=np.int64),
            class_names=tuple(class_names),
            paths=tuple(paths),
        )

    def __post_init__(self) -> None:
        lengths = {len(self.labels), len(self.split), len(self.paths), len(self.starts)}
        if len(lengths) != 1:
            raise DataError(
                f"images, labels, splits and paths differ in number: {len(self.starts)}, "
                f"{len(self.labels)}, {len(self.split)}, {len(self.paths)}"
            )
        out_of_range = (self.labels < 0) | (self.labels >= len(self.class_names))
        if out_of_range.any():
            raise DataError(
                f"label {self.labels[out_of_range][0]} of {self.paths[out_of_range.argmax()]}: "
                f"allowed are 0 to {len(self.class_names) - 1}, one for each class name"
            )
        unknown = ~np.isin(self.split, list(Split))
        if unknown.any():
            raise DataError(f"split {self.split[unknown][0]} of {self.paths[unknown.argmax()]}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes, those without an image included."""
        return len(self.class_names)

    def encoded(self, index: int) -> bytes:
        """The encoded bytes of one image."""
        shard = self.shards[self.shard_of[index]]
        return bytes(shard[self.starts[index] : self.stops[index]])

    def indices(self, split: Split) -> npt.NDArray[np.int64]:
        """(M,) ascending indices of the images of one split."""
        return np.flatnonzero(self.split == split).astype(np.int64)

    def image_ids(self) -> list[str]:
        """N ids, unique and independent of row order but for exact duplicates: `hash[-copy]`."""
        seen: Counter[str] = Counter()
        ids = []
        for digest in self.digests:
            text = digest.tobytes()[:8].hex()
            copy = seen[text]
            seen[text] += 1
            ids.append(f"{text}-{copy}" if copy else text)
        return ids

    def fingerprint(self) -> str:
        """SHA-256 over the content, labels and splits of all images, whatever their order."""
        rows = sorted(
            digest.tobytes() + self.class_names[label].encode() + bytes([split])
            for digest, label, split in zip(self.digests, self.labels, self.split, strict=True)
        )
        return hashlib.sha256(b"\n".join(rows)).hexdigest()

    def save(self, path: Path) -> None:
        """Write everything to one uncompressed `.npz`, without pickles."""
        lengths = self.stops - self.starts
        np.savez(
            path,
            format=np.int64(_FORMAT),
            data=np.concatenate([*self.shards, np.empty(0, np.uint8)]),
            lengths=lengths,
            labels=self.labels,
            split=self.split,
            class_names=np.asarray(self.class_names, dtype=np.str_),
            paths=np.asarray(self.paths, dtype=np.str_),
        )

    @classmethod
    def load(cls, path: Path) -> LabelledImages:
        """The images written by `save`.

        Raises:
            DataError: the file is missing or not of this form.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if int(arrays["format"]) != _FORMAT:
                    raise ValueError(f"format {arrays['format']}; this version reads {_FORMAT}")
                data, lengths = arrays["data"], arrays["lengths"]
                if (lengths < 0).any() or lengths.sum() != len(data):
                    raise ValueError("the lengths of the images do not add up to their bytes")
                stops = np.cumsum(lengths)
                return cls.from_bytes(
                    (
                        data[stop - n : stop].tobytes()
                        for stop, n in zip(stops, lengths, strict=True)
                    ),
                    labels=arrays["labels"],
                    split=arrays["split"],
                    class_names=[str(name) for name in arrays["class_names"]],
                    paths=[str(name) for name in arrays["paths"]],
                )
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; write one with LabelledImages.save") from None
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a file written by LabelledImages.save: {error}") from None
