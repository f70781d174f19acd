"""The sensor's guard: which readings are doubted, which of those count as hot, and when trust comes back."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.control.sensor_guard import Doubt, SensorGuard
from gpufan.core.gpu import Throttle
from gpufan.core.reasons import Cause, Reason
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from tests.unit.builders import anything

ABSURD = (None, 0, 0.9, 131, -273, 1e9, math.nan, math.inf, -math.inf)


def judge(
    guard: SensorGuard,
    temperatures: list[float | None],
    powers: list[float | None] | None = None,
    start_s: int = 0,
    throttled: bool = False,
) -> list[Doubt | None]:
    """Doubts about a reading a second."""
    watts = powers or [100.0] * len(temperatures)
    readings = enumerate(zip(temperatures, watts, strict=True))
    return [guard.judge(start_s + i, t, w, throttled=throttled) for i, (t, w) in readings]


def hot(doubts: list[Doubt | None]) -> list[bool | None]:
    return [None if doubt is None else doubt.hot for doubt in doubts]


@pytest.mark.parametrize("temperature_c", [1, 30.5, 84, 130])
def test_a_die_in_use_is_believed(temperature_c: float) -> None:
    assert judge(SensorGuard(), [temperature_c]) == [None]


@pytest.mark.parametrize("bad", ABSURD)
def test_two_bad_readings_are_bridged_and_the_third_counts_as_hot(bad: float | None) -> None:
    assert hot(judge(SensorGuard(), [50, bad, bad, bad, bad])) == [None, False, False, True, True]


@pytest.mark.parametrize("bad", ABSURD)
def test_a_good_reading_in_between_begins_the_count_anew(bad: float | None) -> None:
    assert hot(judge(SensorGuard(), [50, bad, bad, 51, bad, bad, 50])) == [None, False, False, None, False, False, None]


def test_after_a_hot_doubt_three_good_readings_in_a_row_are_believed_again() -> None:
    assert hot(judge(SensorGuard(), [50, None, None, None, 50, 51, 52])) == [None, False, False, True, True, True, None]


def test_a_bad_reading_among_the_good_ones_puts_trust_off() -> None:
    assert hot(judge(SensorGuard(), [None] * 3 + [50, 51, None, 50, 51, 52]))[3:] == [True] * 5 + [None]


@pytest.mark.parametrize(
    ("readings", "reason"),
    [
        ([50, None], Reason(Cause.NO_TEMPERATURE, tick=1, ticks=3)),
        ([50, 255, 255], Reason(Cause.ABSURD_TEMPERATURE, temperature_c=255, tick=2, ticks=3)),
        ([50, math.nan], Reason(Cause.NO_TEMPERATURE, tick=1, ticks=3)),
        ([50, 0, 0, 0], Reason(Cause.ABSURD_TEMPERATURE, temperature_c=0)),
        ([None, None, None, 50], Reason(Cause.RETURNING_TEMPERATURE, ticks=3)),
    ],
)
def test_a_doubt_tells_what_is_wrong(readings: list[float | None], reason: Reason) -> None:
    doubt = judge(SensorGuard(), readings)[-1]
    assert doubt is not None
    assert doubt.reason == reason


def test_a_temperature_that_stands_still_while_power_moves_counts_as_hot_after_a_minute() -> None:
    doubts = judge(SensorGuard(), [70] * 80, [100.0] * 20 + [200.0] * 60)
    assert doubts[:60] == [None] * 60
    assert doubts[60] == Doubt(True, Reason(Cause.FROZEN_TEMPERATURE, temperature_c=70, seconds=60, power_w=100))
    assert hot(doubts[60:]) == [True] * 20


@pytest.mark.parametrize("interval_s", [0.1, 0.5, 2, 5])
def test_a_frozen_sensor_is_found_at_any_interval(interval_s: float) -> None:
    guard = SensorGuard()
    ticks = int(61 / interval_s) + 1
    doubts = [guard.judge(i * interval_s, 70, 100 if i < ticks / 3 else 200) for i in range(ticks)]
    assert doubts[-1] is not None
    assert doubts[-1].hot


@pytest.mark.parametrize(("interval_s", "half_s"), [(1, 12), (2, 12), (2, 20), (3, 15), (3, 20), (5, 25), (5, 30)])
def test_a_frozen_sensor_is_found_at_any_interval_while_the_load_comes_and_goes(
    interval_s: float, half_s: float
) -> None:
    for phase in range(10):
        rng, guard, now_s = random.Random(phase), SensorGuard(), 0.0
        while guard.judge(now_s, 61, 60 + 150 * (now_s // half_s % 2) + rng.gauss(0, 8), 60) is None:
            now_s += interval_s + rng.uniform(0, 0.05)
            assert now_s < (90 if interval_s == 1 else 240)


def test_a_sensor_that_moves_again_is_believed_at_once() -> None:
    assert hot(judge(SensorGuard(), [70] * 70 + [71, 71], [100.0] * 20 + [200.0] * 52))[69:] == [True, None, None]


@pytest.mark.parametrize("moved_w", [0, 20, 49])
def test_power_that_hardly_moves_says_nothing_about_the_sensor(moved_w: float) -> None:
    assert judge(SensorGuard(), [70] * 200, [100.0] * 50 + [100.0 + moved_w] * 150) == [None] * 200


@pytest.mark.parametrize("watts_per_s", [0.02, 0.2, 1])
def test_power_that_changes_slowly_while_the_fans_move_says_nothing_about_the_sensor(watts_per_s: float) -> None:
    guard = SensorGuard()
    for second in range(200):
        assert guard.judge(second, 78, 100 + watts_per_s * second, 40 + second // 10) is None


@pytest.mark.parametrize("watts_per_s", [0.4, 1])
def test_a_temperature_that_stays_while_power_changes_slowly_at_the_same_duty_is_frozen(watts_per_s: float) -> None:
    guard = SensorGuard()
    doubts = [guard.judge(second, 78, 100 + watts_per_s * second, 60) for second in range(200)]
    assert hot(doubts)[-1] is True


def test_a_sensor_that_froze_before_a_slow_change_of_power_is_found_at_the_next_jump() -> None:
    powers: list[float | None] = [100.0 + second for second in range(130)] + [60.0] * 40
    doubts = hot(judge(SensorGuard(), [78] * 170, powers))
    assert doubts[:130] == [None] * 130
    assert doubts[-1] is True


@pytest.mark.parametrize("regulated_w", [100, 120, 160])
def test_a_card_that_the_driver_holds_at_its_own_limit_has_no_frozen_sensor(regulated_w: float) -> None:
    powers: list[float | None] = [230.0 if second // 20 % 2 else regulated_w for second in range(600)]
    assert judge(SensorGuard(), [84] * 600, powers, throttled=True) == [None] * 600


def test_a_throttled_card_that_stays_hot_in_a_pause_of_its_load_has_a_frozen_sensor() -> None:
    powers: list[float | None] = [180.0] * 100 + [60.0] * 30
    doubts = judge(SensorGuard(), [84] * 130, powers, throttled=True)
    assert hot(doubts)[-1] is True


def test_a_throttled_card_is_judged_as_any_other_once_its_temperature_has_moved() -> None:
    guard = SensorGuard()
    judge(guard, [84] * 100, [180.0] * 100, throttled=True)
    assert hot(judge(guard, [70] * 80, [180.0] * 20 + [100.0] * 60, start_s=100))[-1] is True


@pytest.mark.parametrize("workload", ["epochs", "step"])
@pytest.mark.parametrize("profile", ["1080ti", "quad-2080ti"])
def test_sensors_of_simulated_cards_that_throttle_under_slow_fans_are_believed(profile: str, workload: str) -> None:
    box = SimulatedBox(PROFILES[profile], WORKLOADS[workload])
    guards = [SensorGuard() for _ in box.gpus]
    throttled_s = 0
    for second in range(1800):
        for gpu, guard in zip(box.gpus, guards, strict=True):
            gpu.set_duty(30)
            reading = gpu.read()
            throttled = reading.throttle is Throttle.HEAT
            throttled_s += throttled
            assert guard.judge(second, reading.temperature_c, reading.power_w, throttled=throttled) is None
        box.advance(1)
    assert throttled_s > 600


@pytest.mark.parametrize("swing_w", [60, 100, 150, 240])
@pytest.mark.parametrize("period", [2, 3, 4])
def test_power_that_jitters_around_a_steady_mean_is_no_sign_of_a_frozen_sensor(swing_w: float, period: int) -> None:
    powers: list[float | None] = [10 + (swing_w if second % period == 0 else 0.0) for second in range(300)]
    assert judge(SensorGuard(), [70] * 300, powers) == [None] * 300


@pytest.mark.parametrize(("interval_s", "ticks_up"), [(0.1, 4), (0.1, 10), (0.5, 4), (1, 4), (5, 1)])
def test_jitter_is_no_sign_of_a_frozen_sensor_at_any_interval(interval_s: float, ticks_up: int) -> None:
    guard = SensorGuard()
    for tick in range(int(200 / interval_s)):
        power_w = 250 if tick // ticks_up % 2 == 0 else 100
        assert guard.judge(tick * interval_s, 70, power_w) is None


@pytest.mark.parametrize("gap_s", [20, 3600])
def test_jitter_after_a_gap_is_no_sign_of_a_frozen_sensor(gap_s: float) -> None:
    guard = SensorGuard()
    judge(guard, [70] * 30, [100.0] * 30)
    for second in range(200):
        assert guard.judge(30 + gap_s + second, 70, 250 if second // 4 % 2 == 0 else 100) is None


def test_a_temperature_that_settles_on_a_peak_of_jittering_power_is_no_frozen_sensor() -> None:
    powers: list[float | None] = [260.0 if second % 2 else 100.0 for second in range(300)]
    assert judge(SensorGuard(), [69] * 101 + [70] * 199, powers) == [None] * 300


def moments(rng: random.Random, mean_w: float) -> float:
    """The power of a moment: somewhat above the mean, or in a pause between two kernels far below it."""
    return mean_w * (rng.uniform(1.15, 1.25) if rng.random() < 0.7 else rng.uniform(0.35, 0.85))


@pytest.mark.parametrize("seed", range(20))
def test_power_readings_of_single_moments_are_no_sign_of_a_frozen_sensor(seed: int) -> None:
    for interval_s in (1, 5):
        rng, guard = random.Random(seed), SensorGuard()
        assert all(guard.judge(tick * interval_s, 77, moments(rng, 270), 60) is None for tick in range(300))


@pytest.mark.parametrize("seed", range(5))
def test_a_sensor_that_froze_is_found_at_the_end_of_a_load_whose_power_is_read_in_moments(seed: int) -> None:
    rng, guard = random.Random(seed), SensorGuard()
    powers = [moments(rng, 270.0 if second < 100 else 20.0) for second in range(160)]
    assert judge(guard, [77] * 160, list(powers))[-1] is not None


@pytest.mark.parametrize("power_w", [None, math.nan, math.inf, -math.inf])
def test_without_power_a_settled_card_is_believed(power_w: float | None) -> None:
    assert judge(SensorGuard(), [70] * 200, [power_w] * 200) == [None] * 200


@pytest.mark.parametrize("power_w", [None, math.nan, math.inf, -math.inf])
def test_power_that_fails_now_and_then_hides_no_frozen_sensor(power_w: float | None) -> None:
    powers = [power_w] + [100.0] * 20 + [power_w] + [200.0] * 60
    assert hot(judge(SensorGuard(), [70] * 82, powers))[-1] is True


def test_a_machine_that_slept_has_no_frozen_sensor() -> None:
    guard = SensorGuard()
    assert judge(guard, [40] * 30, [20.0] * 30) == [None] * 30
    assert judge(guard, [40] * 59, [250.0] * 59, start_s=8 * 3600) == [None] * 59


def test_time_that_runs_backwards_is_no_frozen_sensor() -> None:
    guard = SensorGuard()
    doubts = [guard.judge(1000 - second, 70, 100 if second < 50 else 200) for second in range(100)]
    assert doubts == [None] * 100


@given(st.lists(st.tuples(st.floats(), anything, anything), max_size=30))
def test_any_readings_at_any_times_are_judged(readings: list[tuple[float, float | None, float | None]]) -> None:
    guard = SensorGuard()
    for now_s, temperature_c, power_w in readings:
        doubt = guard.judge(now_s, temperature_c, power_w)
        if temperature_c is None or not 1 <= temperature_c <= 130:
            assert doubt is not None
        assert doubt is None or doubt.reason


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=10),
    st.lists(st.floats(0, 400), min_size=1, max_size=10),
)
def test_a_temperature_that_moves_within_the_minute_is_always_believed(stays_s: list[int], powers: list[float]) -> None:
    temperatures: list[float | None] = [50 + i for i, stay_s in enumerate(stays_s) for _ in range(stay_s)]
    watts: list[float | None] = [powers[second // 20 % len(powers)] for second in range(len(temperatures))]
    assert judge(SensorGuard(), temperatures, watts) == [None] * len(temperatures)
