"""Atomic creation of a folder with files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import StorageError, UsageError
from orchestrator.recording.sweep_directory import check_root
from trainable.atomic_files import failpoint, sync_folder


def check_target(out: Path) -> None:
    """Make sure that `whole_folder` can fill a folder; nothing is left there.

    Raises:
        UsageError: it cannot.
    """
    if out.is_dir():
        if any(out.iterdir()):
            raise UsageError(f"--out {out}: not empty; name a new folder, or empty it first")
        check_root(out)
    elif out.exists() or out.is_symlink():
        raise UsageError(f"--out {out}: is no folder; name a new one")
    else:
        check_root(out.parent)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into; it becomes `out` afterwards, or is removed on an error.

    An existing empty folder is filled, not replaced: it may be a mount, or a shell's directory.

    Raises:
        StorageError: it cannot be written, or the disk is full.
    """
    try:
        fills = out.is_dir()
        if not fills:
            out.parent.mkdir(parents=True, exist_ok=True)
        part = (out if fills else out.parent) / f".{out.name or 'export'}.{os.getpid()}.part"
        part.mkdir()
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        yield part
        for path in part.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        failpoint(f"{out.name}: files written")
        if fills:
            for path in list(part.iterdir()):
                path.rename(out / path.name)
                failpoint(f"{out.name}: {path.name} in its place")
            part.rmdir()
        else:
            part.rename(out)
            failpoint(f"{out.name}: in its place")
        sync_folder(out if fills else out.parent)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise _unwritable(out, error) from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _unwritable(out: Path, error: OSError) -> StorageError:
    return StorageError(f"--out {out}: cannot be written: {error.strerror or error}")
