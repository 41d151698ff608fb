"""What a source knows of its examples before it reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainable.data.labelled_examples import Split
from trainable.data.masks import Masks
from trainable.errors import DataError

Ints = npt.NDArray[np.int64]

Read = Callable[[Ints], Iterator[bytes | DataError]]
"""Ascending rows -> for each its encoded bytes, or the error why they cannot be read."""


@dataclass(frozen=True)
class Note:
    """Something to know about the data that does not stop the sweep.

    Attributes:
        text: one line.
        details: one line for each example, or whatever it is about.
    """

    text: str
    details: tuple[str, ...] = ()

    def lines(self, most: int | None = None) -> list[str]:
        """Return the text and at most `most` details; None for all of them."""
        shown = self.details if most is None else self.details[:most]
        left = len(self.details) - len(shown)
        rest = [f"  ... and {left:,} more"] if left else []
        return [self.text, *(f"  {_on_one_line(detail)}" for detail in shown), *rest]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the rows of a table, or of another list, stand for.

    Attributes:
        paths: one path an example, distinct, as messages and tables show it.
        read: gives the encoded bytes.
        modality: `image` or `text`.
        notes: what came up.
    """

    paths: Sequence[str]
    read: Read
    modality: str = "image"
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Listing:
    """N examples that can be read.

    Attributes:
        paths: one path an example, distinct, as messages and tables show it.
        labels: (N,) class ids.
        class_names: one name a class id.
        split: (N,) of `Split` where the data have splits of their own; else None.
        groups: (N,) ids of what no split may separate; else None.
        group_names: one name a group id.
        read: gives the encoded bytes.
        notes: what came up while listing.
        modality: `image` or `text`: what the bytes are. Those of a text are its UTF-8.
        masks: the mask of each example, where masks are what is learnt; labels are zeros then.
    """

    paths: Sequence[str]
    labels: Ints
    class_names: tuple[str, ...]
    split: Ints | None
    groups: Ints | None
    group_names: tuple[str, ...]
    read: Read
    notes: tuple[Note, ...] = ()
    modality: str = "image"
    masks: Masks | None = None

    @classmethod
    def of(
        cls,
        *,
        paths: Sequence[str],
        labels: Sequence[str],
        splits: Sequence[Split] | None,
        groups: Sequence[str] | None,
        read: Read,
        class_names: Sequence[str] | None = None,
        notes: Sequence[Note] = (),
        modality: str = "image",
    ) -> Listing:
        """Make a listing from names; classes and groups are numbered in the order of their names.

        Args:
            paths: N paths.
            labels: N class names.
            splits: N splits, or None.
            groups: N group names, or None.
            read: gives the encoded bytes.
            class_names: the classes in an order of the source's own; None for that of the names.
            notes: what came up.
            modality: what the bytes are.
        """
        classes = sorted(set(labels)) if class_names is None else list(class_names)
        group_names = () if groups is None else tuple(sorted(set(groups)))
        return cls(
            paths=paths,
            labels=_numbered(labels, classes),
            class_names=tuple(classes),
            split=None if splits is None else np.asarray(splits, dtype=np.int64),
            groups=None if groups is None else _numbered(groups, group_names),
            group_names=group_names,
            read=read,
            notes=tuple(notes),
            modality=modality,
        )


def _on_one_line(text: str) -> str:
    """Return the text on one line; file names can contain line breaks."""
    return text if text.isprintable() else repr(text)


def _numbered(names: Sequence[str], known: Sequence[str]) -> Ints:
    number = {name: i for i, name in enumerate(known)}
    return np.fromiter((number[name] for name in names), dtype=np.int64, count=len(names))
