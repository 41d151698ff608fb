"""The exceptions of `orchestrator`; each sets the exit code of the command line.

Each holds its whole message as its single argument, so that it survives pickling.
"""

from typing import ClassVar


class SweepError(Exception):
    """An expected error; its message tells the user what to do. Base of the exceptions here."""

    exit_code: ClassVar[int] = 1


class UsageError(SweepError):
    """An argument, a file or the data is invalid."""

    exit_code: ClassVar[int] = 2


class SpaceError(UsageError):
    """A search-space file is invalid; the message lists every problem."""


class StorageError(SweepError):
    """A directory, a store or a cluster is unavailable."""

    exit_code: ClassVar[int] = 4
