"""Rigs for the tests, and the times that they measured, printed at the end."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gpufan.gpu.simulated import SimulatedBox
from tests.doubles.nvml import NvmlDouble
from tests.integration.systemd.fresh import fresh_root
from tests.integration.systemd.rig import Rig, debian_root, driver_files, source_layer, write_files

Boot = Callable[..., Rig]
_MEASURED = "measured"
"""The property of a report that a worker of pytest-xdist sends too."""


@pytest.fixture(scope="session")
def layers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = debian_root()
    return [source_layer(tmp_path_factory.mktemp("layer"), root), root]


@pytest.fixture
def boot(layers: list[Path], tmp_path: Path) -> Iterator[Boot]:
    with ExitStack() as ends:
        yield lambda **options: boot_layers(layers, tmp_path, ends, **options)


@pytest.fixture
def boot_fresh(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Boots a box of a suite of Debian with nothing of gpufan but the given packages and folders, in /srv.

    `layers` are folders with more files of the box.
    """
    with ExitStack() as ends:

        def boot_fresh(suite: str, *paths: Path, layers: Sequence[Path] = ()) -> Rig:
            layer = tmp_path / "layer"
            write_files(layer, driver_files())
            for path in paths:
                put = shutil.copytree if path.is_dir() else shutil.copyfile
                (layer / "srv").mkdir(exist_ok=True)
                put(path, layer / "srv" / path.name)
            return boot_layers([layer, *layers, fresh_root(suite)], tmp_path, ends)

        yield boot_fresh


@pytest.fixture
def rig(boot: Boot) -> Rig:
    return boot()


@pytest.fixture(scope="module")
def installed(layers: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One rig for all tests of a module, with the service installed; each leaves it active."""
    with ExitStack() as ends:
        rig = boot_layers(layers, tmp_path_factory.mktemp("double"), ends)
        rig.install()
        yield rig


def boot_layers(
    layers: list[Path], folder: Path, ends: ExitStack, box: SimulatedBox | None = None, **options: Any
) -> Rig:
    double = NvmlDouble(folder, box)
    double.map.asks_capability = 1
    ends.enter_context(double.live())
    rig = Rig(layers, double, **options)
    ends.callback(rig.close)
    rig.boot()
    return rig


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    return lambda what, seconds: record_property(_MEASURED, f"{what:38} {seconds:6.2f} s")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    calls = [report for report in reports if getattr(report, "when", "") == "call"]
    lines = [value for report in calls for name, value in report.user_properties if name == _MEASURED]
    if lines:
        terminalreporter.section("fans in manual mode without a controller")
        for line in lines:
            terminalreporter.write_line(line)
