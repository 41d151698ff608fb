"""URLs of object stores: parsed, checked and formatted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from orchestrator.errors import UsageError

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "s3": ("endpoint_override", "scheme", "region"),
    "gs": ("endpoint_override", "scheme"),
    "file": (),
}
"""Allowed options after the `?` of a URL, by scheme."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """A place in a store. It never contains credentials, since none are accepted.

    Attributes:
        scheme: a key of `OPTIONS`.
        path: bucket and key, without a slash at the end; for `file`, the path.
        options: names and values, sorted.
    """

    scheme: str
    path: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        query = "?" + urlencode(self.options, safe=":/") if self.options else ""
        return f"{self.scheme}://{self.path}{query}"

    def __truediv__(self, name: str) -> Place:
        return replace(self, path=f"{self.path}/{name}")

    @property
    def parent(self) -> Place:
        """The place that contains this one."""
        return replace(self, path=self.path.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def bucket(self) -> str:
        """The first part of the path."""
        return self.path.partition("/")[0]

    @property
    def argument(self) -> str:
        """The URL, quoted for a shell."""
        return shlex.quote(str(self))


def locate(text: str | Path) -> Path | Place:
    """Return a path, or a place in a store if the text is a URL.

    Raises:
        UsageError: the URL is not valid.
    """
    found = None if isinstance(text, Path) else _URL.fullmatch(text)
    if found is None:
        return Path(text)
    scheme, rest = found[1].lower(), found[2]
    if scheme not in OPTIONS:
        allowed = ", ".join(f"{name}://" for name in OPTIONS)
        raise UsageError(f"{scheme}://: no such kind of store; allowed: {allowed}, or a directory")
    where, _, query = rest.partition("?")
    if scheme != "file":
        _check_no_credentials(scheme, rest)
    if not where.strip("/") or (scheme == "file") != where.startswith("/"):
        form = "file:///FOLDER" if scheme == "file" else f"{scheme}://BUCKET/PREFIX"
        raise UsageError(f"{scheme}://{where}: incomplete; the form is {form}")
    return Place(scheme, _tidy(where), _read_options(scheme, query))


def _tidy(where: str) -> str:
    """Return a path without empty parts.

    Raises:
        UsageError: a part is `.` or `..`.
    """
    parts = [part for part in where.split("/") if part]
    if {".", ".."} & set(parts):
        raise UsageError(f"{where}: got a part that is . or ..; a store has no such folders")
    return ("/" if where.startswith("/") else "") + "/".join(parts)


def _check_no_credentials(scheme: str, rest: str) -> None:
    """Refuse credentials: all processes see command lines, and Ray's job list stores them.

    Raises:
        UsageError: the URL may contain some; the message does not repeat them.
    """
    if "@" in rest or "%40" in rest or ":" in rest.partition("/")[0].partition("?")[0]:
        raise UsageError(
            f"{scheme}://...: got something before an @ or a colon, which may be credentials (not "
            "shown); a URL is no place for them: others see command lines. Set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS, or "
            f"use the files of the store's own tools, and write {scheme}://BUCKET/PREFIX"
        )


def _read_options(scheme: str, query: str) -> tuple[tuple[str, str], ...]:
    allowed = OPTIONS[scheme]
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(given) - set(allowed))
    if unknown or (query and not given):
        told = ", ".join(unknown) or "what follows the ?"
        raise UsageError(
            f"{scheme}://...?: unknown option: {told}; allowed: {', '.join(allowed) or 'none'}"
        )
    return tuple(sorted(given.items()))
