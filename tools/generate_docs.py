"""Write the parts of the documentation that follow from the code.

    python -m tools.generate_docs            # writes them into docs/
    python -m tools.generate_docs --check    # names stale pages and exits with 1, writes nothing

A page marks each part with `<!-- generated: NAME -->` and `<!-- generated: end -->`. The texts
themselves belong to the code: the rules of the search-space file, the help of the commands, the
metadata of the tables' schemas, and what `benchmarks.recipes` measured.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import get_args, get_origin

import pyarrow as pa
import typer
from typer.models import OptionInfo, ParameterInfo
from typer.utils import get_params_from_function

from benchmarks.recipe_table import table as recipe_table
from benchmarks.recipes import RESULTS, read_results
from orchestrator.cli.main import app
from orchestrator.recording.table_schemas import KEYS, SCHEMAS
from orchestrator.space import known_keys

DOCS = Path(__file__).parents[1] / "docs"

_PART = re.compile(
    r"(<!-- generated: (?P<name>\w+) -->\n).*?(?=<!-- generated: end -->)", flags=re.DOTALL
)


def search_space_keys() -> str:
    """A table of keys for each section of the search-space file."""
    lines: list[str] = []
    for section, keys in groupby(known_keys(), key=lambda entry: entry.key.partition(".")[0]):
        lines += [f"### `{section}`", ""]
        rows = ((f"`{key.key}`", key.type, key.default, key.help) for key in keys)
        lines += [*_table(("key", "allowed", "default", "meaning"), rows), ""]
    return "\n".join(lines)


def commands() -> str:
    """A section for each command: its help, its examples, its arguments and options."""
    return "\n".join(line for command in cli_commands() for line in _command_section(command))


def tables() -> str:
    """A section for each table of a sweep, with the meaning of every column."""
    lines: list[str] = []
    for name, schema in SCHEMAS.items():
        keys = ", ".join(f"`{key}`" for key in KEYS[name])
        rows = (
            (f"`{field.name}`", _type(field), _metadata(field, "unit"), _metadata(field))
            for field in schema
        )
        lines += [f"## `{name}`", "", f"{_metadata(schema)} Key: {keys}.", ""]
        lines += [*_table(("column", "type", "unit", "meaning"), rows), ""]
    return "\n".join(lines)


def recipes() -> str:
    """The table of recipes on real pretrained networks."""
    return recipe_table(read_results(RESULTS)) + "\n"


PARTS: Mapping[str, Callable[[], str]] = {
    "search_space_keys": search_space_keys,
    "commands": commands,
    "tables": tables,
    "recipes": recipes,
}
"""What writes each part, by the name that pages mark it with."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """An argument or option of a command.

    Attributes:
        spelling: how it is written, such as `--budget N` or `RUN`.
        names: what a command line is searched for: the names of an option, or the argument's word.
        is_option: whether it is an option.
        help: what it means.
        default: as it is written; empty where there is none.
        required: whether it has to be given.
        repeated: whether an argument takes several values.
    """

    spelling: str
    names: tuple[str, ...]
    is_option: bool
    help: str
    default: str
    required: bool
    repeated: bool


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of the program.

    Attributes:
        name: in full, such as `cache info`.
        text: its help without the examples.
        examples: command lines.
        parameters: arguments and options, in the order of the help.
    """

    name: str
    text: str
    examples: tuple[str, ...]
    parameters: tuple[Parameter, ...]


def cli_commands() -> list[Command]:
    """Every command, in the order of `--help`."""
    return list(_commands_of(app))


def regenerate(page: str) -> str:
    """The page with all of its generated parts written anew.

    Raises:
        KeyError: the page names a part that nothing writes.
    """
    return _PART.sub(lambda part: part[1] + PARTS[part["name"]](), page)


def main(arguments: Sequence[str] | None = None, *, docs: Path = DOCS) -> int:
    """Write or check the pages of a folder; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, name stale pages")
    check: bool = parser.parse_args(arguments).check
    stale = False
    for path in sorted(docs.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        fresh = regenerate(page)
        if fresh == page:
            continue
        stale = True
        if check:
            print(f"{path.name}: stale; run: python -m tools.generate_docs")
        else:
            path.write_text(fresh, encoding="utf-8")
            print(f"{path.name}: written")
    return int(check and stale)


def _commands_of(group: typer.Typer, prefix: str = "") -> Iterator[Command]:
    for info in group.registered_commands:
        assert info.name is not None
        assert info.callback is not None
        text, _, examples = inspect.cleandoc(info.callback.__doc__ or "").partition("\b\n")
        yield Command(
            name=prefix + info.name,
            text=text.strip(),
            examples=tuple(line.strip() for line in examples.splitlines()[1:]),
            parameters=tuple(_parameters(info.callback)),
        )
    for nested in group.registered_groups:
        assert nested.typer_instance is not None
        yield from _commands_of(nested.typer_instance, f"{prefix}{nested.name} ")


def _parameters(command: Callable[..., object]) -> Iterator[Parameter]:
    for name, parameter in get_params_from_function(command).items():
        declared = parameter.default
        assert isinstance(declared, ParameterInfo)
        is_option = isinstance(declared, OptionInfo)
        kinds = [parameter.annotation, *get_args(parameter.annotation)]
        word = declared.metavar or _word(kinds)
        names = tuple(declared.param_decls or ()) or ((f"--{name}",) if is_option else (word,))
        takes_value = is_option and bool not in kinds
        yield Parameter(
            spelling=", ".join(names) + (f" {word}" if takes_value else ""),
            names=names,
            is_option=is_option,
            help=declared.help or "",
            default=_default(declared.default),
            required=declared.default is ...,
            repeated=any(get_origin(each) is list for each in kinds),
        )


def _word(kinds: Sequence[object]) -> str:
    """What stands for the value of a parameter that declares no word of its own."""
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return "|".join(kind)
    return "N" if int in kinds else "FILE"


def _default(value: object) -> str:
    return "" if value in (..., None) or isinstance(value, bool) else str(value)


def _command_section(command: Command) -> Iterator[str]:
    """The lines of one command's section."""
    arguments = [each for each in command.parameters if not each.is_option]
    options = [each for each in command.parameters if each.is_option]
    needed = [each.spelling.rpartition(", ")[2] for each in options if each.required]
    optional = ["[OPTIONS]"] if len(options) > len(needed) else []
    usage = ["sft-sweep", command.name, *map(_in_usage, arguments), *needed, *optional]
    yield from (f"## `{command.name}`", "", *command.text.splitlines(), "")
    yield from ("```text", " ".join(usage), "```", "")
    if command.examples:
        heading = "Examples:" if len(command.examples) > 1 else "Example:"
        yield from (heading, "", "```bash", *command.examples, "```", "")
    for header, parameters in (("argument", arguments), ("option", options)):
        if parameters:
            rows = [_parameter_row(each) for each in parameters]
            yield from (*_table((header, "meaning", "default"), rows), "")


def _in_usage(argument: Parameter) -> str:
    shown = argument.spelling.removesuffix("...") + ("..." if argument.repeated else "")
    return shown if argument.required else f"[{shown}]"


def _parameter_row(parameter: Parameter) -> tuple[str, str, str]:
    default = f"`{parameter.default}`" if parameter.default else ""
    return (
        f"`{parameter.spelling}`",
        parameter.help,
        "required" if parameter.required else default,
    )


def _type(field: pa.Field) -> str:
    return "timestamp" if pa.types.is_timestamp(field.type) else str(field.type)


def _metadata(described: pa.Field | pa.Schema, key: str = "description") -> str:
    return str(described.metadata.get(key.encode(), b"").decode())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|{' --- |' * len(header)}",
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
    ]


if __name__ == "__main__":
    sys.exit(main())
