"""The folder of this user's caches on this machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trainable.errors import CacheError

FOLDER_VARIABLE = "SFT_SWEEP_CACHE"
"""Environment variable that names the folder."""

GRAPHS, GRAPH_SUFFIX = "graphs-1", ".graph"
"""Folder of exported graphs in it, and what their names end in. The number is raised whenever files
would come to mean another thing."""


def default_folder() -> Path:
    """`SFT_SWEEP_CACHE`, else `sft-sweep` below the user's cache folder.

    Raises:
        CacheError: nobody knows the user's home.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(given).expanduser() if given else Path(base).expanduser() / "sft-sweep"
    except RuntimeError as error:
        raise CacheError(f"no folder for the cache: {error}; set {FOLDER_VARIABLE}") from error


def make_private(folder: Path, name: str) -> Path:
    """A folder in the cache's folder; both are made where they are missing, for this user alone.

    Args:
        folder: of the cache.
        name: of the folder in it.

    Raises:
        CacheError: it cannot be made, or belongs to somebody else.
    """
    inner = folder / name
    try:
        inner.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (folder, inner):
            found = path.stat()
            if found.st_uid != os.geteuid():
                raise CacheError(f"{path}: belongs to another user; set {FOLDER_VARIABLE}")
            if stat.S_IMODE(found.st_mode) & 0o077:
                path.chmod(0o700)
    except OSError as error:
        raise unusable(folder, error) from error
    return inner


def unusable(folder: Path, error: OSError) -> CacheError:
    """What to raise where the cache's folder cannot be used."""
    return CacheError(
        f"{folder}: cannot be used as a cache: {error.strerror or error}; set {FOLDER_VARIABLE} to "
        "another folder"
    )
