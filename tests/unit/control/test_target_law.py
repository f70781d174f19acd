"""The target law: safe whatever is read, no warmer than the target, and quiet where it may be."""

import random
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufan.control.controller import Controller
from gpufan.control.law import Decision, Learnt, duty_range
from gpufan.control.target_law import TUNABLES, TargetLaw, for_neighbours
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.reasons import Cause, Reason
from gpufan.core.sentences import reason_sentence
from gpufan.daemon.summary import Swings
from gpufan.daemon.worker import Worker
from gpufan.gpu.simulated import WORKLOADS, Plant, Profile, SimulatedBox, Workload
from tests.benchmarks import family
from tests.unit.builders import LIGHT, card_ranges

KINDS = {"target", "hold", "hot", "neighbour", "limit", "full", "fail-safe"}
SLOWDOWN_C = 95
STEEP = CardSettings(Curve.parse("50:30,80:60,82:90"), target_c=80)

REASON = re.compile(
    r"((\d+ % holds|full fans cannot hold) [\d.]+ °C at \d+ W"
    r"|without power readings, \d+ % is found to hold [\d.]+ °C)"
    r"(; \d+ % is the lowest duty of this card|; the card is [\d.]+ °C (above|below)(, so \d+ points? (more|less))?"
    r"|; \d+ points? (more|less)( for a neighbour that takes in its heat| for load that may come| for now)"
    r"|; the fans slow down gradually)?"
)

targets = st.builds(
    CardSettings,
    curve=st.sampled_from(
        [Curve.parse(text) for text in ("50:30,83:100", "0:auto,60:40,90:100", "70:90", "0:30,81:99")]
    ),
    slew_percent_per_s=st.sampled_from((0.5, 2.0, 100.0)),
    step_percent=st.integers(1, 6),
    min_duty_percent=st.none() | st.integers(0, 100),
    target_c=st.sampled_from((50.0, 78.0, 90.0)),
)
times = st.floats() | st.sampled_from((0.0, 1.0, 5.0, 1e9))
temperatures = st.none() | st.floats() | st.integers(-10, 140) | st.integers(70, 95)
powers = st.none() | st.floats() | st.sampled_from((0.0, 15.0, 230.0, 1e4))
speeds = st.none() | st.floats() | st.integers(0, 120)
neighbours = st.lists(st.integers(0, 100), max_size=2)
any_readings = st.lists(st.tuples(times, temperatures, powers, speeds, neighbours), min_size=1, max_size=12)
"""What a broken driver and a broken clock may tell."""

credible = st.lists(
    st.tuples(st.sampled_from((0.1, 1.0, 1.0, 5.0)), st.integers(40, 100), powers, speeds, neighbours), max_size=15
)
"""Readings that are believed: seconds since the one before, °C, W, percent, duties of neighbours."""

Reading = tuple[float, float, float | None, float | None, list[int]]

few = settings(max_examples=20)


def decided(subject: Controller, readings: list[Reading]) -> list[Decision]:
    """The decision for each reading."""
    now_s = 0.0
    decisions = []
    for elapsed_s, *reading in readings:
        now_s += elapsed_s
        decisions.append(subject.decide(now_s, *reading))  # type: ignore[arg-type]
    return decisions


# ---- whatever is read ----


@few
@given(targets, card_ranges, st.none() | st.floats() | st.integers(60, 120), any_readings)
def test_whatever_is_read_there_is_a_whole_duty_within_limits_a_kind_and_a_line_of_reason(
    chosen: CardSettings, card: tuple[int, int], slowdown_c: float | None, readings: list[tuple[float, ...]]
) -> None:
    low, high = duty_range(card, chosen.min_duty_percent)
    subject = Controller(chosen, card, slowdown_c)
    for reading in readings:
        decision = subject.decide(*reading)  # type: ignore[arg-type]
        assert isinstance(decision.duty_percent, int)
        assert low <= decision.duty_percent <= high
        assert decision.reason.cause.group in KINDS
        assert reason_sentence(decision.reason).strip() and "\n" not in reason_sentence(decision.reason)


@few
@given(targets, any_readings)
def test_whatever_is_read_the_learnt_number_stays_one_that_a_card_can_have(
    chosen: CardSettings, readings: list[tuple[float, ...]]
) -> None:
    subject = Controller(chosen, (23, 100), SLOWDOWN_C, power_limit_w=250)
    for reading in readings:
        subject.decide(*reading)  # type: ignore[arg-type]
    assert subject.learnt is not None
    assert 14.9 < subject.learnt.full_power_percent < 300.1


@few
@given(targets, card_ranges, credible, powers)
def test_a_card_that_stays_4_k_above_the_target_gets_full_fans_whatever_was_read_before(
    chosen: CardSettings, card: tuple[int, int], readings: list[Reading], power_w: float | None
) -> None:
    assert chosen.target_c is not None
    subject = Controller(chosen, card, SLOWDOWN_C, power_limit_w=250)
    decided(subject, readings)
    for second in range(1000, 1030):
        decision = subject.decide(second, chosen.target_c + TUNABLES.band_k + 0.5, power_w)
    assert decision.duty_percent == card[1]


@few
@given(targets, card_ranges, credible)
def test_fans_are_at_full_speed_at_once_from_5_k_under_the_slowdown(
    chosen: CardSettings, card: tuple[int, int], readings: list[Reading]
) -> None:
    subject = Controller(chosen, card, SLOWDOWN_C, power_limit_w=250)
    decisions = decided(subject, readings)
    for (_, temperature_c, *_others), decision in zip(readings, decisions, strict=True):
        if temperature_c >= SLOWDOWN_C - 5:
            assert decision.duty_percent == card[1]


def test_one_reading_among_others_moves_no_fan_but_ten_do() -> None:
    law = TargetLaw(STEEP, (23, 100), 90, power_limit_w=250)
    duties = [law.decide(k, c, 60).duty_percent for k, c in enumerate([78] * 60 + [83] + [78] * 20 + [84] * 10)]
    assert max(duties[60:80]) - duties[59] <= 5
    assert duties[-1] >= 80


@few
@given(targets, card_ranges, credible)
def test_fans_fall_no_faster_than_the_slew_and_a_step(
    chosen: CardSettings, card: tuple[int, int], readings: list[Reading]
) -> None:
    decisions = decided(Controller(chosen, card, SLOWDOWN_C, power_limit_w=250), readings)
    for before, after, reading in zip(decisions, decisions[1:], readings[1:], strict=False):
        assert before.duty_percent is not None and after.duty_percent is not None
        fall = before.duty_percent - after.duty_percent
        assert fall < chosen.slew_percent_per_s * reading[0] + chosen.step_percent


@few
@given(targets, credible)
def test_reasons_read_like_one_another(chosen: CardSettings, readings: list[Reading]) -> None:
    for decision in decided(Controller(chosen, (23, 100), SLOWDOWN_C, power_limit_w=250), readings):
        if decision.reason.cause.group not in ("full", "fail-safe"):
            assert REASON.fullmatch(reason_sentence(decision.reason)), reason_sentence(decision.reason)


@pytest.mark.parametrize("speed", [float("nan"), float("inf"), -1.0, 1e9])
def test_an_absurd_fan_speed_is_taken_to_be_as_set(speed: float) -> None:
    told, untold = (Controller(STEEP, (23, 100), SLOWDOWN_C, power_limit_w=250) for _ in range(2))
    for second in range(40):
        assert told.decide(second, 70, 200, speed) == untold.decide(second, 70, 200)
    assert told.learnt == untold.learnt


# ---- a card at work ----


class Bench:
    """A law on a simulated card, a second to a tick."""

    def __init__(self, plant: Plant, workload: Workload, target_c: float = 80.0, learnt: Learnt | None = None) -> None:
        self.box = SimulatedBox(Profile("card", (plant,)), workload)
        self.gpu = self.box.gpus[0]
        self.law = TargetLaw(CardSettings(target_c=target_c), (23, 100), 90, learnt, plant.power_limit_w)
        self.tells_power = True
        self.throttled = False
        self.sample: Callable[[float], float] = lambda power_w: power_w
        self.now_s = 0
        self.dies_c: list[float] = []
        self.decisions: list[Decision] = []

    def run(self, seconds: int, *, every_s: int = 1) -> "Bench":
        for _ in range(0, seconds, every_s):
            reading = self.gpu.read()
            assert reading.temperature_c is not None
            power_w = None if reading.power_w is None or not self.tells_power else self.sample(reading.power_w)
            decision = self.law.decide(
                self.now_s, reading.temperature_c, power_w, self.gpu.speed_percent, throttled=self.throttled
            )
            assert decision.duty_percent is not None
            self.gpu.set_duty(decision.duty_percent)
            self.decisions.append(decision)
            self.box.advance(every_s)
            self.dies_c.append(self.gpu.die_c)
            self.now_s += every_s
        return self

    @property
    def duty(self) -> int:
        return self.duties[-1]

    @property
    def duties(self) -> list[int]:
        return [decision.duty_percent or 0 for decision in self.decisions]

    def swings(self, last_s: int) -> int:
        """As the control benchmark counts them."""
        swings = Swings()
        for duty in self.duties[-last_s:]:
            swings.add(duty)
        return swings.count


def steady(power_w: float) -> Workload:
    return lambda t: power_w


PLANTS = {
    "nominal": LIGHT,
    "light": replace(LIGHT, heat_capacity=200.0),
    "heavy": replace(LIGHT, heat_capacity=650.0),
    "flat": replace(LIGHT, resistance_exponent=0.45, resistance_flow=0.137),
    "warm": replace(LIGHT, inlet_c=33.0),
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_a_steady_load_is_held_within_1_k_of_the_target_and_without_swings(plant: Plant) -> None:
    bench = Bench(plant, steady(220)).run(900)
    assert max(bench.dies_c) < 82
    assert all(78.5 < die_c < 81 for die_c in bench.dies_c[-200:])
    assert bench.swings(400) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5, 201, 5))
def test_no_fan_of_the_family_swings_in_a_steady_load_without_noise(number: int) -> None:
    drawn = family.draw(number)
    plants = tuple(replace(plant, power_noise_w=0.0, sensor_noise_c=0.0) for plant in drawn.plants)
    box = SimulatedBox(replace(drawn, plants=plants), WORKLOADS["step"])
    workers = [Worker(gpu, lambda _: CardSettings(target_c=80.0)) for gpu in box.gpus]
    swings = [Swings() for _ in workers]
    for second in range(4200):
        for worker, each in zip(workers, swings, strict=True):
            worker.tick(second)
            if second > 3000:
                each.add(worker.state.duty_percent or 0)
        box.advance(1)
    assert [each.count for each in swings] == [0] * len(workers)


@pytest.mark.parametrize("every_s", [2, 4, 5])
def test_the_target_is_held_at_every_interval(every_s: int) -> None:
    bench = Bench(LIGHT, steady(220)).run(1200, every_s=every_s)
    assert max(bench.dies_c) < 82.5
    assert all(78 < die_c < 81 for die_c in bench.dies_c[-50:])


def test_a_cold_card_that_begins_at_full_load_is_not_warmed_over_the_target() -> None:
    assert max(Bench(family.draw(18).plants[0], steady(230)).run(300).dies_c) < 80.5


# ---- cards that the first law was not made for ----


def scaled(limit_w: float, **changes: float) -> Plant:
    """A card with another power limit, and a heatsink that fits it."""
    plant = Plant(**changes)  # type: ignore[arg-type]
    share = limit_w / plant.power_limit_w
    return replace(
        plant,
        power_limit_w=limit_w,
        resistance_floor=plant.resistance_floor / share,
        resistance_flow=plant.resistance_flow / share,
        resistance_still=plant.resistance_still / share,
        die_resistance=plant.die_resistance / share,
        heat_capacity=plant.heat_capacity * share,
    )


@pytest.mark.parametrize("limit_w", [30, 70, 250, 450])
def test_a_card_of_any_power_is_held_at_the_target_from_the_first_minute(limit_w: float) -> None:
    bench = Bench(scaled(limit_w), lambda t: 0.05 * limit_w if t < 60 else 0.9 * limit_w).run(1500)
    assert max(bench.dies_c) < 81.5
    assert all(78.5 < die_c < 80.7 for die_c in bench.dies_c[-300:])
    assert bench.swings(900) == 0


@pytest.mark.parametrize("limit_w", [30, 250])
def test_a_card_without_power_readings_settles_and_its_fans_do_not_run_up(limit_w: float) -> None:
    bench = Bench(scaled(limit_w), lambda t: 0.05 * limit_w if t < 60 else 0.8 * limit_w)
    bench.tells_power = False
    bench.run(2400)
    assert max(bench.dies_c) < 83
    assert max(bench.duties) < 90
    assert all(77.5 < die_c < 81 for die_c in bench.dies_c[-600:])
    assert bench.swings(1200) == 0


def test_a_power_that_cannot_be_read_now_and_then_moves_no_fan() -> None:
    bench = Bench(Plant(), steady(200)).run(1500)
    before = bench.duty
    for _ in range(20):
        bench.tells_power = False
        bench.run(2)
        bench.tells_power = True
        bench.run(10)
    assert all(abs(duty - before) <= 3 for duty in bench.duties[1500:])


def test_power_that_is_a_sample_of_a_moment_swings_no_fan() -> None:
    bench = Bench(Plant(), steady(200), target_c=78)
    rng = random.Random(1)
    bench.sample = lambda power_w: (
        power_w * (rng.uniform(1.15, 1.25) if rng.random() < 0.7 else rng.uniform(0.35, 0.85))
    )
    bench.run(3600)
    assert bench.swings(2700) <= 10
    assert max(bench.dies_c[-2700:]) < 79


@pytest.mark.parametrize("percent", [1e-300, 30.0, 1e300])
def test_after_a_bad_learnt_file_the_fans_come_to_rest(percent: float) -> None:
    bench = Bench(Plant(), steady(220), learnt=Learnt(percent)).run(5400)
    assert bench.swings(1800) == 0
    assert all(78.5 < die_c < 81 for die_c in bench.dies_c[-900:])


def test_a_card_in_warm_air_is_less_too_hot_with_the_number_of_the_run_before() -> None:
    plant = replace(LIGHT, inlet_c=38.0)
    new = Bench(plant, steady(220)).run(2400)
    again = Bench(plant, steady(220), learnt=new.law.learnt).run(600)
    assert max(again.dies_c) < 81 < max(new.dies_c)


@pytest.mark.parametrize("limit_percent", [30, 45, 60])
def test_nothing_is_learnt_from_the_heat_of_a_card_whose_fans_are_limited(limit_percent: int) -> None:
    law = TargetLaw(CardSettings(target_c=75), (23, 100), 90, Learnt(60.0), 250)
    for second in range(1800):
        law.decide(second, 80, 230, limit_percent)
    assert law.learnt.full_power_percent == pytest.approx(60, rel=0.02)


def test_a_card_that_throttles_for_heat_is_held_cooler_for_about_an_hour() -> None:
    bench = Bench(Plant(), steady(220)).run(1500)
    bench.throttled = True
    bench.run(2400)
    assert all(79 - TUNABLES.band_k < die_c < 80.7 - TUNABLES.band_k for die_c in bench.dies_c[-120:])
    bench.throttled = False
    bench.run(7200)
    assert bench.dies_c[-1] > 78.5


def test_a_card_whose_power_limit_is_unknown_is_held_by_its_temperature_alone() -> None:
    law = TargetLaw(STEEP, (23, 100), 90)
    assert law.decide(0, 70, 200).reason.power_w is None


def test_a_new_target_is_gone_to_from_the_duty_that_is_set() -> None:
    bench = Bench(LIGHT, steady(220)).run(600)
    before = bench.duty
    bench.law.follow(CardSettings(target_c=70), (23, 100))
    bench.run(1)
    assert bench.duty > before + 5
    bench.run(500)
    assert all(68 < die_c < 71 for die_c in bench.dies_c[-100:])


def test_a_minimum_that_was_raised_by_less_than_a_step_holds_at_once() -> None:
    bench = Bench(LIGHT, steady(12)).run(60)
    bench.law.follow(CardSettings(target_c=80), (25, 100))
    assert bench.run(1).duty == 25


def test_a_fall_starts_from_a_duty_that_was_forced() -> None:
    bench = Bench(LIGHT, steady(150)).run(100)
    bench.law.force(bench.now_s, 100)
    duties = [bench.run(1).duty for _ in range(30)]
    assert duties[0] >= 98
    assert all(0 <= before - after <= 5 for before, after in pairwise(duties))
    assert duties[-1] < 60


def test_after_the_driver_had_the_fans_what_was_learnt_stays() -> None:
    bench = Bench(LIGHT, steady(220)).run(300)
    learnt = bench.law.learnt
    bench.law.forget()
    assert bench.law.learnt == learnt
    before = bench.duty
    assert bench.run(1).duty == pytest.approx(before, abs=10)


def test_a_target_too_near_the_slowdown_threshold_is_lowered() -> None:
    law = TargetLaw(CardSettings(target_c=90), (23, 100), 85, power_limit_w=250)
    assert law.decide(0, 60, 200).reason.limit_c == 81


# ---- reasons ----


def test_the_reason_tells_power_need_and_excess() -> None:
    law = TargetLaw(replace(STEEP, target_c=80), (23, 100), 90, power_limit_w=250)
    for second in range(20):
        decision = law.decide(second, 82, 60)
    assert decision.reason.cause.group == "hot"
    assert re.fullmatch(
        r"\d+ % holds 80 °C at 60 W; the card is 2 °C above, so \d+ points more", reason_sentence(decision.reason)
    )


def test_while_the_fans_fall_the_reason_says_so_and_before_that_its_numbers_make_the_duty() -> None:
    law = TargetLaw(replace(STEEP, target_c=78), (23, 100), 90, power_limit_w=250)
    sentences, duties = {}, [0]
    for second in range(1200):
        power_w, temperature_c = (230, 76) if second < 300 else (60, max(76 - (second - 300) / 4, 45))
        decision = law.decide(second, temperature_c, power_w)
        sentences[second] = reason_sentence(decision.reason)
        duties.append(decision.duty_percent)
        assert decision.reason.cause is not Cause.SLOWING or duties[-1] <= duties[-2]
        if match := re.fullmatch(r"(\d+) % holds .*; (\d+) points? more for load that may come", sentences[second]):
            assert abs(int(match[1]) + int(match[2]) - decision.duty_percent) <= 1
    kinds = [text.partition("; ")[2].lstrip("0123456789 ") for text in sentences.values()]
    assert "points more for load that may come" in kinds[310:440]
    assert set(kinds[460:600]) == {"the fans slow down gradually"}


def test_near_the_slowdown_threshold_the_reason_is_that() -> None:
    decision = TargetLaw(STEEP, (23, 100), 90, power_limit_w=250).decide(0, 90, 214)
    assert decision == Decision(100, Reason(Cause.NEAR_SLOWDOWN, temperature_c=90))


def test_an_idle_card_is_at_the_minimum() -> None:
    decision = TargetLaw(STEEP, (23, 100), 90, power_limit_w=250).decide(0, 35, 12)
    assert decision.duty_percent == 23
    assert re.fullmatch(
        r"\d+ % holds 80 °C at 12 W; 23 % is the lowest duty of this card", reason_sentence(decision.reason)
    )


# ---- neighbours ----


@pytest.mark.parametrize(
    ("duties", "wanted"), [([], 0), ([50], 30), ([50, 80], 48), ([99], 59.4), ([100], 100), ([40, 100], 100)]
)
def test_fans_run_at_a_share_of_a_neighbour_and_full_where_it_has_no_more(duties: list[float], wanted: float) -> None:
    assert for_neighbours(duties, 100) == pytest.approx(wanted)


def test_a_hard_working_neighbour_raises_the_duty_and_the_reason_says_so() -> None:
    decision = TargetLaw(STEEP, (23, 100), 90, power_limit_w=250).decide(0, 35, 12, None, [80])
    assert (decision.duty_percent, decision.reason.cause.group) == (ceil(TUNABLES.neighbour_share * 80), "neighbour")
    assert reason_sentence(decision.reason).endswith("25 points more for a neighbour that takes in its heat")


def full_fans(temperature_c: float, power_w: float, speed_percent: float | None = None) -> TargetLaw:
    """A law half a minute later, which has set full speed."""
    subject = TargetLaw(STEEP, (23, 100), 90, power_limit_w=250)
    for now_s in range(30):
        subject.decide(now_s, temperature_c, power_w, speed_percent)
    assert subject.local_demand_percent == 100
    return subject


def test_full_fans_are_no_reason_to_call_for_help_but_too_much_heat_is() -> None:
    assert not full_fans(79, 700).saturated
    assert full_fans(84, 250).saturated


def test_fans_that_are_winning_need_no_help() -> None:
    assert not full_fans(84, 150).saturated  # the driver had let it get so hot


def test_fans_that_are_not_at_full_speed_yet_call_for_no_help() -> None:
    assert not full_fans(84, 700, speed_percent=50).saturated


def test_one_reading_after_a_long_time_calls_for_no_help() -> None:
    subject = full_fans(84, 250)
    subject.decide(3600, 84, 250)
    assert not subject.saturated


def test_what_is_in_doubt_calls_for_no_help() -> None:
    subject = full_fans(84, 250)
    subject.force(30, 100)
    assert not subject.saturated


@pytest.mark.parametrize("least", [23, 90, 100])
def test_a_card_that_has_cooled_needs_no_help_whatever_its_lowest_duty(least: int) -> None:
    subject = TargetLaw(STEEP, (least, 100), 90, power_limit_w=250)
    for now_s in range(30):
        subject.decide(now_s, 84, 250)
    assert subject.saturated
    subject.decide(30, 80, 15)
    assert not subject.saturated


def test_what_the_driver_had_meanwhile_calls_for_no_help() -> None:
    subject = full_fans(84, 250)
    subject.forget()
    assert not subject.saturated


def test_what_the_card_s_own_heat_calls_for_is_known_apart_from_that() -> None:
    subject = Controller(STEEP, (23, 100), SLOWDOWN_C, power_limit_w=250)
    assert subject.local_demand_percent is None
    assert subject.decide(0, 35, 12, None, [100]).duty_percent == 100
    assert subject.local_demand_percent == 23
