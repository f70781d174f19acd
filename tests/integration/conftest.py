"""Doubles with cards set by hand, and `gpufan` on them: in this process, and as one of its own."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pynvml
import pytest

from gpufan.cli.main import main
from gpufan.gpu.simulated import PROFILES, SimulatedBox
from tests.doubles.nvml import DRIVER, NvmlDouble
from tests.integration.harness import Program

Install = Callable[..., NvmlDouble]


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    """Puts pynvml on a box of cards that stay at 60 °C and 150 W until a test says otherwise."""
    with ExitStack() as stack:

        def put(driver: str = DRIVER, profile: str = "dual-1080ti-open-air") -> NvmlDouble:
            double = NvmlDouble(tmp_path, SimulatedBox(PROFILES[profile], lambda t: 150.0), driver)
            for card in double.cards:
                card.by_hand, card.temperature, card.power_mw = 1, 60, 150_000
            stack.enter_context(double.install())
            pynvml.nvmlInit()
            return double

        yield put


@pytest.fixture
def double(install: Install) -> NvmlDouble:
    """Two cards of two fans each."""
    return install()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The runtime folder of every `gpufan` that the test starts."""
    return tmp_path / "run"


@pytest.fixture
def gpufan(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process: exit status, standard output and standard error."""
    monkeypatch.setenv("GPUFAN_RUNTIME_DIR", str(folder))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gpufan", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def start(double: NvmlDouble, folder: Path) -> Iterator[Callable[..., Program]]:
    """Starts `gpufan run` as a process. It ticks ten times a second, unless the arguments have another interval."""
    with ExitStack() as stack:

        def run(*arguments: str, **options: object) -> Program:
            interval = () if "--interval" in arguments else ("--interval", "0.1")
            program = Program(double, folder, ["run", *interval, *arguments], **options)
            stack.enter_context(program.process)
            stack.callback(program.process.kill)
            return program

        yield run
