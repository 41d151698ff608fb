"""`tools.generate_docs`: parts are written between their marks, stale ones are named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer

from tools import generate_docs
from tools.generate_docs import cli_commands, main, regenerate

PAGE = """# Title

Before.

<!-- generated: greeting -->
old
<!-- generated: end -->

After.
"""


@pytest.fixture(autouse=True)
def greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_docs, "PARTS", {"greeting": lambda: "hello\\n\n"})


def test_a_part_is_replaced_between_its_marks_and_nothing_else() -> None:
    assert regenerate(PAGE) == PAGE.replace("old\n", "hello\\n\n")
    assert regenerate("no part\n") == "no part\n"


def test_a_part_that_nothing_writes_is_an_error() -> None:
    with pytest.raises(KeyError, match="farewell"):
        regenerate(PAGE.replace("greeting", "farewell"))


def test_check_names_stale_pages_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert main(["--check"], docs=tmp_path) == 1
    assert capsys.readouterr().out == "page.md: stale; run: python -m tools.generate_docs\n"
    assert page.read_text() == PAGE


def test_writing_makes_pages_fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    assert main([], docs=tmp_path) == 0
    assert capsys.readouterr().out == "page.md: written\n"
    assert main([], docs=tmp_path) == 0
    assert main(["--check"], docs=tmp_path) == 0
    assert not capsys.readouterr().out


def test_a_command_is_described_with_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()

    @app.command("count")
    def count(
        files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What to count.")],
        *,
        top: Annotated[int, typer.Option("-n", "--top", help="At most: a | b.")] = 3,
        quietly: Annotated[bool, typer.Option("--quiet", help="Say less.")] = False,
        out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to.")],
    ) -> None:
        """Count files.

        \b
        Example:
          count one two
        """

    @app.command("other")
    def other() -> None:
        """Do something else."""

    monkeypatch.setattr(generate_docs, "app", app)
    assert [command.name for command in cli_commands()] == ["count", "other"]
    assert generate_docs.commands() == "\n".join(
        [
            "## `count`",
            "",
            "Count files.",
            "",
            "```text",
            "sft-sweep count FILE... --out DIR [OPTIONS]",
            "```",
            "",
            "Example:",
            "",
            "```bash",
            "count one two",
            "```",
            "",
            "| argument | meaning | default |",
            "| --- | --- | --- |",
            "| `FILE...` | What to count. | required |",
            "",
            "| option | meaning | default |",
            "| --- | --- | --- |",
            "| `-n, --top N` | At most: a \\| b. | `3` |",
            "| `--quiet` | Say less. |  |",
            "| `--out DIR` | Where to. | required |",
            "",
            "## `other`",
            "",
            "Do something else.",
            "",
            "```text",
            "sft-sweep other",
            "```",
            "",
        ]
    )
