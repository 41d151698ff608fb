"""Objects of a store: list, read, write and remove them, with its errors in plain words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from orchestrator.errors import StorageError
from orchestrator.recording.stores.places import Place
from trainable.atomic_files import atomic_write

CONNECT_S, ANSWER_S, TRIES = 5.0, 10.0, 2
"""Timeouts in seconds for connecting and for an answer, and the number of attempts."""

_CAUSES = (
    (
        r"NO_SUCH_BUCKET|[Bb]ucket.*(not found|does not exist)",
        "there is no such bucket, or these credentials may not see it; make it, give another, or "
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        r"NETWORK_CONNECTION|curlCode|REQUEST_TIMEOUT|[Tt]imed? ?out|[Cc]onnect",
        "{endpoint} cannot be reached; check the network, and the option endpoint_override or "
        "AWS_ENDPOINT_URL",
    ),
    (
        r"INVALID_ACCESS_KEY|SIGNATURE|INVALID_CLIENT_TOKEN|TOKEN|CREDENTIAL|[Cc]redential",
        "the store does not accept the credentials; they come from AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, ~/.aws, the machine's role or GOOGLE_APPLICATION_CREDENTIALS",
    ),
    (
        r"ACCESS_DENIED|FORBIDDEN|HTTP status 403|[Pp]ermission",
        "no permission, or no credentials; listing, reading, writing and removing have to be "
        "allowed, and credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, "
        "the machine's role or GOOGLE_APPLICATION_CREDENTIALS",
    ),
)


class Store:
    """The objects below a place; names are relative to it.

    All methods raise StorageError if the store refuses or fails.

    Args:
        place: place in the store.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    @cached_property
    def _fs(self) -> Any:
        return _filesystem(self.place.scheme, self.place.bucket, self.place.options)

    def _at(self, name: str) -> str:
        return f"{self.place.path}/{name}"

    def list(self, *, recursive: bool = True) -> dict[str, tuple[int, int]]:
        """Return size in bytes and time of change in ns, by name; a folder's size is -1."""
        from pyarrow import fs

        selector = fs.FileSelector(self.place.path, allow_not_found=True, recursive=recursive)
        with _as_storage_errors(self.place):
            found = self._fs.get_file_info(selector)
            if not found and self.place.scheme != "file":
                self._check_bucket()
        start = len(self.place.path) + 1
        return {
            info.path[start:]: (info.size, info.mtime_ns or 0)
            if info.type == fs.FileType.File
            else (-1, 0)
            for info in found
        }

    def _check_bucket(self) -> None:
        """Raise FileNotFoundError if the bucket itself does not exist."""
        from pyarrow import fs

        if self._fs.get_file_info(self.place.bucket).type == fs.FileType.NotFound:
            raise FileNotFoundError("NO_SUCH_BUCKET")

    def changed_ns(self, name: str) -> int | None:
        """Return the time of an object's last write in ns, by the store's clock; or None."""
        with _as_storage_errors(self.place):
            info = self._fs.get_file_info(self._at(name))
        return None if info.mtime_ns is None else int(info.mtime_ns)

    def read(self, name: str) -> bytes | None:
        """Return the content of an object; None if there is none."""
        with _as_storage_errors(self.place):
            try:
                with self._fs.open_input_stream(self._at(name)) as source:
                    return bytes(source.read())
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write an object atomically."""
        with _as_storage_errors(self.place):
            if self.place.scheme == "file":
                path = Path(self._at(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as sink:
                    sink.write(content)
                return
            with self._fs.open_output_stream(self._at(name)) as sink:
                sink.write(content)

    def remove(self, name: str) -> None:
        """Remove an object if it exists."""
        with _as_storage_errors(self.place):
            try:
                self._fs.delete_file(self._at(name))
            except FileNotFoundError:
                return


def check_store(place: Place) -> int:
    """Write and remove an object; return the time of that in ns, by the store's clock.

    Raises:
        StorageError: one of these is not possible.
    """
    store, name = Store(place), f".sft-sweep-{uuid4().hex}"
    store.list(recursive=False)
    store.write(name, b"a probe that sft-sweep removes at once\n")
    try:
        return store.changed_ns(name) or 0
    finally:
        store.remove(name)


@lru_cache(maxsize=16)
def _filesystem(scheme: str, bucket: str, options: tuple[tuple[str, str], ...]) -> Any:
    from pyarrow import fs

    given = dict(options)
    if scheme == "file":
        return fs.LocalFileSystem()
    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=TRIES * ANSWER_S), **given)
    endpoint = _endpoint(given)
    if "://" in endpoint:
        http, _, endpoint = endpoint.partition("://")
        given.setdefault("scheme", http)
    region = given.get("region") or os.environ.get("AWS_REGION")
    region = region or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and not endpoint:
        with _as_storage_errors(Place(scheme, bucket, options)):
            region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        endpoint_override=endpoint.rstrip("/") or None,
        scheme=given.get("scheme", "https"),
        region=region or "us-east-1",
        connect_timeout=CONNECT_S,
        request_timeout=ANSWER_S,
        allow_delayed_open=True,  # one request for a small object instead of three
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
    )


def _endpoint(options: dict[str, str]) -> str:
    return (
        options.get("endpoint_override")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or ""
    )


@contextmanager
def _as_storage_errors(place: Place) -> Iterator[None]:
    """Turn errors of the store into a `StorageError` in plain words.

    A store's answer may contain keys and signatures: only its code is repeated, and the original
    error is not chained.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise StorageError(f"{place}: {_explain(place, error)}") from None


def _explain(place: Place, error: Exception) -> str:
    text = str(error)
    for pattern, words in _CAUSES:
        if place.scheme != "file" and re.search(pattern, text):
            return words.format(endpoint=_shown_endpoint(place))
    if isinstance(error, OSError) and error.strerror and place.scheme == "file":
        return error.strerror
    code = re.search(r"AWS Error ([A-Z_]+)|\(HTTP status \d+\)", text)
    return f"the store refused ({code[0] if code else type(error).__name__})"


def _shown_endpoint(place: Place) -> str:
    """Return the endpoint without credentials that may precede its @."""
    return _endpoint(dict(place.options)).rpartition("@")[2] or "the store"


def now() -> str:
    """Return the time as text, for people who read the object."""
    return datetime.now(tz=UTC).isoformat(timespec="seconds")
