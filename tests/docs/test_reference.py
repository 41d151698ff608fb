"""What the code offers is documented, and generated parts are fresh."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.cli.main import run as run_cli
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.space import known_keys
from tests.docs.pages import PAGES, commands, name_of, text_of
from tools.generate_docs import cli_commands, main

COMMANDS = {command.name: command for command in cli_commands()}
_OPTION = re.compile(r"(?<![\w-])-{1,2}[a-z][\w-]*")


def _section(page: str, title: str) -> str:
    return text_of(page).split(f"\n## `{title}`\n")[1].split("\n## ")[0]


def test_the_generated_parts_of_every_page_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_that_help_shows_is_documented(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli([*name.split(), "--help"]) == 0
    shown = re.findall(r"^  (-.*?)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    options = {option for line in shown for option in _OPTION.findall(line)} - {"--help"}
    documented = re.findall(r"^\| `(-.*?)` \|", _section("cli.md", name), re.MULTILINE)
    assert {option for line in documented for option in _OPTION.findall(line)} == options


def test_every_command_that_help_shows_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["--help"]) == 0
    listed = capsys.readouterr().out.split("Commands:\n")[1]
    names = set(re.findall(r"^  (\w+)", listed, re.MULTILINE))
    assert len(names) > 10
    assert {name.split()[0] for name in COMMANDS} == names


def test_every_key_of_a_search_space_file_is_documented() -> None:
    keys = text_of("search-space.md").split("\n## All keys\n")[1]
    documented = re.findall(r"^\| `([\w.]+)` \|", keys, re.MULTILINE)
    assert documented == [entry.key for entry in known_keys()]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_is_documented(name: str) -> None:
    documented = re.findall(r"^\| `(\w+)` \|", _section("tables.md", name), re.MULTILINE)
    assert documented == SCHEMAS[name].names


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_command_lines_in_the_pages_use_commands_and_options_that_exist(page: Path) -> None:
    for line in commands(page):
        words = line.split()[1:]
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS), None)
        assert name is not None, line
        known = {each for item in COMMANDS[name].parameters for each in item.names}
        without_texts = re.sub(r"\"[^\"]*\"|'[^']*'", "", line)
        assert set(_OPTION.findall(without_texts)) <= known, line
