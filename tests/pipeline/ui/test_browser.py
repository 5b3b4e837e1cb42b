"""The page as people use it, in a real Chromium: by keyboard, with HTML in ids, while tables change."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.models.table_records import top_k
from tests.pipeline.tables.runs import RECORDS, publish_records
from tests.pipeline.ui.conftest import HTML
from tests.pipeline.ui.pages import Page, served

pytestmark = pytest.mark.browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_MILLISECONDS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium of the system, or the one that `playwright install chromium` brings."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is missing: make test-all")
    from playwright.sync_api import Error, sync_playwright

    found = next(filter(None, map(shutil.which, _NAMES)), None)
    with sync_playwright() as play:
        try:
            # Chromium's sandbox refuses root.
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            started = play.chromium.launch(executable_path=found, args=arguments)
        except Error:
            pytest.skip("Chromium is missing: apt-get install chromium, or playwright install chromium")
        yield started
        started.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A tab in which nothing may fail."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.set_default_timeout(_MILLISECONDS)
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: wrong.append(dialog.message))
    yield tab
    tab.close()
    assert wrong == []


def at(page: Page, place: str = "") -> str:
    return f"http://{page.host}:{page.port}/{place}"


def of_user(page: Page, user: str) -> str:
    return at(page, f"#/user/{quote(user, safe='')}")


def test_a_user_is_found_and_the_history_walked_by_keyboard_alone(tab: Any, page: Page) -> None:
    tab.goto(at(page))
    tab.wait_for_selector(".list")
    tab.keyboard.press("/")
    tab.keyboard.type("user03")
    tab.wait_for_selector("#option-0")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("h1:text-is('user03')")
    total = page.of_user("user03", "history").json["total"]
    assert tab.text_content(".steps output") == f"{total} of {total}"
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_selector(f".steps output:text-is('{total - 1} of {total}')")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_selector(f".steps output:text-is('{total} of {total}')")
    tab.focus("#item-1")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("details[open] .event")
    shown = tab.eval_on_selector_all(".list .item", "all => all.map(one => one.firstChild.textContent)")
    listed = page.of_user("user03", "list").json["items"]
    assert shown == [item["title"] or item["item_id"] for item in listed]


def test_html_in_ids_is_shown_and_never_run(tab: Any, page: Page) -> None:
    tab.goto(of_user(page, HTML))
    tab.wait_for_selector(".list")
    assert tab.text_content("h1") == HTML
    assert tab.query_selector("main img") is None
    tab.goto(of_user(page, "<script>alert(1)</script>"))
    tab.wait_for_selector("main [role=alert]")


def test_the_page_follows_the_tables(tab: Any, tmp_path: Path) -> None:
    with served(tmp_path) as page:
        tab.goto(at(page))
        tab.wait_for_selector("h1:text-is('No lists yet')")
        publish_records(tmp_path, RECORDS, "run-1")
        tab.wait_for_selector(".list")
        tab.goto(of_user(page, "bob"))
        tab.wait_for_selector(".item:text-is('coat')")
        newer = top_k("bob", 10, ["scarf", "coat"])
        publish_records(tmp_path, {"recommendations": [newer]}, "run-2", "append")
        tab.wait_for_selector(".item:has-text('scarf') .move.new")
        tab.wait_for_selector("#said:has-text('The list of bob was refreshed')", state="attached")
        tab.goto("about:blank")


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_text_has_contrast(tab: Any, page: Page, width: int, scheme: str) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    tab.emulate_media(color_scheme=scheme)
    for place, shown in ((of_user(page, "user03"), ".list"), (at(page, "#/overview"), ".panels")):
        tab.goto(place)
        tab.wait_for_selector(shown)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        colours = tab.evaluate(
            """() => {
              const of = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
              return ["--ink", "--soft", "--accent", "--paper", "--sheet", "--faint"].map(of);
            }"""
        )
        *inks, paper, sheet, faint = (_luminance(colour) for colour in colours)
        for ground in (paper, sheet, faint):
            assert all(_contrast(ink, ground) >= 4.5 for ink in inks)


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it, of #rrggbb."""
    digits = re.fullmatch(r"\s*#([0-9a-f]{6})", colour)
    assert digits
    shares = (int(digits[1][place : place + 2], 16) / 255 for place in (0, 2, 4))
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: float, other: float) -> float:
    low, high = sorted((one, other))
    return (high + 0.05) / (low + 0.05)
