"""Exported graphs on disk, so that the next process does not export the network again.

A file holds a hash and the bytes that `transport.to_bytes` made of a graph. Its name is a hash of
everything that the graph depends on: the key of its source, the weights, the versions of Python and
PyTorch, and the code that exports graphs. If a file is missing, damaged or unreadable, the graph is
exported again.

    <folder of the cache>/graphs-1/<hash of the key>.graph
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainable.atomic_files import atomic_write
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.backbones.graphs.pickling import Arrays
from trainable.backbones.graphs.transport import from_bytes, to_bytes
from trainable.cache_folder import GRAPH_SUFFIX, GRAPHS, default_folder, make_private
from trainable.errors import CacheError

_MAGIC = b"sftgraph1"
_HASH_BYTES = hashlib.sha256().digest_size


class KeptGraph:
    """The place of one graph in the cache.

    Args:
        key: JSON values that the graph depends on, besides versions and our own code.
        arrays: weights of the backbone; the file does not hold them.
    """

    def __init__(self, key: Mapping[str, Any], arrays: Arrays) -> None:
        whole = {
            **key,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "code": _own_code(),
        }
        text = json.dumps(whole, sort_keys=True, default=str)
        self._name = f"{hashlib.sha256(text.encode()).hexdigest()}{GRAPH_SUFFIX}"
        self._arrays = arrays

    def read(self) -> TracedBackbone | None:
        """Return the graph in eval mode; None if it is missing or damaged."""
        try:
            path = make_private(default_folder(), GRAPHS) / self._name
            found = path.read_bytes()
        except (CacheError, OSError):
            return None
        hashed, content = found[len(_MAGIC) :][:_HASH_BYTES], found[len(_MAGIC) + _HASH_BYTES :]
        if not found.startswith(_MAGIC) or hashlib.sha256(content).digest() != hashed:
            return None
        try:
            traced = from_bytes(content, self._arrays)
        except Exception:  # a class that has changed since may raise anything
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the least recently used files are removed first
        return traced

    def write(self, traced: TracedBackbone) -> None:
        """Store the graph if it can be serialized and the disk has room."""
        content = to_bytes(traced, self._arrays)
        if content is None:
            return
        with contextlib.suppress(CacheError, OSError):
            path = make_private(default_folder(), GRAPHS) / self._name
            with atomic_write(path, durable=False) as sink:
                sink.write(_MAGIC + hashlib.sha256(content).digest() + content)


@functools.cache
def _own_code() -> str:
    """Return a hash of the modules that export graphs."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
