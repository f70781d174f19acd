"""A card in quiet hours, on a clock of the test's own: they begin and end, and what counts more than they do."""

import time
from collections.abc import Iterator

import pytest

from gpufan.config.order import Order
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.quiet_hours import QuietHours
from gpufan.core.sentences import state_sentence
from gpufan.daemon.simulation import simulation_local_time
from gpufan.daemon.worker import Worker
from gpufan.system.clock import local_clock_time
from tests.unit.builders import FakeGpu

EVERY_DAY = frozenset(range(7))
NIGHT = QuietHours(22 * 60, 7 * 60, EVERY_DAY, max_duty_percent=50, target_c=None)
DAY = CardSettings(curve=Curve(((50, 30), (80, 90))), quiet_hours=(NIGHT,))
LINE = "quiet hours until 07:00: at most 50 % instead of 90 %"


class Clock:
    """A clock on the wall that the test sets."""

    def __init__(self, clock: str) -> None:
        self.set(clock)

    def set(self, clock: str) -> None:
        hours, minutes = clock.split(":")
        self.local = time.gmtime(4 * 86400 + int(hours) * 3600 + int(minutes) * 60)

    def __call__(self, _: float) -> time.struct_time:
        return self.local


class Card:
    """A card of 80 °C, ticked once a second."""

    def __init__(self, clock: str, settings: CardSettings = DAY, temperature_c: float = 80) -> None:
        self.gpu, self.clock, self.now_s = FakeGpu(), Clock(clock), 0
        self.gpu.temperature_c = temperature_c
        self.worker = Worker(self.gpu, lambda _: settings, wall_clock=self.clock)
        self.tick()

    def tick(self, times: int = 1) -> "Card":
        for _ in range(times):
            self.worker.tick(self.now_s)
            self.now_s += 1
        return self

    def at(self, clock: str) -> tuple[int | None, str]:
        """The duty after a tick at that time of day, and its reason."""
        self.clock.set(clock)
        state = self.tick().worker.state
        return state.duty_percent, state_sentence(state)


def test_quiet_hours_count_from_the_tick_at_which_they_begin_to_that_at_which_they_end() -> None:
    card = Card("21:59")
    assert card.at("21:59") == (90, "the curve gives 90 %")
    assert card.at("22:00") == (50, LINE)
    assert card.at("00:00") == card.at("06:59") == (50, LINE)
    assert card.at("07:00") == (90, "the curve gives 90 %")
    assert card.gpu.written == [90, 50, 90]


def test_a_start_in_quiet_hours_sets_no_duty_above_the_limit() -> None:
    assert Card("23:00").gpu.written == [50]


def test_a_steady_card_notices_that_quiet_hours_begin() -> None:
    card = Card("21:00", temperature_c=60).tick(20)
    assert card.worker.quiet
    card.clock.set("22:00")
    card.tick()
    assert card.worker.state.settings == "curve 50:30,80:90, at most 50 %, quiet hours until 07:00"
    assert card.tick(20).worker.quiet


@pytest.mark.parametrize("clock", ["07:00", "12:00"])
def test_a_clock_that_is_set_over_the_end_ends_quiet_hours(clock: str) -> None:
    card = Card("23:00")
    assert card.at(clock)[0] == 90
    assert card.at("23:30")[0] == 50


def test_a_target_is_held_in_quiet_hours_and_the_curve_followed_again_after_them() -> None:
    night = NIGHT._replace(target_c=78.0)
    card = Card("21:59", CardSettings(curve=DAY.curve, quiet_hours=(night,)))
    assert card.worker.state.target_c is None
    card.at("22:00")
    state = card.worker.state
    assert (state.target_c, state.settings) == (78, "target 78 °C, at most 50 %, quiet hours until 07:00")
    assert state.duty_percent is not None
    assert state.duty_percent <= 50
    assert card.at("07:00") == (90, "the curve gives 90 %")


def test_an_order_counts_more_than_quiet_hours() -> None:
    card = Card("23:00")
    card.worker.obey(Order.parse("80"), 60)
    assert card.at("23:01") == (80, "ordered: 80 %, for another 0:01:00")
    card.worker.obey(None)
    assert card.at("23:02") == (50, "quiet hours until 07:00: at most 50 % instead of 90 %")


def test_a_steady_card_with_an_order_needs_no_decision_in_quiet_hours() -> None:
    card = Card("23:00")
    card.worker.obey(Order.parse("80"))
    assert card.tick(20).worker.quiet


def test_quiet_hours_that_end_during_an_order_do_not_return_after_it() -> None:
    card = Card("06:59")
    card.worker.obey(Order.parse("80"))
    assert card.at("07:00")[0] == 80
    card.worker.obey(None)
    assert card.at("07:01")[0] == 90


def test_near_its_slowdown_threshold_a_card_has_full_fans_in_quiet_hours() -> None:
    card = Card("23:00")
    card.gpu.temperature_c = 91
    assert card.at("23:01") == (
        100,
        "91 °C is too close to the card's slowdown threshold: full speed, although quiet hours until 07:00 allow 50 %",
    )


def test_an_unreadable_card_has_full_fans_in_quiet_hours() -> None:
    card = Card("23:00")
    card.gpu.temperature_c = None
    assert card.tick(3).worker.state.duty_percent == 100


def test_reloaded_settings_bring_and_remove_quiet_hours() -> None:
    card = Card("23:00", CardSettings(curve=DAY.curve))
    assert card.at("23:01")[0] == 90
    card.worker.follow(lambda _: DAY)
    assert card.at("23:01") == (50, LINE)
    card.worker.follow(lambda _: CardSettings(curve=DAY.curve))
    assert card.at("23:01") == (90, "the curve gives 90 %")


def test_a_card_that_is_found_again_is_in_quiet_hours_at_once() -> None:
    card = Card("23:00")
    card.gpu.found_again()
    card.tick()
    assert card.gpu.written == [50]


def test_a_simulation_begins_on_a_monday_at_midnight() -> None:
    local = simulation_local_time(6.5 * 3600)
    assert (local.tm_wday, local.tm_hour, local.tm_min) == (0, 6, 30)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of this process while a test changes it."""
    monkeypatch.setenv("TZ", "UTC0")
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_a_new_time_zone_counts_without_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_clock_time().tm_gmtoff == 0
    monkeypatch.setenv("TZ", "XYZ-5")
    assert local_clock_time().tm_gmtoff == 5 * 3600
