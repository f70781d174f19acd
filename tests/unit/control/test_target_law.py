"""The target law: safe whatever is read, no warmer than the target, and quiet where it may be."""

import re
from dataclasses import replace
from itertools import chain, pairwise
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufan.control.card_model import STEP_S, Learnt
from gpufan.control.controller import Controller
from gpufan.control.curve_law import duty_range
from gpufan.control.law import Decision
from gpufan.control.load import Load, LoadTunables
from gpufan.control.target_law import TargetLaw, for_neighbours
from gpufan.control.target_tunables import TUNABLES
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.reasons import Cause, Reason
from gpufan.core.sentences import reason_sentence
from gpufan.daemon.summary import CardSummary, Swings
from gpufan.daemon.worker import Worker
from gpufan.gpu.simulated import WORKLOADS, Plant, Profile, SimulatedBox, Workload
from tests.benchmarks import family
from tests.unit.builders import LIGHT, card_ranges

KINDS = {"target", "hold", "hot", "neighbour", "limit", "full", "fail-safe"}
SLOWDOWN_C = 95
STEEP = CardSettings(Curve.parse("50:30,80:60,82:90"), target_c=80)

REASON = re.compile(
    r"\d+ W (would take \d+ % to hold [\d.]+ °C|is more than full fans can hold at [\d.]+ °C)"
    r"(; \d+ % is the lowest duty of this card|; the card is [\d.]+ °C (above|below), so \d+ (more|less)"
    r"|; \d+ (more|less)( for a neighbour that takes in its heat| for load that may come| for now"
    r"|, since the load repeats every \d+ s))?"
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


def believed(subject: Controller, readings: list[Reading]) -> list[tuple[float, Decision]]:
    """For each reading the temperature that is no noise, the lowest of three, and the decision."""
    now_s = 0.0
    decisions = []
    latest_c: list[float] = []
    for elapsed_s, temperature_c, *others in readings:
        now_s += elapsed_s
        # After a long time a reading stands for itself.
        latest_c = [*(latest_c if elapsed_s < 5 else []), temperature_c][-3:]
        decisions.append((min(latest_c), subject.decide(now_s, temperature_c, *others)))
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
def test_whatever_is_read_what_is_believed_of_the_card_stays_within_bounds(
    chosen: CardSettings, readings: list[tuple[float, ...]]
) -> None:
    subject = Controller(chosen, (23, 100), SLOWDOWN_C)
    for reading in readings:
        subject.decide(*reading)  # type: ignore[arg-type]
        assert isinstance(subject._law, TargetLaw)
        model = subject._law.model
        assert all(
            low <= x <= high
            for low, x, high in zip(model.tunables.lowest, model._x, model.tunables.highest, strict=True)
        )
        assert all(model._p[i][i] > 0 for i in range(6))


@few
@given(targets, card_ranges, credible)
def test_fans_are_at_full_speed_from_3_k_above_the_target_and_at_once_from_5_k_under_the_slowdown(
    chosen: CardSettings, card: tuple[int, int], readings: list[Reading]
) -> None:
    assert chosen.target_c is not None
    decisions = believed(Controller(chosen, card, SLOWDOWN_C), readings)
    for (lasting_c, decision), (_, temperature_c, *_others) in zip(decisions, readings, strict=True):
        if lasting_c >= chosen.target_c + 3 or temperature_c >= SLOWDOWN_C - 5:
            assert decision.duty_percent == card[1]


@few
@given(targets, card_ranges, credible)
def test_more_than_1_k_above_the_target_brake_and_curve_are_the_least(
    chosen: CardSettings, card: tuple[int, int], readings: list[Reading]
) -> None:
    assert chosen.target_c is not None
    low, high = duty_range(card, chosen.min_duty_percent)
    target_c = min(chosen.target_c, SLOWDOWN_C - 5 - TUNABLES.floor_to_c)
    for temperature_c, decision in believed(Controller(chosen, card, SLOWDOWN_C), readings):
        over_k = temperature_c - target_c
        if decision.reason.cause.group != "fail-safe" and over_k > 1:
            assert decision.duty_percent is not None
            assert decision.duty_percent >= min(low + (high - low) * (over_k - 1) / 2, high)
            assert decision.duty_percent >= min(chosen.curve.duty_at(temperature_c) or low, high)


def test_one_reading_among_others_is_no_reason_to_brake_but_three_are() -> None:
    law = TargetLaw(STEEP, (23, 100), 90)
    readings_c = [79] * 10 + [84, 79, 84, 84, 79] + [84] * 3
    kinds = [
        law.decide(second, temperature_c, 60).reason.cause.group for second, temperature_c in enumerate(readings_c)
    ]
    assert kinds[:-1].count("hot") == 0 and kinds[-1] == "hot"


def test_a_reading_that_stands_for_a_long_time_brakes_at_once() -> None:
    law = TargetLaw(STEEP, (23, 100), 90)
    kinds = [law.decide(5 * k, temperature_c, 60).reason.cause.group for k, temperature_c in enumerate((79, 79, 84))]
    assert kinds[-1] == "hot"


@few
@given(targets, card_ranges, credible)
def test_fans_fall_no_faster_than_the_slew_and_a_step(
    chosen: CardSettings, card: tuple[int, int], readings: list[Reading]
) -> None:
    decisions = believed(Controller(chosen, card, SLOWDOWN_C), readings)
    for (_, before), (_, after), reading in zip(decisions, decisions[1:], readings[1:], strict=False):
        assert before.duty_percent is not None and after.duty_percent is not None
        fall = before.duty_percent - after.duty_percent
        assert fall < chosen.slew_percent_per_s * reading[0] + chosen.step_percent


@few
@given(targets, credible)
def test_reasons_read_like_one_another(chosen: CardSettings, readings: list[Reading]) -> None:
    for _, decision in believed(Controller(chosen, (23, 100), SLOWDOWN_C), readings):
        if decision.reason.cause.group not in ("full", "fail-safe"):
            assert REASON.fullmatch(reason_sentence(decision.reason)), reason_sentence(decision.reason)


@pytest.mark.parametrize("speed", [float("nan"), float("inf"), -1.0, 1e9])
def test_an_absurd_fan_speed_is_taken_to_be_as_set(speed: float) -> None:
    told, untold = (Controller(STEEP, (23, 100), SLOWDOWN_C) for _ in range(2))
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
        self.now_s = 0
        self.dies_c: list[float] = []
        self.decisions: list[Decision] = []

    def run(self, seconds: int, *, every_s: int = 1) -> "Bench":
        for _ in range(0, seconds, every_s):
            reading = self.gpu.read()
            assert reading.temperature_c is not None
            power_w = reading.power_w if self.tells_power else None
            decision = self.law.decide(self.now_s, reading.temperature_c, power_w, self.gpu.speed_percent)
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


def light(number: int) -> Plant:
    """The first card of box `number` of the family, as light as `LIGHT` is beside the nominal card."""
    plant = family.draw(number).plants[0]
    return replace(plant, heat_capacity=plant.heat_capacity * LIGHT.heat_capacity / Plant().heat_capacity)


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
@pytest.mark.parametrize("number", [1, 2, 3, 5, 6, 7, 9, 10])
@pytest.mark.parametrize("workload", ["step", "epochs"])
def test_boxes_of_the_family_are_never_3_k_too_hot_for_10_s(workload: str, number: int) -> None:
    bench = Bench(family.draw(number).plants[0], family.load(workload, number, 0)).run(3600)
    if min(bench.dies_c[-600:]) > 80 and bench.duty == 100:
        pytest.skip("its fans cannot hold the target")
    longest = run = 0
    for die_c in bench.dies_c:
        run = run + 1 if die_c > 83 else 0
        longest = max(longest, run)
    assert longest <= 10


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


def test_short_jobs_are_averaged() -> None:
    bench = Bench(LIGHT, WORKLOADS["sweep"])
    summary = CardSummary(bench.gpu)
    for _ in range(3600):
        bench.run(1)
        summary.add(1)
    assert summary.sound_db <= 39.5
    assert summary.swings.count <= 4
    assert max(bench.dies_c) < 82


def test_a_card_that_does_not_tell_its_power_is_held_at_the_target_all_the_same() -> None:
    bench = Bench(LIGHT, steady(220))
    bench.tells_power = False
    bench.run(900)
    assert max(bench.dies_c) < 82
    assert all(77.5 < die_c < 81.5 for die_c in bench.dies_c[-200:])


@pytest.mark.parametrize("every_s", [2, 4, 5])
def test_the_target_is_held_at_every_interval(every_s: int) -> None:
    bench = Bench(LIGHT, steady(220)).run(1200, every_s=every_s)
    assert max(bench.dies_c) < 82.5
    assert all(78 < die_c < 81 for die_c in bench.dies_c[-50:])


@pytest.mark.slow
def test_a_card_that_is_known_is_held_from_the_beginning_as_it_was_learnt() -> None:
    plant = PLANTS["heavy"]
    learnt = Bench(plant, WORKLOADS["epochs"]).run(1500).law.model.learnt
    again = Bench(plant, steady(220), learnt=learnt)
    assert again.law.model.learnt.values == learnt.values
    assert max(again.run(500).dies_c) < 80.2


def test_no_fan_rises_while_the_card_cools() -> None:
    # A hot job of 25 s ends at 130 s, and a longer one is feared.
    bench = Bench(family.draw(195).plants[0], family.load("queue", 195, 0)).run(180)
    assert max(bench.duties[132:]) <= bench.duties[130]


def test_a_pause_that_is_known_to_be_short_is_waited_for() -> None:
    bench = Bench(light(12), WORKLOADS["sweep"], target_c=76).run(900)
    assert min(bench.duties[700:]) > 55


@pytest.mark.parametrize(("number", "at_most"), [(7, 4), (56, 3)])
def test_noise_of_a_steady_load_hardly_swings_a_fan(number: int, at_most: int) -> None:
    bench = Bench(family.draw(number).plants[0], steady(230)).run(1500)
    assert bench.swings(900) <= at_most
    assert max(bench.dies_c[600:]) < 81.5


@pytest.mark.slow
def test_a_job_that_has_settled_is_not_taken_for_a_harder_one() -> None:
    # A job of 116 W begins at 1225 s, long after one of 240 W.
    bench = Bench(family.draw(142).plants[0], family.load("queue", 142, 0)).run(1285)
    assert bench.duty < 35


@pytest.mark.slow
def test_between_jobs_that_come_like_one_another_fans_stay() -> None:
    assert Bench(family.draw(106).plants[0], WORKLOADS["sweep"]).run(1500).swings(900) == 0


def test_a_cold_card_that_begins_at_full_load_is_not_warmed_over_the_target() -> None:
    assert max(Bench(family.draw(18).plants[0], steady(230)).run(300).dies_c) < 80.5


def test_a_load_that_has_settled_is_not_waited_for() -> None:
    bench = Bench(LIGHT, lambda t: WORKLOADS["epochs"](t) if t < 1500 else 60.0).run(1515)
    assert bench.duty > 45  # another epoch may come
    bench.run(200)
    assert bench.duty < 40


def test_fans_rise_late_for_a_job_that_may_be_short() -> None:
    bench = Bench(LIGHT, steady(230)).run(300)
    assert bench.duties[40] < 40 < 55 < bench.duties[200]


def test_a_lighter_job_raises_no_fan_for_the_harder_one_before() -> None:
    bench = Bench(LIGHT, lambda t: 230.0 if t < 400 else 15.0 if t < 1000 else 120.0).run(1000)
    at_rest = bench.duty
    assert max(bench.run(300).duties[1000:]) <= at_rest


def test_fans_wait_at_what_would_do_for_the_last_job_again() -> None:
    bench = Bench(LIGHT, lambda t: 230.0 if t < 400 else 15.0).run(435)
    assert 40 < bench.duty < bench.duties[395] - 8


def test_fans_wait_at_what_would_do_for_all_of_the_last_job() -> None:
    bench = Bench(light(98), WORKLOADS["sweep"]).run(100)
    assert bench.duty > 60


def test_in_a_long_pause_fans_fall_by_and_by() -> None:
    bench = Bench(LIGHT, lambda t: 230.0 if t < 400 else 15.0).run(1600)
    assert bench.duties[480] > bench.duties[540] > bench.duties[600] > 30
    assert bench.duties[600] == bench.duties[1200]  # a quarter of an hour's quiet is not yet the end of it
    assert bench.duty == 23
    assert bench.swings(1150) == 1


def test_a_few_points_are_crept_even_when_they_were_not_needed_for_long() -> None:
    bench = Bench(LIGHT, lambda t: 130.0 if t < 900 else 15.0).run(2600)
    assert bench.duties[900] == 27 > bench.duty == 23
    assert all(before - after <= 1 for before, after in pairwise(bench.duties[900:]))


def test_a_jump_to_the_power_limit_is_prepared_for() -> None:
    # 250 W put the die 5.8 K higher than 134 W at once, and a fan takes seconds.
    bench = Bench(LIGHT, lambda t: 134.0 if t < 600 else 250.0).run(660)
    assert max(bench.dies_c) < 83


def test_a_card_that_does_not_tell_its_limit_is_ready_for_the_most_it_has_drawn() -> None:
    bench = Bench(LIGHT, lambda t: 250.0 if t < 60 else 15.0 if t < 500 else 134.0)
    bench.law = TargetLaw(CardSettings(target_c=80), (23, 100), 90)
    assert 75 < bench.run(1500).dies_c[-1] < 78


def test_a_moment_s_power_is_nothing_to_be_ready_for() -> None:
    bench = Bench(LIGHT, lambda t: 250.0 if t < 3 else 134.0)
    bench.law = TargetLaw(CardSettings(target_c=80), (23, 100), 90)
    assert bench.run(1500).dies_c[-1] > 78.5


def test_a_jump_to_what_full_fans_cannot_hold_is_not_prepared_for() -> None:
    hot = replace(LIGHT, inlet_c=55.0)
    assert Bench(hot, steady(110)).run(1500).dies_c[-1] > 79


@pytest.mark.parametrize("plant", [LIGHT, family.draw(107).plants[0]], ids=["nominal", "loud"])
def test_short_jobs_that_repeat_get_one_even_duty(plant: Plant) -> None:
    bench = Bench(replace(plant, power_noise_w=0.0, sensor_noise_c=0.0), WORKLOADS["sweep"]).run(1800)
    assert max(bench.duties[-900:]) - min(bench.duties[-900:]) <= 3
    assert 79 < max(bench.dies_c[-900:]) < 80.5
    assert reason_sentence(bench.decisions[-1].reason).endswith("since the load repeats every 100 s")


def test_the_first_pauses_are_waited_for_somewhat_longer() -> None:
    bench = Bench(LIGHT, lambda t: 230.0 if t < 400 else 15.0).run(440)
    assert bench.duties[435] > 40 + 5


def test_pauses_that_are_known_are_waited_for() -> None:
    bench = Bench(PLANTS["warm"], WORKLOADS["epochs"]).run(1649)
    assert bench.duty > 50


def test_long_pauses_between_loud_jobs_are_quiet() -> None:
    bench = Bench(PLANTS["warm"], lambda t: 235.0 if t % 160 < 80 else 15.0).run(1800)
    assert max(bench.duties[-300:]) - min(bench.duties[-300:]) >= 8


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
    learnt = bench.law.model.learnt
    bench.law.forget()
    assert bench.law.model.learnt == learnt
    before = bench.duty
    assert bench.run(1).duty == pytest.approx(before, abs=10)


def test_a_target_too_near_the_slowdown_threshold_is_lowered() -> None:
    law = TargetLaw(CardSettings(target_c=90), (23, 100), 85)
    assert law.decide(0, 60, 200).reason.limit_c == 82


# ---- reasons ----


def test_the_reason_tells_power_need_and_excess() -> None:
    law = TargetLaw(replace(STEEP, target_c=80), (23, 100), 90)
    for second in range(5):
        law.decide(second, 79, 60)
    law.decide(5, 82, 60)
    law.decide(6, 82, 60)
    decision = law.decide(7, 82, 60)
    assert decision.reason.cause.group == "hot"
    assert re.fullmatch(
        r"60 W would take \d+ % to hold 80 °C; the card is 2 °C above, so \d+ more", reason_sentence(decision.reason)
    )


def test_near_the_slowdown_threshold_the_reason_is_that() -> None:
    decision = TargetLaw(STEEP, (23, 100), 90).decide(0, 90, 214)
    assert decision == Decision(100, Reason(Cause.NEAR_SLOWDOWN, temperature_c=90))


def test_an_idle_card_is_at_the_minimum() -> None:
    decision = TargetLaw(STEEP, (23, 100), 90).decide(0, 35, 12)
    assert decision.duty_percent == 23
    assert re.fullmatch(
        r"12 W would take \d+ % to hold 80 °C; 23 % is the lowest duty of this card", reason_sentence(decision.reason)
    )


# ---- neighbours ----


@pytest.mark.parametrize(
    ("duties", "wanted"), [([], 0), ([50], 30), ([50, 80], 48), ([99], 59.4), ([100], 100), ([40, 100], 100)]
)
def test_fans_run_at_a_share_of_a_neighbour_and_full_where_it_has_no_more(duties: list[float], wanted: float) -> None:
    assert for_neighbours(duties, 100) == pytest.approx(wanted)


def test_a_hard_working_neighbour_raises_the_duty_and_the_reason_says_so() -> None:
    decision = TargetLaw(STEEP, (23, 100), 90).decide(0, 35, 12, None, [80])
    assert (decision.duty_percent, decision.reason.cause.group) == (ceil(TUNABLES.neighbour_share * 80), "neighbour")
    assert reason_sentence(decision.reason).endswith("25 more for a neighbour that takes in its heat")


def full_fans(temperature_c: float, power_w: float, speed_percent: float | None = None) -> TargetLaw:
    """A law half a minute later, which has set full speed."""
    subject = TargetLaw(STEEP, (23, 100), 90)
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
    subject = TargetLaw(STEEP, (least, 100), 90)
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
    subject = Controller(STEEP, (23, 100), SLOWDOWN_C)
    assert subject.local_demand_percent is None
    assert subject.decide(0, 35, 12, None, [100]).duty_percent == 100
    assert subject.local_demand_percent == 23


# ---- what the load may do next ----


def loaded(*stays: tuple[float, float]) -> Load:
    """A load after so many seconds at so many W each."""
    load = Load()
    for seconds, power_w in stays:
        for _ in range(int(seconds)):
            load.add(1.0, power_w)
    return load


@pytest.mark.parametrize(
    ("pauses_s", "known_s"), [((40, 55, 50), 55), ((40, 55, 90), None), ((40, 50), None), ((90, 40, 45), 45)]
)
def test_pauses_are_known_if_three_were_alike_or_two_the_same(pauses_s: list[int], known_s: float | None) -> None:
    load = loaded(*chain.from_iterable(((60, 220.0), (pause_s, 15.0)) for pause_s in pauses_s), (60, 220.0))
    assert load.pause_s == known_s


def test_what_has_done_the_same_three_times_will_do_so_again() -> None:
    load = loaded(*[(60, 220), (40, 15)] * 4, (20, 220))
    assert load.period_w == [220.0] * 8 + [15.0] * 8 + [220.0] * 4


def test_the_next_period_is_the_mean_of_the_last_ones() -> None:
    powers_w = [200.0, 210.0, 220.0, 230.0, 240.0]
    load = loaded(*chain.from_iterable(((60, power_w), (40, 15)) for power_w in powers_w))
    assert load.period_w == pytest.approx([220.0] * 12 + [15.0] * 8)


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ((75, 220.0), "the job is longer than it was"),
        ((10, 220.0), None),
        ((55, 15.0), "the pause is longer than it was"),
        ((30, 120.0), "the job is another"),
    ],
)
def test_what_does_not_do_as_it_did_does_not_repeat(end: tuple[float, float], why: str | None) -> None:
    load = loaded(*[(60, 220), (40, 15)] * 4, end)
    assert (not load.period_w) == (why is not None)


@pytest.mark.parametrize("seconds", [60, 120])
def test_noise_of_an_idle_card_is_no_period_of_a_job(seconds: int) -> None:
    load = loaded(*[(20, 12), (20, 30)] * 6, (20, 12), (seconds, 230))
    assert not load.period_w


def test_noise_in_a_pause_is_no_job() -> None:
    assert loaded(*[(60, 220), (40, 15)] * 3, (60, 220), (15, 15), (5, 50), (5, 15)).period_w


def test_a_bin_of_noise_in_a_job_is_no_other_load() -> None:
    assert loaded(*[(60, 220), (40, 15)] * 3, (10, 220), (5, 258)).period_w


def test_jobs_that_come_at_even_times_but_differ_are_no_period() -> None:
    load = loaded(*[(60, 220), (40, 15), (60, 120), (40, 15)] * 3)
    assert not load.period_w


def test_jobs_of_many_minutes_are_no_period() -> None:
    load = loaded(*[(150, 220), (150, 15)] * 4)
    assert not load.period_w


def test_a_load_of_unknown_length_may_last_as_long_again() -> None:
    assert loaded((100, 220)).rest_s == pytest.approx(100 + LoadTunables().lasts_s)


def test_a_job_is_taken_to_be_somewhat_longer_than_the_longest_yet_at_most() -> None:
    assert loaded((100, 220), (100, 15), (90, 220)).rest_s == pytest.approx(1.3 * 100 + 2 * STEP_S - 90)


def test_a_job_longer_than_that_may_last_as_long_again() -> None:
    assert loaded((100, 220), (100, 15), (200, 220)).rest_s == pytest.approx(200 + LoadTunables().lasts_s)


def test_jobs_that_were_alike_three_times_end_as_they_did() -> None:
    load = loaded(*[(300, 220), (30, 15)] * 3, (200, 220))
    assert load.rest_s == pytest.approx(300 + STEP_S - 200)


def test_a_job_at_its_known_end_is_not_taken_to_begin_anew() -> None:
    load = loaded(*[(60, 220), (40, 15)] * 3, (60, 220))
    assert load.rest_s == pytest.approx(STEP_S)


def test_two_jobs_that_were_the_same_to_a_bin_end_as_they_did() -> None:
    assert loaded((60, 220), (40, 15), (65, 220), (40, 15), (30, 220)).rest_s == pytest.approx(65 + STEP_S - 30)


def test_a_pause_is_told_from_a_lighter_job() -> None:
    assert not loaded((100, 220), (20, 60)).at_work
    assert loaded((100, 220), (20, 120)).at_work


def test_the_level_is_what_the_load_has_settled_at() -> None:
    load = loaded((100, 220), (50, 60))
    assert load.level_w == pytest.approx(60, abs=1)
    assert load.level_s == pytest.approx(50, abs=STEP_S)


@pytest.mark.parametrize("tick_s", [0.1, 0.9995, 3.0, 4.9, 11.0])
def test_bins_are_as_long_as_they_say_whatever_the_interval(tick_s: float) -> None:
    load, seconds = Load(), 0.0
    while seconds < 600:
        load.add(tick_s, 100.0)
        seconds += tick_s
    assert load._bins == pytest.approx(seconds / STEP_S, abs=1)
    assert load._past_w == pytest.approx([100.0] * load._bins)


@few
@given(st.lists(st.tuples(st.floats(0, 15), st.floats(0, 2000)), max_size=40))
def test_what_is_expected_is_never_negative_nor_absurd(stays: list[tuple[float, float]]) -> None:
    load = Load()
    for elapsed_s, power_w in stays:
        load.add(elapsed_s, power_w)
        assert all(0 <= expected_w <= 2000 * 1.1 for expected_w in [load.level_w, *load.period_w, *load.job_w])
        assert load.rest_s > 0
