"""The folder of this user's caches on this machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trainable.errors import CacheError

FOLDER_VARIABLE = "SFT_SWEEP_CACHE"
"""Environment variable with the folder of the caches."""

GRAPHS, GRAPH_SUFFIX = "graphs-1", ".graph"
"""Name of the folder of exported graphs, and the suffix of their files. The number rises whenever
the format of the files changes."""


def default_folder() -> Path:
    """Return `SFT_SWEEP_CACHE`, or else `sft-sweep` below the user's cache folder.

    Raises:
        CacheError: the user's home folder is unknown.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(given).expanduser() if given else Path(base).expanduser() / "sft-sweep"
    except RuntimeError as error:
        raise CacheError(f"no folder for the cache: {error}; set {FOLDER_VARIABLE}") from error


def make_private(folder: Path, name: str) -> Path:
    """Return a folder within the cache's folder; both are created, readable by this user alone.

    Args:
        folder: folder of the cache.
        name: name of the folder within it.

    Raises:
        CacheError: a folder cannot be created, or belongs to another user.
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
    """Return the error about a cache folder that cannot be used."""
    return CacheError(
        f"{folder}: cannot be used as a cache: {error.strerror or error}; set {FOLDER_VARIABLE} to "
        "another folder"
    )
