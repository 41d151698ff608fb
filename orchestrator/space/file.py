"""A search-space file or mapping -> `SearchSpace`, or an error with every problem."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from pathlib import Path

from orchestrator.space.build_space import build_space
from orchestrator.space.parse_axes import Registry
from orchestrator.space.plain_values import plain_mapping
from orchestrator.space.problems import NO_FILE, Problems, space_error
from orchestrator.space.search_space import SearchSpace
from orchestrator.space.yaml_text import Overrides, TextError, apply_overrides, read_yaml
from trainable.spec.refusals import refusal

MAX_BYTES = 1_000_000

DEFAULT_NAME = "sweep"
"""Name of a search space that does not come from a file and gives no name."""


def load_space(
    path: Path,
    overrides: Overrides = (),
    *,
    registry: Registry | None = None,
) -> SearchSpace:
    """Read the search space of a file.

    Args:
        path: a file of YAML in UTF-8.
        overrides: values that replace those of the file, such as `search.lr=0.001`.
        registry: registry of backbones, to check and expand their names; None takes every name.

    Raises:
        SpaceError: the file cannot be read, or has a key or value that is not allowed.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise space_error(where, f"no such file{_nearest(path)}") from None
    except IsADirectoryError:
        raise space_error(
            where,
            "is a folder; name the search-space file in it, or write one for it with: "
            f"sft-sweep init {shlex.quote(where)}",
        ) from None
    except OSError as error:
        raise space_error(where, f"cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise space_error(where, "no file can have this name") from None
    if len(content) > MAX_BYTES:
        raise space_error(where, f"larger than {MAX_BYTES} bytes; no search space is that long")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise space_error(where, f"not UTF-8: byte 0x{byte:02x} in line {line}") from None
    return parse_space(text, where=where, overrides=overrides, registry=registry)


def parse_space(
    text: str,
    *,
    where: str,
    overrides: Overrides = (),
    registry: Registry | None = None,
) -> SearchSpace:
    """Parse the search space of a text; see `load_space`.

    Args:
        text: YAML.
        where: name of the text, for messages; its stem is the default name.
        overrides: values that replace those of the text.
        registry: registry of backbones, to check and expand their names; None takes every name.

    Raises:
        SpaceError: the text is not YAML, or has a key or value that is not allowed.
    """
    if len(text) > MAX_BYTES:
        raise space_error(where, f"larger than {MAX_BYTES} bytes; no search space is that long")
    try:
        given = read_yaml(text)
    except TextError as error:
        raise space_error(where, str(error)) from None
    if given is None:
        raise space_error(where, "the file is empty; it needs at least dataset and search")
    if not isinstance(given, Mapping):
        raise space_error(where, refusal(given, "a mapping of keys at the top level"))
    return _resolve(
        given, overrides, Problems(where), default_name=Path(where).stem, registry=registry
    )


def read_mapping(
    given: object,
    overrides: Overrides = (),
    *,
    registry: Registry | None = None,
) -> SearchSpace:
    """Read the search space of a mapping with the keys of a file.

    Args:
        given: lists and mappings of text, numbers, True, False and None; tuples, paths, and arrays
            and scalars of NumPy are converted.
        overrides: values that replace those of the mapping.
        registry: registry of backbones, to check and expand their names; None takes every name.

    Raises:
        SpaceError: it is not such a mapping, or has a key or value that is not allowed.
    """
    if not isinstance(given, Mapping):
        raise space_error(NO_FILE, refusal(given, "a mapping of keys, or the path of a file"))
    problems = Problems(NO_FILE)
    values = plain_mapping(given, problems)
    problems.raise_if_any(values)
    return _resolve(values, overrides, problems, default_name=DEFAULT_NAME, registry=registry)


def _resolve(
    given: Mapping[str, object],
    overrides: Overrides,
    problems: Problems,
    *,
    default_name: str,
    registry: Registry | None,
) -> SearchSpace:
    if isinstance(overrides, Mapping):
        overrides = plain_mapping(overrides, problems, path=("overrides",))
    return build_space(
        apply_overrides(given, overrides, problems),
        where=problems.where,
        default_name=default_name,
        registry=registry,
        problems=problems,
    )


def _nearest(path: Path) -> str:
    """Return `; did you mean X?` for the most similar file of the folder, or an empty text."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(close[0])}?" if close else ""
