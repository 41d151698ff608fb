"""Labelled examples as encoded bytes in a few large arrays, which all trials of a node share."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from trainable.data.masks import Masks
from trainable.data.shards import MAX_SHARD_BYTES, PackedRows, packed
from trainable.errors import DataError


class Split(IntEnum):
    """Permitted use of an example.

    Label budgets are drawn from the pool. Validation outside the budget uses `VAL`. Finalists and
    baselines are scored on the test split.
    """

    POOL = 0
    VAL = 1
    TEST = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledExamples(PackedRows):
    """N examples with one label or mask each, with the bytes of their files.

    An example that no trial of the sweep can use may be unread: it has a row, because draws depend
    on the hashes of all examples, but its bytes are missing.

    Attributes:
        modality: what the encoded bytes are: `image`, or `text` in UTF-8.
        masks: the mask of each image, where masks are what is learnt; None for class ids.
        labels: (N,) int64 class ids, 0 <= label < num_classes; zeros where there are masks.
        split: (N,) int64 values of `Split`.
        class_names: name of each class id.
        paths: path of each example, as messages and tables show it.
        groups: (N,) int64 group ids; examples of one group stay together in every split. None if
            there are no groups.
        value_range: values of 16-bit grey images that become black and white; None for all 16 bits.
    """

    labels: npt.NDArray[np.int64]
    split: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    groups: npt.NDArray[np.int64] | None = None
    value_range: tuple[int, int] | None = None
    modality: str = "image"
    masks: Masks | None = None

    @classmethod
    def from_bytes(
        cls,
        encoded: Iterable[bytes],
        *,
        labels: npt.ArrayLike,
        split: npt.ArrayLike,
        class_names: Sequence[str],
        paths: Sequence[str],
        groups: npt.ArrayLike | None = None,
        modality: str = "image",
        max_shard_bytes: int = MAX_SHARD_BYTES,
    ) -> LabelledExamples:
        """Pack examples into shards, in the order given, and compute their hashes.

        Args:
            encoded: N encoded examples.
            labels: (N,) class ids.
            split: (N,) values of `Split`.
            class_names: names of the classes 0, 1 and so on.
            paths: N paths.
            groups: (N,) group ids, or None.
            modality: what the encoded bytes are.
            max_shard_bytes: most bytes of a shard with more than one example.

        Raises:
            DataError: lengths differ, a label is out of range, or a split is unknown.
        """
        rows = ((example, hashlib.sha256(example).digest()) for example in encoded)
        return cls(
            **packed(rows, max_shard_bytes=max_shard_bytes),
            labels=np.asarray(labels, dtype=np.int64),
            split=np.asarray(split, dtype=np.int64),
            class_names=tuple(class_names),
            paths=tuple(paths),
            groups=None if groups is None else np.asarray(groups, dtype=np.int64),
            modality=modality,
        )

    def __post_init__(self) -> None:
        lengths = {len(self.labels), len(self.split), len(self.paths), len(self.starts)}
        if len(lengths) != 1:
            raise DataError(
                f"examples, labels, splits and paths differ in number: {len(self.starts)}, "
                f"{len(self.labels)}, {len(self.split)}, {len(self.paths)}"
            )
        if self.masks is not None and len(self.masks) != len(self.labels):
            raise DataError(f"{len(self.masks)} masks for {len(self.labels)} examples")
        if self.groups is not None and len(self.groups) != len(self.labels):
            raise DataError(f"{len(self.groups)} groups for {len(self.labels)} examples")
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
    def task(self) -> str:
        """What is learnt: `classification` from class ids, `segmentation` from masks."""
        return "classification" if self.masks is None else "segmentation"

    @property
    def strata(self) -> tuple[str, ...]:
        """What a label budget is drawn from evenly: the classes; all examples where masks are."""
        return self.class_names if self.masks is None else ("all",)

    @property
    def num_classes(self) -> int:
        """Number of classes, including classes without an example."""
        return len(self.class_names)

    def encoded(self, index: int) -> bytes:
        """Return the encoded bytes of one example.

        Raises:
            DataError: the example is unread.
        """
        encoded = self.row(index)
        if encoded is None:
            raise DataError(
                f"{self.paths[index]}: was not read, for no draw of this sweep's budgets holds it"
            )
        return encoded

    def indices(self, split: Split) -> npt.NDArray[np.int64]:
        """(M,) ascending indices of the examples of one split."""
        return np.flatnonzero(self.split == split).astype(np.int64)

    def groups_at(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
        """(M,) group ids of some examples, or None if there are no groups."""
        return None if self.groups is None else self.groups[indices]

    def at(self, indices: npt.NDArray[np.int64]) -> LabelledExamples:
        """Return some of the examples, in the order given; they share the bytes."""
        return replace(
            self,
            **self.fields_at(indices),
            labels=self.labels[indices],
            split=self.split[indices],
            paths=tuple(self.paths[i] for i in indices),
            groups=self.groups_at(indices),
            masks=None if self.masks is None else self.masks.at(indices),
        )

    def image_ids(self) -> list[str]:
        """N unique ids `HASH`, or `HASH-NUMBER` of copies; only these depend on the row order."""
        seen: Counter[str] = Counter()
        ids = []
        for digest in self.digests:
            text = digest.tobytes()[:8].hex()
            copy = seen[text]
            seen[text] += 1
            ids.append(f"{text}-{copy}" if copy else text)
        return ids

    def fingerprint(self) -> str:
        """SHA-256 in hex of content, labels, splits and groups of all examples, in any order.

        Groups count by the examples that they hold, not by their ids.
        """
        named = (
            (self.class_names[label].encode() for label in self.labels)
            if self.masks is None
            else (digest.tobytes() for digest in self.masks.digests)
        )
        rows = [
            digest.tobytes() + name + bytes([split])
            for digest, name, split in zip(self.digests, named, self.split, strict=True)
        ]
        if self.groups is not None:
            first: dict[int, bytes] = {}
            for group, row in zip(self.groups.tolist(), rows, strict=True):
                first[group] = min(row, first.get(group, row))
            rows = [row + first[g] for g, row in zip(self.groups.tolist(), rows, strict=True)]
        return hashlib.sha256(b"\n".join(sorted(rows))).hexdigest()

    def fingerprint_of(self, parts: Sequence[npt.NDArray[np.int64]]) -> str:
        """SHA-256 in hex of content and labels of some examples, which depends on their order."""
        digest = hashlib.sha256(str(self.num_classes).encode())
        for part in parts:
            digest.update(f"/{len(part)}/".encode())
            digest.update(self.digests[part].tobytes())
            digest.update(self.labels[part].tobytes())
            if self.masks is not None:
                digest.update(self.masks.digests[part].tobytes())
        return digest.hexdigest()
