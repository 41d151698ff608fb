"""Reports as a browser shows them: Debian's Chromium, without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.reading.report import write_report
from orchestrator.recording.sweep_directory import Run
from tests.builders.synthetic_sweeps import write_sweep
from tests.integration.conftest import Launched
from tests.orchestrator.reading.report.test_report import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")

DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(small_sweep: Launched, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small launch, with the figure that needs more trials too."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.reading.report.importance.FEWEST_TRIALS", 2)
        write_report(Run(small_sweep.path), path)
    return path


class Opened:
    """A report in a tab, and what it said and asked for meanwhile."""

    def __init__(
        self, browser: Browser, path: Path, *, size: tuple[int, int] = DESKTOP, dark: bool = False
    ) -> None:
        width, height = size
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-drawn=yes]", timeout=60_000)
        self.uri = path.as_uri()

    def clean(self) -> bool:
        """Whether nothing was said and nothing but the file and its own pictures asked for."""
        asked = [url for url in self.asked if not url.startswith("data:")]
        return not self.said and asked == [self.uri]


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)])
def test_every_figure_is_drawn_without_errors_or_requests(
    report: Path, browser: Browser, size: tuple[int, int], dark: bool
) -> None:
    opened = Opened(browser, report, size=size, dark=dark)
    page = opened.page
    plots = page.locator(".plot")
    assert plots.count() == 7
    for number in range(plots.count()):
        plot = plots.nth(number)
        assert plot.locator(".main-svg").count() > 0
        assert plot.locator(".scatterlayer .trace, .barlayer .trace, .heatmaplayer image").count()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    shown = page.locator(".mistakes img")
    assert shown.count() == page.locator(".mistakes li").count() > 0
    assert page.evaluate(
        "[...document.querySelectorAll('.mistakes img')].every(image => image.naturalWidth > 0)"
    )
    assert opened.clean()


def test_a_launch_leaves_one_whose_first_lines_are_the_answer_and_can_be_selected(
    small_sweep: Launched, browser: Browser
) -> None:
    opened = Opened(browser, small_sweep.path / "report.html")
    opened.page.locator(".answer p").first.click(click_count=3)
    selected = opened.page.evaluate("getSelection().toString()").strip()
    assert selected == small_sweep.output["answer"][0]


def test_another_budget_can_be_chosen(report: Path, browser: Browser) -> None:
    opened = Opened(browser, report)
    count = "document.getElementById('curves').data.map(trace => trace.text[0].split('-')[0])"
    assert set(opened.page.evaluate(count)) == {"b5"}
    opened.page.select_option("select[data-for=curves]", label="2 labels per class")
    opened.page.wait_for_function(f"{count}.every(study => study === 'b2')")
    assert opened.clean()


def test_in_print_it_is_dark_on_light(report: Path, browser: Browser) -> None:
    opened = Opened(browser, report, dark=True)
    ink = "getComputedStyle(document.body).color"
    assert opened.page.evaluate(ink) == "rgb(230, 233, 237)"
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate(ink) == "rgb(27, 31, 36)"
    assert len(opened.page.pdf()) > 50_000


def test_hostile_names_do_nothing(tmp_path: Path, browser: Browser) -> None:
    sweep = write_sweep(
        tmp_path / "run", classes=HOSTILE, backbones=HOSTILE[:2], sweep_id=HOSTILE[3]
    )
    write_report(Run(sweep), sweep / "report.html")
    opened = Opened(browser, sweep / "report.html")
    assert opened.page.title().startswith("</script><b>bold</b>{{ 7 * 7 }}")
    assert opened.page.locator("main img, main script, main b b, svg img").count() == 0
    assert "<script>document.title" in opened.page.locator("#class-scores").inner_text()
    assert opened.clean()
