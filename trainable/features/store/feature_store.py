"""The feature store: the folder of all collections, its owner, size limit and eviction."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainable.cache_folder import (
    GRAPH_SUFFIX,
    GRAPHS,
    default_folder,
    make_private,
    unusable,
)
from trainable.errors import CacheError
from trainable.features.store.collection import Collection
from trainable.features.store.row_files import SUFFIX, TEMPORARY

SIZE_VARIABLE = "SFT_SWEEP_CACHE_GIB"
"""Environment variable with the size limit of the store, in GiB."""

DEFAULT_BYTES = 20 * 2**30
"""Largest default size limit of the store."""
_SHARE_OF_DISK = 0.25
_LEAST_FREE = 2**26
"""Free bytes of the disk below which nothing is stored, unless a size limit is given."""
_STALE_S = 3600.0
"""Age from which a temporary file counts as left by a process that died."""
_VERSION = "features-1"


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """Contents of a store.

    Attributes:
        folder: folder of the store.
        collections: number of collections.
        files: number of files of rows.
        graphs: number of exported graphs of backbones.
        bytes: bytes of these files and graphs.
        max_bytes: size limit.
    """

    folder: Path
    collections: int
    files: int
    graphs: int
    bytes: int
    max_bytes: int


class FeatureStore:
    """The feature store in one folder, which only this user may read.

    Args:
        folder: folder of the store; None for `default_folder()`.
        max_bytes: size limit, above which the least recently used files are removed; None for
            `SFT_SWEEP_CACHE_GIB`, or else 20 GiB or a quarter of the disk's free space, whichever
            is less.

    Raises:
        CacheError: the folder cannot be created, or belongs to another user.
    """

    def __init__(self, folder: Path | None = None, *, max_bytes: int | None = None) -> None:
        self.folder = folder or default_folder()
        self._root = make_private(self.folder, _VERSION)
        self._graphs = self.folder / GRAPHS
        try:
            free = shutil.disk_usage(self._root).free
        except OSError as error:
            raise unusable(self.folder, error) from error
        self.max_bytes = max_bytes if max_bytes is not None else _default_bytes(free)
        self.warning = (
            f"{self.folder}: features are computed again and not kept: the disk is full"
            if max_bytes is None and free < _LEAST_FREE
            else None
        )
        """Reason why nothing more is stored; None while rows are stored."""
        self._collections: dict[str, Collection] = {}

    def collection(
        self, key: Mapping[str, Any], *, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> Collection:
        """Return the collection of one computation's rows.

        Args:
            key: JSON values of everything that rows depend on apart from their example.
            shape: shape of a row.
            dtype: data type of a row.
        """
        kind = np.dtype(dtype)
        whole = {**key, "shape": list(shape), "dtype": kind.str}
        text = json.dumps(whole, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        if name not in self._collections:
            self._collections[name] = Collection(self, self._root / name, text, shape, kind)
        return self._collections[name]

    def info(self) -> StoreInfo:
        """Return the current contents of the store."""
        files = self._files()
        graphs = [path for path, _, _ in files if path.suffix == GRAPH_SUFFIX]
        return StoreInfo(
            folder=self.folder,
            collections=len({path.parent for path, _, _ in files} - {self._graphs}),
            files=len(files) - len(graphs),
            graphs=len(graphs),
            bytes=sum(size for _, size, _ in files),
            max_bytes=self.max_bytes,
        )

    def clear(self) -> int:
        """Remove all collections; other processes can go on using the files that they have mapped.

        Returns:
            Number of bytes that the removed files of rows had.

        Raises:
            CacheError: a file or folder cannot be removed.
        """
        freed = self.info().bytes
        self._collections.clear()
        for path in (*self._root.iterdir(), *self._graphs.glob("*")):
            try:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CacheError(f"{path}: cannot be removed: {error.strerror}") from error
        return freed

    def make_room(self) -> None:
        """Remove the least recently used files until the store is within its limit."""
        files = self._files()
        total = sum(size for _, size, _ in files)
        if total <= self.max_bytes:
            return
        for path, size, _ in sorted(files, key=lambda file: file[2]):
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
            if total <= self.max_bytes:
                return

    def _files(self) -> list[tuple[Path, int, float]]:
        """Return path, bytes and last use of every file; remove stale temporary files."""
        found = []
        for path in (*self._root.glob("*/*"), *self._graphs.glob("*")):
            with contextlib.suppress(OSError):
                about = path.stat()
                if path.suffix in (SUFFIX, GRAPH_SUFFIX):
                    found.append((path, about.st_size, about.st_mtime))
                elif path.suffix == TEMPORARY and about.st_mtime < time.time() - _STALE_S:
                    path.unlink()
        return found


def _default_bytes(free: int) -> int:
    given = os.environ.get(SIZE_VARIABLE)
    if given is None:
        return min(DEFAULT_BYTES, int(free * _SHARE_OF_DISK))
    try:
        gib = float(given)
    except ValueError:
        gib = -1.0
    if not (math.isfinite(gib) and gib >= 0):
        raise CacheError(f"{SIZE_VARIABLE}: got {given!r}; allowed: a number of GiB, 0 or more")
    return int(gib * 2**30)
