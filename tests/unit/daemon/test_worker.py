"""One card's tick with a card in memory: what is written, what is read back, and when the driver gets its fans."""

from itertools import pairwise
from math import ceil

import pytest

from gpufan.control.law import Learnt
from gpufan.control.target_law import TUNABLES
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.gpu import FallBack, FanChannel, FanReading, Throttle
from gpufan.core.reasons import Cause, Reason
from gpufan.core.sentences import state_sentence
from gpufan.core.snapshot import Errors
from gpufan.daemon.card_reader import FANS_EVERY_S
from gpufan.daemon.instructions import SettingsFor
from gpufan.daemon.read_back import release_and_read_back
from gpufan.daemon.recovery import Backoff
from gpufan.daemon.worker import FAILURES, Worker
from gpufan.errors import GpuError, GpuLost, NoPermission
from gpufan.gpu.simulated import PROFILES, Plant, Profile, SimulatedBox
from tests.unit.builders import FakeGpu


def along(curve: str) -> SettingsFor:
    return lambda _: CardSettings(curve=Curve.parse(curve))


CHANNEL = FanChannel("nct6798/pwm2", "nct6798", "/sys/devices/hwmon", 2, 5, 90)
CURVE = along("50:30,80:90")
AUTO = along("0:auto,50:30,80:90")


def run(worker: Worker, start_s: int, end_s: int) -> None:
    """A tick every second."""
    for now_s in range(start_s, end_s):
        worker.tick(now_s)


def ticking(gpu: FakeGpu, ticks: int = 1, settings: SettingsFor = CURVE) -> Worker:
    """A worker that has run for some seconds, and a card whose record starts now."""
    worker = Worker(gpu, settings)
    run(worker, 0, ticks)
    gpu.calls.clear()
    return worker


def test_before_the_first_tick_nothing_is_touched() -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, CURVE)
    assert gpu.calls == []
    assert (worker.state.control, state_sentence(worker.state)) == ("driver", "not read yet")


def test_the_state_says_which_duties_the_card_accepts() -> None:
    gpu = FakeGpu()
    assert ticking(gpu).state.duty_range == gpu.info.duty_range


def test_the_first_decision_is_written() -> None:
    gpu = FakeGpu()
    gpu.temperature_c = 60
    worker = Worker(gpu, CURVE)
    worker.tick(0)
    assert gpu.written == [50]
    state = worker.state
    assert (state.control, state.duty_percent, state.reason.cause.group, state_sentence(state)) == (
        "ours",
        50,
        "curve",
        "the curve gives 50 %",
    )


def test_a_decision_that_stays_is_not_written_again() -> None:
    gpu = FakeGpu()
    run(Worker(gpu, CURVE), 0, 50)
    assert gpu.written == [30]


def test_a_decision_that_changes_is_written_at_once() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.temperature_c = 70
    worker.tick(1)
    assert gpu.written == [70]


def test_while_nothing_is_odd_the_fans_are_read_every_few_seconds_only() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu, 3)
    run(worker, 3, 63)
    assert gpu.calls.count("read") == 60 / FANS_EVERY_S
    assert gpu.calls.count("sense") == 60 - 60 / FANS_EVERY_S


def test_a_card_that_stays_as_it_is_needs_no_decision_until_its_fans_are_read_again() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu, 3)
    quiet = []
    for now_s in range(3, 9):
        gpu.power_w = 100.0 + now_s
        worker.tick(now_s)
        quiet.append(worker.quiet)
        assert worker.state.power_w == 100.0 + now_s
        assert worker.recovery.uncontrolled_s(now_s) == worker.recovery.blind_s(now_s) == 0
    assert quiet == [False, True, True] * 2


@pytest.mark.parametrize(("temperature_c", "power_w"), [(41.0, 100.0), (None, 100.0), (40.0, 126.0), (40.0, 74.0)])
def test_another_temperature_or_a_much_different_power_is_decided_on_at_once(
    temperature_c: float | None, power_w: float
) -> None:
    gpu = FakeGpu()
    worker = ticking(gpu, 4)
    gpu.temperature_c, gpu.power_w = temperature_c, power_w
    worker.tick(4)
    assert not worker.quiet


def test_new_settings_count_at_the_next_tick_of_a_card_that_stays_as_it_is() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu, 4)
    worker.follow(along("30:70"))
    worker.tick(4)
    assert gpu.written == [70]


def test_a_card_whose_fans_are_on_their_way_down_is_decided_on_at_every_tick() -> None:
    gpu = FakeGpu()
    settings = CardSettings(Curve.parse("50:30,80:90"), hysteresis_c=3, hold_s=10, slew_percent_per_s=2)
    worker = ticking(gpu, settings=lambda _: settings)
    gpu.temperature_c = 80
    run(worker, 1, 4)
    gpu.temperature_c = 60
    duties = []
    for now_s in range(4, 40):
        worker.tick(now_s)
        duties.append(worker.state.duty_percent)
    assert (duties[8], duties[-1]) == (90, 50)
    assert max(before - after for before, after in pairwise(duties)) <= 4  # two points a second, in steps of three


def test_a_card_that_follows_a_target_is_decided_on_at_every_tick() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu, 4, settings=lambda _: CardSettings(target_c=70))
    for now_s in range(4, 10):
        worker.tick(now_s)
        assert not worker.quiet


def test_that_fans_were_set_again_is_said_for_one_tick() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu, 3)
    gpu.fans = [FanReading(60, 60, True)] * 2
    worker.tick(3)
    assert worker.state.remedy == "set-again"
    worker.tick(4)
    assert worker.state.remedy is None


@pytest.mark.parametrize(("temperature_c", "duty_percent"), [(70, 70), (53, 36)])
def test_after_a_write_the_fans_are_read_at_once_and_until_they_have_come_to_rest(
    temperature_c: float, duty_percent: int
) -> None:
    gpu = FakeGpu()
    worker = ticking(gpu, 3)
    gpu.temperature_c, gpu.speed_lag = temperature_c, 5
    run(worker, 3, 8)
    assert gpu.calls == ["read", duty_percent, "read", "read", "read", "read", "read"]


def test_a_dry_run_writes_nothing_and_says_what_it_would() -> None:
    gpu = FakeGpu()
    gpu.temperature_c = 60
    worker = Worker(gpu, CURVE, dry_run=True)
    run(worker, 0, 5)
    worker.stop()
    assert gpu.written == []
    assert (worker.state.control, worker.state.duty_percent, state_sentence(worker.state)) == (
        "driver",
        50,
        "the curve gives 50 %",
    )


def test_a_card_with_an_obstacle_is_read_and_never_written() -> None:
    gpu = FakeGpu(uncontrollable_reason="it has no fan")
    worker = Worker(gpu, CURVE)
    run(worker, 0, 5)
    worker.stop()
    assert gpu.written == []
    state = worker.state
    assert (state.control, state.reason.cause.group, state_sentence(state), state.temperature_c) == (
        "driver",
        "uncontrollable",
        "it has no fan",
        40,
    )


def test_auto_gives_the_fans_to_the_driver_once() -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, AUTO)
    run(worker, 0, 5)
    assert gpu.written == ["release"]
    assert (worker.state.control, worker.state.duty_percent) == ("driver", None)


def test_fans_are_taken_back_from_auto_above_the_second_point() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu, settings=AUTO)
    gpu.temperature_c = 60
    worker.tick(1)
    assert gpu.written == [50]


@pytest.mark.parametrize("off", [-2, -1, 1, 2])
def test_a_target_that_the_driver_rounded_is_left(off: int) -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.fans = [FanReading(30, 30 + off, True)] * 2
    worker.tick(1)
    assert (gpu.written, worker.state.overrides) == ([], 0)


@pytest.mark.parametrize(
    ("fan", "reason"),
    [
        (FanReading(30, 33, True), "fan 1 has a target of 33 % instead of 30 %"),
        (FanReading(30, 0, True), "fan 1 has a target of 0 % instead of 30 %"),
        (FanReading(30, 30, False), "another program gave fan 1 back to the driver"),
    ],
)
def test_what_another_program_changed_is_set_again_when_the_fans_are_read_and_counted(
    fan: FanReading, reason: str
) -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.fans[1] = fan
    run(worker, 1, 1 + int(FANS_EVERY_S))
    assert gpu.written == [30]
    assert (worker.state.overrides, worker.state.control) == (1, "ours")
    assert state_sentence(worker.state) == f"the curve gives 30 %; set again: {reason}"


def test_fans_that_something_else_takes_from_the_driver_are_given_back() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu, settings=AUTO)
    gpu.fans[0] = FanReading(80, 80, True)
    worker.tick(1)
    assert gpu.written == ["release"]
    assert "another program took fan 0 from the driver" in state_sentence(worker.state)


def test_a_driver_that_tells_neither_target_nor_hands_is_believed() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.fans = [FanReading(None, None, None)] * 2
    run(worker, 1, 60)
    assert gpu.written == []


@pytest.mark.parametrize("percent_per_s", [1, 3, 30])
def test_a_fan_that_moves_towards_its_duty_is_waited_for_however_slow_it_is(percent_per_s: int) -> None:
    gpu = FakeGpu()
    gpu.temperature_c = 80
    worker = Worker(gpu, CURVE)
    for now_s in range(80):
        speed = min(23 + percent_per_s * now_s, 90)
        worker.tick(now_s)
        gpu.fans = [FanReading(speed, 90, True)] * 2
    assert gpu.written == [90]
    assert state_sentence(worker.state) == "the curve gives 90 %"


def at_rest_below(gpu: FakeGpu, speed_percent: int, *, moved: bool, before_percent: int = 23) -> Worker:
    """A worker that set 90 % half a minute ago, on fans that stay at `speed_percent`."""
    gpu.temperature_c = 80
    gpu.fans = [FanReading(before_percent, before_percent, False)] * 2
    gpu.speed_lag = 1
    worker = Worker(gpu, CURVE)
    worker.tick(0)
    for now_s in range(1, 16):
        gpu.fans = [FanReading(speed_percent - 5 if moved and now_s < 3 else speed_percent, 90, True)] * 2
        worker.tick(now_s)
    return worker


def test_a_fan_that_tops_out_below_its_duty_keeps_it_and_the_state_says_so() -> None:
    gpu = FakeGpu()
    worker = at_rest_below(gpu, 55, moved=True)
    assert gpu.written == [90]
    assert (worker.state.control, worker.state.fault) == (
        "ours",
        Reason(Cause.FAN_SLOW, fan=0, found_percent=55, set_percent=90),
    )


def test_fans_that_the_driver_ran_faster_are_given_back_to_it() -> None:
    gpu = FakeGpu()
    worker = at_rest_below(gpu, 40, moved=True, before_percent=60)
    assert gpu.written == [90, "release"]
    assert worker.state.control == "released"


def test_fans_that_never_moved_keep_their_duty_where_there_is_no_other_backend() -> None:
    gpu = FakeGpu()
    gpu.fall_back = lambda reason: FallBack(switched=False, x_error="no Xorg here")
    worker = at_rest_below(gpu, 23, moved=False)
    assert gpu.written == [90, "release", 90]
    assert (worker.state.control, worker.state.x_error) == ("ours", "no Xorg here")


def test_a_higher_target_that_the_driver_insists_on_is_a_bound_and_no_fault() -> None:
    gpu = FakeGpu()
    gpu.floor_percent = 50
    worker = Worker(gpu, CURVE)
    run(worker, 0, 30)
    assert set(gpu.written) == {30} and len(gpu.written) <= 2
    assert (worker.state.control, worker.state.fault) == ("ours", Reason(Cause.FAN_FLOOR, fan=0, limit_percent=50))


def test_a_fan_that_stands_still_sends_the_others_of_its_card_to_full_speed() -> None:
    gpu = FakeGpu()
    gpu.temperature_c = 60
    worker = Worker(gpu, CURVE)
    gpu.rpm = [2000, 2000]
    run(worker, 0, 10)
    gpu.rpm = [2000, 0]
    run(worker, 10, 30)
    assert worker.state.duty_percent == 100
    assert worker.state.fault == Reason(Cause.FAN_STILL, fan=1, found_percent=100, seconds=10.0)
    gpu.rpm = [2000, 4000]
    run(worker, 30, 60)
    assert (worker.state.duty_percent, worker.state.fault) == (50, None)


def test_a_card_without_a_temperature_is_opened_anew_after_longer_and_longer_waits() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.temperature_c = None
    opened_at = []
    for now_s in range(1, 60):
        gpu.calls.clear()
        worker.tick(now_s)
        if "reopen" in gpu.calls:
            opened_at.append(now_s)
    assert opened_at == [3, 9, 21, 45]


def test_a_fan_within_ten_points_of_its_duty_is_left() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.fans = [FanReading(20, 30, True), FanReading(40, 30, True)]
    run(worker, 1, 60)
    assert (gpu.written, state_sentence(worker.state)) == ([], "the curve gives 30 %")


def test_a_fan_that_the_driver_runs_faster_is_left_and_told() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.fans[1] = FanReading(60, 30, True)
    run(worker, 1, 60)
    assert (gpu.written, worker.state.overrides) == ([], 0)
    assert state_sentence(worker.state) == "the curve gives 30 %; the driver runs fan 1 at 60 %"


def test_after_a_jump_in_time_the_fans_are_set_anew() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    worker.tick(1, force_write=True)
    assert gpu.written == [30]


def test_a_refused_set_is_tried_again_the_next_tick() -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, CURVE)
    gpu.set_error = GpuError("the driver refused")
    worker.tick(0)
    assert state_sentence(worker.state) == "the curve gives 30 %; set again: the driver refused"
    gpu.set_error = None
    worker.tick(1)
    assert gpu.written == [30, 30]
    assert (worker.state.errors, state_sentence(worker.state)) == (1, "the curve gives 30 %")


def test_fans_that_refuse_three_times_are_given_back_with_the_reason() -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, CURVE)
    gpu.set_error = GpuError("the driver refused")
    run(worker, 0, 3)
    assert gpu.written == [30, 30, 30, "release"]
    state = worker.state
    assert (state.control, state.duty_percent, state.reason.cause.group, state.errors) == ("released", None, "fault", 3)
    assert state_sentence(state) == "given back to the driver: the driver refused; trying again after 5 s"


def test_a_program_that_keeps_setting_the_fans_is_answered_by_setting_them_again_for_ever() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    for now_s in range(1, 60):
        gpu.fans[0] = FanReading(50, 50, True)
        worker.tick(now_s)
    assert set(gpu.written) == {30}
    assert (worker.state.control, worker.contested, worker.state.contested) == ("ours", True, True)


def test_between_ticks_a_contested_card_is_set_again_as_soon_as_a_read_differs() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.fans[0] = FanReading(50, 50, True)
    run(worker, 1, 1 + int(FANS_EVERY_S))
    gpu.calls.clear()
    worker.recheck(10.1)
    assert gpu.written == []
    gpu.fans[0] = FanReading(50, 50, True)
    worker.recheck(10.2)
    assert gpu.written == [30]


def test_a_card_is_contested_no_longer_once_nobody_else_has_set_its_fans_for_long() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.fans[0] = FanReading(50, 50, True)
    run(worker, 1, 50)
    assert not worker.contested
    assert not worker.state.contested


def test_a_success_in_between_begins_the_count_of_failures_anew() -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, CURVE)
    for now_s in range(30):
        gpu.set_error = GpuError("the driver refused") if now_s % 3 else None
        worker.tick(now_s, force_write=True)
    assert "release" not in gpu.written


def test_while_the_fans_are_given_back_temperatures_are_still_told() -> None:
    gpu = FakeGpu()
    gpu.set_error = GpuError("the driver refused")
    worker = Worker(gpu, CURVE)
    run(worker, 0, 3)
    gpu.temperature_c = 77
    worker.tick(3)
    assert (worker.state.temperature_c, worker.state.control) == (77, "released")
    assert "the driver refused" in state_sentence(worker.state)


def test_fans_that_obeyed_for_a_minute_are_forgiven() -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, CURVE)
    gpu.set_error = GpuError("the driver refused")
    run(worker, 0, 3)
    gpu.set_error = None
    run(worker, 3, 80)
    gpu.set_error = GpuError("the driver refused")
    for now_s in range(80, 83):
        worker.tick(now_s, force_write=True)
    assert state_sentence(worker.state).endswith("trying again after 5 s")


def test_giving_back_that_fails_too_is_told() -> None:
    gpu = FakeGpu()
    gpu.set_error = GpuError("the driver refused")
    gpu.release_errors = [GpuError("stuck"), GpuError("still stuck")]
    worker = Worker(gpu, CURVE)
    run(worker, 0, 3)
    assert state_sentence(worker.state) == (
        "out of control: the driver refused; giving the fans back failed: still stuck; trying again after 5 s"
    )


def test_a_lost_card_is_asked_again_after_waits_of_up_to_five_seconds() -> None:
    gpu = FakeGpu()
    gpu.read_error = GpuLost("the card is gone")
    worker = Worker(gpu, CURVE)
    asked_at = []
    for now_s in range(250):
        gpu.calls.clear()
        worker.tick(now_s)
        if gpu.calls:
            asked_at.append(now_s)
    assert asked_at[:6] == [0, 1, 3, 7, 12, 17]


def test_a_lost_card_is_told_as_lost() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.read_error = GpuLost("the card is gone")
    worker.tick(1)
    state = worker.state
    assert (state.control, state.reason.cause.group, state.duty_percent, state.temperature_c) == (
        "lost",
        "lost",
        None,
        None,
    )
    assert state_sentence(state) == "the card is gone; trying again after 1 s"


def test_a_card_that_comes_back_is_set_anew_and_its_next_loss_waits_from_the_start() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.read_error = GpuLost("the card is gone")
    run(worker, 1, 10)
    gpu.read_error = None
    gpu.calls.clear()
    run(worker, 10, 20)
    assert gpu.written == [30]
    gpu.read_error = GpuLost("the card is gone")
    worker.tick(20)
    assert state_sentence(worker.state).endswith("trying again after 1 s")


def test_a_card_that_comes_back_with_another_range_is_kept_within_it() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.found_again(duty_range=(45, 100))
    worker.tick(1)
    assert gpu.written == [45]


def test_what_was_hot_before_a_card_was_lost_is_not_held_after_it() -> None:
    gpu = FakeGpu()
    gpu.temperature_c = 70
    worker = ticking(gpu)
    gpu.read_error = GpuLost("the card is gone")
    worker.tick(1)
    gpu.read_error = None
    gpu.temperature_c = 55
    worker.tick(2)
    assert gpu.written == ["release", 40]


def test_a_card_that_is_lost_has_its_fans_given_back_once_if_that_still_works() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.read_error = GpuLost("the card is gone")
    run(worker, 1, 20)
    assert gpu.written.count("release") == 1


def test_a_lost_card_whose_fans_could_not_be_given_back_is_asked_again_until_it_takes_them() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.read_error = GpuLost("the card is gone")
    gpu.release_errors = [GpuLost("the card is gone"), GpuError("the driver refused")]
    run(worker, 1, 20)
    assert (gpu.written, gpu.fans[0].manual) == (["release"] * 3, False)


def test_fans_of_the_motherboard_get_full_speed_at_each_attempt_to_reach_a_lost_card() -> None:
    gpu = FakeGpu(channels=(CHANNEL,))
    worker = ticking(gpu)
    gpu.read_error = GpuLost("the card is gone")
    run(worker, 1, 4)
    gpu.fans = [FanReading(20, 20, True)] * 2  # another program
    run(worker, 4, 10)
    assert gpu.fans[0].target_percent == 100


def test_a_card_that_can_be_set_but_not_read_back_has_its_fans_given_back() -> None:
    gpu = FakeGpu()
    gpu.read_error = GpuLost("the card is gone")
    worker = ticking(gpu)
    gpu.read_error = None
    gpu.error_after_set = GpuLost("the card is gone")
    worker.tick(1)
    assert (worker.state.control, gpu.written, gpu.fans[0].manual) == ("lost", [30, "release"], False)


def test_fans_that_an_earlier_run_has_set_are_given_back_even_if_the_card_cannot_be_read() -> None:
    gpu = FakeGpu()
    gpu.fans = [FanReading(30, 30, manual=True)] * 2
    gpu.read_error = GpuLost("the card is gone")
    run(Worker(gpu, CURVE), 0, 20)
    assert (gpu.written, gpu.fans[0].manual) == (["release"], False)


def test_a_dry_run_gives_no_fans_of_a_lost_card_back() -> None:
    gpu = FakeGpu()
    gpu.read_error = GpuLost("the card is gone")
    run(Worker(gpu, CURVE, dry_run=True), 0, 20)
    assert gpu.written == []


def test_a_card_taken_up_early_because_the_machine_slept_is_controlled_from_then_on() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.read_error = GpuLost("the card is gone")
    run(worker, 1, 40)
    gpu.read_error = None
    worker.tick(41, force_write=True)
    gpu.temperature_c = 90
    worker.tick(42)
    assert (worker.state.control, gpu.written[-1]) == ("ours", 90)


def test_a_way_that_has_moved_the_fans_once_is_not_left_for_another() -> None:
    gpu = FakeGpu()
    asked: list[str] = []
    gpu.fall_back = lambda problem: asked.append(problem) or FallBack(switched=True)
    worker = Worker(gpu, CURVE)
    run(worker, 0, 20)
    gpu.set_error = GpuError("the driver refused")
    gpu.temperature_c = 90
    run(worker, 20, 24)
    assert worker.state.control == "released"
    assert asked == []


def test_a_card_lost_in_the_middle_of_a_set_is_lost() -> None:
    gpu = FakeGpu()
    gpu.set_error = GpuLost("the card is gone")
    worker = Worker(gpu, CURVE)
    worker.tick(0)
    assert worker.state.control == "lost"


def test_a_first_set_without_permission_ends_the_run() -> None:
    gpu = FakeGpu()
    gpu.set_error = NoPermission("only root")
    with pytest.raises(NoPermission):
        Worker(gpu, CURVE).tick(0)


def test_a_permission_that_goes_later_is_a_refusal_like_any() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.set_error = NoPermission("only root")
    gpu.temperature_c = 60
    worker.tick(1)
    assert worker.state.errors == 1


@pytest.mark.parametrize("still_s", range(0, 60, 5))
@pytest.mark.parametrize("phase_s", range(0, 40, 5))
def test_a_temperature_that_stands_still_while_the_load_comes_and_goes_brings_full_speed(
    still_s: int, phase_s: int
) -> None:
    gpu = FakeGpu()
    gpu.temperature_c, gpu.power_w = 61, 152.0
    worker = ticking(gpu, still_s)
    for now_s in range(still_s, still_s + 88):
        gpu.power_w = 60.0 if (now_s - still_s + phase_s) % 40 < 20 else 210.0
        worker.tick(now_s)
    assert gpu.written[-1] == 100


def test_bad_readings_reach_the_fans_as_full_speed() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.temperature_c = None
    run(worker, 1, 4)
    assert gpu.written == [100]
    assert worker.state.reason.cause.group == "fail-safe"


def test_stop_gives_the_fans_back() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    worker.stop()
    assert gpu.written == ["release"]
    assert not gpu.fans[0].manual


def test_who_may_not_set_fans_has_none_to_give_back() -> None:
    gpu = FakeGpu()
    gpu.set_error = NoPermission("only root")
    worker = Worker(gpu, CURVE)
    with pytest.raises(NoPermission):
        worker.tick(0)
    gpu.release_errors = [NoPermission("only root")]
    worker.stop()


def test_a_permission_that_went_before_the_end_is_told() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.release_errors = [NoPermission("only root")]
    with pytest.raises(NoPermission):
        worker.stop()


def test_where_there_is_another_way_to_the_fans_it_is_tried_at_once() -> None:
    gpu = FakeGpu()
    gpu.set_error = GpuError("the driver refused")
    told: list[str] = []

    def another_way(problem: str) -> FallBack:
        told.append(problem)
        gpu.set_error = None
        return FallBack(switched=True)

    gpu.fall_back = another_way
    worker = Worker(gpu, CURVE)
    run(worker, 0, 4)
    assert told == ["the driver refused"]
    assert gpu.written == [30, 30, 30, "release", 30]
    assert worker.state.control == "ours"


def test_where_there_is_no_other_way_the_wait_is_kept() -> None:
    gpu = FakeGpu()
    gpu.set_error = GpuError("the driver refused")
    gpu.fall_back = lambda problem: FallBack(switched=False, x_error="no Xorg here")
    worker = Worker(gpu, CURVE)
    run(worker, 0, 7)
    assert gpu.written == [30, 30, 30, "release"]
    assert state_sentence(worker.state) == (
        "given back to the driver: the driver refused; over X it fails too: no Xorg here; trying again after 5 s"
    )


def test_fans_that_could_not_be_given_back_are_given_back_as_soon_as_that_works() -> None:
    gpu = FakeGpu()
    gpu.set_error = GpuError("the driver refused")
    gpu.release_errors = [GpuError("still stuck")] * 3
    worker = Worker(gpu, CURVE)
    run(worker, 0, 3)
    assert "giving the fans back failed: still stuck" in state_sentence(worker.state)
    run(worker, 3, 5)
    assert gpu.written[-2:] == ["release", "release"]
    assert state_sentence(worker.state) == "given back to the driver: the driver refused; trying again after 5 s"


def test_fans_of_the_motherboard_that_refused_full_speed_get_it_as_soon_as_that_works() -> None:
    gpu = FakeGpu(channels=(CHANNEL,))
    gpu.set_error = GpuError("the chip is busy")
    worker = Worker(gpu, CURVE)
    run(worker, 0, 4)
    assert worker.state.control == "released"
    gpu.set_error = None
    gpu.calls.clear()
    run(worker, 4, 7)
    assert gpu.written == [100]


def test_full_speed_that_is_set_during_the_end_does_not_outlast_it() -> None:
    class EndingGpu(FakeGpu):
        def set_duty(self, duty_percent: int) -> None:
            if duty_percent == 100:
                worker.stop()
            super().set_duty(duty_percent)

    gpu = EndingGpu(channels=(CHANNEL,))
    worker = ticking(gpu)
    worker.make_safe_while_hanging()
    assert (gpu.written, gpu.fans[0].manual) == (["release", 100, "release"], False)


def test_after_stop_a_tick_that_comes_back_late_sets_nothing() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    worker.stop()
    gpu.calls.clear()
    gpu.temperature_c = 70
    worker.tick(1)
    assert gpu.written == []


def test_giving_back_is_read_back() -> None:
    gpu = FakeGpu()
    gpu.set_duty(60)
    gpu.calls.clear()
    release_and_read_back(gpu)
    assert gpu.calls == ["release", "read"]


def test_giving_back_is_tried_twice_when_the_fans_stay_manual() -> None:
    gpu = FakeGpu()
    gpu.set_duty(60)
    gpu.calls.clear()
    gpu.deaf_releases = 1
    release_and_read_back(gpu)
    assert gpu.calls == ["release", "read"] * 2


def test_giving_back_is_tried_twice_when_it_is_refused() -> None:
    gpu = FakeGpu()
    gpu.set_duty(60)
    gpu.release_errors = [GpuError("busy")]
    release_and_read_back(gpu)
    assert not gpu.fans[0].manual


def test_fans_that_stay_manual_after_two_tries_are_an_error_naming_the_fan() -> None:
    gpu = FakeGpu()
    gpu.fans[1] = FanReading(60, 60, True)
    gpu.deaf_releases = 2
    with pytest.raises(GpuError, match="fan 1 is still in manual mode"):
        release_and_read_back(gpu)


@pytest.mark.parametrize("error", [GpuLost("gone"), NoPermission("only root")])
def test_giving_back_is_not_repeated_where_that_cannot_help(error: Exception) -> None:
    gpu = FakeGpu()
    gpu.release_errors = [error]
    with pytest.raises(type(error)):
        release_and_read_back(gpu)
    assert gpu.calls == ["release"]


def test_a_driver_that_does_not_tell_whose_the_fans_are_is_believed() -> None:
    gpu = FakeGpu()
    gpu.deaf_releases = 1
    gpu.fans = [FanReading(60, None, None)]
    release_and_read_back(gpu)
    assert gpu.calls == ["release", "read"]


def test_waits_double_up_to_the_last_and_begin_anew_when_all_is_well() -> None:
    backoff = Backoff(5, 60)
    assert [backoff.next_s() for _ in range(6)] == [5, 10, 20, 40, 60, 60]
    backoff.reset()
    assert backoff.next_s() == 5


# ---- what is counted ----


def test_errors_are_counted_by_kind() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.temperature_c = None
    run(worker, 1, 3)
    gpu.temperature_c, gpu.set_error = 60.0, GpuError("busy")
    worker.tick(3)
    gpu.set_error, gpu.read_error = None, GpuLost("gone")
    worker.tick(4)
    assert worker.state.errors_by_kind == Errors(refused=1, unreadable=2, lost=1)
    assert worker.state.errors == 4


def test_a_fan_that_is_not_given_back_counts_as_an_error() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.temperature_c, gpu.set_error = 70.0, GpuError("busy")
    gpu.release_errors = [GpuError("stuck"), GpuError("still stuck")]
    run(worker, 1, 1 + FAILURES)
    assert worker.state.errors_by_kind == Errors(refused=FAILURES, not_given_back=1)


@pytest.mark.parametrize(("throttle", "seconds"), [("heat", 10), ("power-cap", 0), ("none", 0), (None, 0)])
def test_seconds_are_counted_while_heat_throttles(throttle: str | None, seconds: int) -> None:
    gpu = FakeGpu()
    gpu.throttle = throttle
    worker = Worker(gpu, CURVE)
    run(worker, 0, 11)
    gpu.throttle = "none"
    run(worker, 11, 20)
    assert worker.state.throttled_s == pytest.approx(seconds, abs=FANS_EVERY_S)


def test_seconds_are_counted_in_the_fail_safe() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.temperature_c = None
    run(worker, 1, 11)
    gpu.temperature_c = 50.0
    run(worker, 11, 30)
    assert worker.state.fail_safe_s == pytest.approx(12)  # until the third good reading


def test_a_machine_that_slept_was_not_throttled_meanwhile() -> None:
    gpu = FakeGpu()
    gpu.throttle = "heat"
    worker = ticking(gpu)
    worker.tick(3600)
    assert worker.state.throttled_s == 0


def test_the_state_tells_what_the_fans_follow_and_what_card_it_is() -> None:
    worker = ticking(FakeGpu())
    state = worker.state
    assert (state.settings, state.name, state.slowdown_c) == ("curve 50:30,80:90", "NVIDIA GeForce GTX 1080 Ti", 96)
    worker.follow(along("40:40,80:100"))
    worker.tick(1)
    assert worker.state.settings == "curve 40:40,80:100"


def test_cards_that_name_each_other_do_not_keep_each_other_loud() -> None:
    box = SimulatedBox(PROFILES["dual-1080ti"], lambda time_s: 230.0 if time_s < 200 else 12.0)
    workers = [Worker(gpu, lambda _: CardSettings(target_c=50, neighbours=(0, 1))) for gpu in box.gpus]
    for worker in workers:
        worker.box = workers
    for now_s in range(0, 2000, 2):
        if now_s == 200:
            assert [worker.state.duty_percent for worker in workers] == [100, 100]
        for worker in workers:
            worker.tick(now_s)
        box.advance(2)
    assert [(worker.state.duty_percent, worker.state.reason.cause.group) for worker in workers] == [(23, "limit")] * 2


# ---- a target, and cards that share heat ----


def holding(target_c: float = 80.0, *neighbours: str | int) -> SettingsFor:
    return lambda _: CardSettings(target_c=target_c, neighbours=neighbours)


def pair(first: SettingsFor, second: SettingsFor) -> tuple[FakeGpu, Worker, FakeGpu, Worker]:
    """Two cards of one box and their workers, both idle."""
    gpus = FakeGpu(), FakeGpu(uuid="GPU-22222222", pci="00000000:41:00.0", index=1)
    box = [Worker(gpu, settings) for gpu, settings in zip(gpus, (first, second), strict=True)]
    for worker in box:
        worker.box = box
    return gpus[0], box[0], gpus[1], box[1]


def together(box: list[Worker], start_s: int, end_s: int) -> None:
    for now_s in range(start_s, end_s):
        for worker in box:
            worker.tick(now_s)


@pytest.mark.parametrize("name", ["1", 1, "41:00.0", "GPU-2222"])
def test_a_hot_neighbour_raises_the_duty(name: str | int) -> None:
    _, cool, other, hot = pair(holding(80, name), CURVE)
    other.temperature_c = 75  # its the curve gives 80 %
    together([hot, cool], 0, 3)
    assert (cool.state.duty_percent, cool.state.reason.cause.group) == (48, "neighbour")
    assert hot.state.duty_percent == 80


def test_a_neighbour_that_answers_late_raises_the_duty_from_then_on() -> None:
    _, cool, other, hot = pair(holding(80, "GPU-2222"), CURVE)
    other.temperature_c = 75
    other.found_again(uuid="")
    together([hot, cool], 0, 3)
    assert cool.state.duty_percent == 23
    other.found_again(uuid="GPU-22222222")
    together([hot, cool], 3, 6)
    assert cool.state.duty_percent == 48


def test_a_neighbour_that_has_no_more_gets_all_there_is() -> None:
    _, cool, other, hot = pair(holding(80, 1), holding())
    other.temperature_c = 90
    together([hot, cool], 0, 3)
    assert cool.state.duty_percent == 100


def test_a_card_that_names_itself_as_a_neighbour_is_not_its_own() -> None:
    _, cool, _, _ = pair(holding(80, "GTX 1080 Ti"), holding())
    run(cool, 0, 5)
    assert cool.state.duty_percent == 23


def test_a_lost_neighbour_asks_for_nothing() -> None:
    _, cool, other, hot = pair(holding(80, 1), CURVE)
    other.temperature_c = 75
    together([hot, cool], 0, 3)
    other.read_error = GpuLost("it fell off the bus")
    together([hot, cool], 3, 60)
    assert cool.state.duty_percent in range(23, 28)


def test_a_neighbour_whose_fans_were_given_back_asks_for_nothing() -> None:
    _, cool, other, hot = pair(holding(80, 1), CURVE)
    other.temperature_c = 75
    together([hot, cool], 0, 3)
    other.set_error = GpuError("refused")
    other.temperature_c = 78
    together([hot, cool], 3, 3 + FAILURES)
    assert hot.state.control == "released"
    together([cool], 3 + FAILURES, 60)
    assert cool.state.duty_percent in range(23, 28)


def test_all_fans_help_a_card_that_its_own_leave_too_hot() -> None:
    _, cool, other, hot = pair(holding(), holding())
    other.temperature_c, other.power_w = 85, 250
    together([hot, cool], 0, 10)
    assert cool.state.duty_percent == 23
    together([hot, cool], 10, 60)
    assert (cool.state.duty_percent, cool.state.reason.cause.group) == (100, "neighbour")


def helped() -> tuple[FakeGpu, Worker, Worker]:
    """A card that is too hot, its worker, and that of one which has helped it for half a minute."""
    _, cool, other, hot = pair(holding(), holding())
    other.temperature_c, other.power_w = 85, 250
    together([hot, cool], 0, 30)
    assert cool.state.duty_percent == 100
    return other, hot, cool


def test_a_card_that_needed_help_is_a_neighbour_for_ten_minutes() -> None:
    other, hot, cool = helped()
    other.temperature_c = 77
    together([hot, cool], 30, 400)
    assert hot.local_demand_percent is not None and 60 < hot.local_demand_percent < 100
    assert cool.state.duty_percent == ceil(0.6 * hot.local_demand_percent)


def test_help_that_is_needed_again_and_again_lasts_longer_each_time() -> None:
    # Card 1 blows at card 0, which full fans alone leave too hot.
    box = SimulatedBox(Profile("pair", (Plant(), Plant()), ((0.0, 0.06), (0.0, 0.0)), 1.0), lambda _: 150.0)
    box.gpus[0].workload = lambda _: 230.0
    workers = [Worker(gpu, holding()) for gpu in box.gpus]
    duties = []
    for worker in workers:
        worker.box = workers
    for now_s in range(0, 9000, 2):
        for worker in workers:
            worker.tick(now_s)
        box.advance(2)
        duties.append(workers[1].state.duty_percent or 0)
        if now_s > 600:
            assert box.gpus[0].die_c < 82.5
    assert 1 <= sum(later - earlier >= 20 for earlier, later in pairwise(duties)) <= 4


def test_a_card_whose_fans_do_not_obey_gets_no_help() -> None:
    _, cool, other, hot = pair(holding(), holding())
    other.temperature_c, other.power_w, other.set_error = 85, 250, GpuError("refused")
    for now_s in range(300):
        together([hot, cool], now_s, now_s + 1)
        assert cool.state.duty_percent == 23


def test_a_dry_run_helps_nobody() -> None:
    _, cool, other, _ = pair(holding(), holding())
    hot = Worker(other, holding(), dry_run=True)
    cool.box = hot.box = [cool, hot]
    other.temperature_c, other.power_w = 85, 250
    other.fans = [FanReading(100, 100, False)] * 2  # the driver's doing
    together([hot, cool], 0, 30)
    assert cool.state.duty_percent == 23


def test_a_card_that_hangs_asks_for_nothing() -> None:
    _, _, cool = helped()
    together([cool], 30, 100)
    assert cool.state.duty_percent == 23


def test_help_ends_when_the_card_needs_it_no_more() -> None:
    other, hot, cool = helped()
    other.temperature_c, other.power_w = 60, 20
    together([hot, cool], 30, 900)
    assert cool.state.duty_percent == 23


def test_a_card_that_helps_asks_for_no_help() -> None:
    _, hot, cool = helped()
    assert (cool.saturated, hot.saturated) == (False, True)


def test_a_lost_card_gets_no_help() -> None:
    other, hot, cool = helped()
    other.read_error = GpuLost("it fell off the bus")
    together([hot, cool], 30, 120)
    assert cool.state.duty_percent == 23


def test_a_card_is_no_help_to_itself() -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, holding())
    worker.box = [worker]
    kinds = set()
    for now_s, temperature_c in enumerate([85] * 20 + [81] * 20):
        gpu.temperature_c, gpu.power_w = temperature_c, 220
        worker.tick(now_s)
        kinds.add(worker.state.reason.cause.group)
    assert "hot" in kinds and "neighbour" not in kinds


def test_a_card_that_throttles_for_heat_is_held_cooler() -> None:
    def duty(throttle: Throttle) -> int:
        gpu = FakeGpu()
        gpu.temperature_c, gpu.power_w, gpu.throttle = 79, 200, throttle
        worker = Worker(gpu, holding())
        run(worker, 0, 60)
        return worker.state.duty_percent or 0

    assert duty(Throttle.HEAT) > duty(Throttle.POWER_CAP) + 5


def test_ten_minutes_after_a_card_needed_help_it_is_no_neighbour_any_more() -> None:
    other, hot, cool = helped()
    other.temperature_c = 80
    together([hot, cool], 30, 600)
    assert cool.state.reason.cause.group == "neighbour"
    together([hot, cool], 600, 800)
    assert cool.state.duty_percent == 23


def learnt_of(worker: Worker) -> Learnt:
    assert worker.learnt is not None
    return worker.learnt


def warmed(gpu: FakeGpu, worker: Worker) -> Learnt:
    """What `worker` has learnt from a card that got warm."""
    for now_s in range(40):
        gpu.temperature_c, gpu.power_w = 76.0 + now_s // 15, 220.0
        worker.tick(now_s)
    assert learnt_of(worker).full_power_percent != pytest.approx(TUNABLES.start_percent, rel=1e-6)
    return learnt_of(worker)


def test_what_an_earlier_run_learnt_is_taken_up() -> None:
    before = warmed(gpu := FakeGpu(), Worker(gpu, holding()))
    again = Worker(FakeGpu(), holding(), learnt=before)
    assert learnt_of(again) == before
    again.tick(0)
    assert learnt_of(again).full_power_percent == pytest.approx(before.full_power_percent)


def test_a_card_that_is_found_again_is_still_known() -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, holding())
    before = warmed(gpu, worker)
    gpu.found_again(slowdown_c=93)
    worker.tick(40)
    assert learnt_of(worker).full_power_percent == pytest.approx(before.full_power_percent)


def test_another_card_in_its_place_is_learnt_from_the_start() -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, holding())
    warmed(gpu, worker)
    gpu.found_again(uuid="GPU-33333333")
    worker.tick(40)
    assert learnt_of(worker).full_power_percent == pytest.approx(TUNABLES.start_percent)


def test_a_card_on_a_curve_keeps_what_is_known_of_it() -> None:
    before = warmed(gpu := FakeGpu(), Worker(gpu, holding()))
    worker = Worker(FakeGpu(), CURVE, learnt=before)
    run(worker, 0, 5)
    assert worker.learnt == before


def test_a_rival_at_one_fan_does_not_hide_that_another_ignores_what_is_set() -> None:
    gpu = FakeGpu()
    worker = ticking(gpu)
    gpu.temperature_c = 60
    gpu.deaf_fans = {1}
    for now_s in range(1, 8):
        worker.tick(now_s)
        gpu.fans[0] = FanReading(80, 80, True)
    assert worker.state.control == "released"


def test_a_fan_that_was_fast_under_gpufan_and_is_slower_now_is_not_given_back() -> None:
    gpu = FakeGpu()
    gpu.temperature_c = 80
    gpu.fans = [FanReading(60, 60, False)] * 2
    worker = Worker(gpu, CURVE)
    run(worker, 0, 20)
    for now_s in range(20, 50):
        gpu.fans = [FanReading(40, 90, True)] * 2
        worker.tick(now_s)
    assert gpu.written == [90]
    assert worker.state.control == "ours"


@pytest.mark.parametrize(("target", "manual"), [(34, False), (None, False), (96, None)])
@pytest.mark.parametrize("ticks", [0, 1])
def test_a_capped_fan_that_still_slowed_down_when_the_driver_had_it_is_not_given_back(
    target: int | None, manual: bool | None, ticks: int
) -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, CURVE)
    run(worker, 0, ticks)
    gpu.read_error = GpuLost("the card is gone")
    worker.tick(10)
    gpu.read_error, gpu.temperature_c = None, 80
    gpu.fans = [FanReading(96, target, manual)] * 2
    gpu.calls.clear()
    for now_s in range(20, 50):
        worker.tick(now_s)
        gpu.fans = [FanReading(73, 90, True)] * 2
    assert gpu.written == [90]
    assert worker.state.control == "ours"
