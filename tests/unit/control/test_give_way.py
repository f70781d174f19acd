"""Limits for a card whose fans may not go higher: on a plant of one heatsink, and reading by reading."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.control.controller import Controller
from gpufan.control.give_way import IGNORED_S, PAUSE_S, STEP_W, GiveWay
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.gpu import Limits
from gpufan.core.quiet_hours import Quiet
from gpufan.core.thermal import approach, remaining_share

RANGE_W = 125.0, 250.0
AIM_C = 79.0


@dataclass
class Card:
    """A heatsink whose fans stay at their limit, and a load that takes all power that it gets."""

    resistance: float = 0.3
    """K/W, so that 180 W lead to 79 °C."""
    heat_capacity: float = 800.0
    load_w: float = 230.0
    temperature_c: float = 60.0
    now_s: float = 0.0
    law: GiveWay = field(default_factory=GiveWay)
    limits_w: list[float] = field(default_factory=list)

    def run(self, seconds: int, *, interval_s: float = 1.0, fans_at_limit: bool | None = None) -> "Card":
        """Let time pass. The fans are at their limit from 2 °C below the aim on, if that is not said."""
        for _ in range(round(seconds / interval_s)):
            limit_w = self.law.limit_w or RANGE_W[1]
            power_w = min(self.load_w, limit_w)
            at_limit = self.temperature_c > AIM_C - 2 if fans_at_limit is None else fans_at_limit
            self.law.decide(
                self.now_s, round(self.temperature_c), power_w, AIM_C, RANGE_W, None, fans_at_limit=at_limit
            )
            self.limits_w.append(self.law.limit_w or RANGE_W[1])
            share = remaining_share(interval_s, self.resistance * self.heat_capacity)
            self.temperature_c = approach(self.temperature_c, 25 + self.resistance * power_w, share)
            self.now_s += interval_s
        return self

    @property
    def changes(self) -> int:
        return sum(one != other for one, other in zip(self.limits_w, self.limits_w[1:], strict=False))


FAMILY = [
    Card(resistance=resistance, heat_capacity=capacity)
    for resistance in (0.25, 0.3, 0.36)
    for capacity in (300.0, 800.0, 1500.0)
]


@pytest.mark.parametrize("card", FAMILY, ids=lambda card: f"{card.resistance} K/W, {card.heat_capacity} J/K")
@pytest.mark.parametrize("interval_s", [pytest.param(0.1, marks=pytest.mark.slow), 1.0, 5.0])
def test_the_temperature_is_held_near_the_aim_without_hunting(card: Card, interval_s: float) -> None:
    card = replace(card, law=GiveWay(), limits_w=[])
    card.run(2400, interval_s=interval_s)
    settled = Card(card.resistance, card.heat_capacity, 230, card.temperature_c, card.now_s, card.law)
    settled.run(7200, interval_s=interval_s)
    assert AIM_C - 3.5 < settled.temperature_c < AIM_C + 1
    assert settled.changes <= 24  # in two hours


@pytest.mark.parametrize("card", FAMILY, ids=lambda card: f"{card.resistance} K/W, {card.heat_capacity} J/K")
def test_the_temperature_does_not_overshoot_the_aim_by_more_than_a_degree_and_a_half(card: Card) -> None:
    card = replace(card, law=GiveWay(), limits_w=[])
    highest_c = max(card.run(1).temperature_c for _ in range(3600))
    assert highest_c < AIM_C + 1.5


def test_the_limit_changes_in_steps_of_5_watts_and_first_from_the_power() -> None:
    card = Card().run(1800)
    changes_w = [other - one for one, other in zip(card.limits_w, card.limits_w[1:], strict=False) if other != one]
    assert changes_w[0] == 225 - 250
    assert {abs(change_w) for change_w in changes_w[1:]} == {STEP_W}


def test_nothing_gives_way_while_the_fans_have_room() -> None:
    card = Card(temperature_c=95).run(1800, fans_at_limit=False)
    assert set(card.limits_w) == {250}


def test_with_room_the_limit_rises_to_the_one_before_and_then_ends() -> None:
    card = Card().run(1800)
    assert card.law.limit_w is not None
    card.resistance = 0.15  # quiet hours are over
    card.run(1800)
    assert card.law.limit_w is None


def test_the_limit_waits_for_a_load_that_pauses_and_ends_after_one_that_does_not_come_back() -> None:
    card = Card().run(1800)
    before_w = card.law.limit_w
    card.load_w = 30
    card.run(int(PAUSE_S) - 30)
    assert card.law.limit_w == before_w
    card.run(1200)
    assert card.law.limit_w is None


def test_a_load_with_pauses_is_held_and_the_limit_hardly_moves() -> None:
    card = Card().run(1800)
    card.limits_w.clear()
    hottest_c = 0.0
    for _ in range(10):
        card.load_w = 230
        card.run(300)
        hottest_c = max(hottest_c, card.temperature_c)
        card.load_w = 60
        card.run(30)
    assert hottest_c < AIM_C + 1.5
    assert card.changes <= 40


def test_the_limit_stays_within_its_range() -> None:
    card = Card(resistance=0.6).run(3600)
    assert min(card.limits_w) == RANGE_W[0]


def test_a_gap_between_readings_is_no_slope() -> None:
    law = GiveWay()
    law.decide(0, 40, 230, AIM_C, RANGE_W, None, fans_at_limit=True)
    for second in range(5):
        law.decide(3600 + second, 78, 230, AIM_C, RANGE_W, None, fans_at_limit=True)
    assert law.limit_w is None


@given(
    st.lists(
        st.tuples(st.floats(-20, 20), st.floats(1, 130), st.floats(0, 400), st.booleans()), min_size=1, max_size=40
    )
)
def test_whatever_is_read_a_limit_is_one_that_the_card_accepts(
    readings: list[tuple[float, float, float, bool]],
) -> None:
    law, now_s = GiveWay(), 0.0
    for elapsed_s, temperature_c, power_w, at_limit in readings:
        now_s += elapsed_s
        limits = law.decide(now_s, temperature_c, power_w, AIM_C, RANGE_W, (60, 90), fans_at_limit=at_limit)
        assert limits.power_w is None or RANGE_W[0] <= limits.power_w < RANGE_W[1]
        assert limits.temperature_c in (None, 79)


# ---- by the temperature limit of the driver ----


def decided(
    law: GiveWay, seconds: int, temperature_c: float, *, start_s: int = 0, fans_at_limit: bool = True
) -> Limits:
    """The limits after so many readings of the same temperature."""
    for second in range(seconds):
        limits = law.decide(start_s + second, temperature_c, 230, AIM_C, RANGE_W, (60, 90), fans_at_limit=fans_at_limit)
    return limits


def test_a_card_that_accepts_a_temperature_limit_gets_the_aim_and_no_power_limit() -> None:
    law = GiveWay()
    assert decided(law, 30, 78) == (None, None)
    assert decided(law, 600, 80, start_s=30) == (None, 79)


def test_the_temperature_limit_ends_when_the_fans_have_had_room_for_a_minute() -> None:
    law = GiveWay()
    decided(law, 30, 80)
    assert decided(law, 55, 75, start_s=30, fans_at_limit=False) == (None, 79)
    assert decided(law, 10, 75, start_s=85, fans_at_limit=False) == (None, None)


def test_a_card_that_ignores_its_temperature_limit_gets_a_power_limit_from_then_on() -> None:
    law = GiveWay()
    assert decided(law, int(IGNORED_S) - 5, 84) == (None, 79)
    limits = decided(law, 60, 84, start_s=int(IGNORED_S) - 5)
    assert limits.temperature_c is None
    assert limits.power_w is not None
    assert limits.power_w < 225


def test_the_temperature_limit_is_within_the_range_of_the_card() -> None:
    for range_c, expected_c in (((82, 90), 82), ((60, 75), 75)):
        law = GiveWay()
        for second in range(10):
            limits = law.decide(second, 85, 230, AIM_C, RANGE_W, range_c, fans_at_limit=True)
        assert limits.temperature_c == expected_c


# ---- what the controller says about it ----


def controller(slowdown_c: float | None = 93, quiet: Quiet | None = None, **settings: object) -> Controller:
    return Controller(CardSettings(quiet=quiet, **settings), (20, 100), slowdown_c)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("slowdown_c", "settings", "aim_c"),
    [
        (93, {"target_c": 78}, 79),
        (93, {"target_c": 60.5}, 61.5),
        (93, {"target_c": 90}, 83),
        (None, {"target_c": 80}, 80),
        (93, {"curve": Curve.parse("50:30,75:50,80:64,83:100")}, 79),
        (93, {"curve": Curve.parse("50:30,75:60")}, 71),
        (93, {"curve": Curve.parse("50:30,100:100")}, 80),
        (93, {"curve": Curve.parse("0:60")}, 83),
        (93, {"curve": Curve.parse("0:auto,50:60")}, 83),
    ],
)
def test_clocks_give_way_above_the_target_or_below_the_top_of_the_curve_and_below_the_margin(
    slowdown_c: float | None, settings: dict[str, object], aim_c: float
) -> None:
    assert controller(slowdown_c, **{"target_c": None, **settings}).clocks_aim_c == aim_c


def test_fans_are_at_their_limit_at_the_top_of_the_curve_in_quiet_hours_or_of_the_card() -> None:
    def at_limit(subject: Controller, temperature_c: float) -> bool:
        subject.decide(0, temperature_c, 200)
        return subject.fans_at_limit

    curve = Curve.parse("50:30,80:60")
    assert not controller(curve=curve).fans_at_limit
    assert not at_limit(controller(curve=curve, target_c=None), 79)
    assert at_limit(controller(curve=curve, target_c=None), 80)
    quiet = Quiet(50, None, "07:00")
    assert not at_limit(controller(curve=curve, target_c=None, quiet=quiet), 65)
    assert at_limit(controller(curve=curve, target_c=None, quiet=quiet), 75)
    assert at_limit(controller(target_c=70.0), 86)
    assert not at_limit(controller(curve=Curve.parse("0:auto,90:60"), target_c=None), 40)
