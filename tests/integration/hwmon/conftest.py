"""A box whose only card is passive, and the chip of its motherboard."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from gpufan.core.reasons import Cause
from gpufan.daemon.snapshot_file import read_snapshot
from gpufan.errors import GpufanError
from tests.doubles.hwmon import HwmonDouble, hwmon_double
from tests.doubles.nvml import NvmlDouble, wait_for
from tests.integration.conftest import Install
from tests.integration.harness import Program

P40_SETTINGS = """
curve = "40:40,80:80,85:100"
hysteresis_c = 0
hold_s = 0
[[gpu]]
match = "*P40*"
fans = ["nct6798/pwm3"]
"""


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HwmonDouble]:
    """The chip of the motherboard, for this process too."""
    with hwmon_double(tmp_path / "sys") as double:
        monkeypatch.setenv("GPUFAN_SYS_FOLDER", str(double.folder))
        yield double


@pytest.fixture(scope="module")
def shared_chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HwmonDouble]:
    with hwmon_double(tmp_path_factory.mktemp("shared") / "sys") as double:
        yield double


@pytest.fixture
def untouched_chip(shared_chip: HwmonDouble, monkeypatch: pytest.MonkeyPatch) -> HwmonDouble:
    """The chip of the motherboard, shared by tests in which nothing is written to it."""
    monkeypatch.setenv("GPUFAN_SYS_FOLDER", str(shared_chip.folder))
    return shared_chip


@pytest.fixture
def p40(install: Install) -> NvmlDouble:
    """One passive card at 60 °C and 150 W."""
    return install(profile="p40-header")


Start = Callable[..., Program]


@pytest.fixture
def start_p40(p40: NvmlDouble, chip: HwmonDouble, folder: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts `gpufan run` on the passive card, ten ticks a second, and waits until it sets the header."""
    with ExitStack() as stack:

        def run(text: str = P40_SETTINGS, *arguments: str, env: dict[str, str] | None = None) -> Program:
            config = tmp_path / "config.toml"
            config.write_text(text)
            program = Program(
                p40, folder, ["run", "--interval", "0.1", "--config", str(config), *arguments], env=env or {}
            )
            stack.enter_context(program.process)
            stack.callback(program.process.kill)

            def is_set() -> bool:
                assert program.process.poll() is None, program.process.stderr and program.process.stderr.read()
                with suppress(GpufanError):
                    snapshot = read_snapshot(folder / "state.json")
                    return snapshot.pid == program.process.pid and snapshot.gpus[0].reason.cause is not Cause.START
                return False

            wait_for(is_set)
            return program

        yield run


def is_as_before(chip: HwmonDouble, channel: int = 3) -> bool:
    """Whether the channel is as the BIOS had it."""
    state = chip.state(channel)
    return (state.mode, state.pwm) == (5, 102)
