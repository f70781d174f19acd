"""A box whose fans may need X, and `gpufan` on it as a process: NVML double and stand-in for Xorg over one plant."""

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
"""A duty of as many percent as the card has °C."""


class XBox:
    """Two cards of two fans each, at 60 °C until a test says otherwise."""

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
        """What every fan was set to, percent; None for one that is the driver's."""
        return [fans(self.double, card) for card in range(self.double.map.card_count)]

    def xorgs(self) -> list[int]:
        """Ids of the X servers that gpufan runs."""
        return xorg.running(self.runtime / XSERVER_FOLDER) + xorg.running(self.runtime / "xserver")

    def states(self) -> list[dict[str, Any]]:
        """The cards as the snapshot tells of them; none before there is one."""
        try:
            return list(json.loads((self.runtime / "state.json").read_bytes())["gpus"])
        except FileNotFoundError:
            return []

    def wait_for_states(self, *states: tuple[str, str]) -> None:
        """Return as soon as backend of each card, and whose its fans are, are those."""
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
        """A command that goes on until it is ended."""
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
    """The first card needs X, which shows once its fans are set; the second does not."""
    box = XBox(folder, DRIVER)
    for fan in box.double.cards[0].fans:
        fan.stuck = IGNORES
    return box


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit status and standard error after SIGTERM."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=8)
    return process.returncode, err
