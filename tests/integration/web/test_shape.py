"""The page in a browser: the view Shape, on the history of the simulated box."""

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.integration.web.browser import Visitor, touch
from tests.integration.web.page import Page as Served

pytestmark = pytest.mark.slow

CURVE = {"curve": [[50, 30], [75, 50], [80, 64], [83, 100]], "target_c": None}


def with_curve(tab: Page) -> None:
    """Let the settings of all cards be `CURVE`."""

    def answer(route: Route) -> None:
        response = route.fetch()
        body = response.json()
        for card in body["cards"]:
            card.update(CURVE)
        route.fulfill(response=response, json=body)

    tab.route("**/api/settings", answer)


def predicted(tab: Page) -> None:
    """Wait for a prediction."""
    expect(tab.locator(".headline")).to_contain_text("instead of", timeout=200_000)


def drag_by_mouse(tab: Page, begin: tuple[float, float], end: tuple[float, float]) -> None:
    tab.mouse.move(*begin)
    tab.mouse.down()
    tab.mouse.move(*end, steps=5)
    tab.mouse.up()


def drag_by_touch(tab: Page, begin: tuple[float, float], end: tuple[float, float]) -> None:
    touch(tab, [[begin, end]])


def move_by_keys(tab: Page, begin: tuple[float, float], end: tuple[float, float]) -> None:
    tab.locator("[data-point='1']").focus()
    for _ in range(3):
        tab.keyboard.press("Shift+ArrowUp")


@pytest.mark.parametrize("move", [drag_by_mouse, drag_by_touch, move_by_keys])
def test_moving_a_point_changes_the_curve_and_the_prediction(
    page: Served, visit: Visitor, move: Callable[[Page, tuple[float, float], tuple[float, float]], None]
) -> None:
    tab = visit(page, "shape", before=with_curve, has_touch=move is drag_by_touch)
    predicted(tab)
    outcomes = tab.locator(".outcomes tbody").first
    before = outcomes.text_content() or ""
    point = tab.locator("[data-point='1']")
    box = point.locator(".dot").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    move(tab, (x, y), (x - 4, y - 45))
    expect(point).to_have_attribute("aria-valuenow", re.compile("6[0-9]"))
    expect(tab.locator(".points input").nth(3)).to_have_value(re.compile("6[0-9]"))
    expect(outcomes).not_to_have_text(before)
    expect(tab.locator(".code").first).to_contain_text(re.compile(r'curve = "50:30,7\d:6\d,80:'))


def test_a_point_stays_between_its_neighbours(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape", before=with_curve)
    fields = tab.locator(".points input")
    fields.nth(2).fill("99")
    fields.nth(2).blur()
    expect(fields.nth(2)).to_have_value("79")
    fields.nth(3).fill("5")
    fields.nth(3).blur()
    expect(fields.nth(3)).to_have_value("30")


def test_an_emptied_field_shows_its_former_number_again(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape", before=with_curve)
    fields = tab.locator(".points input")
    for number, value in ((2, "75"), (3, "50")):
        fields.nth(number).fill("")
        fields.nth(number).blur()
        expect(fields.nth(number)).to_have_value(value)
    tab.get_by_label("hold a target temperature").check()
    target = tab.locator(".target-part input[type=number]")
    before = target.input_value()
    target.fill("")
    target.blur()
    expect(target).to_have_value(before)


def test_the_numbers_of_a_curve_fit_a_narrow_screen(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape", before=with_curve, viewport={"width": 360, "height": 800})
    fields = tab.locator(".points input")
    expect(fields).to_have_count(8)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    for field in fields.all():
        assert field.evaluate("(element) => element.scrollWidth <= element.clientWidth")


def test_keys_add_and_remove_points(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape", before=with_curve)
    points = tab.locator("[data-point]")
    expect(points).to_have_count(4)
    points.nth(1).focus()
    tab.keyboard.press("Insert")
    expect(points).to_have_count(5)
    expect(points.nth(2)).to_be_focused()
    tab.keyboard.press("Delete")
    tab.keyboard.press("Delete")
    expect(points).to_have_count(3)
    for _ in range(5):
        tab.keyboard.press("Delete")
    expect(points).to_have_count(1)


def test_the_driver_may_have_the_fans_below_a_temperature(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape", before=with_curve)
    tab.get_by_label("the driver sets the fans").check()
    expect(tab.locator(".code").first).to_contain_text('"50:auto,75:50')
    tab.get_by_label("the driver sets the fans").uncheck()
    expect(tab.locator(".code").first).to_contain_text('"50:50,75:50')


def test_a_target_slides_and_changes_the_prediction(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape")
    predicted(tab)
    peak = tab.locator(".outcome .would").first
    before = peak.text_content() or ""
    tab.get_by_role("slider", name="Target").last.fill("66")
    expect(tab.locator(".code").first).to_contain_text("target_c = 66")
    expect(peak).not_to_have_text(before)
    expect(tab.locator(".outcome .range").first).to_have_text(re.compile(r"\d to \d.*°C"))


def test_one_request_runs_at_a_time_and_the_newest_settings_win(page: Served, visit: Visitor) -> None:
    running, most, asked = 0, 0, []
    lock = threading.Lock()

    def count(route: Route) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            asked.append(route.request.post_data_json)
        response = route.fetch()
        with lock:
            running -= 1
        route.fulfill(response=response)

    def prepare(tab: Page) -> None:
        with_curve(tab)
        tab.route("**/api/predict", count)

    tab = visit(page, "shape", before=prepare)
    predicted(tab)
    tab.locator("[data-point='1']").focus()
    for _ in range(12):
        tab.keyboard.press("ArrowUp")
    expect(tab.locator("[data-point='1']")).to_have_attribute("aria-valuenow", "62")
    expect(tab.locator(".code").first).to_contain_text("75:62")
    tab.wait_for_load_state("networkidle")
    assert most == 1
    assert asked[-1]["curve"][1] == [75, 62]


def test_too_little_data_is_said_with_what_to_record(page: Served, visit: Visitor) -> None:
    text = "only 12 minutes of readings: let gpufan record an hour of load"

    def prepare(tab: Page) -> None:
        def too_little(route: Route) -> None:
            body: dict[str, Any] = route.fetch().json()
            for card in body["cards"].values():
                card.update(state="too-little", text=text)
            route.fulfill(json=body)

        tab.route("**/api/model", too_little)

    tab = visit(page, "shape", before=prepare)
    expect(tab.locator(".outcome").first).to_contain_text(text)
    expect(tab.locator(".outcome table").first).to_be_hidden()


def test_one_card_alone_can_be_shaped(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape")
    tab.get_by_role("checkbox", name="1 GTX 1080 Ti").check()
    expect(tab.locator(".outcome")).to_have_count(1)
    expect(tab.get_by_label("Highest duty")).to_be_disabled()
    tab.get_by_role("slider", name="Target").last.fill("70")
    text = tab.locator(".code").first
    expect(text).to_contain_text("[[gpu]]")
    expect(text).to_contain_text("target_c = 70")
    tab.get_by_role("checkbox", name="0 GTX 1080 Ti").click()
    expect(tab.get_by_role("checkbox", name="all cards")).to_be_checked()


def test_quiet_hours_and_the_highest_duty_get_into_the_text(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape")
    tab.get_by_label("Highest duty").fill("70")
    tab.get_by_role("button", name="Add quiet hours").click()
    quiet = tab.locator(".quiet").last
    quiet.get_by_label("from").fill("23:00")
    quiet.get_by_label("sat").uncheck()
    tab.get_by_label("Highest duty").focus()
    text = tab.locator(".code").first
    for words in ("max_duty_percent = 70", "[[quiet]]", 'from = "23:00"', '"sun"'):
        expect(text).to_contain_text(words)
    expect(text).not_to_contain_text('"sat"')


@pytest.mark.parametrize("wrong", ["0", "101", "55.5"])
def test_a_wrong_highest_duty_is_refused_and_not_corrected(page: Served, visit: Visitor, wrong: str) -> None:
    tab = visit(page, "shape")
    field = tab.get_by_label("Highest duty")
    field.fill(wrong)
    field.press("Tab")
    expect(field).to_have_value(wrong)
    expect(field).to_have_attribute("title", "a whole number from 1 to 100")
    expect(tab.locator(".code").first).not_to_contain_text("max_duty_percent")
    tab.get_by_role("button", name="Apply …").click()
    expect(field).to_be_focused()
    expect(tab.get_by_role("dialog")).to_have_count(0)


def test_nothing_is_applied_while_a_field_shows_a_wrong_time(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape")
    tab.get_by_role("button", name="Add quiet hours").click()
    begin, end = tab.get_by_label("from"), tab.get_by_label("to", exact=True)
    begin.fill("25:00")
    end.focus()
    tab.get_by_role("button", name="Apply …").click()
    expect(begin).to_be_focused()
    expect(tab.get_by_role("dialog")).to_have_count(0)
    begin.fill("23:00")
    tab.get_by_role("button", name="Apply …").click()
    expect(tab.get_by_role("dialog")).to_contain_text('from = "23:00"')


def test_the_text_can_be_copied(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape", permissions=["clipboard-read", "clipboard-write"])
    expect(tab.locator(".code").first).to_contain_text("target_c")
    tab.get_by_role("button", name="Copy").click()
    expect(tab.locator(".result")).to_have_text("Copied.")
    assert "target_c" in tab.evaluate("navigator.clipboard.readText()")


def test_the_difference_is_shown_before_it_is_applied_and_can_be_undone(page: Served, visit: Visitor) -> None:
    tab = visit(page, "shape", before=lambda tab: tab.emulate_media(reduced_motion="reduce"))
    tab.get_by_role("slider", name="Target").last.fill("70")
    tab.get_by_role("button", name="Apply …").click()
    dialog = tab.get_by_role("dialog")
    expect(dialog.locator(".added")).to_contain_text(["target_c = 70"])
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    tab.get_by_role("button", name="Apply …").click()
    dialog.get_by_role("button", name="Apply").click()
    expect(tab.locator(".result")).to_contain_text("gpufan follows it now", timeout=10_000)
    tab.get_by_role("button", name="Undo").click()
    expect(tab.locator(".result")).to_contain_text("as it was", timeout=10_000)
    expect(tab.get_by_role("button", name="Undo")).to_be_hidden()


def test_another_tab_follows_settings_that_were_applied_but_not_over_an_edit(page: Served, visit: Visitor) -> None:
    tab, other, edited = (visit(page, "shape") for _ in range(3))
    first, second, third = (each.get_by_role("slider", name="Target").last for each in (tab, other, edited))
    before = first.input_value()
    for each in (first, second, third):
        expect(each).to_have_value(before)
    third.fill("66")
    first.fill("71")
    tab.get_by_role("button", name="Apply …").click()
    tab.get_by_role("dialog").get_by_role("button", name="Apply").click()
    expect(second).to_have_value("71", timeout=10_000)
    expect(third).to_have_value("66")
    expect(tab.locator(".result")).to_contain_text("gpufan follows it now", timeout=10_000)
    tab.get_by_role("button", name="Undo").click()
    expect(second).to_have_value(before, timeout=10_000)
    expect(third).to_have_value("66")
