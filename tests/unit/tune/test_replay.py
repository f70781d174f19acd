"""Replays: the outcome of settings on simulated and fitted cards, measured in the same way as a recording."""

from dataclasses import replace
from functools import partial

import pytest

from gpufan.config.settings import Settings
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.thermal import sound_db
from gpufan.daemon.recording import Row
from gpufan.gpu.simulated import PROFILES, WORKLOADS, Plant, Profile, SimulatedBox
from gpufan.tune.boxes import FittedBox, simulated_boxes
from gpufan.tune.plant import FittedPlant
from gpufan.tune.recorded_cards import RecordedCard, recorded_cards
from gpufan.tune.replay import Outcome, Trace, outcome_as_recorded, replay, settings_to_compare
from gpufan.tune.show import outcome_panels
from tests.unit.builders import FakeGpu
from tests.unit.tune.recorded import EAGER, card, record

CURVE = CardSettings()
STOCK = None
FULL = CardSettings(Curve.parse("0:100"))

one_card = partial(SimulatedBox, PROFILES["1080ti"], WORKLOADS["epochs"])


def test_equal_boxes_have_equal_outcomes() -> None:
    assert replay(one_card(), "", CURVE, 600) == replay(one_card(), "", CURVE, 600)


def test_an_outcome_has_a_value_for_each_second() -> None:
    outcome = replay(one_card(), "", CURVE, 60)
    assert outcome.times_s == list(range(61))
    (trace,) = outcome.cards
    assert {len(v) for v in (trace.temperature_c, trace.duty_percent, outcome.sounds_db)} == {61}
    assert outcome.peak_c == max(trace.temperature_c)


def test_full_speed_is_the_coolest_and_the_loudest() -> None:
    full, default, stock = (replay(one_card(), "", setting, 900) for setting in (FULL, CURVE, STOCK))
    assert full.peak_c < default.peak_c < stock.peak_c
    assert full.sound_db > default.sound_db > stock.sound_db
    assert full.cards[0].duty_percent[-1] == 100


def test_without_settings_the_driver_controls_the_fans() -> None:
    box = one_card()
    replay(box, "", STOCK, 60)
    assert box.gpus[0].manual_percent is None


def test_of_several_cards_the_hottest_counts_and_the_sound_of_all_together() -> None:
    one = replay(one_card(), "", FULL, 300)
    two = replay(SimulatedBox(replace(PROFILES["dual-1080ti"], coupling=()), WORKLOADS["epochs"]), "", FULL, 300)
    assert two.peak_c == one.peak_c
    assert two.sound_db == pytest.approx(one.sound_db + 3.01, abs=0.01)
    hot = Profile("", (Plant(), replace(Plant(), inlet_c=35)))
    assert replay(SimulatedBox(hot, WORKLOADS["epochs"]), "", FULL, 300).peak_c == pytest.approx(
        one.peak_c + 10, abs=0.5
    )


def test_cards_that_share_air_help_each_other_as_they_do_in_the_daemon() -> None:
    box = simulated_boxes("dual-1080ti-open-air", "step", 30)()
    replay(box, "", CardSettings(target_c=62), 1800)
    assert [gpu.speed_percent for gpu in box.gpus] == [100, 100]


def test_a_replay_ends_when_a_card_is_too_hot() -> None:
    outcome = replay(one_card(), "", CURVE, 3600, stop_above_c=60)
    assert 60 < outcome.peak_c < 61
    assert len(outcome.times_s) < 120


def test_a_replay_of_a_recorded_card_agrees_with_the_recording() -> None:
    box = FittedBox([(card(), FittedPlant())])
    follows = CardSettings(Curve.parse(EAGER), hysteresis_c=1, hold_s=5)
    outcome, measured = replay(box, "", follows, 600), outcome_as_recorded(card())
    assert box.gpus[0].info.label == "0 GTX 1080 Ti"
    assert outcome.peak_c == pytest.approx(measured.peak_c, abs=0.7)
    assert outcome.sound_db == pytest.approx(measured.sound_db, abs=0.2)
    assert outcome.swings == pytest.approx(measured.swings, abs=1)


def row(time_s: float, power_w: float) -> Row:
    return Row(time_s, "GPU-1", "0 A", 60, power_w, 50, 50, None, "ours", "curve", "")


def slow_card() -> RecordedCard:
    """A card whose power in W is the time in s, with a gap after 65 s."""
    times_s = [0, 5, 10, 60.5, 65, 70, 1000, 1005, 1060]
    (only,) = recorded_cards(row(time_s, time_s) for time_s in [*times_s[:3], *range(15, 70, 5), *range(1000, 1065, 5)])
    return only


def test_the_recorded_load_repeats_without_the_gaps() -> None:
    load = FittedBox([(slow_card(), FittedPlant())]).gpus[0].workload
    # A reading stands for the seconds up to it.
    assert [load(t) for t in (0, 4.9, 5.1, 64.9, 65.1, 124.9)] == [5, 5, 10, 65, 1005, 1060]
    assert load(125.1) == load(0.1)


def test_a_recorded_power_above_the_nominal_limit_is_replayed() -> None:
    hungry = card([r._replace(power_w=400) for r in record(minutes=2)])
    box = FittedBox([(hungry, FittedPlant())])
    replay(box, "", FULL, 10)
    assert box.gpus[0].power_w == 400


def test_a_recording_is_measured_as_a_replay_is() -> None:
    (loud,) = recorded_cards(
        [row(t, 200)._replace(speed_percent=50, speed_rpm=2400, temperature_c=84 if t > 90 else 70) for t in range(101)]
    )
    outcome = outcome_as_recorded(loud)
    assert (outcome.peak_c, outcome.hot_s, outcome.swings) == (84, 10, 0)
    assert outcome.sound_db == pytest.approx(sound_db(2400))
    assert outcome.throttled_percent is None


def test_the_picture_shows_every_card_and_has_a_line_for_each_setting_in_each_panel() -> None:
    two = partial(SimulatedBox, PROFILES["dual-1080ti"], WORKLOADS["epochs"])
    outcomes = [replay(two(), name, setting, 30) for name, setting in (("default", CURVE), ("full", FULL))]
    drawn = outcome_panels(outcomes, 80)
    assert [(panel.quantity, panel.unit) for panel in drawn] == [
        ("0 GTX 1080 Ti\ntemperature", "°C"),
        ("0 GTX 1080 Ti\nduty", "%"),
        ("1 GTX 1080 Ti\ntemperature", "°C"),
        ("1 GTX 1080 Ti\nduty", "%"),
        ("all cards\nsound", "dB(A)"),
    ]
    assert all([series.name for series in panel.series] == ["default", "full"] for panel in drawn)


def test_a_louder_setting_is_never_drawn_with_slower_fans() -> None:
    # Card 1 is the hottest under the curve, card 0 is the hottest under the target.
    cards = [Trace("0 A", [70], [90]), Trace("1 A", [75], [40])], [Trace("0 A", [78], [50]), Trace("1 A", [70], [40])]
    loud, quiet = (Outcome(name, 0, 0, 0, 0, 0, [0], traces, [50]) for name, traces in zip("ab", cards, strict=True))
    duties = [panel for panel in outcome_panels([loud, quiet], 80) if panel.unit == "%"]
    assert [[series.values for series in panel.series] for panel in duties] == [[[90], [50]], [[40], [40]]]


def test_fans_that_stand_still_leave_a_gap_in_the_sound() -> None:
    silent = Outcome("", 30, 0, 0, 0, 0, [0], [Trace("0 A", [30], [0])], [0.0])
    value = outcome_panels([silent], 80)[-1].series[0].values[0]
    assert value is not None and value != value


def test_a_recording_that_begins_under_load_is_replayed_no_hotter_than_it_was() -> None:
    late = card([r for r in record(minutes=20, curve="0:60") if r.time_s >= 250])
    assert late.readings[0].power_w == 230
    outcome = replay(FittedBox([(late, FittedPlant())]), "", CardSettings(Curve.parse("0:60")), 600)
    real_c = max(reading.temperature_c for reading in late.readings if reading.time_s <= 850)
    assert outcome.peak_c == pytest.approx(real_c, abs=1)


def test_air_that_had_warmed_before_the_recording_is_warm_in_the_replay() -> None:
    plant = FittedPlant(case_resistance=0.04)
    late = card([r for r in record(plant, minutes=30, curve="0:70") if r.time_s >= 1200])
    gpu = FittedBox([(late, plant)]).gpus[0]
    assert gpu.case_heat_k == pytest.approx(0.04 * 215, abs=2)


def test_the_recorded_heat_of_other_cards_warms_the_inlet_air() -> None:
    first = [row(second, 0)._replace(temperature_c=25, speed_percent=100) for second in range(1201)]
    both = [r for pair in zip(first, [r._replace(uuid="GPU-2", power_w=200) for r in first], strict=True) for r in pair]
    cool, _ = recorded_cards(both)
    alone, beside = (
        replay(FittedBox([(cool, FittedPlant(coupling=coupling))]), "", FULL, 1200).cards[0].temperature_c[-1]
        for coupling in (0, 0.02)
    )
    assert beside - alone == pytest.approx(4, abs=0.1)


def test_under_another_load_the_other_cards_have_that_load_too() -> None:
    cards = [(slow_card(), FittedPlant(coupling=0.02)) for _ in range(3)]
    box = FittedBox(cards, lambda time_s: 100.0)
    box.advance(1)
    assert box.gpus[0].neighbour_heat_k == pytest.approx(0.02 * 2 * 100)


def test_a_setting_that_is_given_twice_is_compared_once() -> None:
    curve = Curve.parse("40:30,80:100")
    assert list(settings_to_compare([curve, curve], [78, 78.0])) == [
        "curve 40:30,80:100",
        "default: target 78 °C",
        "stock driver",
    ]


@pytest.mark.parametrize("profile", ["1080ti", "dual-1080ti-open-air", "quad-2080ti"])
def test_at_idle_the_default_is_as_quiet_as_the_stock_driver(profile: str) -> None:
    default, stock = (
        replay(SimulatedBox(PROFILES[profile], WORKLOADS["idle"]), "", settings, 1800)
        for settings in (Settings().for_card(FakeGpu().info), STOCK)
    )
    assert default.sounds_db == stock.sounds_db
    assert {duty for trace in default.cards for duty in trace.duty_percent} == {PROFILES[profile].plants[0].idle_duty}


def test_a_target_is_replayed_with_the_power_of_the_recording() -> None:
    card_at_work = card(record(minutes=20, curve="0:60"))
    found = replay(FittedBox([(card_at_work, FittedPlant())]), "", CardSettings(target_c=75), 1200)
    assert found.peak_c == pytest.approx(75, abs=1)
