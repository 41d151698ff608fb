"""Traversal of the files below a folder, which follows links if allowed and always ends."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from orchestrator.datasets.files import Root

Parts = tuple[str, ...]
"""Names of folders on the way down from one folder to another."""


def files_below(
    root: Root, *, most: int | None = None, passed_over: list[str] | None = None
) -> Iterator[tuple[Parts, str]]:
    """Yield folders and name of each file that is not hidden, those near the top first.

    Args:
        root: the folder; it says whether links are followed; no folder is visited twice.
        most: largest number of entries to inspect; None for all.
        passed_over: links to folders that are not followed are added here.
    """
    waiting: deque[Parts] = deque([()])
    seen: set[Path] = set()
    looked_at = 0
    while waiting:
        folders = waiting.popleft()
        whole = root.path.joinpath(*folders)
        try:
            real = whole.resolve()
            if real in seen or not root.holds(whole):
                continue
            seen.add(real)
            with os.scandir(whole) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except (OSError, RuntimeError):  # not ours to read, or a loop of links
            continue
        for entry in entries:
            looked_at += 1
            if most is not None and looked_at > most:
                return
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                yield folders, entry.name
            elif root.follow or not entry.is_symlink():
                waiting.append((*folders, entry.name))
            elif passed_over is not None:
                passed_over.append("/".join((*folders, entry.name)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False
