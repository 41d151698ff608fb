"""The log file of a sweep; a failed write of it never ends the sweep."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger("sft_sweep")


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write this program's log messages to a file within the block.

    Args:
        path: file to append to; created with the first message.
    """
    handler = _LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    """A file handler that drops messages that it cannot write.

    Python's own handler prints a traceback instead. A full disk is not hidden: the journal lies on
    the same disk, and its write error ends the sweep.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message; drop it if that fails."""
        with contextlib.suppress(OSError):  # the file is opened by the first message
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Print nothing."""

    def close(self) -> None:
        """Close the file; the final flush of its buffer may fail."""
        with contextlib.suppress(OSError):
            super().close()
