"""Rows of equal size on disk, keyed by the content they were computed from.

One folder serves all processes of a machine and all sweeps after this one. A collection holds the
rows of one computation, such as what one frozen prefix makes of images; a row is found by the hash
of its image. Rows are written once, many to a file: a file appears under its name only when it is
whole, never changes, and is mapped by whoever reads it. So a process that dies leaves nothing
half-written, and a file that is evicted stays valid for whom it is mapped.

    <folder>/features-1/<hash of the collection's key>/about.json    the key, for people
                                                       lock          held by whoever computes
                                                       <name>.rows   header, ids, checksums, rows
"""

from __future__ import annotations

from trainable.cache_folder import FOLDER_VARIABLE, default_folder
from trainable.features.store.collection import Collection
from trainable.features.store.feature_store import SIZE_VARIABLE, FeatureStore, StoreInfo

__all__ = [
    "FOLDER_VARIABLE",
    "SIZE_VARIABLE",
    "Collection",
    "FeatureStore",
    "StoreInfo",
    "default_folder",
]
