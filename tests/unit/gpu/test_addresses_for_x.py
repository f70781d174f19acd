"""Where the addresses of the cards come from: NVML, or the PCI bus if NVML knows none."""

from pathlib import Path

import pynvml
import pytest

from gpufan.core.pci import PciAddress
from gpufan.errors import DriverError, GpufanError
from gpufan.gpu import x_server
from gpufan.gpu.x_server import addresses_for_x_server
from tests.doubles.nvml import Kind, NvmlDouble


@pytest.fixture
def pci_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "devices"
    devices = {
        "0000:0b:00.0": ("0x10de", "0x030000"),
        "0000:0b:00.1": ("0x10de", "0x040300"),  # its audio device
        "0000:42:00.0": ("0x10de", "0x030200"),  # without a connector
        "0000:00:02.0": ("0x8086", "0x030000"),
    }
    for name, (vendor, kind) in devices.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "vendor").write_text(vendor + "\n")
        (folder / name / "class").write_text(kind + "\n")
    return folder


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise DriverError("no driver")

    monkeypatch.setattr(x_server, "NvmlBox", missing)


ON_THE_BUS = [PciAddress(0, 0x0B, 0, 0), PciAddress(0, 0x42, 0, 0)]


def test_the_addresses_are_those_that_nvml_reports(tmp_path: Path, pci_folder: Path) -> None:
    with NvmlDouble(tmp_path).install():
        assert addresses_for_x_server(pci_folder=pci_folder) == [PciAddress(0, 0x0A, 0, 0), PciAddress(0, 0x41, 0, 0)]


def test_only_named_cards_count(tmp_path: Path, pci_folder: Path) -> None:
    with NvmlDouble(tmp_path).install():
        found = addresses_for_x_server(names=["GPU-00000001-0000-4000-8000-000000000001"], pci_folder=pci_folder)
    assert found == [PciAddress(0, 0x41, 0, 0)]


@pytest.mark.usefixtures("no_driver")
def test_without_a_driver_they_are_those_on_the_pci_bus(pci_folder: Path) -> None:
    assert addresses_for_x_server(pci_folder=pci_folder) == ON_THE_BUS


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize(("first", "second"), [("nouveau", "vfio-pci"), ("nvidia", "nouveau")])
def test_a_card_that_x_cannot_use_is_none_of_them(pci_folder: Path, first: str, second: str) -> None:
    (pci_folder / "0000:0b:00.0/driver").symlink_to(f"../../drivers/{first}")
    (pci_folder / "0000:42:00.0/driver").symlink_to(f"../../drivers/{second}")
    assert addresses_for_x_server(pci_folder=pci_folder) == ON_THE_BUS[:1]


def test_if_no_card_answers_they_are_those_on_the_pci_bus(tmp_path: Path, pci_folder: Path) -> None:
    double = NvmlDouble(tmp_path)
    for card in double.cards:
        card.error[Kind.HANDLE] = pynvml.NVML_ERROR_GPU_IS_LOST
    with double.install():
        assert addresses_for_x_server(pci_folder=pci_folder) == ON_THE_BUS


@pytest.mark.usefixtures("no_driver")
def test_a_machine_without_a_card_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GpufanError, match="no NVIDIA card found"):
        addresses_for_x_server(pci_folder=tmp_path)
