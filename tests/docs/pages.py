"""The pages of the documentation, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "cluster" / "README.md",
    *sorted(DOCS.glob("*.md")),
]
"""What is kept true; the changelog tells of what was."""

_FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    """The page's path within the repository."""
    return str(page.relative_to(ROOT))


def text_of(page: Path | str) -> str:
    """A page's text, given its path or its name within `docs/`."""
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page: Path | str, language: str) -> list[str]:
    """Contents of the page's fenced blocks in one language."""
    found = _FENCED.finditer(text_of(page))
    return [block["content"] for block in found if block["language"] == language]


def commands(page: Path | str) -> list[str]:
    """The lines of the page's shell blocks that call this program, without comments."""
    return [
        line.partition(" #")[0].strip()
        for block in blocks(page, "bash")
        for line in block.splitlines()
        if line.startswith("sft-sweep ")
    ]


def links(page: Path) -> Iterator[str]:
    """Targets of the page's links."""
    return (found[1] for found in _LINK.finditer(_prose(page)))


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading[1].lower()).strip().replace(" ", "-")
        for heading in _HEADING.finditer(_prose(page))
    }


def _prose(page: Path) -> str:
    return _FENCED.sub("", text_of(page))
