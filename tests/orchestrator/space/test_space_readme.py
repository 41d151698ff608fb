from __future__ import annotations

from pathlib import Path

from orchestrator.space.reference import keys_table

README = Path(__file__).parents[3] / "README.md"


def test_the_readme_lists_every_key_as_the_code_does() -> None:
    text = README.read_text(encoding="utf-8")
    begin, end = "<!-- keys -->\n", "\n<!-- keys: end -->"
    assert begin in text
    shown = text.split(begin)[1].split(end)[0]
    assert shown == keys_table(), "paste the output of: python -m orchestrator.space.reference"
