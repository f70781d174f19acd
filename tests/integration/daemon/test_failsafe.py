"""What one card's worker does when something is wrong, second by second, on a clock of the test's own."""

import random
from collections.abc import Callable
from itertools import pairwise

import pynvml
import pytest

from gpufan.core.reasons import Cause, Reason
from gpufan.core.sentences import state_sentence
from gpufan.daemon.card_reader import FANS_EVERY_S
from gpufan.daemon.worker import Worker
from gpufan.errors import GpuError
from gpufan.gpu.nvml_box import NvmlBox
from tests.doubles.nvml import AUTO, IGNORES, JAMS, MANUAL, MOVES, Card, Kind, NvmlDouble
from tests.integration.harness import Bench, fans, sets, settings

FULL = [100, 100]
DRIVERS = [None, None]


@pytest.fixture
def bench(double: NvmlDouble) -> Bench:
    """A worker that has had the first card at 60 °C and 60 % for a while."""
    bench = Bench(double)
    bench.tick(20)
    assert fans(double, 0) == [60, 60]
    return bench


# ---- the sensor ----


def temperature(value: int) -> Callable[[Card], None]:
    def spoil(card: Card) -> None:
        card.temperature = value

    return spoil


def failing_read(card: Card) -> None:
    card.error[Kind.TEMPERATURE] = pynvml.NVML_ERROR_UNKNOWN


def mend(card: Card) -> None:
    card.error[Kind.TEMPERATURE], card.temperature = 0, 60


BAD_READINGS = pytest.mark.parametrize(
    "spoil",
    [failing_read, temperature(0), temperature(-40), temperature(131)],
    ids=["unreadable", "0 °C", "-40 °C", "131 °C"],
)


@BAD_READINGS
def test_a_bad_reading_is_held_over_and_the_third_brings_full_speed(
    double: NvmlDouble, bench: Bench, spoil: Callable[[Card], None]
) -> None:
    spoil(double.cards[0])
    seen = []
    for _ in range(4):
        bench.tick()
        seen.append((bench.state.reason.cause.group, fans(double, 0)))
    assert seen == [("fail-safe", [60, 60])] * 2 + [("fail-safe", FULL)] * 2


@BAD_READINGS
def test_after_bad_readings_the_third_good_one_is_believed(
    double: NvmlDouble, bench: Bench, spoil: Callable[[Card], None]
) -> None:
    spoil(double.cards[0])
    bench.tick(10)
    mend(double.cards[0])
    seen = []
    for _ in range(3):
        bench.tick()
        seen.append((bench.state.reason.cause.group, fans(double, 0)))
    assert seen == [("fail-safe", FULL)] * 2 + [("curve", [60, 60])]


def test_bad_readings_count_as_hot_in_a_row_only(double: NvmlDouble, bench: Bench) -> None:
    for _ in range(5):
        failing_read(double.cards[0])
        bench.tick(2)
        mend(double.cards[0])
        bench.tick()
        assert fans(double, 0) == [60, 60]


@BAD_READINGS
def test_a_card_that_has_never_been_read_well_starts_at_full_speed(
    double: NvmlDouble, spoil: Callable[[Card], None]
) -> None:
    spoil(double.cards[0])
    Bench(double).tick()
    assert fans(double, 0) == FULL


def test_an_absurd_temperature_from_an_old_driver_is_no_temperature(install: Callable[..., NvmlDouble]) -> None:
    double = install("535.43")  # its call returns an unsigned number: -40 reads as 4294967256
    bench = Bench(double)
    bench.tick()
    double.cards[0].temperature = -40
    bench.tick(3)
    assert (bench.state.reason.cause.group, fans(double, 0)) == ("fail-safe", FULL)


@pytest.mark.parametrize(("temperature_c", "duty"), [(1, 40), (130, 100)])
def test_the_coldest_and_the_hottest_that_a_die_can_be_are_believed(
    double: NvmlDouble, bench: Bench, temperature_c: int, duty: int
) -> None:
    double.cards[0].temperature = temperature_c
    bench.tick(5)
    assert bench.state.reason.cause.group != "fail-safe"
    assert fans(double, 0) == [duty, duty]


def test_a_temperature_that_stands_still_while_power_moves_brings_full_speed_within_60_s(
    double: NvmlDouble, bench: Bench
) -> None:
    double.cards[0].temperature = 61
    bench.tick(21)
    double.cards[0].power_mw = 210_000
    bench.tick(39)
    assert fans(double, 0) == [61, 61]
    bench.tick()
    assert (bench.state.reason.cause.group, fans(double, 0)) == ("fail-safe", FULL)
    assert "has been 61 °C for" in state_sentence(bench.state)


def test_a_frozen_temperature_is_believed_again_once_it_moves(double: NvmlDouble, bench: Bench) -> None:
    double.cards[0].power_mw = 250_000
    bench.tick(300)
    assert fans(double, 0) == FULL
    double.cards[0].temperature = 61
    bench.tick()
    assert (bench.state.reason.cause.group, fans(double, 0)) == ("curve", [61, 61])


def test_a_steady_temperature_at_steady_power_is_believed(double: NvmlDouble, bench: Bench) -> None:
    double.cards[0].power_mw = 195_000
    bench.tick(600)
    assert (bench.state.reason.cause.group, fans(double, 0)) == ("curve", [60, 60])


@pytest.mark.parametrize("seed", range(4))
def test_power_that_jitters_around_a_steady_mean_does_not_make_a_steady_temperature_suspect(
    double: NvmlDouble, seed: int
) -> None:
    noise = random.Random(seed)
    bench = Bench(double)
    for _ in range(600):
        double.cards[0].power_mw = 200_000 + round(noise.gauss(0, 25_000))
        bench.tick()
        assert bench.state.reason.cause.group == "curve", state_sentence(bench.state)


def test_a_card_that_does_not_tell_its_power_may_have_a_steady_temperature(double: NvmlDouble, bench: Bench) -> None:
    double.cards[0].error[Kind.POWER] = pynvml.NVML_ERROR_NOT_SUPPORTED
    bench.tick(300)
    assert (bench.state.reason.cause.group, fans(double, 0)) == ("curve", [60, 60])


# ---- the card falls off the bus ----


def test_a_lost_card_is_reported_at_once_and_the_other_is_kept(double: NvmlDouble, bench: Bench) -> None:
    other = Bench(double, 1)
    other.tick()
    double.cards[0].lost = 1
    double.cards[1].temperature = 70
    bench.tick()
    other.tick()
    assert (bench.state.control, bench.state.reason.cause.group, bench.state.temperature_c) == ("lost", "lost", None)
    assert "GPU is lost" in state_sentence(bench.state)
    assert (other.state.control, fans(double, 1)) == ("ours", [70, 70])


@pytest.mark.parametrize("kind", [Kind.GET_POLICY, Kind.GET_FAN, Kind.POWER, Kind.SET_FAN], ids=lambda kind: kind.name)
@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED])
def test_a_card_is_lost_whichever_call_says_so(double: NvmlDouble, bench: Bench, kind: Kind, error: int) -> None:
    double.cards[0].error[kind] = error
    double.cards[0].temperature = 61
    bench.tick()
    assert bench.state.control == "lost"


def test_a_lost_card_is_asked_again_after_waits_that_double_up_to_5_s(double: NvmlDouble, bench: Bench) -> None:
    double.cards[0].lost = 1
    asked_s = bench.times_of(lambda: sum(double.calls(0).values()), 260)
    waits_s = [later - earlier for earlier, later in pairwise(asked_s)]
    assert waits_s[:3] == [1, 2, 4] and set(waits_s[3:]) == {5}


def test_a_card_that_comes_back_is_controlled_again_within_60_s(double: NvmlDouble, bench: Bench) -> None:
    double.cards[0].lost = 1
    bench.tick(200)
    double.cards[0].lost = 0
    for fan in double.cards[0].fans:
        fan.policy = AUTO
    double.cards[0].temperature = 70
    bench.tick(60)
    assert (bench.state.control, fans(double, 0)) == ("ours", [70, 70])


def test_a_card_that_was_back_for_a_while_is_asked_soon_when_lost_again(double: NvmlDouble, bench: Bench) -> None:
    for lost in (1, 0):
        double.cards[0].lost = lost
        bench.tick(100)
    double.cards[0].lost = 1
    asked_s = bench.times_of(lambda: sum(double.calls(0).values()), 5)
    assert asked_s[:3] == [0, 1, 3]


def test_a_card_that_comes_back_under_another_index_is_known_by_its_address(double: NvmlDouble, bench: Bench) -> None:
    first, second = double.cards[0], double.cards[1]
    first.lost = 1
    bench.tick()
    first.uuid, first.pci, second.uuid, second.pci = second.uuid, second.pci, first.uuid, first.pci
    second.temperature = 70
    bench.tick()
    assert fans(double, 1) == [70, 70]


@pytest.mark.parametrize("kind", [Kind.HANDLE, Kind.DESCRIBE, Kind.FAN_COUNT], ids=lambda kind: kind.name)
def test_a_card_that_cannot_be_opened_at_first_is_picked_up_when_it_answers(double: NvmlDouble, kind: Kind) -> None:
    double.cards[0].error[kind] = pynvml.NVML_ERROR_UNKNOWN
    bench = Bench(double)
    bench.tick(10)
    assert (bench.state.control, sets(double, 0)) == ("lost", [])
    double.cards[0].error[kind] = 0
    bench.tick(60)
    assert (bench.state.control, fans(double, 0)) == ("ours", [60, 60])


# ---- the fans do not obey ----


def refuse(card: Card) -> None:
    card.error[Kind.SET_FAN] = pynvml.NVML_ERROR_UNKNOWN


def forbid(card: Card) -> None:
    card.error[Kind.SET_FAN] = pynvml.NVML_ERROR_NO_PERMISSION


def ignore(card: Card) -> None:
    card.fans[1].policy, card.fans[1].stuck = AUTO, IGNORES


def jam(card: Card) -> None:
    card.fans[1].speed, card.fans[1].stuck = 23, JAMS


def obey(card: Card) -> None:
    card.error[Kind.SET_FAN] = 0
    card.fans[1].stuck = MOVES


DISOBEDIENCE = pytest.mark.parametrize("disobey", [refuse, forbid, ignore], ids=lambda disobey: disobey.__name__)


def test_a_card_that_tells_fewer_fans_after_it_was_lost_is_not_taken_up_without_them(
    double: NvmlDouble, bench: Bench
) -> None:
    card = double.cards[0]
    card.lost = 1
    bench.tick()
    card.lost, card.error[Kind.FAN_COUNT] = 0, pynvml.NVML_ERROR_NOT_SUPPORTED
    bench.tick(5)
    assert bench.state.control == "lost"
    card.error[Kind.FAN_COUNT] = 0
    bench.tick(20)
    assert (bench.state.control, fans(double, 0)) == ("ours", [60, 60])


def test_a_name_that_is_no_text_keeps_no_card_from_being_controlled(double: NvmlDouble) -> None:
    double.cards[0].name = b"\xff\x1b[2J[/foo]"
    bench = Bench(double)
    bench.tick(3)
    assert (bench.state.control, bench.state.label.isprintable()) == ("ours", True)


def test_a_duty_range_that_would_make_full_speed_none_is_not_believed(double: NvmlDouble) -> None:
    double.cards[0].by_hand = 1
    double.cards[0].temperature, double.cards[0].min_duty, double.cards[0].max_duty = 95, 0, 1
    bench = Bench(double)
    bench.tick()
    assert bench.state.duty_percent in (None, 100)


def test_a_jammed_fan_does_not_hide_behind_a_duty_that_never_rests(double: NvmlDouble, bench: Bench) -> None:
    card = double.cards[0]
    card.by_hand = 1
    jam(card)
    for _ in range(20):
        card.temperature = 63 if card.temperature == 60 else 60
        bench.tick()
    assert bench.state.fault is not None and bench.state.fault.cause is Cause.FAN_SLOW


@DISOBEDIENCE
def test_fans_that_do_not_obey_three_times_are_given_back_to_the_driver(
    double: NvmlDouble, bench: Bench, disobey: Callable[[Card], None]
) -> None:
    disobey(double.cards[0])
    bench.tick(2, force_write=True)
    assert bench.state.control == "ours"
    # A setting that was there before and is gone counts as another program's once.
    bench.tick(2 if disobey is ignore else 1)
    assert (bench.state.control, bench.state.reason.cause.group, fans(double, 0)) == ("released", "fault", DRIVERS)
    assert "trying again after 5 s" in state_sentence(bench.state)


def test_a_fan_that_never_moves_is_noticed_and_keeps_its_duty(double: NvmlDouble) -> None:
    jam(double.cards[0])
    bench = Bench(double)
    bench.tick(8)
    assert bench.state.fault is None
    bench.tick(5)
    assert "fan 1 stays at 23 % although it is set to 60 %" in state_sentence(bench.state)


def test_a_fan_that_never_takes_a_setting_is_noticed_after_three_readings(double: NvmlDouble) -> None:
    ignore(double.cards[0])
    bench = Bench(double)
    bench.tick(4)
    assert (bench.state.control, fans(double, 0)) == ("released", DRIVERS)


@DISOBEDIENCE
def test_fans_that_obey_again_are_taken_again(
    double: NvmlDouble, bench: Bench, disobey: Callable[[Card], None]
) -> None:
    disobey(double.cards[0])
    bench.tick(force_write=True)
    bench.tick(90)
    obey(double.cards[0])
    bench.tick(61)
    assert (bench.state.control, bench.state.reason.cause.group, fans(double, 0)) == ("ours", "curve", [60, 60])
    assert "released" not in {bench.tick() or bench.state.control for _ in range(100)}


def test_fans_that_do_not_obey_are_tried_again_after_waits_that_grow_from_5_to_60_s(
    double: NvmlDouble, bench: Bench
) -> None:
    refuse(double.cards[0])
    double.cards[0].temperature = 61
    given_back_s = bench.times_of(lambda: double.calls(0)[Kind.SET_DEFAULT], 500)
    # Three tries, a second apart, follow each wait.
    waits_s = [later - earlier - 2 for earlier, later in pairwise(given_back_s)]
    assert waits_s[:16] == [5, 6, 7, 9, 10, 12, 15, 18, 21, 26, 31, 37, 45, 53, 60, 60]


@pytest.mark.parametrize("fault_s", range(20, 40))
def test_fans_that_did_not_obey_for_less_than_40_s_are_set_within_10_s_of_the_end_of_the_fault(
    fault_s: int, double: NvmlDouble, bench: Bench
) -> None:
    refuse(double.cards[0])
    double.cards[0].temperature = 61
    bench.tick(fault_s)
    obey(double.cards[0])
    bench.tick(10)
    assert bench.state.control == "ours"


def test_while_fans_are_given_back_the_card_is_still_read(double: NvmlDouble, bench: Bench) -> None:
    refuse(double.cards[0])
    double.cards[0].temperature = 61
    bench.tick(4)
    double.cards[0].temperature = 62
    bench.tick()
    assert (bench.state.control, bench.state.temperature_c) == ("released", 62)


def test_fans_that_neither_obey_nor_can_be_given_back_are_reported_and_tried_again(
    double: NvmlDouble, bench: Bench
) -> None:
    refuse(double.cards[0])
    double.cards[0].error[Kind.SET_DEFAULT] = pynvml.NVML_ERROR_UNKNOWN
    double.cards[0].temperature = 61
    bench.tick(3)
    assert "giving the fans back failed" in state_sentence(bench.state)
    obey(double.cards[0])
    bench.tick(5)
    assert (bench.state.control, fans(double, 0)) == ("ours", [61, 61])


def test_the_other_card_is_kept_while_one_does_not_obey(double: NvmlDouble, bench: Bench) -> None:
    other = Bench(double, 1)
    refuse(double.cards[0])
    for temperature_c in range(61, 71):
        double.cards[0].temperature = double.cards[1].temperature = temperature_c
        bench.tick()
        other.tick()
        assert (other.state.control, fans(double, 1)) == ("ours", [temperature_c] * 2)


def other_target(card: Card) -> None:
    card.fans[1].target = 30


def driver_policy(card: Card) -> None:
    for fan in card.fans:
        fan.policy = AUTO


@pytest.mark.parametrize("meddle", [other_target, driver_policy], ids=["another target", "policy auto, as by a resume"])
def test_fans_changed_by_another_program_are_counted_and_set_again_within_seconds(
    double: NvmlDouble, bench: Bench, meddle: Callable[[Card], None]
) -> None:
    meddle(double.cards[0])
    said = ""
    for _ in range(int(FANS_EVERY_S)):
        bench.tick()
        said += state_sentence(bench.state)
    assert (fans(double, 0), bench.state.overrides) == ([60, 60], 1)
    assert "another program" in said or "target of 30 % instead of 60 %" in said
    bench.tick(20)
    assert (bench.state.control, bench.state.reason.cause.group, bench.state.overrides) == ("ours", "curve", 1)


def test_a_fan_taken_from_the_driver_where_the_curve_says_auto_is_given_back(double: NvmlDouble) -> None:
    bench = Bench(double, curve="0:auto,70:60,80:100")
    bench.tick(3)
    assert (bench.state.control, fans(double, 0)) == ("driver", DRIVERS)
    double.cards[0].fans[1].policy = MANUAL
    bench.tick(int(FANS_EVERY_S))
    assert (fans(double, 0), bench.state.overrides) == (DRIVERS, 1)


def test_a_driver_that_runs_a_fan_faster_than_told_is_shown_and_left_to_it(double: NvmlDouble, bench: Bench) -> None:
    double.cards[0].fans[0].speed, double.cards[0].fans[0].stuck = 118, JAMS
    bench.tick(20)
    assert (bench.state.control, bench.state.overrides) == ("ours", 0)
    assert state_sentence(bench.state) == "the curve gives 60 %; the driver runs fan 0 at 118 %"


# ---- sleep, and the end ----


def test_duty_and_policy_are_asserted_anew_when_told_to(double: NvmlDouble, bench: Bench) -> None:
    before = len(double.log())
    bench.tick(10)
    assert len(double.log()) == before  # nothing to do
    bench.tick(force_write=True)
    assert sets(double, 0)[before:] == [(0, Kind.SET_FAN, 60), (1, Kind.SET_FAN, 60)]


def test_fans_that_are_the_drivers_are_given_back_anew_when_told_to(double: NvmlDouble) -> None:
    bench = Bench(double, curve="0:auto,70:60,80:100")
    bench.tick(10)
    before = len(double.log())
    bench.tick(force_write=True)
    assert sets(double, 0)[before:] == [(0, Kind.SET_DEFAULT, 0), (1, Kind.SET_DEFAULT, 0)]


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_no_jump_of_the_clock_lowers_the_fans_of_a_hot_card(double: NvmlDouble, bench: Bench, jump_s: float) -> None:
    double.cards[0].temperature = 80
    bench.tick()
    bench.now_s += jump_s
    for _ in range(5):
        bench.tick()
        assert fans(double, 0) == [80, 80]


def test_a_worker_that_was_stopped_sets_nothing_more(double: NvmlDouble, bench: Bench) -> None:
    bench.worker.stop()
    double.cards[0].temperature = 80
    bench.tick(3)
    assert fans(double, 0) == DRIVERS


def test_a_worker_stopped_before_its_first_tick_gives_back_what_a_killed_one_left(double: NvmlDouble) -> None:
    for fan in double.cards[0].fans:
        fan.policy, fan.target = MANUAL, 30
    (worker,) = (Worker(gpu, settings()) for gpu in NvmlBox().gpus[:1])
    worker.stop()
    assert fans(double, 0) == DRIVERS


def test_giving_back_is_done_again_when_it_fails_once(double: NvmlDouble, bench: Bench) -> None:
    double.cards[0].fans[1].stuck = IGNORES
    with pytest.raises(GpuError, match="fan 1 is still in manual mode after it was given back"):
        bench.worker.stop()
    assert [call for call in sets(double, 0) if call[1] == Kind.SET_DEFAULT] == [
        (fan, Kind.SET_DEFAULT, 0) for fan in (0, 1, 0, 1)
    ]


def test_a_dry_run_sets_nothing_and_gives_nothing_back(double: NvmlDouble) -> None:
    bench = Bench(double, dry_run=True)
    bench.tick(10)
    double.cards[0].temperature = 90
    bench.tick(10, force_write=True)
    bench.worker.stop()
    assert sets(double, 0) == []
    assert (bench.state.control, bench.state.reason.cause.group) == ("driver", "full")


# ---- cards and drivers that can do less ----

OPTIONAL = (Kind.RANGE, Kind.THRESHOLD, Kind.POWER, Kind.GET_FAN, Kind.GET_TARGET, Kind.GET_POLICY, Kind.RPM)
ERRORS = pytest.mark.parametrize(
    "error", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_UNKNOWN], ids=["not supported", "unknown error"]
)


@ERRORS
@pytest.mark.parametrize("kinds", [*((kind,) for kind in OPTIONAL), OPTIONAL], ids=lambda kinds: kinds[0].name)
def test_control_needs_no_optional_call(double: NvmlDouble, kinds: tuple[Kind, ...], error: int) -> None:
    for kind in kinds:
        double.cards[0].error[kind] = error
    bench = Bench(double)
    bench.tick(20)
    double.cards[0].temperature = 70
    bench.tick(20)
    assert (bench.state.control, bench.state.errors, fans(double, 0)) == ("ours", 0, [70, 70])


@ERRORS
def test_optional_calls_that_fail_later_do_not_stop_control(double: NvmlDouble, bench: Bench, error: int) -> None:
    for kind in OPTIONAL:
        double.cards[0].error[kind] = error
    double.cards[0].temperature = 70
    bench.tick(20)
    assert (bench.state.control, bench.state.errors, fans(double, 0)) == ("ours", 0, [70, 70])


@pytest.mark.parametrize(
    "driver", ["515.43", "520.56", "535.43", "580.95", "1400.0"], ids=lambda driver: f"driver {driver}"
)
def test_each_driver_that_can_set_fans_is_controlled_and_fails_safe(
    install: Callable[..., NvmlDouble], driver: str
) -> None:
    double = install(driver)
    bench = Bench(double)
    bench.tick(5)
    assert (bench.state.control, bench.state.temperature_c, fans(double, 0)) == ("ours", 60, [60, 60])
    failing_read(double.cards[0])
    bench.tick(3)
    assert fans(double, 0) == FULL
    bench.worker.stop()
    assert fans(double, 0) == DRIVERS


def test_a_jammed_fan_is_noticed_on_a_driver_that_tells_neither_target_nor_policy(
    install: Callable[..., NvmlDouble],
) -> None:
    double = install("515.43")
    jam(double.cards[0])
    bench = Bench(double)
    bench.tick(20)
    assert bench.state.fault == Reason(Cause.FAN_SLOW, fan=1, found_percent=23, set_percent=60)


def test_a_card_whose_threshold_is_absurd_is_at_full_speed_before_90_degrees(double: NvmlDouble) -> None:
    double.cards[0].slowdown = 500
    double.cards[0].temperature = 85
    bench = Bench(double, curve="0:30,110:30")
    bench.tick()
    assert fans(double, 0) == FULL


@pytest.mark.parametrize("kind", [Kind.SET_FAN, Kind.SET_DEFAULT], ids=lambda kind: kind.name)
def test_every_fan_of_a_card_is_tried_although_one_fails(double: NvmlDouble, bench: Bench, kind: Kind) -> None:
    double.cards[0].error[kind] = pynvml.NVML_ERROR_UNKNOWN
    before = len(double.log())
    with pytest.raises(GpuError, match="the driver refused: Unknown Error"):
        bench.worker.gpu.set_duty(70) if kind == Kind.SET_FAN else bench.worker.gpu.release()
    assert [call[:2] for call in sets(double, 0)[before:]] == [(0, kind), (1, kind)]
