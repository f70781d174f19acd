"""The page in a browser: the view Then, on the history of the simulated box."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.integration.web.browser import HOSTILE, Visitor, touch
from tests.integration.web.page import Page as Served

pytestmark = pytest.mark.slow

PANELS = ["temperature, °C", "duty, %", "power, W", "sound, dB(A)"]


def range_of(request: Request) -> tuple[float, float]:
    """The times that a request for the history asks for."""
    query = parse_qs(urlsplit(request.url).query)
    return float(query["begin_s"][0]), float(query["end_s"][0])


def loads(tab: Page, do: Callable[[], object]) -> tuple[float, float]:
    """The range of the history that is loaded after `do`."""
    with tab.expect_request("**/api/history*") as found:
        do()
    return range_of(found.value)


def patched(path: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Page], None]:
    """Lets `change` change the answers to `path`."""

    def prepare(tab: Page) -> None:
        def answer(route: Route) -> None:
            response = route.fetch()
            body = response.json()
            change(body)
            route.fulfill(response=response, json=body)

        tab.route(f"**/api/{path}*", answer)

    return prepare


def drawn(tab: Page) -> None:
    """Wait for the charts."""
    expect(tab.locator("#then")).to_have_attribute("aria-busy", "false", timeout=200_000)
    expect(tab.locator(".time-area .main-svg").first).to_be_visible(timeout=200_000)


def test_the_views_have_addresses_and_work_with_the_keyboard(page: Served, visit: Visitor) -> None:
    tab = visit(page)
    tab.locator("#tab-now").focus()
    tab.keyboard.press("ArrowRight")
    expect(tab).to_have_url(re.compile("#then$"))
    expect(tab.locator("#then")).to_be_visible()
    expect(tab.locator("#now")).to_be_hidden()
    expect(tab.locator("#tab-then")).to_be_focused()
    tab.keyboard.press("End")
    expect(tab.locator("#shape")).to_be_visible()
    tab.go_back()
    expect(tab.locator("#then")).to_be_visible()


def test_all_cards_are_over_one_time_axis_with_units_and_totals(page: Served, visit: Visitor) -> None:
    tab = visit(page, "then")
    drawn(tab)
    for title in PANELS:
        expect(tab.locator(".time-area .annotation-text", has_text=title)).to_be_visible()
    lines = (
        "document.querySelector('.time-area .plot').data.filter((trace) => trace.mode === 'lines' && trace.y.length)"
    )
    assert tab.evaluate(f"{lines}.length") == 2 * len(PANELS)
    totals = tab.locator("table.totals tbody tr")
    expect(totals).to_have_count(3)
    for unit in ("°C", "dB(A)", "kWh"):
        expect(totals.last).to_contain_text(unit)
    expect(tab.locator(".densities figure")).to_have_count(2)
    assert tab.locator(".densities rect").count() > 20
    assert all(path.get_attribute("d") for path in tab.locator(".densities .curve:not(.former)").all())


def test_the_charts_are_loaded_when_the_view_is_opened_and_not_before(page: Served, visit: Visitor) -> None:
    tab = visit(page)
    expect(tab.locator(".card")).to_have_count(2)
    sizes = "performance.getEntriesByType('resource').map((entry) => [entry.name, entry.transferSize])"
    assert not [name for name, _ in tab.evaluate(sizes) if "plotly" in name]
    tab.locator("#tab-then").click()
    drawn(tab)
    assert [name for name, _ in tab.evaluate(sizes) if "plotly" in name]
    assert sum(size for _, size in tab.evaluate(sizes)) < 2_000_000


@pytest.mark.parametrize(("button", "seconds"), [("1 h", 3600), ("6 h", 21600), ("3 d", 259200), ("7 d", 604800)])
def test_a_button_shows_its_range(page: Served, visit: Visitor, button: str, seconds: int) -> None:
    tab = visit(page, "then")
    drawn(tab)
    begin_s, end_s = loads(tab, tab.get_by_role("button", name=button, exact=True).click)
    assert end_s - begin_s == pytest.approx(seconds, abs=1)
    drawn(tab)


def test_dragging_zooms_in_and_a_double_click_zooms_out(page: Served, visit: Visitor) -> None:
    tab = visit(page, "then")
    drawn(tab)
    box = tab.locator(".time-area").bounding_box()
    assert box
    y = box["y"] + 200

    def drag() -> None:
        tab.mouse.move(box["x"] + box["width"] * 0.4, y)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] * 0.5, y, steps=4)
        tab.mouse.up()

    begin_s, end_s = loads(tab, drag)
    assert end_s - begin_s == pytest.approx(8640, rel=0.1)
    begin_s, end_s = loads(tab, lambda: tab.mouse.dblclick(box["x"] + 200, y))
    assert end_s - begin_s == pytest.approx(86400, abs=1)


def test_wheel_and_keys_zoom_and_move_once_the_charts_have_the_focus(page: Served, visit: Visitor) -> None:
    tab = visit(page, "then")
    drawn(tab)
    area = tab.locator(".time-area")
    area.hover(position={"x": 400, "y": 100})
    tab.mouse.wheel(0, 200)
    assert tab.evaluate("new Promise(requestAnimationFrame).then(() => scrollY)") >= 0  # it scrolls and does not zoom
    area.focus()
    first = loads(tab, lambda: tab.mouse.wheel(0, -200))
    assert first[1] - first[0] < 86400
    closer = loads(tab, lambda: tab.keyboard.press("+"))
    assert closer[1] - closer[0] < first[1] - first[0]
    earlier = loads(tab, lambda: tab.keyboard.press("Shift+ArrowLeft"))
    assert earlier[1] < closer[1]
    again = loads(tab, lambda: tab.keyboard.press("Home"))
    assert again[1] - again[0] == pytest.approx(86400, abs=1)
    small = loads(tab, lambda: tab.mouse.wheel(0, -2))  # a touchpad
    assert 80_000 < small[1] - small[0] < 86_400
    requests: list[str] = []
    tab.on("request", lambda request: requests.append(request.url) if "/api/history" in request.url else None)
    turn = "(area) => { for (let i = 0; i < 9; i += 1) area.dispatchEvent(new WheelEvent('wheel', { deltaY: -100 })); }"
    loads(tab, lambda: area.evaluate(turn))
    assert len(requests) == 1


def test_two_fingers_zoom(page: Served, visit: Visitor) -> None:
    tab = visit(page, "then", viewport={"width": 360, "height": 740}, has_touch=True)
    drawn(tab)
    tab.locator(".time-area").scroll_into_view_if_needed()
    box = tab.locator(".time-area").bounding_box()
    assert box
    y, middle = box["y"] + 100, box["x"] + box["width"] / 2
    paths = [[(middle - 20, y), (middle - 80, y)], [(middle + 20, y), (middle + 80, y)]]
    begin_s, end_s = loads(tab, lambda: touch(tab, paths))
    assert end_s - begin_s == pytest.approx(86400 / 4, rel=0.1)


def test_the_readings_at_the_cursor_are_read_with_mouse_and_keys(page: Served, visit: Visitor) -> None:
    tab = visit(page, "then")
    drawn(tab)
    heading = tab.locator(".readout thead th").first
    expect(heading).to_have_text("last in this range")
    tab.locator(".time-area").hover(position={"x": 600, "y": 200})
    expect(heading).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    before = heading.text_content() or ""
    tab.locator(".time-area").focus()
    tab.keyboard.press("ArrowLeft")
    expect(heading).not_to_have_text(before)
    cells = tab.locator(".readout tbody tr").first.locator("td")
    expect(cells.first).to_have_text(re.compile(r"^\d+$"))


def test_events_can_be_read_and_lead_to_their_time(page: Served, visit: Visitor) -> None:
    def add(history: dict[str, Any]) -> None:
        middle_s = (history["begin_s"] + history["end_s"]) / 2
        event = {"begin_s": middle_s, "end_s": middle_s + 60, "key": "", "kind": "gap", "severity": "warning"}
        history["events"] = [{**event, "text": f"no readings {HOSTILE}", "count": 2}]

    tab = visit(page, "then", before=patched("history", add))
    drawn(tab)
    row = tab.locator("table.events tbody tr")
    expect(row).to_contain_text(f"no readings {HOSTILE}")
    tab.locator(".time-area").focus()
    tab.keyboard.press("ArrowRight")
    expect(tab.locator(".near")).to_contain_text(HOSTILE)
    begin_s, end_s = loads(tab, row.get_by_role("button").click)
    assert end_s - begin_s == pytest.approx(1260, abs=1)
    assert tab.locator("img").count() == 0


def test_a_card_with_a_hostile_name_is_shown_as_text(page: Served, visit: Visitor) -> None:
    def rename(box: dict[str, Any]) -> None:
        for card in box["cards"]:
            card["label"] = HOSTILE

    tab = visit(page, "then", before=patched("box", rename))
    drawn(tab)
    for place in (".readout tbody", ".totals tbody", ".densities"):
        expect(tab.locator(place)).to_contain_text(HOSTILE)
    assert tab.locator("img").count() == 0


def test_a_history_without_readings_is_said_in_a_sentence(page: Served, visit: Visitor) -> None:
    def empty(history: dict[str, Any]) -> None:
        history.update(cards={}, events=[], have=None, error="there is no history yet")

    tab = visit(page, "then", before=patched("history", empty))
    expect(tab.locator("#then .notice")).to_have_text("there is no history yet")
    drawn(tab)
    assert overlaps(tab) == []
    assert tab.locator(".time-area .y5tick").count() > 2


OVERLAPS = """() => {
  const boxes = (selector) => [...document.querySelectorAll(`.time-area ${selector}`)].map((element) => {
    const { left, right, top, bottom } = element.getBoundingClientRect();
    return { text: element.textContent, left, right, top, bottom };
  });
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const titles = boxes(".annotation-text");
  return boxes(".xtick").flatMap((tick) => titles.filter((title) => meet(tick, title)).map((title) => title.text));
}"""


def overlaps(tab: Page) -> list[str]:
    """The titles under ticks of the time axis."""
    assert tab.locator(".time-area .xtick").count() > 1
    found: list[str] = tab.evaluate(OVERLAPS)
    return found


def test_the_axes_stay_when_all_cards_are_hidden(page: Served, visit: Visitor) -> None:
    def add(history: dict[str, Any]) -> None:
        middle_s = (history["begin_s"] + history["end_s"]) / 2
        event = {"begin_s": middle_s, "end_s": middle_s, "kind": "fault", "severity": "note", "text": "x", "count": 1}
        history["events"] = [{**event, "key": key} for key in ("", *history["cards"])]

    tab = visit(page, "then", before=patched("history", add))
    drawn(tab)
    marks = tab.locator(".time-area .trace.scatter .point")
    expect(marks).to_have_count(3)
    for box in tab.locator(".legend input").all():
        box.uncheck()
    expect(marks).to_have_count(1)  # an event of a hidden card is hidden too
    assert overlaps(tab) == []


def test_a_time_without_readings_has_no_values_at_the_cursor(page: Served, visit: Visitor) -> None:
    def shorten(history: dict[str, Any]) -> None:
        for card in history["cards"].values():
            card["time_s"] = card["time_s"][: len(card["time_s"]) // 2]

    tab = visit(page, "then", before=patched("history", shorten))
    drawn(tab)
    cell = tab.locator(".readout tbody tr").first.locator("td").first
    expect(cell).to_have_text(re.compile(r"^\d+$"))
    width = tab.locator(".time-area").evaluate("(element) => element.clientWidth")
    tab.locator(".time-area").hover(position={"x": width * 0.9, "y": 200})
    expect(cell).to_have_text("–")
    tab.locator(".time-area").hover(position={"x": width * 0.3, "y": 200})
    expect(cell).to_have_text(re.compile(r"^\d+$"))


def test_an_unknown_energy_of_all_cards_is_no_zero(page: Served, visit: Visitor) -> None:
    def forget(history: dict[str, Any]) -> None:
        for card in history["cards"].values():
            card["totals"]["energy_kwh"] = None

    tab = visit(page, "then", before=patched("history", forget))
    expect(tab.locator(".totals tr").last.locator("[data-label=energy]")).to_have_text("–", timeout=200_000)


def test_the_range_ends_now_on_the_clock_of_the_server(page: Served, visit: Visitor) -> None:
    with page.events() as stream:
        snapshot = stream.next()
    snapshot["time_s"] -= 7200
    body = f"retry: 300\nevent: now\ndata: {json.dumps(snapshot)}\n\n"

    def answer(tab: Page) -> None:
        tab.route("**/api/events", lambda route: route.fulfill(content_type="text/event-stream", body=body))

    tab = visit(page, before=answer)
    expect(tab.locator("#state")).to_have_attribute("data-state", "running")
    _, end_s = loads(tab, tab.locator("#tab-then").click)
    assert end_s == pytest.approx(snapshot["time_s"], abs=30)


TICKS = """async ([begin, end]) => {
  const { timeTicks } = await import("/static/axes.js");
  return timeTicks(begin, end, 8).map((tick) => tick.label.replace(",", ""));
}"""


@pytest.mark.parametrize(
    ("begin", "hours", "labels"),
    [
        ("2026-10-24T22:00", 24, ["Sun 25 Oct", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00"]),
        ("2026-03-28T23:00", 23, ["Sun 29 Mar", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00"]),
        ("2026-06-01T10:00", 1, ["12:00", "12:10", "12:20", "12:30", "12:40", "12:50"]),
        ("2026-10-25T01:00", 1, ["02:00", "02:10", "02:20", "02:30", "02:40", "02:50"]),  # for the second time
    ],
)
def test_ticks_stay_round_when_summer_time_begins_or_ends(
    page: Served, visit: Visitor, begin: str, hours: int, labels: list[str]
) -> None:
    tab = visit(page, timezone_id="Europe/Berlin")
    begin_s = datetime.fromisoformat(f"{begin}+00:00").timestamp()
    assert tab.evaluate(TICKS, [begin_s, begin_s + hours * 3600 - 1]) == labels
