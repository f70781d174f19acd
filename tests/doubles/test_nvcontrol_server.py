"""The double of an NVIDIA X server, checked with python-xlib, so that it does not repeat a mistake of our client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from Xlib.display import Display
from Xlib.error import BadValue, DisplayConnectionError, xerror_class
from Xlib.ext import nvcontrol as nv

from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from tests.doubles.nvcontrol_server import NvControlServer


@pytest.fixture
def plant() -> SimulatedBox:
    plant = SimulatedBox(PROFILES["dual-1080ti-open-air"], WORKLOADS["epochs"])
    plant.advance(60)
    return plant


@pytest.fixture
def server(plant: SimulatedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NvControlServer]:
    with NvControlServer(plant, tmp_path) as server:
        monkeypatch.setenv("XAUTHORITY", str(server.authority))
        yield server


@pytest.fixture
def xlib(server: NvControlServer) -> Iterator[Any]:
    display = Display(server.name)
    # Its randr and damage modules replace the errors of the core protocol by their own.
    display.display.error_classes = xerror_class.copy()
    yield display
    display.close()


def test_python_xlib_reads_the_cards(xlib: Any, plant: SimulatedBox) -> None:
    assert xlib.nvcontrol_get_gpu_count() == 2
    for number, gpu in enumerate(plant.gpus):
        assert xlib.nvcontrol_get_gpu_uuid(nv.Gpu(number)) == gpu.info.uuid
        assert xlib.nvcontrol_get_name(nv.Gpu(number)) == gpu.info.name
        assert xlib.nvcontrol_get_core_temp(nv.Gpu(number)) == gpu.read().temperature_c


def test_python_xlib_finds_the_coolers_of_each_card(xlib: Any) -> None:
    assert [xlib.nvcontrol_get_coolers_used_by_gpu(nv.Gpu(number)) for number in (0, 1)] == [[2, 3], [0, 1]]


def test_python_xlib_reads_the_range_of_a_cooler(xlib: Any) -> None:
    assert xlib.nvcontrol_query_valid_attr_values(nv.Cooler(0), 0, nv.NV_CTRL_THERMAL_COOLER_LEVEL) == (23, 100)


def test_python_xlib_sets_a_fan_and_gives_it_back(xlib: Any, plant: SimulatedBox) -> None:
    driver_percent = round(plant.gpus[1].driver_percent)
    assert not xlib.nvcontrol_set_fan_duty(nv.Cooler(0), 70), "without manual control the driver declines"
    assert xlib.nvcontrol_set_cooler_manual_control_enabled(nv.Gpu(1), True)
    assert xlib.nvcontrol_set_fan_duty(nv.Cooler(0), 70)
    assert plant.gpus[1].manual_percent == driver_percent < 70, "its second fan is still where the driver left it"
    assert xlib.nvcontrol_set_fan_duty(nv.Cooler(1), 70)
    assert plant.gpus[1].manual_percent == 70
    plant.advance(10)
    assert xlib.nvcontrol_get_fan_duty(nv.Cooler(0)) == 70
    assert xlib.nvcontrol_get_fan_rpm(nv.Cooler(0)) == plant.gpus[1].read().fans[0].speed_rpm
    xlib.nvcontrol_set_cooler_manual_control_enabled(nv.Gpu(1), False)
    assert [gpu.manual_percent for gpu in plant.gpus] == [None, None]


def test_python_xlib_understands_its_errors(xlib: Any) -> None:
    xlib.nvcontrol_set_cooler_manual_control_enabled(nv.Gpu(1), True)
    with pytest.raises(BadValue):
        xlib.nvcontrol_set_fan_duty(nv.Cooler(0), 101)
    assert xlib.nvcontrol_get_gpu_count() == 2


def test_python_xlib_is_refused_without_the_cookie(
    server: NvControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XAUTHORITY", str(tmp_path / "none"))
    with pytest.raises(DisplayConnectionError, match="Authorization required"):
        Display(server.name)


def test_python_xlib_sees_a_server_without_the_extension(server: NvControlServer) -> None:
    server.extension = False
    display = Display(server.name)
    assert not display.has_extension("NV-CONTROL")
    display.close()
