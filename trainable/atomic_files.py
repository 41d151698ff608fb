"""Atomic writing of files: a file is written as a whole or not at all.

Content goes into a temporary file beside the target, with a name that begins with a dot, and one
rename puts it in the target's place. Readers therefore see the old file or the new one, never a
part of it, and a failure leaves the old file unchanged.

Wherever the death of the process would leave files in a distinct state, the code calls `failpoint`,
here and in the modules that append to or remove files. Tests end a process at each of these points.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal
from uuid import uuid4

_observer: Callable[[str], None] | None = None


def failpoint(name: str) -> None:
    """Mark a point at which tests may end the process; does nothing unless a test observes it."""
    if _observer is not None:
        _observer(name)


@contextmanager
def observing_failpoints(observer: Callable[[str], None]) -> Iterator[None]:
    """Call `observer` with the name of every failpoint, for the duration of the block.

    A test can count the failpoints, or raise or end the process at one of them.
    """
    global _observer
    before, _observer = _observer, observer
    try:
        yield
    finally:
        _observer = before


def append(file: IO[bytes], content: bytes, name: str) -> None:
    """Write all of `content` to the end of an unbuffered file.

    Args:
        file: a file that is open for appending, without a buffer.
        content: the bytes to append.
        name: name of the file, for failpoints.

    Raises:
        OSError: the disk is full; the file may have a part of `content`.
    """
    failpoint(f"{name}: to be appended")
    left = content  # one call is the least likely to write only a part
    while left:
        left = left[file.write(left) :]
        failpoint(f"{name}: {'partly appended' if left else 'appended'}")


@contextmanager
def atomic_write(
    path: Path,
    mode: Literal["w", "wb"] = "wb",
    *,
    newline: str | None = None,
    durable: bool = True,
    check: Callable[[Path], None] | None = None,
) -> Iterator[IO[Any]]:
    """Open a temporary file that replaces `path` when the block ends without an exception.

    Several processes may write the same path at once; the last one wins. A symbolic link is
    followed. A device or a pipe cannot be replaced and is written to directly.

    Args:
        path: path of the file; its folder has to exist.
        mode: `w` for text in UTF-8, `wb` for bytes.
        newline: as for `open`.
        durable: whether the file survives a power cut once the block has ended; content that can be
            computed again does not need that.
        check: called with the path of the complete temporary file; if it raises, `path` is not
            replaced.

    Yields:
        The temporary file, open for writing.

    Raises:
        OSError: the disk is full, or the folder is missing or cannot be written. Exceptions of the
            block and of `check` are raised too. The temporary file is removed in all cases.
    """
    encoding = "utf-8" if mode == "w" else None
    if path.exists() and not (path.is_file() or path.is_dir()):
        with path.open(mode, encoding=encoding, newline=newline) as sink:
            yield sink
        return
    path = Path(os.path.realpath(path))
    handle, temporary = _open_temporary(path)
    try:
        with open(handle, mode, encoding=encoding, newline=newline) as sink:  # noqa: PTH123
            failpoint(f"{path.name}: temporary file made")
            yield sink
            sink.flush()
            failpoint(f"{path.name}: temporary file written")
            if durable:
                os.fsync(sink.fileno())
            if check is not None:
                check(temporary)
            # The rename comes before the file is closed, because closing releases its lock.
            temporary.replace(path)
        failpoint(f"{path.name}: in its place")
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def _open_temporary(path: Path) -> tuple[int, Path]:
    """Open and lock an empty temporary file beside `path` that no other writer uses.

    Its name is always the same, so that leftovers of processes that died are overwritten and do not
    pile up. Only while another writer holds that file, the name is a random one.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another writer may have renamed the file between the two calls.
        if os.path.samestat(os.fstat(handle), temporary.stat()):
            os.ftruncate(handle, 0)
            return handle, temporary
    except OSError:  # locked, renamed, or on a file system without locks
        pass
    os.close(handle)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(temporary, flags, 0o666), temporary


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut, if the file system supports that."""
    # Some file systems refuse to sync a folder; the rename itself has succeeded.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    failpoint(f"{folder.name}: folder synced")


def unwritable(folder: Path) -> str | None:
    """Reason why no file can be created in a folder, which may not exist yet; None if one can."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return f"{existing} is no directory"
    try:  # mode bits do not apply to root, nor on every file system
        with tempfile.TemporaryDirectory(prefix=".sft-sweep-", dir=existing):
            return None
    except OSError as error:
        return f"{existing} cannot be written ({error.strerror})"
