"""Check of images in threads: broken ones, and the value range of 16-bit grey ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple

from orchestrator.datasets.header_check import kind_of
from orchestrator.processors import usable_processors
from trainable.errors import DataError
from trainable.modalities.image.decoding import ValueRange, check_image, may_be_deep, value_extent

_CHUNK = 64
"""Number of images that a thread checks in one task."""
_MOST_KINDS = 1024
"""Most kinds of sound images that are remembered."""


class ImageChecker:
    """Decodes images in threads and reports those that cannot be decoded.

    Pillow releases the interpreter lock while it decodes.

    Args:
        report: called with row and reason of each image that cannot be decoded, in the caller's
            thread.
        measured: called with the smallest and largest value of each 16-bit grey image that is
            measured, in the caller's thread.
    """

    def __init__(
        self, report: Callable[[int, str], None], measured: Callable[[ValueRange], None]
    ) -> None:
        self._report = report
        self._measured = measured
        self._workers = usable_processors()
        self._pool = ThreadPoolExecutor(self._workers)
        self._chunk: list[_Unchecked] = []
        self._running: deque[Future[_Checked]] = deque()
        self._sound_kinds: set[bytes] = set()

    def __enter__(self) -> ImageChecker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._submit()
                while self._running:
                    self._collect()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def add(self, row: int, content: bytes, *, check: bool, measure: bool) -> None:
        """Queue an image to be checked, measured or both."""
        kind = kind_of(content) if check else None
        check = check and kind not in self._sound_kinds
        measure = measure and may_be_deep(content)
        if not check and not measure:
            return
        self._chunk.append(_Unchecked(row, content, kind, check, measure))
        if len(self._chunk) == _CHUNK:
            self._submit()
            while len(self._running) > 2 * self._workers:  # bounds the memory of queued images
                self._collect()

    def _submit(self) -> None:
        self._running.append(self._pool.submit(_check, self._chunk))
        self._chunk = []

    def _collect(self) -> None:
        found = self._running.popleft().result()
        if len(self._sound_kinds) < _MOST_KINDS:
            self._sound_kinds |= found.sound_kinds
        for row, reason in found.failed:
            self._report(row, reason)
        for extent in found.extents:
            self._measured(extent)


class _Unchecked(NamedTuple):
    """Row and content of an image, its kind, and what is requested."""

    row: int
    content: bytes
    kind: bytes | None
    check: bool
    measure: bool


class _Checked(NamedTuple):
    """Row and reason of each broken image, kinds of sound ones, and measured value ranges."""

    failed: list[tuple[int, str]]
    sound_kinds: set[bytes]
    extents: list[ValueRange]


def _check(chunk: Sequence[_Unchecked]) -> _Checked:
    found = _Checked([], set(), [])
    for image in chunk:
        try:
            if image.check:
                check_image(image.content)
                if image.kind is not None:
                    found.sound_kinds.add(image.kind)
            if image.measure and (extent := value_extent(image.content)) is not None:
                found.extents.append(extent)
        except DataError as error:
            if image.check:
                found.failed.append((image.row, str(error)))
    return found
