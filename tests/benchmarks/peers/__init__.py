"""What is measured side by side: gpufan, the barest loop, and two tools from PyPI that are fetched when needed.

Each starts on a box of cards, and says how many GPU-ticks it has made there and when it first set a fan.
"""

import os
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.doubles.nvml import Kind, NvmlDouble

FETCHED = Path(tempfile.gettempdir()) / f"gpufan-peers-{os.getuid()}"
"""Peers, and bytecode, from one run of the benchmark to the next."""


@dataclass(frozen=True)
class Place:
    """Where a contender runs: its cards, and an empty folder for what it writes."""

    double: NvmlDouble
    folder: Path

    @property
    def cards(self) -> range:
        return range(len(self.double.box.gpus))


class Contender(ABC):
    """One way to control fans, at one tick a second."""

    name: str
    interval_s = 1.0
    note = ""

    def prepare(self) -> None:
        """Fetch what is needed. Raises CalledProcessError."""
        return  # most need nothing

    @abstractmethod
    def commands(self, place: Place) -> list[list[str]]:
        """What to run, all at once."""

    def environment(self, place: Place) -> dict[str, str]:
        """What to change in the environment."""
        return place.double.environment()

    def gpu_ticks(self, place: Place) -> int:
        """How often a card was read so far, over all cards."""
        return sum(place.double.calls(card)[Kind.TEMPERATURE] for card in place.cards)

    def first_set_ns(self, place: Place) -> int | None:
        """When the first fan was set, on the clock of time.monotonic_ns; None if none was yet."""
        log = place.double.log()
        return log[0].time_ns if log else None


class Gpufan(Contender):
    name = "gpufan"

    def commands(self, place: Place) -> list[list[str]]:
        return [[str(Path(sys.executable).with_name("gpufan")), "run", "--runtime-dir", str(place.folder / "run")]]


class BarestLoop(Contender):
    name = "barest loop"

    def commands(self, place: Place) -> list[list[str]]:
        return [[sys.executable, str(Path(__file__).with_name("barest.py"))]]


class Coolgpus(Contender):
    name = "coolgpus"
    interval_s = 5.0
    note = (
        "coolgpus is a lower bound: nvidia-smi and nvidia-settings are shell scripts of a few lines here, and its X"
        " servers, one a card, are not there at all; its cards stay at one temperature, so that it sets them once"
    )

    # The real programs connect to the driver or to X first, which costs more than all that is done here.
    _STAND_INS = {  # noqa: RUF012  # never written to
        "nvidia-smi": "case $* in *pci.bus_id*) printf '{buses}';; *) echo >>{folder}/read; echo 66;; esac",
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

    def gpu_ticks(self, place: Place) -> int:
        return (place.folder / "read").stat().st_size

    def first_set_ns(self, place: Place) -> int | None:
        path = place.folder / "set"
        return path.stat().st_mtime_ns - time.time_ns() + time.monotonic_ns() if path.exists() else None


class Chnvml(Contender):
    name = "chnvml"
    note = "chnvml (caioh-nvml-gpu-control) runs two processes a card; its memory and CPU are the sum over all of them"

    def prepare(self) -> None:
        self._folder = fetch("caioh-nvml-gpu-control==2.2.0.0")

    def commands(self, place: Place) -> list[list[str]]:
        python = [sys.executable, "-m", "caioh_nvml_gpu_control", "control"]
        curve = ["--speed-pair", "0:30,60:50,75:80,83:100", "--time-interval", "1"]
        return [[*python, *curve, "--uuid", place.double.cards[card].uuid.decode()] for card in place.cards]

    def environment(self, place: Place) -> dict[str, str]:
        return {**place.double.environment(), "PYTHONPATH": str(self._folder)}


def fetch(requirement: str) -> Path:
    """Install `requirement` from PyPI into a folder of its own, once; only ever run, never part of this tree."""
    folder = FETCHED / requirement
    if not folder.exists():
        draft = folder.with_name(f"{requirement}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(draft), requirement]
        subprocess.run(pip, check=True, capture_output=True, text=True)
        draft.rename(folder)
    return folder


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """An empty folder that lies in memory where there is such a place, as /run/gpufan does."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="gpufan-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)
