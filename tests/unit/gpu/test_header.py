"""A card that fans on headers of the motherboard cool."""

import errno
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gpufan.core.gpu import FanReading
from gpufan.errors import FansOutOfReach, GpuError, GpuLost, InputError, NoPermission
from gpufan.gpu.header import HeaderGpu, Headers
from gpufan.gpu.simulated_headers import SimulatedChannel, SimulatedChip
from gpufan.hwmon import chip_files
from gpufan.hwmon.fan import ChannelFan
from tests.doubles.hwmon import let_hang, make_hanging_chip, make_plain_chip
from tests.doubles.nvml import wait_for
from tests.unit.builders import FakeGpu


class Bench:
    """A card without fans, and a chip with two channels."""

    def __init__(self, *names: str) -> None:
        self.card = FakeGpu(fan_count=0, uncontrollable_reason="no fan")
        self.chip = SimulatedChip({2: SimulatedChannel(), 3: SimulatedChannel()})
        self.gpu = HeaderGpu(self.card, lambda _: names, self.chip.open_fan)


def test_temperature_power_and_limits_are_the_cards_and_fans_the_channels() -> None:
    bench = Bench("nct6798/pwm2", "nct6798/pwm3")
    info = bench.gpu.info
    assert (info.fan_count, info.backend, info.uncontrollable_reason) == (2, "hwmon", None)
    assert [channel.name for channel in info.channels] == ["nct6798/pwm2", "nct6798/pwm3"]
    reading = bench.gpu.read()
    assert (reading.temperature_c, reading.power_w, len(reading.fans)) == (40.0, 100.0, 2)
    bench.gpu.set_duty(60)
    assert [channel.mode for channel in bench.chip.channels.values()] == [1, 1]
    assert bench.card.written == []


def test_the_info_stays_the_same_object_until_something_changes() -> None:
    bench = Bench("nct6798/pwm2")
    info = bench.gpu.info
    bench.gpu.set_duty(60)
    assert bench.gpu.info is info
    bench.card.found_again(name="other")
    assert bench.gpu.info is not info
    assert bench.gpu.info.channels == info.channels


def test_a_card_for_which_no_channel_is_named_has_its_own_fans() -> None:
    card = FakeGpu()
    gpu = HeaderGpu(card, lambda _: (), lambda name: pytest.fail(name))
    gpu.set_duty(60)
    gpu.release()
    assert gpu.info is card.info
    assert card.written == [60, "release"]


def test_a_lost_card_is_lost_only_while_its_fans_are_set() -> None:
    bench = Bench("nct6798/pwm2")
    bench.card.read_error = GpuLost("gone")
    assert bench.gpu.read().temperature_c is None
    bench.gpu.set_duty(60)
    with pytest.raises(GpuLost):
        bench.gpu.read()
    bench.gpu.release()
    assert bench.gpu.read().fans[0].manual is False


def test_channels_that_appear_late_are_not_set_before_they_are_in_the_record() -> None:
    missing = [True]
    chip = SimulatedChip({2: SimulatedChannel()})

    def open_fan(name: str) -> ChannelFan:
        if missing[0]:
            raise InputError("no such fan")
        return chip.open_fan(name)

    gpu = HeaderGpu(FakeGpu(fan_count=0), lambda _: ["nct6798/pwm2"], open_fan)
    with pytest.raises(FansOutOfReach, match="no such fan"):
        gpu.set_duty(60)
    missing[0] = False
    with pytest.raises(FansOutOfReach, match="just now"):
        gpu.set_duty(60)
    assert chip.channels[2].mode != 1
    assert gpu.info.channels
    gpu.set_duty(60)
    assert chip.channels[2].mode == 1


@pytest.mark.parametrize(
    ("number", "user", "expected", "words"),
    [
        (errno.EACCES, 1000, NoPermission, "sudo"),
        (errno.EACCES, 0, GpuError, "Permission denied"),
        (errno.EPERM, 1000, GpuError, "not permitted"),
        (errno.EROFS, 0, GpuError, "install-service"),
        (errno.EIO, 0, GpuError, "nct6798/pwm2: Input/output error"),
    ],
)
def test_an_error_of_a_write_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, number: int, user: int, expected: type[Exception], words: str
) -> None:
    bench = Bench("nct6798/pwm2")

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(bench.chip.channels[2], "write_mode", fail)
    with pytest.raises(expected, match=words):
        bench.gpu.set_duty(60)


def test_a_chip_that_is_busy_for_two_ticks_keeps_its_state_and_is_out_of_reach_at_the_third(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench("nct6798/pwm2")
    bench.gpu.set_duty(60)
    before = bench.gpu.read().fans
    busy = [True]
    read = bench.chip.read

    def read_if_free(file: str) -> int:
        if busy[0]:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return read(file)

    monkeypatch.setattr(bench.chip, "read", read_if_free)
    for _ in range(2):
        assert [bench.gpu.read().fans for _ in range(2)] == [before, before]
        busy[0] = False
        bench.gpu.read()
        busy[0] = True
    bench.gpu.read()
    bench.gpu.read()
    with pytest.raises(FansOutOfReach, match="temporarily unavailable"):
        bench.gpu.read()


def test_every_fan_is_tried_although_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("nct6798/pwm2", "nct6798/pwm3")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(bench.chip.channels[2], "write_mode", fail)
    with pytest.raises(GpuError, match="pwm2"):
        bench.gpu.set_duty(60)
    assert bench.chip.channels[3].mode == 1


class Board:
    """A card that is cooled by fans on plain chips, whose time limit is short."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GPUFAN_SYS_FOLDER", str(folder))
        monkeypatch.setattr(chip_files, "ANSWER_S", 0.05)
        self.folder = folder
        self.headers = Headers()

    def card(self, *names: str) -> HeaderGpu:
        return HeaderGpu(FakeGpu(fan_count=0), lambda _: [f"{name}/pwm1" for name in names], self.headers.open_fan)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(tmp_path, monkeypatch)


@pytest.mark.parametrize("file", ["pwm1", "pwm1_enable"])
def test_a_chip_that_hangs_while_it_is_opened_delays_no_fan_of_another_chip(board: Board, file: str) -> None:
    pipe = make_hanging_chip(board.folder, "hanging", file)
    make_plain_chip(board.folder, "healthy")
    for _ in range(2):
        with pytest.raises(OSError, match=f"^its chip does not answer: {file} hangs$"):
            board.headers.open_fan("hanging/pwm1")
    assert board.headers.open_fan("healthy/pwm1").before.pwm_before == 90
    pipe.write_text("2")  # the end of the hang
    replaced = pipe.with_name("replaced")
    replaced.write_text("2")
    replaced.rename(pipe)

    def is_open() -> bool:
        with suppress(OSError):
            return board.headers.open_fan("hanging/pwm1").before.mode_before == 2
        return False

    wait_for(is_open)


def test_chips_that_hang_are_opened_at_the_same_time_and_delay_the_start_only_once(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chip_files, "ANSWER_S", 0.3)
    names = [make_hanging_chip(board.folder, f"hanging{number}").parents[2].name for number in range(8)]
    began_s = time.monotonic()
    board.headers.open_all([f"{name}/pwm1" for name in names])
    board.card(*names)
    assert time.monotonic() - began_s < 8 * 0.3


@pytest.mark.parametrize("file", ["pwm1", "pwm1_enable"])
def test_if_one_of_two_chips_hangs_the_fan_on_the_other_runs_at_full_speed(board: Board, file: str) -> None:
    healthy = make_plain_chip(board.folder, "healthy")
    hanging = make_plain_chip(board.folder, "hanging")
    gpu = board.card("hanging", "healthy")
    gpu.set_duty(60)
    let_hang(hanging / file)
    with pytest.raises(FansOutOfReach, match=f"hanging/pwm1: its chip does not answer: {file} hangs"):
        gpu.read()
    with pytest.raises(GpuError, match="hanging/pwm1: its chip does not answer"):
        gpu.set_duty(100)
    assert ((healthy / "pwm1").read_text(), (healthy / "pwm1_enable").read_text()) == ("255", "1")
    with pytest.raises(GpuError, match="hanging/pwm1: its chip does not answer"):
        gpu.release()
    assert ((healthy / "pwm1").read_text(), (healthy / "pwm1_enable").read_text()) == ("90", "2")


def test_a_fan_whose_mode_hangs_gets_full_speed_by_its_duty(board: Board) -> None:
    chip = make_plain_chip(board.folder, "hanging")
    gpu = board.card("hanging")
    gpu.set_duty(60)
    let_hang(chip / "pwm1_enable")
    with pytest.raises(GpuError):
        gpu.set_duty(100)
    assert (chip / "pwm1").read_text() == "255"


def test_a_tachometer_that_hangs_is_unknown_and_the_fan_is_driven(board: Board) -> None:
    chip = make_plain_chip(board.folder, "hanging")
    gpu = board.card("hanging")
    let_hang(chip / "fan1_input")
    gpu.set_duty(60)
    assert gpu.read().fans[0] == FanReading(60, 60, manual=True, speed_rpm=None)
    gpu.release()
    assert (chip / "pwm1").read_text() == "90"


@pytest.mark.parametrize("is_missing", [True, False])
def test_a_fan_that_is_never_there_does_not_leave_the_other_fan_to_the_bios(board: Board, is_missing: bool) -> None:
    healthy = make_plain_chip(board.folder, "healthy")
    if not is_missing:
        make_hanging_chip(board.folder, "other")
    gpu = board.card("healthy", "other")
    assert [channel.name for channel in gpu.info.channels] == ["healthy/pwm1"]
    gpu.read()
    with pytest.raises(FansOutOfReach, match=r"^fans out of reach: other/pwm1: "):
        gpu.set_duty(30)
    assert (healthy / "pwm1").read_text() == "255"
    with pytest.raises(FansOutOfReach):
        gpu.read()
    gpu.release()
    assert ((healthy / "pwm1").read_text(), (healthy / "pwm1_enable").read_text()) == ("90", "2")
