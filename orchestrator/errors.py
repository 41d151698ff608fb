"""The exceptions of `orchestrator`, each with the exit code the command line ends with.

All of them carry their whole message as the single argument, so that they survive pickling.
"""

from typing import ClassVar


class SweepError(Exception):
    """Anything that goes wrong in a way the user can read about; the message says what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(SweepError):
    """A bad argument, a bad file, or data that cannot serve."""

    exit_code: ClassVar[int] = 2


class SpaceError(UsageError):
    """A search-space file with problems; the message lists every one of them."""


class StorageError(SweepError):
    """A place to write or a cluster to run on is not there."""

    exit_code: ClassVar[int] = 4
