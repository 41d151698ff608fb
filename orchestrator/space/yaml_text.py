"""YAML text -> plain values, without the implicit types of YAML 1.1.

Only `true` and `false` are bools, numbers are decimal with or without an exponent, and everything
else (`no`, `on`, `1:30`, `2026-01-31`, `0x1F`, `1_000`) is text. Keys are always text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

import yaml

from orchestrator.space.problems import Problems
from trainable.spec.refusals import shown

MAX_DEPTH = 40
MAX_VALUES = 10_000
_MAX_DIGITS = 1000
_MAX_SAID_CHARS = 160
_TAG = "tag:yaml.org,2002:"


Overrides = Sequence[str] | Mapping[str, object]
"""Replacement values: a mapping by dotted key, or texts `KEY=VALUE` with YAML values."""


class TextError(Exception):
    """The text cannot be read as YAML values; the message is one line."""


class _Composer(yaml.SafeLoader):
    """Composes nodes; only the resolvers below decide the type of a plain scalar."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the name and the type are PyYAML's

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._composed = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node; refuse long texts before they use much time."""
        self._composed += 1
        if self._composed > 2 * MAX_VALUES:
            raise TextError(f"more than {MAX_VALUES} values; no search space has that many")
        return super().compose_node(parent, index)


_RESOLVERS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
}
for _kind, _pattern in _RESOLVERS.items():
    _Composer.add_implicit_resolver(
        f"{_TAG}{_kind}", re.compile(rf"(?:{_pattern})\Z", re.ASCII), None
    )


def read_yaml(text: str) -> object:
    """Return the plain value of the text; None for an empty text.

    Raises:
        TextError: malformed YAML, a duplicate key, a tag, or nesting or alias expansion beyond
            the limits.
    """
    try:
        composer = _Composer(text)
        try:
            node = composer.get_single_node()
        finally:
            composer.dispose()
        return None if node is None else _Values().of(node, depth=0)
    except yaml.MarkedYAMLError as error:
        raise TextError(_malformed(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character
        character = f"U+{code:04X}" if isinstance(code, int) else repr(code)
        raise TextError(f"not valid YAML near line {line}: character {character}") from None
    except RecursionError:
        raise TextError(f"nested too deeply; allowed: {MAX_DEPTH} levels") from None
    except (ValueError, OverflowError):
        # PyYAML lets chr() fail on escapes such as "\UFFFFFFFF".
        raise TextError("not valid YAML: an escape names no character") from None


class _Values:
    """Converts composed nodes to plain values; aliases are expanded, up to a limit."""

    def __init__(self) -> None:
        self._made = 0

    def of(self, node: yaml.Node, *, depth: int) -> object:
        self._made += 1
        if self._made > MAX_VALUES:
            raise TextError(f"more than {MAX_VALUES} values once aliases are expanded")
        if depth > MAX_DEPTH:
            raise TextError(f"{_at(node)}: nested too deeply; allowed: {MAX_DEPTH} levels")
        if not node.tag.startswith(_TAG):
            raise TextError(f"{_at(node)}: tags such as {_tag(node)} are not allowed")
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, depth=depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.of(item, depth=depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        raise TextError(f"{_at(node)}: tags such as {_tag(node)} are not allowed")

    def _mapping(self, node: yaml.MappingNode, *, depth: int) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise TextError(f"{_at(key_node)}: a key has to be text, not a list or a mapping")
            key = str(key_node.value)
            if key in values:
                raise TextError(f"{_at(key_node)}: the key {shown(key)} is given twice")
            values[key] = self.of(value_node, depth=depth + 1)
        return values


def _scalar(node: yaml.ScalarNode) -> object:
    kind = node.tag.removeprefix(_TAG)
    text = str(node.value)
    if kind == "str":
        return text
    if kind not in _RESOLVERS:
        raise TextError(f"{_at(node)}: tags such as {_tag(node)} are not allowed")
    if not re.fullmatch(_RESOLVERS[kind], text, re.ASCII):
        raise TextError(f"{_at(node)}: {shown(text)} is tagged as {kind}, and is none")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int" and len(text) <= _MAX_DIGITS:
        return int(text)
    if kind == "int":
        return math.inf
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _tag(node: yaml.Node) -> str:
    """Return the tag as a file writes it."""
    return shown(str(node.tag).replace(_TAG, "!!"))


def _at(node: yaml.Node) -> str:
    mark = node.start_mark
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _malformed(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    said = " ".join(f"{error.context or ''} {error.problem or ''}".split())
    if "alias" in said:
        return f"not valid YAML{place}: put text that starts with * in quotes"
    if r"'\t'" in said:
        return f"not valid YAML{place}: a tab; indent with spaces"
    said = " ".join((error.problem or error.context or "malformed").split())
    return f"not valid YAML{place}: {said[:_MAX_SAID_CHARS]}"


def apply_overrides(
    given: Mapping[str, object], overrides: Overrides, problems: Problems
) -> dict[str, object]:
    """Return the values with each override applied.

    An override without `=`, with a value that is not YAML, or below a value that is not a
    mapping becomes a problem; the others still apply.
    """
    result = dict(given)
    for text, key, value in _read_overrides(overrides, problems):
        keys = [part.strip() for part in key.split(".")]
        if not all(keys):
            problems.add((_origin(overrides),), _no_override(text, overrides))
            continue
        blocked = _set_below(result, keys, value)
        if blocked:
            problems.add(
                (_origin(overrides),),
                f"got {shown(text)}; {blocked} is no mapping in this file; set {blocked} itself",
            )
    return result


def _read_overrides(overrides: Overrides, problems: Problems) -> Iterator[tuple[str, str, object]]:
    """Yield each valid override: as given, its dotted key and its value."""
    if isinstance(overrides, Mapping):
        yield from ((key, key, value) for key, value in overrides.items())
        return
    for text in overrides:
        key, equals, value_text = text.partition("=")
        if not equals:
            problems.add((_origin(overrides),), _no_override(text, overrides))
            continue
        try:
            value = read_yaml(value_text)
        except TextError as error:
            problems.add((_origin(overrides),), f"got {shown(text)}; {error}")
            continue
        yield text, key, value


def _origin(overrides: Overrides) -> str:
    """Return the name of the overrides in messages."""
    return "overrides" if isinstance(overrides, Mapping) else "--set"


def _no_override(text: str, overrides: Overrides) -> str:
    """Return the problem line for an override without a usable key."""
    if isinstance(overrides, Mapping):
        return f"got {shown(text)}; allowed: dotted keys, such as search.lr"
    return f"got {shown(text)}; allowed: KEY=VALUE, such as search.lr=0.001"


def _set_below(values: dict[str, object], keys: list[str], value: object) -> str | None:
    """Set the value in copied mappings; return the dotted key that blocks it, or None."""
    level = values
    for count, key in enumerate(keys[:-1], start=1):
        inner = level.get(key)
        if inner is None:
            inner = {}
        if not isinstance(inner, Mapping):
            return ".".join(keys[:count])
        copied = dict(inner)
        level[key] = copied
        level = copied
    level[keys[-1]] = value
    return None
