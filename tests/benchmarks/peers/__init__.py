"""The contenders of the cost benchmark: gpufan, the bare loop, and two tools that are fetched from PyPI.

Each starts on a box of cards, and reports when it first set a fan.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpufan.core.card_settings import DEFAULT_CURVE
from tests.doubles.nvml import NvmlDouble

FETCHED = Path(tempfile.gettempdir()) / f"gpufan-peers-{os.getuid()}"
"""Folder for the other tools and bytecode, used again by the next run."""


@dataclass(frozen=True)
class Place:
    """The surroundings of a contender: its cards, and an empty folder for its files."""

    double: NvmlDouble
    folder: Path

    @property
    def cards(self) -> range:
        return range(len(self.double.box.gpus))


class Contender(ABC):
    """A program that controls fans, with one tick a second."""

    name: str
    interval_s = 1.0
    note = ""

    def prepare(self) -> None:
        """Fetch the program if necessary. Raises CalledProcessError."""
        return  # most need nothing

    @abstractmethod
    def commands(self, place: Place) -> list[list[str]]:
        """The commands to run at the same time."""

    def environment(self, place: Place) -> dict[str, str]:
        """Variables to set in the environment."""
        return {**place.double.environment(), "STATE_DIRECTORY": str(place.folder / "state")}

    def first_set_ns(self, place: Place) -> int | None:
        """Time of the first set of a fan on the clock of time.monotonic_ns; None before that."""
        log = place.double.log()
        return log[0].time_ns if log else None


class Gpufan(Contender):
    name = "gpufan"

    def commands(self, place: Place) -> list[list[str]]:
        return [[str(Path(sys.executable).with_name("gpufan")), "run", "--runtime-dir", str(place.folder / "run")]]


class GpufanCurve(Gpufan):
    name = "gpufan --curve"

    def commands(self, place: Place) -> list[list[str]]:
        return [[*command, "--curve", str(DEFAULT_CURVE)] for command in super().commands(place)]


class GpufanService(Gpufan):
    """With a status line and a sign of life for systemd at each tick, as the service has them."""

    name = "gpufan as a service"

    def environment(self, place: Place) -> dict[str, str]:
        path = place.folder / "notify"
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(str(path))

        def receive() -> None:
            while receiver.recv(65536):
                pass

        threading.Thread(target=receive, daemon=True).start()
        return {**super().environment(place), "NOTIFY_SOCKET": str(path)}


class BareLoop(Contender):
    name = "bare loop"

    def commands(self, place: Place) -> list[list[str]]:
        return [[sys.executable, str(Path(__file__).with_name("bare.py"))]]


class Coolgpus(Contender):
    name = "coolgpus"
    interval_s = 5.0
    note = (
        "the figures of coolgpus are a lower bound: nvidia-smi and nvidia-settings are short shell scripts here, its X"
        " servers (one per card) are missing, and the temperature is constant, so it sets each card only once"
    )

    # The real programs connect to the driver or to X first, which costs more than these scripts.
    _STAND_INS = {  # noqa: RUF012  # never written to
        "nvidia-smi": "case $* in *pci.bus_id*) printf '{buses}';; *) echo 66;; esac",
        "nvidia-settings": "case $2 in *Target*) echo >>{folder}/set;; esac",
        "Xorg": "",
        "pgrep": "exit 1",
        "pkill": "",
    }

    def prepare(self) -> None:
        self._folder = fetch("coolgpus==0.23")

    def commands(self, place: Place) -> list[list[str]]:
        buses = "".join(f"00000000:{card + 1:02X}:00.0\\n" for card in place.cards)
        for name, script in self._STAND_INS.items():
            path = place.folder / name
            path.write_text("#!/bin/sh\n" + script.format(buses=buses, folder=place.folder) + "\n")
            path.chmod(0o755)
        return [[sys.executable, str(self._folder / "bin" / "coolgpus")]]

    def environment(self, place: Place) -> dict[str, str]:
        return {"PATH": f"{place.folder}:{os.environ['PATH']}", "TMPDIR": str(place.folder)}

    def first_set_ns(self, place: Place) -> int | None:
        path = place.folder / "set"
        return path.stat().st_mtime_ns - time.time_ns() + time.monotonic_ns() if path.exists() else None


class Chnvml(Contender):
    name = "chnvml"
    note = "chnvml (caioh-nvml-gpu-control) runs two processes per card; its memory and CPU are the sum of all"

    def prepare(self) -> None:
        self._folder = fetch("caioh-nvml-gpu-control==2.2.0.0")

    def commands(self, place: Place) -> list[list[str]]:
        python = [sys.executable, "-m", "caioh_nvml_gpu_control", "control"]
        curve = ["--speed-pair", "0:30,60:50,75:80,83:100", "--time-interval", "1"]
        return [[*python, *curve, "--uuid", place.double.cards[card].uuid.decode()] for card in place.cards]

    def environment(self, place: Place) -> dict[str, str]:
        return {**place.double.environment(), "PYTHONPATH": str(self._folder)}


def fetch(requirement: str) -> Path:
    """Install `requirement` from PyPI into its own folder, once. It is only run, and never part of this tree."""
    folder = FETCHED / requirement
    if not folder.exists():
        draft = folder.with_name(f"{requirement}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(draft), requirement]
        subprocess.run(pip, check=True, capture_output=True, text=True)
        draft.rename(folder)
    return folder


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """An empty folder, in memory like /run/gpufan if the system has /dev/shm."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="gpufan-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)
