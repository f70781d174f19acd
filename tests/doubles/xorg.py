"""NV-CONTROL for the cards of the NVML double, in this process or in a program that replaces Xorg.

There is one plant behind both ways to the fans: the map that the NVML double shows. The program takes those options of
Xorg that gpufan gives, and is as strict with its xorg.conf as NVIDIA's driver is: it knows the cards that have a Device
and a Screen, lets fans be set if Coolbits allow it, and does not start without a monitor unless an option allows it.
"""

import mmap
import os
import signal
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

from gpufan.core.gpu import FanReading, GpuInfo, Reading
from gpufan.core.pci import PciAddress
from gpufan.gpu.simulated import Plant
from gpufan.xorg.authority import find_cookie
from gpufan.xorg.config import ConfigFile, Section
from gpufan.xorg.tokens import normalized_name
from tests.doubles import nvml
from tests.doubles.nvcontrol_server import ABSENT, MANUAL, NvControlServer

ROOT = Path(__file__).parents[2]
FANS_BIT = 4


class MappedCard:
    """A card of the map, as NvControlServer uses it. Its fans are set whether or not NVML can set them."""

    def __init__(self, card: nvml.Card, index: int) -> None:
        self._card = card
        uuid, pci, name = (text.decode() for text in (card.uuid, card.pci, card.name))
        duty_range = card.min_duty, card.max_duty
        self.plant = Plant(fan_count=card.fan_count, duty_range=duty_range, slowdown_c=card.slowdown)
        self.info = GpuInfo(uuid, pci, index, name, card.fan_count, duty_range, card.slowdown, "mapped")

    @property
    def manual_percent(self) -> int | None:
        fan = self._card.fans[0]
        return fan.target if fan.policy == nvml.MANUAL else None

    @property
    def speed_percent(self) -> int:
        return self._card.fans[0].speed

    def read(self) -> Reading:
        fans = tuple(
            FanReading(
                speed_percent=fan.speed,
                target_percent=fan.target if fan.policy == nvml.MANUAL else fan.driver_target,
                manual=fan.policy == nvml.MANUAL,
                speed_rpm=fan.rpm,
            )
            for fan in self._card.fans[: self._card.fan_count]
        )
        return Reading(self._card.temperature, self._card.power_mw / 1000, fans)

    def set_duty(self, duty_percent: int) -> None:
        for fan in self._card.fans[: self._card.fan_count]:
            fan.target, fan.policy = duty_percent, nvml.MANUAL
            if fan.stuck == nvml.JAMS:
                fan.stuck = nvml.MOVES  # over X it turns

    def release(self) -> None:
        for fan in self._card.fans[: self._card.fan_count]:
            fan.policy = nvml.AUTO


def mapped_box(cards: nvml.Map) -> SimpleNamespace:
    """The cards of a map, in the form that NvControlServer needs."""
    return SimpleNamespace(gpus=[MappedCard(cards.cards[i], i) for i in range(cards.card_count)])


def install(folder: Path) -> dict[str, str]:
    """Write the program to `folder`/Xorg; return the environment variables with which others find it."""
    folder.mkdir()
    program = folder / "Xorg"
    command = f"env -u COVERAGE_PROCESS_CONFIG PYTHONPATH={ROOT} {sys.executable} -m tests.doubles.xorg"
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def running(folder: Path) -> list[int]:
    """Process ids of the X servers whose files are in `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{folder}/xorg.conf".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _served(config: ConfigFile, box: SimpleNamespace) -> tuple[list[int], list[int]]:
    """Indices of the cards with a Device and a Screen in `config`, and of those of them with Coolbits.

    Exits if NVIDIA's driver would not start.
    """
    cards = {PciAddress.parse(card.info.pci): card.info.index for card in box.gpus}
    devices = {normalized_name(device.name): device for device in config.of_kind("device")}
    served, settable = [], []
    for screen in config.of_kind("screen"):
        device = devices[normalized_name(screen.value("device").text)]
        address = device.address
        if device.value("driver").text != "nvidia" or address not in cards:
            sys.exit("(EE) No devices detected.")
        if not _number([screen, device], "allowemptyinitialconfiguration"):
            sys.exit("(EE) Screen(s) found, but none have a usable configuration.")
        served.append(cards[address])
        if _number([screen, device], "coolbits") & FANS_BIT:
            settable.append(cards[address])
    return served, settable


def _number(sections: list[Section], name: str) -> int:
    options = [option for section in sections if (option := section.option(name)) and option.value]
    return int({"on": "1", "true": "1"}.get(options[0].value.text.lower(), options[0].value.text)) if options else 0


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    options = dict(pairwise(arguments))
    number = int(arguments[0].removeprefix(":"))
    config = Path(options["-config"])
    with Path(os.environ["GPUFAN_NVML_DOUBLE"]).open("r+b") as file:
        box = mapped_box(nvml.Map.from_buffer(mmap.mmap(file.fileno(), 0)))
    served, settable = _served(ConfigFile(config.read_bytes(), str(config)), box)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        # From the last card to the first, so that its numbers are not NVML's.
        order = sorted(served, reverse=True)
        cookie = find_cookie(Path(options["-auth"]), number)
        server = NvControlServer(box, config.parent, order, [number], cookie)
    except RuntimeError:
        sys.exit("Cannot establish any listening sockets - Make sure an X server isn't already running")
    server.failures = {(MANUAL, i): ABSENT for i, card in enumerate(order) if card not in settable}
    Path(options["-logfile"]).write_text("a stand-in for X.Org X Server\n")
    os.write(int(options["-displayfd"]), f"{number}\n".encode())
    signal.sigwait({signal.SIGTERM})
    server.close()


if __name__ == "__main__":
    main(sys.argv[1:])
