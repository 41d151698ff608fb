"""The log file of a sweep, which ends nothing when it cannot be written."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger("sft_sweep")


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Let the messages of this program go to a file, too."""
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
    """Passes over what there is no room for, where Python's own prints a traceback of itself.

    The journal lies beside it: a disk that is full is told of by what may not be passed over.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, where that is possible."""
        with contextlib.suppress(OSError):  # the file is opened by the first message
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing."""

    def close(self) -> None:
        """Let go of the file; what is still in memory then tries to get into it once more."""
        with contextlib.suppress(OSError):
            super().close()
