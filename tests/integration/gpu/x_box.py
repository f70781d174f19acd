"""A box whose fans may need X, and `gpufan` on it as a process: the doubles of NVML and Xorg with one plant."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpufan.gpu.cards import XSERVER_FOLDER
from gpufan.gpu.simulated import PROFILES, SimulatedBox
from tests.doubles import xorg
from tests.doubles.nvml import DRIVER, IGNORES, NvmlDouble, wait_for
from tests.integration.harness import fans

OLD = "470.256"
"""A driver that cannot set fans through NVML."""

CURVE = ["--curve", "40:40,80:80", "--hysteresis", "0", "--hold", "0", "--interval", "0.1"]
"""The duty in percent equals the temperature in °C."""


class XBox:
    """Two cards with two fans each, at 60 °C until a test changes it."""

    def __init__(self, folder: Path, driver: str = OLD) -> None:
        self.double = NvmlDouble(folder, SimulatedBox(PROFILES["dual-1080ti-open-air"], lambda t: 150.0), driver)
        for card in self.double.cards:
            card.by_hand, card.temperature, card.power_mw = 1, 60, 150_000
        self.runtime = folder / "run"
        self.environment = {
            **os.environ,
            **self.double.environment(),
            **xorg.install(folder / "bin"),
            "GPUFAN_RUNTIME_DIR": str(self.runtime),
        }

    def fans(self) -> list[list[int | None]]:
        """The duty that every fan was set to, percent; None if the driver controls it."""
        return [fans(self.double, card) for card in range(self.double.map.card_count)]

    def xorgs(self) -> list[int]:
        """Ids of the X servers that gpufan runs."""
        return xorg.running(self.runtime / XSERVER_FOLDER) + xorg.running(self.runtime / "xserver")

    def states(self) -> list[dict[str, Any]]:
        """The cards in the snapshot; none before there is a snapshot."""
        try:
            return list(json.loads((self.runtime / "state.json").read_bytes())["gpus"])
        except FileNotFoundError:
            return []

    def wait_for_states(self, *states: tuple[str, str]) -> None:
        """Wait until backend and control of each card are `states`."""
        wait_for(lambda: [(gpu["backend"], gpu["control"]) for gpu in self.states()] == list(states), 8)

    def gpufan(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of a command."""
        done = subprocess.run(
            [sys.executable, "-m", "gpufan", *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def running(self, *arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
        """A command that runs until the end of the block."""
        with subprocess.Popen(
            [sys.executable, "-m", "gpufan", *arguments],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def old(folder: Path) -> XBox:
    """All cards need X from the start."""
    return XBox(folder)


def ignoring(folder: Path) -> XBox:
    """The first card ignores NVML and so needs X; the second does not."""
    box = XBox(folder, DRIVER)
    for fan in box.double.cards[0].fans:
        fan.stuck = IGNORES
    return box


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit status and standard error after SIGTERM."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=8)
    return process.returncode, err
