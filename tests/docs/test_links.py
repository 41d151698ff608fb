"""Links, anchors and paths in the documentation lead somewhere."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, anchors, links, name_of, text_of

MOST_LINES = 150
_PATH = re.compile(
    r"(?<![\w/.-])(?:benchmarks|cluster|docs|orchestrator|search_spaces|tests|tools|trainable)"
    r"/[\w./-]*\w"
)
_MODULE = re.compile(r"python3? -m ((?:benchmarks|tests|tools|trainable)[\w.]*)")


def _relative(page: Path) -> list[str]:
    return [link for link in links(page) if not link.startswith(("https://", "http://"))]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_and_anchor_exists(page: Path) -> None:
    for link in _relative(page):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_a_link_or_anchor_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title, `code` & more\n\n[one](other.md#here) [two](https://x.org)\n")
    assert _relative(page) == ["other.md#here"]
    assert anchors(page) == {"a-title-code--more"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_of_the_repository_that_a_page_names_exists(page: Path) -> None:
    missing = [path for path in _PATH.findall(text_of(page)) if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_program_that_a_page_names_exists(page: Path) -> None:
    for module in _MODULE.findall(text_of(page)):
        assert find_spec(module) is not None, module


def test_paths_and_programs_are_looked_for_at_all() -> None:
    texts = [text_of(page) for page in PAGES]
    assert sum(len(_PATH.findall(text)) for text in texts) > 50
    assert sum(len(_MODULE.findall(text)) for text in texts) > 5


def test_the_index_leads_to_every_page() -> None:
    listed = {(DOCS / link).resolve() for link in _relative(DOCS / "README.md")}
    assert set(DOCS.glob("*.md")) - {DOCS / "README.md"} <= listed


def test_the_readme_is_short_and_leads_to_the_index() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= MOST_LINES
    assert "docs/README.md" in _relative(ROOT / "README.md")
