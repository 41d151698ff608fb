"""Atomic writing of files: whole, or not at all.

What is written goes into a temporary file beside its place, whose name begins with a dot, and takes
that place by one rename. So a reader sees the old file or the new one, never a part, and whatever
fails leaves the old one as it was.

Every point at which a death would leave files in a state of their own is a call of `step`, here and
in the modules that append or remove. Tests go through all of them, as the code itself names them.
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
    """Pass a point that a death may fall on; does nothing unless steps are observed."""
    if _observer is not None:
        _observer(name)


@contextmanager
def observing_failpoints(observer: Callable[[str], None]) -> Iterator[None]:
    """Let a test count the steps of this process, or end it at one of them."""
    global _observer
    before, _observer = _observer, observer
    try:
        yield
    finally:
        _observer = before


def append(file: IO[bytes], content: bytes, name: str) -> None:
    """Hand all of `content` to the kernel, at the end of an unbuffered file.

    Raises:
        OSError: there is no room; a part may be in the file.
    """
    failpoint(f"{name}: to be appended")
    left = content  # in a single call, which is the least likely to be cut in two
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
    """A file to write to, which is at `path` once the block has ended well.

    Writers of the same path do not disturb each other: the last one stays. A link is followed. A
    device or a pipe has no place to take and is written to as it comes.

    Args:
        path: of the file; its folder has to exist.
        mode: `w` for text in UTF-8, `wb` for bytes.
        newline: as for `open`.
        durable: outlives a power cut once the block is left; what can be made again need not.
        check: called with the temporary file when all of it is on disk; what it raises keeps the
            file from taking its place.

    Yields:
        The file, open for writing.

    Raises:
        OSError: there is no room, or the folder is missing or may not be written. The block's own
            exceptions come out, too. In both cases the temporary file is gone.
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
            # Within the block: the file is locked until it has left its temporary name.
            temporary.replace(path)
        failpoint(f"{path.name}: in its place")
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def _open_temporary(path: Path) -> tuple[int, Path]:
    """An empty file beside `path` that no other writer has, open and locked.

    It has the same name each time, so that what a death leaves is overwritten and not collected;
    another one where a second writer is at work at the same time.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The writer before may have renamed it between the two calls.
        if os.path.samestat(os.fstat(handle), temporary.stat()):
            os.ftruncate(handle, 0)
            return handle, temporary
    except OSError:  # held, renamed, or a file system without locks
        pass
    os.close(handle)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(temporary, flags, 0o666), temporary


def sync_folder(folder: Path) -> None:
    """Make what was renamed in a folder outlive a power cut, where the file system can."""
    # Some file systems refuse to sync a folder. The rename stands all the same.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    failpoint(f"{folder.name}: folder synced")


def unwritable(folder: Path) -> str | None:
    """Reason why nothing can be created in a folder, existing or not yet; None if it can."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return f"{existing} is no directory"
    try:  # the mode bits do not say it all: not to root, and not of every file system
        with tempfile.TemporaryDirectory(prefix=".sft-sweep-", dir=existing):
            return None
    except OSError as error:
        return f"{existing} cannot be written ({error.strerror})"
