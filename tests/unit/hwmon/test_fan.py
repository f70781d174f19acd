"""One channel as a fan, on a simulated chip."""

import errno
import threading
from dataclasses import replace
from functools import partial

import pytest

from gpufan.core.gpu import FanChannel
from gpufan.errors import GpuError
from gpufan.gpu.simulated_headers import AUTOMATIC, SimulatedChannel, SimulatedChip
from gpufan.hwmon.channels import Channel
from gpufan.hwmon.fan import HIGHEST_FLOOR_PERCENT, ChannelFan
from gpufan.system.background import BackgroundCall


class Bench:
    """A fan on channel 2, and the time that passes for it."""

    def __init__(self, before: FanChannel | None = None, **values: float) -> None:
        self.channel = SimulatedChannel(**values)
        self.chip = SimulatedChip({2: self.channel})
        self.fan = ChannelFan(self.chip.find_channels()[0], self.chip, before)

    def run(self, seconds: int = 10):
        for _ in range(seconds):
            self.channel.advance(1)
            reading = self.fan.read("card")
        return reading


def test_a_fan_is_set_read_and_put_back() -> None:
    bench = Bench()
    bench.fan.set("card", 60)
    reading = bench.run()
    assert (reading.manual, reading.target_percent, reading.speed_percent) == (True, 60, 60)
    bench.fan.release("card")
    assert (bench.channel.mode, bench.channel.shown_raw) == (AUTOMATIC, 102)
    assert bench.fan.read("card").manual is False


@pytest.mark.parametrize("mode", [0, 1, 2, 5])
@pytest.mark.parametrize("raw", [0, 77, 255])
def test_every_mode_and_duty_of_before_is_put_back(mode: int, raw: int) -> None:
    channel = SimulatedChannel()
    channel.mode, channel.raw = mode, raw
    chip = SimulatedChip({2: channel})
    fan = ChannelFan(chip.find_channels()[0], chip)
    shown = chip.read("pwm2"), chip.read("pwm2_enable")
    for percent in (100, 35):
        fan.set("card", percent)
        fan.read("card")
    fan.release("card")
    assert (chip.read("pwm2"), chip.read("pwm2_enable")) == shown


def test_full_speed_counts_as_manual_although_the_chip_shows_mode_0() -> None:
    bench = Bench()
    bench.fan.set("card", 100)
    assert bench.chip.read("pwm2_enable") == 0
    assert bench.run().manual is True


def test_a_fan_of_two_owners_gets_the_higher_duty_and_goes_back_after_the_last() -> None:
    bench = Bench()
    bench.fan.set("card", 40)
    bench.fan.set("other", 70)
    assert bench.run().target_percent == 40
    assert bench.channel.raw == 179
    bench.fan.release("other")
    assert bench.channel.raw == 102
    assert bench.channel.mode == 1
    bench.fan.release("card")
    assert bench.channel.mode == AUTOMATIC


def test_two_owners_that_give_a_fan_back_at_the_same_time_leave_it_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.fan.set("card", 40)
    bench.fan.set("other", 70)
    read, calls = bench.chip.read, []

    def read_while_the_other_gives_back(file: str) -> int:
        if not calls and threading.current_thread() is threading.main_thread():
            calls.append(BackgroundCall(partial(bench.fan.release, "other")))
            calls[0].wait(0.1)
        return read(file)

    monkeypatch.setattr(bench.chip, "read", read_while_the_other_gives_back)
    bench.fan.release("card")
    calls[0].result(10)
    assert bench.channel.mode == AUTOMATIC


def test_a_fan_that_was_never_set_is_not_written_when_it_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr(bench.chip, "write", lambda file, number: pytest.fail(file))
    bench.fan.release("card")


def test_an_owner_that_sets_nothing_reads_that_it_sets_nothing() -> None:
    bench = Bench()
    bench.fan.set("other", 70)
    assert bench.fan.read("card").manual is False


def test_another_duty_than_the_one_that_was_set_is_read() -> None:
    bench = Bench()
    bench.fan.set("card", 60)
    bench.channel.raw = 51
    assert bench.run().target_percent == 20


def test_a_standing_fan_starts_at_full_speed_and_then_slows_down() -> None:
    bench = Bench(bios_raw=0, start_raw=120)
    bench.fan.set("card", 30)
    assert bench.channel.raw == 255
    assert bench.run().speed_percent == 30
    assert bench.channel.speed_percent == pytest.approx(30, abs=1)


def test_a_turning_fan_is_not_set_to_full_speed() -> None:
    bench = Bench()
    bench.fan.set("card", 30)
    assert bench.channel.raw == 77


def test_a_fan_that_is_to_stand_still_is_not_started() -> None:
    bench = Bench(bios_raw=0)
    bench.fan.set("card", 0)
    assert bench.run().speed_rpm == 0
    assert bench.channel.raw == 0


def test_a_fan_that_stops_is_started_again_and_its_lowest_duty_rises() -> None:
    bench = Bench(stop_raw=80, start_raw=90)
    bench.fan.set("card", 30)
    bench.run()
    assert bench.fan.lowest_percent >= 35
    bench.fan.set("card", bench.fan.lowest_percent)
    assert bench.run().speed_rpm > 0


def test_a_single_reading_of_0_rpm_is_no_standing_fan(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.fan.set("card", 30)
    bench.run(2)
    speed = bench.channel.speed_percent
    for _ in range(3):
        bench.channel.speed_percent = 0
        bench.fan.set("card", 30)
        bench.fan.read("card")  # the worker reads at once after it has set
        bench.fan.read("card")
        bench.channel.speed_percent = speed
        bench.fan.read("card")
    assert (bench.channel.raw, bench.fan.lowest_percent) == (77, 0)


def test_the_lowest_duty_of_a_broken_fan_does_not_rise_for_ever() -> None:
    bench = Bench()
    for percent in range(30, 100, 5):
        bench.channel.is_blocked = False
        bench.fan.set("card", percent)
        bench.run()
        bench.channel.is_blocked = True
        bench.run()
    assert bench.fan.lowest_percent == HIGHEST_FLOOR_PERCENT


def test_a_fan_without_a_tachometer_is_never_started() -> None:
    channel = SimulatedChannel(bios_raw=0)
    chip = SimulatedChip({2: channel})
    found = chip.find_channels()[0]
    fan = ChannelFan(Channel(found.chip, found.home, 2, None), chip)
    fan.set("card", 30)
    assert channel.raw == 77
    assert fan.read("card").speed_rpm is None


@pytest.mark.parametrize("rpm", [-1, 65535, 1350000])
def test_absurd_rpm_count_as_unknown(monkeypatch: pytest.MonkeyPatch, rpm: int) -> None:
    bench = Bench()
    monkeypatch.setattr(SimulatedChannel, "speed_rpm", rpm)
    bench.fan.set("card", 60)
    assert bench.run().speed_rpm is None


@pytest.mark.parametrize("raw", [-1, 256, 65535])
def test_a_value_that_is_no_duty_is_an_error(raw: int) -> None:
    bench = Bench()
    bench.channel.bios_raw = raw
    with pytest.raises(
        GpuError, match=f"its duty cannot be read, so it could not be given back: pwm2 has the value {raw}"
    ):
        ChannelFan(bench.chip.find_channels()[0], bench.chip)
    with pytest.raises(OSError, match="which is no duty"):
        bench.fan.read("card")


def test_a_chip_that_mode_0_stops_never_gets_this_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    fan = ChannelFan(replace(bench.chip.find_channels()[0], chip="pwmfan"), bench.chip)
    fan.set("card", 60)

    def refuse(number: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(bench.channel, "write_duty", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        fan.set("card", 100)
    assert bench.channel.mode == AUTOMATIC


def test_the_record_of_a_killed_run_counts_more_than_the_chip() -> None:
    bench = Bench(FanChannel("nct6798/pwm2", "nct6798", "/sys", 2, 5, 102))
    bench.channel.mode, bench.channel.raw = 1, 200
    bench.fan.set("card", 50)
    bench.fan.release("card")
    assert bench.channel.mode == AUTOMATIC


@pytest.mark.parametrize(("refused", "mode"), [((), 0), ((0,), AUTOMATIC)])
def test_a_chip_that_refuses_every_duty_runs_at_full_speed_by_its_mode_or_as_the_bios_wants(
    monkeypatch: pytest.MonkeyPatch, refused: tuple[int, ...], mode: int
) -> None:
    bench = Bench()
    bench.fan.set("card", 60)
    write_mode = bench.channel.write_mode

    def refuse(number: int) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(bench.channel, "write_duty", refuse)
    monkeypatch.setattr(bench.channel, "write_mode", lambda new: refuse(new) if new in refused else write_mode(new))
    for percent in (70, 100):
        with pytest.raises(OSError, match="Permission denied"):
            bench.fan.set("card", percent)
    assert bench.channel.mode == mode


@pytest.mark.parametrize("mode", [0, 2, 5])
def test_a_chip_that_would_refuse_its_own_mode_later_is_never_set(monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    bench = Bench()
    bench.channel.mode = mode
    fan = ChannelFan(bench.chip.find_channels()[0], bench.chip)

    def write_mode(wanted: int) -> None:
        if wanted != 1:
            raise OSError(errno.EINVAL, "Invalid argument")
        bench.channel.mode = wanted

    monkeypatch.setattr(bench.channel, "write_mode", write_mode)
    with pytest.raises(GpuError, match=f"refuses its own mode {mode}, so it could not be given back"):
        fan.set("card", 50)
    assert bench.channel.mode == mode


def test_a_channel_that_does_not_take_its_mode_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.fan.set("card", 50)
    monkeypatch.setattr(bench.channel, "write_mode", lambda mode: None)
    with pytest.raises(GpuError, match="nct6798/pwm2 is in mode 1 instead of 5"):
        bench.fan.release("card")
