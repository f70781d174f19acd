"""The X server that all cards share: our own, with the real HeadlessServer and a double of Xorg, or an existing one."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gpufan.core.pci import PciAddress
from gpufan.errors import DriverError, FansOutOfReach, GpuLost
from gpufan.gpu.nvml import NvmlGpu
from gpufan.gpu.nvml_box import NvmlBox
from gpufan.gpu.x_server import SharedXServer
from gpufan.xorg import headless_server as xorg_server
from gpufan.xorg.client import Display
from gpufan.xorg.config import ConfigFile
from gpufan.xorg.headless_config import headless_config
from gpufan.xorg.headless_server import HeadlessServer
from tests.doubles import xorg
from tests.doubles.nvcontrol_server import NvControlServer
from tests.doubles.nvml import NvmlDouble, wait_for

CARDS = [PciAddress.parse("0a:00.0"), PciAddress.parse("41:00.0")]


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NvmlDouble]:
    """Two cards, and the double of Xorg in PATH."""
    double = NvmlDouble(tmp_path, driver="470.256")
    for name, value in xorg.install(tmp_path / "bin").items():
        monkeypatch.setenv(name, value)
    with double.install():
        yield double


@pytest.fixture
def sensors(double: NvmlDouble) -> Iterator[list[NvmlGpu]]:
    """The cards, opened through NVML."""
    box = NvmlBox()
    yield box.gpus
    box.close()


@pytest.fixture
def shared(double: NvmlDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedXServer]:
    """Our own server, which is started again without delay."""
    monkeypatch.setattr(xorg_server, "HeadlessServer", partial(HeadlessServer, retry_s=(0.05, 1.0)))
    shared = SharedXServer(None, tmp_path / "x", CARDS)
    yield shared
    shared.stop()


def x_error(shared: SharedXServer) -> str:
    """Why there is no display; empty while there is one."""
    try:
        shared.display()
    except DriverError as error:
        return str(error)
    return ""


def test_the_config_of_our_own_server_has_all_cards_with_coolbits_and_needs_no_monitor() -> None:
    config = ConfigFile(headless_config(CARDS).encode(), "xorg.conf")
    devices = config.of_kind("device")
    assert [device.value("busid").text for device in devices] == ["PCI:10:0:0", "PCI:65:0:0"]
    assert [device.option("coolbits").value.text for device in devices] == ["4", "4"]
    screens = config.of_kind("screen")
    assert all(screen.option("allowemptyinitialconfiguration") for screen in screens)
    assert len(screens) == 2


def test_no_server_is_started_before_it_is_needed(shared: SharedXServer, tmp_path: Path) -> None:
    assert x_error(shared) == "no X server is started"
    shared.stop()
    assert not (tmp_path / "x").exists()


def test_begin_does_not_wait_and_the_cards_are_found_once_the_server_runs(
    shared: SharedXServer, sensors: list[NvmlGpu], double: NvmlDouble
) -> None:
    shared.begin()
    assert x_error(shared) == "the X server is not ready yet"
    with pytest.raises(FansOutOfReach, match="fans out of reach: the X server is not ready yet"):
        shared.find(sensors[0])
    wait_for(lambda: not x_error(shared))
    gpu = shared.find(sensors[1])
    gpu.set_duty(64)
    assert [card.fans[0].target for card in double.cards[:2]] == [23, 64]


def test_all_cards_share_one_server(shared: SharedXServer, sensors: list[NvmlGpu], tmp_path: Path) -> None:
    shared.begin()
    shared.start()
    shared.start()
    assert {shared.find(sensor).info.uuid for sensor in sensors} == {sensor.info.uuid for sensor in sensors}
    assert len(xorg.running(tmp_path / "x")) == 1


def test_a_server_that_dies_is_started_again_and_the_card_controlled_again(
    shared: SharedXServer, sensors: list[NvmlGpu], double: NvmlDouble, tmp_path: Path
) -> None:
    shared.start()
    gpu = shared.find(sensors[0])
    gpu.set_duty(50)
    (pid,) = xorg.running(tmp_path / "x")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: x_error(shared))
    with pytest.raises(GpuLost, match="has gone"):
        gpu.read()
    with pytest.raises(FansOutOfReach, match=r".* has died \(signal SIGKILL\); it is started again"):
        gpu.read()
    wait_for(lambda: not x_error(shared))
    gpu.set_duty(70)
    assert double.cards[0].fans[0].target == 70


def test_after_the_end_no_server_runs_and_none_is_started(shared: SharedXServer, tmp_path: Path) -> None:
    shared.start()
    shared.stop()
    shared.begin()
    assert x_error(shared) == "the X server is stopped"
    assert xorg.running(tmp_path / "x") == []


def test_a_card_without_a_device_on_the_server_is_lost(
    double: NvmlDouble, sensors: list[NvmlGpu], tmp_path: Path
) -> None:
    shared = SharedXServer(None, tmp_path / "x", CARDS[:1])
    shared.start()
    with pytest.raises(GpuLost, match=r"the X server does not know the card: its xorg\.conf must have a Device"):
        shared.find(sensors[1])
    shared.stop()


def test_an_existing_server_is_used_and_not_ended(double: NvmlDouble, sensors: list[NvmlGpu], tmp_path: Path) -> None:
    with NvControlServer(xorg.mapped_box(double.map), tmp_path) as server:
        for _ in range(2):
            shared = SharedXServer(Display(server.number, server.authority), tmp_path / "x", CARDS)
            shared.begin()
            shared.start()
            shared.find(sensors[0]).set_duty(66)
            shared.stop()
    assert double.cards[0].fans[0].target == 66
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("number", "authority", "words"),
    [
        (799, None, "no X server runs on display :799"),
        (None, None, "refused the connection .*: set XAUTHORITY to its cookie file"),
        (None, "no such file", "refused the connection .*: set XAUTHORITY to its cookie file"),
    ],
    ids=["no server", "no cookie", "no cookie file"],
)
def test_a_server_that_cannot_be_used_is_reported_at_the_start(
    double: NvmlDouble, tmp_path: Path, number: int | None, authority: str | None, words: str
) -> None:
    with NvControlServer(xorg.mapped_box(double.map), tmp_path) as server:
        display = Display(number or server.number, None if authority is None else tmp_path / authority)
        with pytest.raises(DriverError, match=words):
            SharedXServer(display, tmp_path / "x", CARDS).start()


def test_a_server_of_another_driver_is_reported_at_the_start(double: NvmlDouble, tmp_path: Path) -> None:
    with NvControlServer(xorg.mapped_box(double.map), tmp_path) as server:
        server.extension = False
        with pytest.raises(DriverError, match="has no NV-CONTROL, so it does not run NVIDIA's driver"):
            SharedXServer(Display(server.number, server.authority), tmp_path / "x", CARDS).start()
