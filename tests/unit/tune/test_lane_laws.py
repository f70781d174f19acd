"""The laws for many lanes decide as the laws of real cards do."""

import random

import numpy as np
import pytest

from gpufan.control.controller import Controller
from gpufan.control.law import Learnt
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.quiet_hours import Quiet
from gpufan.tune import lane_laws
from gpufan.tune.lane_laws import CurveLanes, LaneReadings, QuietLanes, SwitchingLanes, TargetLanes
from gpufan.tune.lanes import Expected

LIMITS, FULL_AT_C, LIMIT_W = (30, 100), 88.0, 250.0
LEARNT = Learnt(80.0)
SECONDS = 3000


def readings(seed: int) -> tuple[list[float], list[float]]:
    """Temperatures, °C, and powers, W, of a card whose load changes now and then."""
    draw = random.Random(seed)
    temperature_c, wanted_c, power_w = 60.0, 60.0, 150.0
    temperatures_c, powers_w = [], []
    for second in range(SECONDS):
        if second % 97 == 0:
            wanted_c, power_w = draw.uniform(40, 92), draw.uniform(20, 260)
        temperature_c += (wanted_c - temperature_c) / 30 + draw.gauss(0, 0.3)
        temperatures_c.append(float(round(temperature_c)))
        powers_w.append(power_w)
    return temperatures_c, powers_w


def real_duties(settings: CardSettings, seed: int, quiets: list[Quiet | None] | None = None) -> list[int | None]:
    """The duties of the controller of real cards."""
    controller = Controller(settings, LIMITS, FULL_AT_C + 5, LEARNT, LIMIT_W)
    duties: list[int | None] = []
    speed: int | None = 30
    for second, (temperature_c, power_w) in enumerate(zip(*readings(seed), strict=True)):
        if quiets is not None and (second == 0 or quiets[second] != quiets[second - 1]):
            controller.follow(settings.in_quiet_hours(quiets[second]))
        speed = controller.decide(second, temperature_c, power_w, speed).duty_percent
        duties.append(speed)
    return duties


def lane_duties(
    law: TargetLanes | CurveLanes | SwitchingLanes, seed: int, targets_c: list[float] | None = None
) -> list[int | None]:
    temperatures_c, powers_w = readings(seed)
    expected = Expected(np.array(powers_w), LIMIT_W)
    speed = np.array([30.0])
    duties: list[int | None] = []
    for second, temperature_c in enumerate(temperatures_c):
        log_power, pauses = expected.log[second : second + 1], expected.pauses[second : second + 1]
        # The real law counts no time before its first reading.
        seconds = 1.0 if second or not isinstance(law, TargetLanes) else 1e-9
        now = LaneReadings(seconds, np.array([temperature_c]), speed, log_power, pauses)
        now.target_c = None if targets_c is None else np.array([targets_c[second]])
        speed = law.decide(now).copy()
        duties.append(None if np.isnan(speed[0]) else int(speed[0]))
    return duties


def target_lanes(settings: CardSettings, seed: int) -> TargetLanes:
    first_c = readings(seed)[0][0]
    return TargetLanes(settings, LIMITS, FULL_AT_C, [LEARNT], np.array([30.0]), np.array([first_c]))


CURVES = {
    "default": CardSettings(),
    "restless": CardSettings(Curve.parse("45:30,80:80"), hysteresis_c=1, hold_s=0),
    "driver": CardSettings(Curve.parse("0:auto,60:40,80:90"), hold_s=20.5),
    "flat": CardSettings(Curve.parse("0:45")),
    "slow": CardSettings(slew_percent_per_s=0.05, step_percent=1, hold_s=900),
}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("settings", CURVES.values(), ids=CURVES)
def test_each_duty_of_a_curve_is_that_of_the_real_law(settings: CardSettings, seed: int) -> None:
    assert lane_duties(CurveLanes(settings, LIMITS, FULL_AT_C, 1), seed) == real_duties(settings, seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("target_c", [62.0, 75.0, 95.0])
def test_each_duty_of_a_target_is_that_of_the_real_law(
    target_c: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_laws, "LEARN_S", 0.0)
    settings = CardSettings(target_c=target_c)
    assert lane_duties(target_lanes(settings, seed), seed) == real_duties(settings, seed)


def test_to_learn_every_four_seconds_hardly_changes_the_duties() -> None:
    settings = CardSettings(target_c=72.0)
    pairs = zip(lane_duties(target_lanes(settings, 1), 1), real_duties(settings, 1), strict=True)
    differences = [abs((one or 0) - (two or 0)) for one, two in pairs]
    assert sum(differences) / SECONDS < 0.5
    assert max(differences) <= 3


def test_a_curve_by_day_and_a_target_by_night_are_as_in_the_real_law(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_laws, "LEARN_S", 0.0)
    settings = CardSettings()
    nights = [1000 <= second < 2000 for second in range(SECONDS)]
    quiets = [Quiet(None, 65.0, "07:00") if is_night else None for is_night in nights]
    curve = CurveLanes(settings, LIMITS, FULL_AT_C, 1)
    law = SwitchingLanes(curve, target_lanes(CardSettings(target_c=65.0), 4))
    found = lane_duties(law, 4, [65.0 if is_night else np.nan for is_night in nights])
    real = real_duties(settings, 4, quiets)
    assert found[:1000] == real[:1000]
    # The real law knows the power only from the beginning of the night.
    night = zip(found[1300:2000], real[1300:2000], strict=True)
    assert sum(abs((one or 0) - (two or 0)) > 2 for one, two in night) <= 10
    assert found[2200:] == pytest.approx(real[2200:], abs=3)


def test_the_limit_of_quiet_hours_is_that_of_the_real_controller() -> None:
    settings = CardSettings()
    quiets: list[Quiet | None] = [Quiet(45, None, "07:00") if 500 <= s < 2500 else None for s in range(SECONDS)]
    law, quiet_lanes = CurveLanes(settings, LIMITS, FULL_AT_C, 1), QuietLanes(LIMITS, FULL_AT_C, 1)
    found = []
    nothing = np.array([0.0]), np.array([False])
    for second, temperature_c in enumerate(readings(5)[0]):
        now = LaneReadings(1.0, np.array([temperature_c]), np.array([30.0]), *nothing)
        limit = np.array([45.0 if quiets[second] else np.nan])
        found.append(int(quiet_lanes.limited(law.decide(now), now, limit)[0]))
    assert found == real_duties(settings, 5, quiets)


def test_cards_in_lanes_that_are_put_aside_and_back_go_on_as_before() -> None:
    law = CurveLanes(CardSettings(), LIMITS, FULL_AT_C, 4)
    nothing = np.zeros(4), np.zeros(4, bool)
    for temperature_c in (50.0, 70.0, 60.0):
        law.decide(LaneReadings(1.0, np.array([temperature_c, 50, 55, 60]), np.zeros(4), *nothing))
    places = np.array([0, 2])
    part = law.selected(places)
    part.decide(LaneReadings(1.0, np.array([90.0, 91.0]), np.zeros(2), np.zeros(2), np.zeros(2, bool)))
    law.replace_lanes(places, part)
    assert law.local_demand_percent.tolist()[::2] == [100.0, 100.0]
    assert law.local_demand_percent[1] == 30
