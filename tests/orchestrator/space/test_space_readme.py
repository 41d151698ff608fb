from __future__ import annotations

from pathlib import Path

from orchestrator.space import SOURCES, parse_space
from orchestrator.space.reference import keys_table
from trainable import backbones

README = Path(__file__).parents[3] / "README.md"


def test_the_readme_lists_every_key_as_the_code_does() -> None:
    text = README.read_text(encoding="utf-8")
    begin, end = "<!-- keys -->\n", "\n<!-- keys: end -->"
    assert begin in text
    shown = text.split(begin)[1].split(end)[0]
    assert shown == keys_table(), "paste the output of: python -m orchestrator.space.reference"


def test_the_readmes_example_is_a_search_space_that_parses() -> None:
    text = README.read_text(encoding="utf-8").split("## The search-space file\n")[1]
    lines = text.split("\nA list is a choice")[0].splitlines()
    example = "\n".join(line.removeprefix("    ") for line in lines)
    space = parse_space(example, where="README.md", registry=backbones)
    assert space.varies == ("backbone", "freeze_depth", "lr", "layer_decay")
    assert len(space.label_budgets) == 4


def test_the_readmes_datasets_parse_and_show_every_source_but_the_embedded_one() -> None:
    text = README.read_text(encoding="utf-8").split("## Your own images\n")[1].split("\n## ")[0]
    examples = [line for line in text.splitlines() if line.startswith("    dataset: ")]
    search = "name: own\nsearch: {backbone: tiny_strokes, label_budget: 5}\n"
    spaces = [parse_space(search + line.strip(), where="README.md") for line in examples]
    assert [space.dataset.source for space in spaces] == [
        source for source in SOURCES if source != "digits"
    ]
