"""The loop in real time, cards on the double: calls that hang, clocks that jump, faults of our own."""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pynvml
import pytest

from gpufan.control.controller import Controller
from gpufan.core.gpu import FanChannel, Reading, Sensed
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import loop as daemon
from gpufan.daemon import passes, recovery
from gpufan.daemon.loop import ControlLoop
from gpufan.daemon.worker import Worker
from gpufan.errors import GpufanError
from gpufan.gpu.cards import open_cards
from gpufan.gpu.nvml_box import NvmlBox
from tests.doubles.nvml import AUTO, Kind, NvmlDouble, wait_for
from tests.integration.harness import INTERVAL_S, fans, running, sets, settings, workers
from tests.unit.builders import FakeGpu

DRIVERS = [None, None]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become tenths where a test would wait for them."""
    monkeypatch.setattr(passes, "HANG_S", 0.15)
    monkeypatch.setattr(daemon, "STOP_S", 0.55)


def hang(double: NvmlDouble, card: int, kind: Kind) -> None:
    """Let no call of `kind` on `card` come back from now on, and wait until one has been made."""
    before = double.calls(card)[kind]
    double.cards[card].hang[kind] = 1
    double.cards[card].temperature += 1  # so that it has something to set
    wait_for(lambda: double.calls(card)[kind] > before)


# ---- a call hangs ----


@pytest.mark.parametrize("kind", [Kind.TEMPERATURE, Kind.GET_FAN, Kind.SET_FAN], ids=lambda kind: kind.name)
def test_a_card_whose_call_hangs_is_reported_lost_and_taken_up_again_when_it_returns(
    double: NvmlDouble, kind: Kind
) -> None:
    with running(*workers(0, 1)) as run:
        run.wait_for_control(0, "ours")
        hang(double, 0, kind)
        state = run.wait_for_control(0, "lost")
        assert (state.reason.cause.group, state.temperature_c, state.fans) == ("hang", None, ())
        double.let_go()
        run.wait_for_control(0, "ours")
        wait_for(lambda: fans(double, 0) == [61, 61])


def test_a_card_that_hangs_in_its_first_tick_does_not_delay_the_others(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "HANG_S", 1000)
    double.cards[0].hang[Kind.TEMPERATURE] = 1
    with running(*workers(0, 1)):
        wait_for(lambda: fans(double, 1) == [60, 60])
        double.let_go()


def test_a_call_that_is_merely_slow_is_not_taken_for_one_that_hangs(double: NvmlDouble) -> None:
    double.cards[0].delay_us[Kind.TEMPERATURE] = 50_000
    with running(*workers(0)) as run:
        wait_for(lambda: double.calls(0)[Kind.TEMPERATURE] > 3)
        assert set(run.states(0)) <= {"driver", "ours"}


def test_while_one_card_hangs_the_other_is_controlled_on_time(double: NvmlDouble) -> None:
    with running(*workers(0, 1)) as run:
        run.wait_for_control(1, "ours")
        hang(double, 0, Kind.TEMPERATURE)
        run.wait_for_control(0, "lost")
        for temperature_c in range(61, 64):
            double.cards[1].temperature = temperature_c
            changed_s = time.monotonic()
            wait_for(lambda duty=temperature_c: fans(double, 1) == [duty, duty])
            assert double.log()[-1].time_ns / 1e9 - changed_s < INTERVAL_S + 0.1
        assert set(run.states(1)) <= {"driver", "ours"}
        double.let_go()


def test_a_contested_card_that_hangs_between_two_ticks_holds_up_no_other(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    contested, other = workers(0, 1)
    monkeypatch.setattr(daemon, "RECHECK_S", 0.01)
    monkeypatch.setattr(Worker, "contested", property(lambda self: self is contested))
    monkeypatch.setattr(contested, "recheck", lambda _now_s: let_go.wait())
    with running(contested, other) as run:
        run.wait_for_control(0, "lost")
        double.cards[1].temperature = 63
        wait_for(lambda: fans(double, 1) == [63, 63])
        let_go.set()


def test_while_all_cards_hang_each_gets_full_speed_from_its_fans_on_the_motherboard() -> None:
    class HangingGpu(FakeGpu):
        def sense(self) -> Sensed:
            answers.wait()
            return super().sense()

        def read(self) -> Reading:
            answers.wait()
            return super().read()

    answers = threading.Event()
    answers.set()
    channel = FanChannel("nct6798/pwm2", "nct6798", "/sys/devices/hwmon", 2, 5, 90)
    gpus = [HangingGpu(uuid=f"GPU-{index}", index=index, channels=(channel,)) for index in range(3)]
    with running(*(Worker(gpu, settings()) for gpu in gpus)):
        wait_for(lambda: all(gpu.written for gpu in gpus))
        answers.clear()
        wait_for(lambda: [gpu.written[-1] for gpu in gpus] == [100] * 3)
        answers.set()
        wait_for(lambda: 100 not in [gpu.written[-1] for gpu in gpus])


def test_while_one_card_hangs_snapshots_go_on(double: NvmlDouble) -> None:
    with running(*workers(0, 1)) as run:
        run.wait_for_control(0, "ours")
        hang(double, 0, Kind.TEMPERATURE)
        seen = len(run.snapshots)
        wait_for(lambda: len(run.snapshots) > seen + 5)
        double.let_go()


def test_while_the_cards_stay_as_they_are_a_snapshot_is_published_now_and_then_and_news_at_once(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "LOOK_S", 0.5)
    with running(*workers(0, 1), every_tick=False) as run:
        wait_for(lambda: fans(double, 0) == fans(double, 1) == [60, 60])
        for card in double.cards[:2]:
            for fan in card.fans[:2]:
                fan.speed = 60
        wait_for(lambda: all(card.worker.quiet for card in run.daemon._cards))
        seen, ticks = len(run.snapshots), double.calls(1)[Kind.TEMPERATURE]
        wait_for(lambda: len(run.snapshots) == seen + 2)
        assert run.snapshots[-1].time_s - run.snapshots[-2].time_s >= 0.4
        assert double.calls(1)[Kind.TEMPERATURE] - ticks > 4
        monkeypatch.setattr(daemon, "LOOK_S", 1000)
        wait_for(lambda: len(run.snapshots) > seen + 2)
        double.cards[1].temperature = 66
        wait_for(lambda: run.snapshots[-1].gpus[1].temperature_c == 66)


def test_the_end_gives_the_other_cards_back_in_time_and_names_the_one_that_hangs_at_that(double: NvmlDouble) -> None:
    with running(*workers(0, 1)) as run:
        run.wait_for_control(0, "ours")
        run.wait_for_control(1, "ours")
        double.cards[0].hang[Kind.SET_DEFAULT] = 1
        start_s = time.monotonic()
        run.stop()
        assert time.monotonic() - start_s < daemon.STOP_S + 0.3
        assert fans(double, 1) == DRIVERS
        assert str(run.error).endswith("; fans not given back to the driver: 0 GTX 1080 Ti: the card does not answer")
        double.let_go()


def test_a_set_that_returns_after_the_end_does_not_leave_the_fans_taken(double: NvmlDouble) -> None:
    with running(*workers(0)) as run:
        run.wait_for_control(0, "ours")
        hang(double, 0, Kind.SET_FAN)
        run.stop()
        wait_for(lambda: fans(double, 0) == DRIVERS)  # by another thread
        double.let_go()
        # The rest of the tick, and then all of it back once more.
        late = [(1, Kind.SET_FAN, 61), (0, Kind.SET_DEFAULT, 0), (1, Kind.SET_DEFAULT, 0)]
        wait_for(lambda: sets(double, 0)[-3:] == late)
        assert fans(double, 0) == DRIVERS


# ---- cards that are lost ----


def test_a_card_lost_from_the_start_is_picked_up_while_the_other_is_controlled(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = daemon._loop_clocks
    monkeypatch.setattr(daemon, "_loop_clocks", lambda: tuple(20 * clock_s for clock_s in clocks()))
    double.cards[0].lost = 1
    with running(*(Worker(gpu, settings()) for gpu in NvmlBox().gpus)) as run:
        assert run.wait_for_control(0, "lost").label == "0 card that does not answer"
        assert run.wait_for_control(1, "ours")
        double.cards[0].lost = 0
        assert run.wait_for_control(0, "ours").label == "0 GTX 1080 Ti"


def lose(double: NvmlDouble, card: int) -> None:
    double.cards[card].lost = 1


@pytest.mark.parametrize("second", [lose, partial(hang, kind=Kind.TEMPERATURE)], ids=["lost", "hung"])
def test_when_no_card_has_answered_for_long_the_run_ends(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch, second: Callable[[NvmlDouble, int], None]
) -> None:
    monkeypatch.setattr(daemon, "ALL_LOST_S", 0.1)
    monkeypatch.setattr(daemon, "STOP_S", 0.1)
    with running(*workers(0, 1)) as run:
        run.wait_for_control(1, "ours")
        lose(double, 0)
        second(double, 1)
        run.join()
        assert "no card was under control for 0.1 s" in str(run.error)
        double.let_go()


def test_one_card_that_answers_keeps_the_run_going(double: NvmlDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "ALL_LOST_S", 0.1)
    lose(double, 0)
    with running(*workers(0, 1)) as run:
        wait_for(lambda: run.states(1).count("ours") > 5)
        assert run.error is None


def test_the_end_names_a_card_that_is_lost_and_gives_the_others_back(double: NvmlDouble) -> None:
    with running(*workers(0, 1)) as run:
        run.wait_for_control(0, "ours")
        run.wait_for_control(1, "ours")
        lose(double, 0)
        run.stop()
    assert "0 GTX 1080 Ti: the card is gone: GPU is lost" in str(run.error)
    assert fans(double, 1) == DRIVERS


# ---- the end, and faults of our own ----


def test_the_end_gives_every_card_back_even_where_one_refuses(double: NvmlDouble) -> None:
    with running(*workers(0, 1)) as run:
        run.wait_for_control(0, "ours")
        run.wait_for_control(1, "ours")
        double.cards[0].error[Kind.SET_DEFAULT] = pynvml.NVML_ERROR_UNKNOWN
        run.stop()
    assert isinstance(run.error, GpufanError)
    assert "0 GTX 1080 Ti: the driver refused: Unknown Error" in str(run.error)
    assert fans(double, 1) == DRIVERS


def test_fans_that_stay_manual_although_giving_back_succeeds_are_named(double: NvmlDouble) -> None:
    with running(*workers(0)) as run:
        run.wait_for_control(0, "ours")
        double.cards[0].fans[1].stuck = 1
        run.stop()
    assert "0 GTX 1080 Ti: fan 1 is still in manual mode after it was given back" in str(run.error)


@pytest.mark.parametrize("fault", [ZeroDivisionError, MemoryError, SystemExit, KeyboardInterrupt])
def test_a_fault_of_our_own_in_the_control_of_one_card_gives_every_card_back(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    decide = Controller.decide

    def fail_at_77(self: Controller, now_s: float, temperature_c: float | None, *others: Any, **more: Any) -> object:
        if temperature_c == 77:
            raise fault("ours")
        return decide(self, now_s, temperature_c, *others, **more)

    monkeypatch.setattr(Controller, "decide", fail_at_77)
    with running(*workers(0, 1)) as run:
        run.wait_for_control(0, "ours")
        run.wait_for_control(1, "ours")
        double.cards[0].temperature = 77
        run.join()
        assert isinstance(run.error, fault)
        assert (fans(double, 0), fans(double, 1)) == (DRIVERS, DRIVERS)


def test_a_thread_that_cannot_be_started_ends_the_run_and_gives_the_cards_back(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with running(*workers(0, 1)) as run:
        run.wait_for_control(1, "ours")
        monkeypatch.setattr(ControlLoop, "_start", fail)
        hang(double, 0, Kind.TEMPERATURE)
        run.join()
        assert "can't start new thread" in str(run.error)
        assert fans(double, 1) == DRIVERS
        double.let_go()


def test_a_fault_of_our_own_in_a_report_gives_every_card_back(double: NvmlDouble) -> None:
    def publish(snapshot: Snapshot) -> None:
        if {gpu.control for gpu in snapshot.gpus} == {"ours"}:
            raise ZeroDivisionError("ours")

    with running(*workers(0, 1), publish=[publish]) as run:
        run.join()
    assert isinstance(run.error, ZeroDivisionError)
    assert (fans(double, 0), fans(double, 1)) == (DRIVERS, DRIVERS)
    assert sets(double, 0)


# ---- sleep ----


@pytest.mark.parametrize(
    ("boot_s", "wall_s"), [(0, 3600), (0, -3600), (30, 30)], ids=["clock set on", "clock set back", "slept"]
)
def test_a_clock_that_jumps_makes_every_card_be_set_anew(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch, boot_s: float, wall_s: float
) -> None:
    clocks = daemon._loop_clocks
    with running(*workers(0, 1)) as run:
        run.wait_for_control(0, "ours")
        run.wait_for_control(1, "ours")
        for card in (0, 1):
            for kind in (Kind.GET_POLICY, Kind.GET_TARGET, Kind.GET_FAN):  # so that nothing else can be what sets them
                double.cards[card].error[kind] = pynvml.NVML_ERROR_UNKNOWN
            for fan in double.cards[card].fans:
                fan.policy, fan.target = AUTO, 23
        monkeypatch.setattr(
            daemon, "_loop_clocks", lambda: tuple(map(sum, zip(clocks(), (boot_s, wall_s), strict=True)))
        )
        wait_for(lambda: fans(double, 0) == fans(double, 1) == [60, 60])


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_the_snapshot_tells_how_often_and_by_how_much_the_clock_was_set(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    clocks = daemon._loop_clocks
    with running(*workers(0)) as run:
        run.wait_for_control(0, "ours")
        monkeypatch.setattr(daemon, "_loop_clocks", lambda: (clocks()[0], clocks()[1] + step_s))
        wait_for(lambda: run.snapshots[-1].clock_steps)
    assert run.snapshots[0].clock_steps == 0
    assert run.snapshots[-1].clock_steps == 1
    assert run.snapshots[-1].clock_step_s == pytest.approx(step_s, abs=1)


def test_sleep_is_no_step_of_the_clock(double: NvmlDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = daemon._loop_clocks
    with running(*workers(0)) as run:
        run.wait_for_control(0, "ours")
        monkeypatch.setattr(daemon, "_loop_clocks", lambda: (clocks()[0] + 30, clocks()[1] + 30))
        seen = len(run.snapshots)
        wait_for(lambda: len(run.snapshots) > seen + 3)
    assert run.snapshots[-1].clock_steps == 0


def test_a_clock_that_is_nudged_changes_nothing(double: NvmlDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = daemon._loop_clocks
    with running(*workers(0)) as run:
        run.wait_for_control(0, "ours")
        monkeypatch.setattr(daemon, "_loop_clocks", lambda: (clocks()[0], clocks()[1] + 1))
        seen = len(run.snapshots)
        wait_for(lambda: len(run.snapshots) > seen + 3)
        assert len(sets(double, 0)) == 2


def test_a_clock_that_jumps_cuts_the_wait_for_a_lost_card_short(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = daemon._loop_clocks
    with running(*workers(0)) as run:
        lose(double, 0)
        run.wait_for_control(0, "lost")
        double.cards[0].lost = 0
        monkeypatch.setattr(daemon, "_loop_clocks", lambda: (clocks()[0], clocks()[1] + 3600))
        wait_for(lambda: "ours" in run.states(0), timeout_s=0.5)


# ---- the driver is restarted under the daemon ----


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_UNKNOWN])
def test_after_a_restart_of_the_driver_the_cards_are_under_control_again(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(recovery, "ALL_BLIND_S", 0.1)
    cards = open_cards("nvml", None, Path("/nonexistent"))
    with running(*(Worker(gpu, settings()) for gpu in cards.gpus), reload_driver=cards.reload_driver) as run:
        run.wait_for_control(0, "ours")
        double.restart(error=code)
        double.cards[0].temperature = 71
        wait_for(lambda: fans(double, 0) == [71, 71])
        run.wait_for_control(1, "ours")
