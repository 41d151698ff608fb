"""Rows of equal size on disk, keyed by the hash of the example that they were computed from.

One folder serves all processes of a machine, in this sweep and in later ones. A collection holds
the rows of one computation, such as the activations of one frozen prefix; the hash of an example
finds its row. A file holds many rows. It gets its name when it is whole, never changes afterwards,
and readers map it into memory. A process that dies therefore leaves no partial file under a final
name, and readers can go on using a file that was evicted.

    <folder>/features-1/<hash of the collection's key>/about.json    the key, for people
                                                       lock          held while rows are computed
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
