"""The backend `x11`, over a real socket, with a server that has only NV-CONTROL."""

import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

import pytest
from Xlib.ext import nvcontrol as xlib

from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import Limits
from gpufan.daemon.worker import Worker
from gpufan.errors import DriverError, FansOutOfReach, GpuError, GpuLost, NotControllable
from gpufan.gpu import x11
from gpufan.gpu.nvcontrol import Number, Numbers, Request, Target, Text
from gpufan.gpu.simulated import PROFILES, WORKLOADS, Profile, SimulatedBox
from gpufan.gpu.x11 import X11Gpu
from gpufan.xorg.client import Display
from tests.doubles import nvcontrol_server as double
from tests.doubles.nvcontrol_server import ABSENT, BAD_MATCH, BAD_VALUE, COOLER, GPU, NvControlServer

LIMIT_S = 0.3


@pytest.fixture
def plant() -> SimulatedBox:
    plant = SimulatedBox(PROFILES["dual-1080ti-open-air"], WORKLOADS["epochs"])
    plant.advance(60)
    return plant


@pytest.fixture
def server(plant: SimulatedBox, tmp_path: Path) -> Iterator[NvControlServer]:
    """Its GPU 0 is NVML's card 1; its coolers 0 and 1 cool NVML's card 0."""
    with NvControlServer(plant, tmp_path, order=[1, 0]) as server:
        yield server


@pytest.fixture
def cards(server: NvControlServer, plant: SimulatedBox) -> Iterator[list[X11Gpu]]:
    cards = x11.open_x11_cards(lambda: Display(server.number, server.authority), plant.gpus, LIMIT_S)
    yield cards
    for card in cards:
        card.close()


def alone(server: NvControlServer) -> list[X11Gpu]:
    """Without NVML."""
    return x11.open_x11_cards(lambda: Display(server.number, server.authority), limit_s=LIMIT_S)


@pytest.mark.parametrize(
    ("numbers", "prefix"),
    [
        (Request, "X_nvCtrl"),
        (Target, "NV_CTRL_TARGET_TYPE_"),
        (Number, "NV_CTRL_"),
        (Text, "NV_CTRL_STRING_"),
        (Numbers, "NV_CTRL_BINARY_DATA_"),
    ],
)
def test_the_numbers_of_the_protocol_are_those_of_python_xlib(numbers: type[IntEnum], prefix: str) -> None:
    for member in numbers:
        assert member == getattr(xlib, prefix + member.name), member.name


def test_a_reading_over_x_equals_that_of_the_card(cards: list[X11Gpu], plant: SimulatedBox) -> None:
    plant.gpus[1].set_duty(70)
    plant.advance(10)
    assert [gpu.read() for gpu in cards] == [gpu.read() for gpu in plant.gpus]


def test_without_nvml_temperature_comes_over_x_and_power_is_unknown(
    server: NvControlServer, plant: SimulatedBox
) -> None:
    reading = alone(server)[0].read()
    assert reading.temperature_c == plant.gpus[0].read().temperature_c
    assert reading.power_w is None


def test_a_temperature_below_zero_is_read_as_such(tmp_path: Path) -> None:
    profile = PROFILES["1080ti"]
    cold = Profile("cold", (replace(profile.plants[0], inlet_c=-40),))
    with NvControlServer(SimulatedBox(cold, WORKLOADS["idle"]), tmp_path) as server:
        assert alone(server)[0].read().temperature_c == -35


def test_setting_a_card_sets_all_its_coolers_and_no_other(cards: list[X11Gpu], server: NvControlServer) -> None:
    cards[0].set_duty(64)
    assert server.sets == [(GPU, 1, double.MANUAL, 1), (COOLER, 0, double.LEVEL, 64), (COOLER, 1, double.LEVEL, 64)]


def test_a_set_duty_is_read_back_and_moves_the_fans(cards: list[X11Gpu], plant: SimulatedBox) -> None:
    cards[1].set_duty(90)
    plant.advance(5)
    assert [(f.speed_percent, f.target_percent, f.manual) for f in cards[1].read().fans] == [(90, 90, True)] * 2
    assert [f.manual for f in cards[0].read().fans] == [False, False]


def test_release_gives_the_fans_back_and_twice_is_harmless(cards: list[X11Gpu], plant: SimulatedBox) -> None:
    for gpu in cards:
        gpu.set_duty(90)
    cards[0].release()
    cards[0].release()
    assert [gpu.manual_percent for gpu in plant.gpus] == [None, 90]
    assert [fan.manual for fan in cards[0].read().fans] == [False, False]


def test_cards_are_identified_by_uuid_not_by_the_numbers_of_the_server(
    cards: list[X11Gpu], plant: SimulatedBox
) -> None:
    assert [gpu.info for gpu in cards] == [replace(gpu.info, backend="x11") for gpu in plant.gpus]


def test_cards_are_identified_by_pci_address_if_the_server_reports_no_uuid(
    server: NvControlServer, plant: SimulatedBox
) -> None:
    server.uuids = False
    cards = x11.open_x11_cards(lambda: Display(server.number, server.authority), plant.gpus, LIMIT_S)
    assert [gpu.info.uuid for gpu in cards] == [gpu.info.uuid for gpu in plant.gpus]
    cards[0].set_duty(77)
    assert [gpu.manual_percent for gpu in plant.gpus] == [77, None]


def test_a_card_that_nvml_does_not_know_is_described_by_the_server(
    server: NvControlServer, plant: SimulatedBox
) -> None:
    expected = [replace(gpu.info, backend="x11", power_limit_w=None, power_range_w=None) for gpu in plant.gpus]
    assert [gpu.info for gpu in alone(server)] == expected


def test_a_card_that_nvml_cannot_control_is_controllable_over_x(server: NvControlServer, plant: SimulatedBox) -> None:
    for gpu in plant.gpus:
        gpu.info = replace(gpu.info, uncontrollable_reason="driver 470 cannot set fans through NVML")
    cards = x11.open_x11_cards(lambda: Display(server.number, server.authority), plant.gpus, LIMIT_S)
    assert [gpu.info.uncontrollable_reason for gpu in cards] == [None, None]


def test_without_coolbits_the_card_reports_what_is_missing(server: NvControlServer) -> None:
    server.coolbits = False
    gpu = alone(server)[0]
    assert gpu.info.uncontrollable_reason is not None
    assert "Coolbits" in gpu.info.uncontrollable_reason
    with pytest.raises(NotControllable, match="Coolbits"):
        gpu.set_duty(50)
    gpu.release()
    assert server.sets == []


def test_a_card_without_coolers_is_read_but_not_set(server: NvControlServer) -> None:
    server.coolers.clear()
    gpu = alone(server)[0]
    assert gpu.info.uncontrollable_reason == "the driver reports no fan"
    assert gpu.read().fans == ()


def test_an_x_error_names_the_attribute_and_does_not_close_the_connection(
    cards: list[X11Gpu], server: NvControlServer
) -> None:
    gpu = cards[0]
    gpu.read()
    before = server.connections
    server.failures[double.MANUAL, 1] = BAD_MATCH
    with pytest.raises(GpuError, match=r"GPU_COOLER_MANUAL_CONTROL of GPU 1: BadMatch") as caught:
        gpu.set_duty(50)
    assert not isinstance(caught.value, GpuLost)
    server.failures.clear()
    gpu.set_duty(50)
    assert server.connections == before


def test_a_level_out_of_range_is_an_error_that_names_it(cards: list[X11Gpu]) -> None:
    with pytest.raises(GpuError, match=r"THERMAL_COOLER_LEVEL of COOLER 0: BadValue"):
        cards[0].set_duty(5)


def test_a_set_that_the_driver_declines_by_status_is_an_error(cards: list[X11Gpu], server: NvControlServer) -> None:
    server.failures[double.MANUAL, 1] = ABSENT
    with pytest.raises(GpuError, match=r"refused to set GPU_COOLER_MANUAL_CONTROL of GPU 1 to 0"):
        cards[0].release()


def test_after_a_cooler_that_refuses_the_next_one_is_still_set(cards: list[X11Gpu], server: NvControlServer) -> None:
    server.failures[double.LEVEL, 0] = BAD_VALUE
    with pytest.raises(GpuError, match="COOLER 0"):
        cards[0].set_duty(80)
    assert server.levels[1] == 80


@pytest.mark.parametrize("failure", [ABSENT, BAD_MATCH])
def test_a_value_that_cannot_be_read_is_none_and_the_others_are_read(
    cards: list[X11Gpu], server: NvControlServer, failure: int
) -> None:
    for attribute, number in [(double.RPM, 0), (double.LEVEL, 1), (double.MANUAL, 1)]:
        server.failures[attribute, number] = failure
    first, second = cards[0].read().fans
    assert (first.speed_rpm, first.manual, second.target_percent) == (None, None, None)
    assert None not in (first.speed_percent, first.target_percent, second.speed_rpm)


def test_a_temperature_that_cannot_be_read_is_none(server: NvControlServer) -> None:
    cards = alone(server)
    server.failures[double.TEMPERATURE, 1] = ABSENT
    assert cards[0].read().temperature_c is None


@pytest.mark.parametrize("call", ["read", "release", "set_duty"])
def test_a_server_that_hangs_loses_the_card_within_the_limit(
    cards: list[X11Gpu], server: NvControlServer, call: str
) -> None:
    server.hanging.set()
    began_s = time.monotonic()
    with pytest.raises(GpuLost, match=f"X server {server.name} has not answered for 0.3 s"):
        getattr(cards[0], call)(*([50] if call == "set_duty" else []))
    assert time.monotonic() - began_s < 4 * LIMIT_S


def test_a_server_that_sends_events_slowly_does_not_extend_the_time_limit(
    cards: list[X11Gpu], server: NvControlServer
) -> None:
    mapping_notify = struct.pack("=B31x", 34)
    stop = threading.Event()

    def drip() -> Iterator[bytes]:
        while not stop.wait(LIMIT_S / 10):
            yield mapping_notify

    cards[0].read()
    server.before_reply = drip
    with pytest.raises(GpuLost, match="not answered"):
        cards[0].read()
    stop.set()


def test_a_late_reply_is_not_read_as_the_reply_to_the_next_request(
    cards: list[X11Gpu], server: NvControlServer
) -> None:
    cards[0].read()
    server.hanging.set()
    with pytest.raises(GpuLost):
        cards[0].read()
    server.hanging.clear()
    cards[0].set_duty(55)
    assert [fan.target_percent for fan in cards[0].read().fans] == [55, 55]


def test_after_a_broken_connection_the_card_is_lost_once_and_then_connected_again(
    cards: list[X11Gpu], server: NvControlServer
) -> None:
    cards[0].read()
    server.drop()
    with pytest.raises(GpuLost, match=f"X server {server.name} has gone"):
        cards[0].read()
    assert cards[0].read().fans


def test_the_lean_read_equals_the_full_one(server: NvControlServer, cards: list[X11Gpu]) -> None:
    for card in (cards[0], alone(server)[0]):
        reading = card.read()
        assert card.sense() == (reading.temperature_c, reading.power_w)


def test_a_card_that_was_reopened_connects_anew(cards: list[X11Gpu], server: NvControlServer) -> None:
    cards[0].read()
    connections = server.connections
    cards[0].reopen()
    assert cards[0].read().fans
    assert server.connections == connections + 1


def test_the_next_call_finds_a_new_server_that_numbers_its_cards_differently(
    plant: SimulatedBox, tmp_path: Path
) -> None:
    where: list[Display] = []
    with NvControlServer(plant, tmp_path, order=[1, 0]) as first:
        where.append(Display(first.number, first.authority))
        cards = x11.open_x11_cards(lambda: where[-1], plant.gpus, LIMIT_S)
        cards[0].set_duty(60)
    with NvControlServer(plant, tmp_path, order=[0, 1]) as second:
        where.append(Display(second.number, second.authority))
        with pytest.raises(GpuLost):
            cards[0].set_duty(61)
        cards[0].set_duty(62)
        assert second.sets[0] == (GPU, 0, double.MANUAL, 1)
    assert plant.gpus[0].manual_percent == 62


def test_a_card_that_the_new_server_does_not_know_is_lost(plant: SimulatedBox, tmp_path: Path) -> None:
    with NvControlServer(plant, tmp_path) as server:
        cards = x11.open_x11_cards(lambda: Display(server.number, server.authority), plant.gpus, LIMIT_S)
        server.cards.pop()
        with pytest.raises(GpuLost, match="does not know the card"):
            cards[1].read()


def test_without_a_server_the_fans_are_reported_as_out_of_reach(server: NvControlServer, plant: SimulatedBox) -> None:
    dead = False

    def locate() -> Display:
        if dead:
            raise DriverError("the X server on :90 has died (signal SIGKILL); it is started again 1 s later")
        return Display(server.number, server.authority)

    cards = x11.open_x11_cards(locate, plant.gpus, LIMIT_S)
    dead = True
    cards[0].reopen()
    for read in (cards[0].read, cards[0].sense):
        with pytest.raises(FansOutOfReach, match=r"fans out of reach: the X server on :90 has died"):
            read()


def test_events_are_ignored(cards: list[X11Gpu], server: NvControlServer, plant: SimulatedBox) -> None:
    mapping_notify = struct.pack("=B31x", 34)
    generic = struct.pack("=BBHI24x", 35, 0, 0, 2) + bytes(8)
    server.before_reply = lambda: [mapping_notify, generic]
    assert cards[0].read() == plant.gpus[0].read()


@pytest.mark.parametrize(
    ("nonsense", "words"),
    [
        (struct.pack("=BBHI24x", 1, 0, 9999, 0), "a request that was not made"),
        (struct.pack("=BBHI24x", 1, 0, 1, 0xFFFFFFFF), "an answer of 17179869180 bytes"),
    ],
)
def test_after_an_invalid_reply_the_card_is_lost(
    cards: list[X11Gpu], server: NvControlServer, nonsense: bytes, words: str
) -> None:
    server.before_reply = lambda: [nonsense]
    with pytest.raises(GpuLost, match=words):
        cards[0].read()


def test_no_card_waits_for_the_connection_of_another(cards: list[X11Gpu], server: NvControlServer) -> None:
    inside, go = threading.Event(), threading.Event()
    for gpu in cards:
        gpu.read()

    def first_waits() -> Iterator[bytes]:
        server.before_reply = lambda: ()
        inside.set()
        go.wait(LIMIT_S)
        yield b""

    server.before_reply = first_waits
    slow = threading.Thread(target=cards[0].read)
    slow.start()
    assert inside.wait(5)
    assert cards[1].read().fans
    assert slow.is_alive()
    go.set()
    slow.join()


def test_a_worker_over_x_sets_the_same_duties_as_one_without_x(tmp_path: Path) -> None:
    def run(over_x: bool) -> list[tuple[int | None, float | None, str]]:
        plant = SimulatedBox(PROFILES["1080ti"], WORKLOADS["epochs"])
        with NvControlServer(plant, tmp_path) as server:
            x = x11.open_x11_cards(lambda: Display(server.number, server.authority), plant.gpus)
            worker = Worker((x if over_x else plant.gpus)[0], lambda _: CardSettings())
            trace = []
            for second in range(0, 600, 2):
                worker.tick(second)
                plant.advance(2)
                trace.append((worker.state.duty_percent, worker.state.temperature_c, worker.state.control))
            worker.stop()
            assert plant.gpus[0].manual_percent is None
            return trace

    trace = run(over_x=True)
    assert trace == run(over_x=False)
    assert len({duty for duty, _, _ in trace}) > 3


def test_limits_of_a_card_over_x_go_through_nvml(cards: list[X11Gpu], plant: SimulatedBox) -> None:
    cards[0].set_limits(Limits(200.0))
    assert [gpu.limits.power_w for gpu in plant.gpus] == [200, 250]
    assert cards[0].read_limits() == (200, None)


def test_without_nvml_a_card_over_x_has_no_limits(server: NvControlServer) -> None:
    gpu = alone(server)[0]
    assert gpu.read_limits() == (None, None)
    with pytest.raises(GpuError, match="NVML"):
        gpu.set_limits(Limits(200.0))
