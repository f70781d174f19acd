"""The page in a browser: its views in both themes and widths. Screenshots are written to `.ci/artifacts/`."""

import itertools
import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.integration.web.browser import HOSTILE, PICTURES, Visitor
from tests.integration.web.page import Page as Served

pytestmark = pytest.mark.slow

VIEWS = {
    "now": ".card .line.temperature[d]",
    "then": ".time-area .main-svg",
    "shape": '.outcome[data-state="ready"] .line.temperature[d]',
}
"""Each view, and an element that is there when the view is complete."""

FOCUS_IS_SHOWN = """(element) => getComputedStyle(element).outlineStyle !== "none"
  || getComputedStyle(element.querySelector(".reach")).stroke !== "none" """
FIRST_PICTURE_MS = 1000
LOAD_BYTES = 2_000_000


def complete(tab: Page, view: str) -> None:
    """Wait until the view is complete."""
    expect(tab.locator(VIEWS[view]).first).to_be_attached(timeout=200_000)
    expect(tab.locator("#then")).not_to_have_attribute("aria-busy", "true", timeout=200_000)


@pytest.mark.parametrize(("view", "theme", "width"), list(itertools.product(VIEWS, ["light", "dark"], [360, 1280])))
def test_a_view_is_accessible_and_fits_the_screen(
    page: Served, visit: Visitor, view: str, theme: str, width: int
) -> None:
    tab = visit(page, view, color_scheme=theme, viewport={"width": width, "height": 800})
    complete(tab, view)
    PICTURES.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=PICTURES / f"{view}-{theme}-{width}.png", full_page=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(tab, options={"resultTypes": ["violations"]}).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


LONG = {"one word": "X" * 200, "words": "GeForce GTX " * 17, "hostile": HOSTILE * 8}


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", LONG.values(), ids=LONG)
def test_a_long_name_is_cut_and_its_title_has_all_of_it(
    page: Served, visit: Visitor, name: str, view: str, width: int
) -> None:
    with page.events() as stream:
        snapshot = stream.next()
    for card in snapshot["cards"]:
        card.update(label=name, severity="problem")
    body = f"retry: 300\nevent: now\ndata: {json.dumps(snapshot)}\n\n"

    def rename(route: Route) -> None:
        response = route.fetch()
        box = response.json()
        for card in box["cards"]:
            card["label"] = name
        route.fulfill(response=response, json=box)

    def prepare(tab: Page) -> None:
        tab.route("**/api/box", rename)
        tab.route("**/api/events", lambda route: route.fulfill(content_type="text/event-stream", body=body))

    tab = visit(page, view, before=prepare, viewport={"width": width, "height": 800})
    complete(tab, view)
    tab.screenshot(path=PICTURES / f"{view}-long-{width}.png", full_page=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    names = tab.locator(f"#{view} .name")
    assert names.count() >= 2
    for shown in names.all():
        assert shown.get_attribute("title") in (name, "all cards", "together")
        assert len(shown.text_content() or "") <= 61
    assert name in [shown.get_attribute("title") for shown in names.all()]
    assert tab.locator("img").count() == 0


def test_the_first_picture_is_early_and_the_page_is_small(page: Served, visit: Visitor) -> None:
    visit(page)  # the server has compressed its files
    tab = visit(page)
    complete(tab, "now")
    paints = tab.evaluate("performance.getEntriesByType('paint').map((entry) => entry.startTime)")
    sizes = tab.evaluate("performance.getEntriesByType('resource').map((entry) => entry.transferSize)")
    print(f"first picture after {min(paints):.0f} ms, {sum(sizes)} bytes in {len(sizes)} requests")
    assert min(paints) < FIRST_PICTURE_MS
    assert sum(sizes) < LOAD_BYTES


def test_everything_can_be_reached_with_the_keyboard_and_shows_the_focus(page: Served, visit: Visitor) -> None:
    for view in VIEWS:
        tab = visit(page, view)
        complete(tab, view)
        seen = set()
        for _ in range(60):
            tab.keyboard.press("Tab")
            focused = tab.locator(":focus")
            if not focused.count():
                break
            seen.add(
                focused.evaluate("(element) => element.id || element.getAttribute('aria-label') || element.textContent")
            )
            assert focused.evaluate(FOCUS_IS_SHOWN), seen
        assert len(seen) >= 3
