"""The page in a browser: the view Now and the header, on the simulated box and on a daemon over the double of NVML."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
from playwright.sync_api import Page, Route, expect

from tests.doubles.nvml import Kind, NvmlDouble
from tests.integration.harness import Program
from tests.integration.web.browser import HOSTILE, Visitor
from tests.integration.web.page import Page as Served
from tests.integration.web.page import running_page

SEEN_MS = 5000 + 3000
"""Within this time, ms, a loss must be on the page: 5 s, and more for a machine that runs other tests too."""


@pytest.fixture
def daemon(double: NvmlDouble, start: Callable[..., Program]) -> Program:
    """The daemon on two cards, of which one has a hostile name."""
    double.cards[1].name = HOSTILE.encode()
    program = start()
    program.wait_until_it_controls(0, 1)
    return program


@pytest.fixture
def watched(daemon: Program, folder: Path) -> Iterator[Served]:
    """The page on the daemon."""
    with running_page("--runtime-dir", str(folder)) as page:
        yield page


def test_every_card_is_shown_with_numbers_units_and_the_reason(page: Served, visit: Visitor) -> None:
    tab = visit(page)
    expect(tab.locator(".card")).to_have_count(2)
    card = tab.locator(".card").first
    expect(card.locator("h3")).to_have_text("0 GTX 1080 Ti")
    expect(card.locator(".celsius")).to_have_text(re.compile(r"^\d+\s°C$"))
    expect(card.locator(".value").nth(0)).to_have_text(re.compile(r"^\d+\s%$"))
    expect(card.locator(".value").nth(1)).to_have_text(re.compile(r"^\d+\sW$"))
    expect(card.locator(".reason")).to_contain_text("holds 78 °C")
    expect(card.locator(".facts")).to_contain_text("rpm")
    expect(tab.locator("#state")).to_have_attribute("data-state", "running")


@pytest.mark.slow
def test_a_case_fan_has_a_line_below_the_cards(visit: Visitor) -> None:
    with running_page("--simulate", "dual-1080ti-case") as box:
        tab = visit(box)
        fan = tab.locator("#case-fans li")
        expect(fan).to_have_text(re.compile(r"^nct6798/pwm2: \d+ %, \d+ rpm: the cards need \d+ %"))
        expect(fan).to_have_attribute("data-severity", "ok")
        tab.close()
        visit.complaints.clear()  # of the end of the page


def test_the_last_ten_minutes_are_there_at_once_and_go_on_by_themselves(page: Served, visit: Visitor) -> None:
    tab = visit(page)
    line = tab.locator(".card").first.locator(".line.temperature")
    expect(line).to_have_attribute("d", re.compile(r"(L[^L]+){300}"))
    before = line.get_attribute("d") or ""
    expect(line).not_to_have_attribute("d", before)


def test_nothing_moves_while_the_page_loads_and_runs(page: Served, visit: Visitor) -> None:
    observe = """new PerformanceObserver((list) => {
      window.moved = list.getEntries().reduce((sum, entry) => sum + entry.value, window.moved);
    }).observe({ type: "layout-shift", buffered: true }); window.moved = 0;"""
    tab = visit(page, before=lambda tab: tab.add_init_script(observe))
    expect(tab.locator(".card")).to_have_count(2)
    temperature = tab.locator(".line.temperature").first
    for _ in range(3):
        expect(temperature).not_to_have_attribute("d", temperature.get_attribute("d") or "")
    assert tab.evaluate("window.moved") < 0.02


def test_a_card_in_trouble_stands_out_and_says_what_to_do(double: NvmlDouble, watched: Served, visit: Visitor) -> None:
    tab = visit(watched)
    card = tab.locator(".card").first
    expect(card).to_have_attribute("data-severity", "ok")
    double.cards[0].error[Kind.TEMPERATURE] = pynvml.NVML_ERROR_UNKNOWN
    expect(card).to_have_attribute("data-severity", "warning")
    expect(card.locator(".badge")).to_have_text("warning")
    expect(card.locator(".reason")).to_contain_text("no temperature")
    expect(card.locator(".remedy")).to_contain_text("gpufan doctor")
    double.cards[0].lost = 1
    expect(card).to_have_attribute("data-severity", "problem")
    expect(card.locator(".badge")).to_have_text("needs help")
    expect(tab.locator("#state-remedy")).to_contain_text("Needs help: 0 ")


@pytest.mark.slow
def test_a_hostile_name_is_shown_as_text(watched: Served, visit: Visitor) -> None:
    tab = visit(watched)
    expect(tab.locator(".card").nth(1).locator("h3")).to_have_text(f"1 {HOSTILE}")
    assert tab.locator("img").count() == 0


@pytest.mark.slow
def test_a_daemon_that_hangs_or_stops_is_shown_and_its_return_too(
    daemon: Program, start: Callable[..., Program], watched: Served, visit: Visitor
) -> None:
    tab = visit(watched)
    header, temperature = tab.locator("#state"), tab.locator(".celsius").first
    expect(header).to_have_attribute("data-state", "running")
    daemon.signal(signal.SIGSTOP)
    expect(header).to_have_attribute("data-state", "hung", timeout=SEEN_MS)
    expect(temperature).to_have_text("–")
    expect(tab.locator("#state-remedy")).not_to_be_empty()
    daemon.signal(signal.SIGCONT)
    expect(header).to_have_attribute("data-state", "running", timeout=SEEN_MS)
    daemon.signal(signal.SIGTERM)
    expect(header).to_have_attribute("data-state", "stopped", timeout=SEEN_MS)
    expect(tab.locator("#state-remedy")).to_contain_text("gpufan run")
    start()
    expect(header).to_have_attribute("data-state", "running", timeout=SEEN_MS)
    expect(temperature).to_have_text(re.compile(r"\d\s°C"))


@pytest.mark.slow
def test_a_server_that_hangs_is_shown_and_its_return_too(watched: Served, visit: Visitor) -> None:
    tab = visit(watched)
    header = tab.locator("#state")
    expect(header).to_have_attribute("data-state", "running")
    (server,) = Path(f"/proc/{watched.process.pid}/task/{watched.process.pid}/children").read_text().split() or [
        watched.process.pid
    ]
    os.kill(int(server), signal.SIGSTOP)
    try:
        expect(header).to_have_attribute("data-state", "silent", timeout=SEEN_MS)
        expect(tab.locator(".celsius").first).to_have_text("–")
    finally:
        os.kill(int(server), signal.SIGCONT)
    expect(header).to_have_attribute("data-state", "running", timeout=SEEN_MS)
    tab.close()
    visit.complaints.clear()  # of requests without an answer


@pytest.mark.slow
def test_a_server_that_was_started_again_asks_for_its_new_link(page: Served, visit: Visitor) -> None:
    with running_page("--simulate") as first:
        tab = visit(first)
        expect(tab.locator("#state")).to_have_attribute("data-state", "running")
    with running_page("--simulate", listen=first.host):
        expect(tab.locator("#state-text")).to_have_text("This link is not valid any more", timeout=SEEN_MS)
        expect(tab.locator("#state-remedy")).to_contain_text("that the terminal of gpufan web shows")
        tab.close()
        visit.complaints.clear()  # of the time without a server


def test_the_theme_follows_the_system_until_a_person_chooses_one(page: Served, visit: Visitor) -> None:
    tab = visit(page, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = tab.evaluate(background)
    tab.locator("#theme").select_option("light")
    assert tab.evaluate(background) != dark
    tab.reload()
    expect(tab.locator("#theme")).to_have_value("light")
    assert tab.evaluate(background) != dark


RECENT = """async (times) => {
  const { Recent } = await import("/static/recent.js");
  const recent = new Recent();
  const card = { key: "a", temperature_c: 50, read_percent: [null, 44, 60] };
  for (const time_s of times) recent.add({ time_s, cards: [card] });
  return recent.of("a");
}"""


def test_the_last_ten_minutes_go_on_after_the_clock_was_set_back(page: Served, visit: Visitor) -> None:
    tab = visit(page)
    found = tab.evaluate(RECENT, [*range(1000, 1700), 1650.5])
    assert (found["time_s"][0], found["time_s"][-2:]) == (1099, [1650, 1650.5])
    assert found["speed_percent"][-1] == 44
    assert tab.evaluate(RECENT, [1000, 1001, 10])["time_s"] == [10]


def sent(snapshot: Any) -> str:
    """A stream with one event, which the browser asks for again and again."""
    return f"retry: 300\nevent: now\ndata: {json.dumps(snapshot)}\n\n"


@pytest.mark.slow
def test_a_card_that_gets_another_number_gets_its_new_name(page: Served, visit: Visitor) -> None:
    with page.events() as stream:
        snapshot = stream.next()

    def renamed(route: Route) -> None:
        response = route.fetch()
        body = response.json()
        for card, new in zip(body["cards"], snapshot["cards"], strict=True):
            card["label"] = new["label"]
        route.fulfill(response=response, json=body)

    def prepare(tab: Page) -> None:
        tab.route("**/api/box", renamed)
        stream_type = "text/event-stream"
        tab.route("**/api/events", lambda route: route.fulfill(content_type=stream_type, body=sent(snapshot)))

    tab = visit(page, before=prepare)
    expect(tab.locator(".card h3")).to_have_text(["0 GTX 1080 Ti", "1 GTX 1080 Ti"])
    for card, label in zip(snapshot["cards"], ("1 GTX 1080 Ti", "0 GTX 1080 Ti"), strict=True):
        card["label"] = label
    expect(tab.locator(".card h3")).to_have_text(["1 GTX 1080 Ti", "0 GTX 1080 Ti"])


def test_a_daemon_that_stopped_is_not_said_to_read_cards(page: Served, visit: Visitor) -> None:
    with page.events() as stream:
        snapshot = stream.next()
    snapshot.update(
        interval_s=None, cards=[], daemon={"state": "stopped", "text": "gpufan.service: failed", "remedy": ""}
    )

    def answer(tab: Page) -> None:
        tab.route("**/api/events", lambda route: route.fulfill(content_type="text/event-stream", body=sent(snapshot)))

    tab = visit(page, before=answer)
    expect(tab.locator("#state-text")).to_have_text("gpufan.service: failed")
    expect(tab.locator("#state-remedy")).to_be_empty()


def unknown_everything(snapshot: dict[str, Any]) -> None:
    """Let the first card have a long name and no readings, as after it was lost."""
    card = snapshot["cards"][0]
    for name, value in card.items():
        if isinstance(value, (int, float)) and name != "index":
            card[name] = None
    card.update(label="card " * 40 + HOSTILE, read_percent=[None], rpm=[None], control="lost", severity="problem")
    card.update(reason="word " * 60 + HOSTILE, fault=HOSTILE * 5, remedy=HOSTILE * 5, order=HOSTILE, throttle=HOSTILE)


@pytest.mark.parametrize("width", [360, 1280])
def test_unknown_values_and_long_texts_break_nothing(page: Served, visit: Visitor, width: int) -> None:
    with page.events() as stream:
        snapshot = stream.next()
    unknown_everything(snapshot)

    def answer(tab: Page) -> None:
        tab.route("**/api/events", lambda route: route.fulfill(content_type="text/event-stream", body=sent(snapshot)))

    tab = visit(page, before=answer, viewport={"width": width, "height": 800})
    card = tab.locator(".card").first
    expect(card).to_have_attribute("data-severity", "problem")
    expect(card.locator(".celsius")).to_have_text("–")
    expect(card.locator(".fault")).to_have_text(HOSTILE * 5)
    assert tab.locator("img").count() == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
