"""The cards of the storm, their loads, and the faults that come and go. Nothing here knows of gpufan's process."""

import random
import shutil
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import pynvml

from gpufan.gpu.simulated import Plant, Profile, SimulatedBox
from tests.doubles.clock import TestClock
from tests.doubles.nvml import MANUAL, Fan, NvmlDouble
from tests.integration.storm.faults import CODES, Fault, Load, draw

CARDS = range(4)
"""The cards that gpufan is to control."""

FOREIGN = 4
"""The card that it must not touch."""

FOREIGN_PERCENT = 44
"""Somebody has set the fans of the foreign card to this duty, percent."""

RECOVERY_S = 10.0
"""A card is under control this long after its fault, s."""

CURVE = "45:30,80:100"
"""A steep curve, so that a load asks for 8 points more every second."""


def duty_percent(temperature_c: float) -> float:
    """The duty of `CURVE`."""
    return min(max(30 + (temperature_c - 45) * 2, 30), 100)


@dataclass
class Card:
    """A card, and what the judge remembers of it. Times are in s since the start of the storm."""

    load: Load = field(default_factory=Load)
    fault: Fault | None = None
    last_fault: str = "no fault yet"
    began_s: float = 0.0
    ends_s: float = 0.0
    next_s: float = 0.0
    due_s: float = 0.0
    """From then on the card must be under control."""
    recent_c: deque[float] = field(default_factory=lambda: deque([50.0], maxlen=300))
    """True temperatures of the last 30 s, °C."""
    floor_percent: int = 0
    """The highest floor that one of its fans had, percent: gpufan may remember it."""
    good_s: float = 0.0
    """When it last was under control."""
    lost_by: str = ""
    """The fault at that time."""
    held_s: float = 0.0
    """When all its fans last were in manual mode."""
    safe_s: float = 0.0
    """When no fan was in manual mode below the demand."""
    ours_s: float = 0.0
    """When the snapshot last said that gpufan controls it."""
    true_s: float = 0.0
    """When the snapshot last said the truth."""
    means: list[tuple[float, float]] = field(default_factory=list)
    """While a rival sets the fans: mean target and demand at each step, percent."""

    def owes_in(self, now_s: float, seconds: float) -> None:
        """The card need not be under control for the next `seconds`."""
        self.due_s = max(self.due_s, now_s + seconds)


class Scene:
    """Four cards for gpufan and a foreign one, and a number of faults that still have to happen."""

    def __init__(self, folder: Path, rng: random.Random, faults: int) -> None:
        plant = Plant(fan_count=2, duty_range=(30, 100), idle_duty=30)
        box = SimulatedBox(Profile("NVIDIA GeForce GTX 1080 Ti", (plant,) * 5), lambda t: 150.0)
        self.double = NvmlDouble(folder, box)
        self.clock = TestClock(folder)
        self.cards = [Card(next_s=rng.uniform(5, 20)) for _ in CARDS]
        self.left = faults
        self.happened: Counter[str] = Counter()
        self.driver_back_s: float | None = None
        """When the driver that restarts can be used again; None if it can."""
        self.restarted_s = 0.0
        """When the driver could be used again last."""
        self.driver_fault = "no fault yet"
        self.fresh_second = False
        """Whether a second of the storm has just begun."""
        self._rng = rng
        self._second = 0
        self._next_restart_s = rng.uniform(60, 200)
        for index in range(len(self.cards) + 1):
            card = self.double.cards[index]
            card.by_hand, card.temperature, card.power_mw = 1, 50, 100_000
            card.pci = f"00000000:{index + 1:02X}:00.0".encode()
            for fan in card.fans:
                fan.ramp = rng.randint(3, 30)
        self._set_foreign()
        self._driver_folder, self._cards_folder, self._node = folder / "driver", folder / "gpus", folder / "node"
        self._list_cards()

    @property
    def now_s(self) -> float:
        return self.clock.now_s

    @property
    def over(self) -> bool:
        """Whether all faults have happened and ended."""
        return not self.left and self.driver_back_s is None and not any(card.fault for card in self.cards)

    @property
    def calls(self) -> int:
        """How many calls to gpufan's cards NVML has got."""
        return sum(sum(self.double.cards[card].calls) for card in CARDS)

    def fans(self, index: int) -> list[Fan]:
        """The fans of a card."""
        return list(self.double.cards[index].fans[:2])

    def advance(self, seconds: float) -> None:
        """Let time pass: loads change once a second, fans follow their targets."""
        self.clock.advance(seconds)
        self.double.advance(seconds)
        self.fresh_second = int(self.now_s) != self._second
        self._second = int(self.now_s)
        for index, card in enumerate(self.cards):
            if self.fresh_second:
                self._move(index, card)
            card.recent_c.append(card.load.true_c)

    def _list_cards(self) -> None:
        """List the cards as the kernel does in /sys/bus/pci/drivers/nvidia and /proc/driver/nvidia/gpus.

        As long as its driver is there, there is also its node, as /dev/nvidiactl.
        """
        if self.driver_back_s is None:
            self._node.touch()
        else:
            self._node.unlink(missing_ok=True)
        for folder in (self._driver_folder, self._cards_folder):
            for index in range(len(self.cards) + 1):
                double = self.double.cards[index]
                card = folder / f"0000:{index + 1:02x}:00.0"
                if double.absent or self.driver_back_s is not None:
                    shutil.rmtree(card, ignore_errors=True)
                elif not card.exists():
                    card.mkdir(parents=True)
                    (card / "information").write_text(
                        f"Model: \t\t {double.name.decode()}\nGPU UUID: \t {double.uuid.decode()}\n"
                    )

    def _move(self, index: int, card: Card) -> None:
        load, double = card.load, self.double.cards[index]
        if card.fault is not None and card.fault.level_c is not None:
            load.level_c = card.fault.level_c
        elif self._rng.random() < 0.08:
            load.level_c = self._rng.uniform(45, 78)
        load.true_c += min(max(load.level_c - load.true_c, -1), 4)
        if load.reported_c is not None:
            double.temperature = load.reported_c
        elif not load.frozen:
            double.temperature = round(load.true_c)
        double.power_mw = 60_000 + 150_000 * (self._second // 20 % 2) if load.frozen else round(load.true_c * 2500)

    def let_faults_begin_and_end(self) -> list[int]:
        """Returns the cards whose fault has just ended."""
        ended = []
        for index, card in enumerate(self.cards):
            if card.fault is not None and self.now_s >= card.ends_s:
                card.fault.end(self.double, index, card.load)
                card.owes_in(self.now_s, RECOVERY_S)
                card.fault = None
                card.next_s = self.now_s + (60 if self._rng.random() < 0.15 else self._rng.uniform(12, 18))
                ended.append(index)
            elif card.fault is None and self.left and self.now_s >= card.next_s and self.driver_back_s is None:
                self._begin(index, card)
        if self.driver_back_s is not None and self.now_s >= self.driver_back_s:
            self.double.map.init_error, self.driver_back_s, self.restarted_s = 0, None, self.now_s
            for card in self.cards:
                card.owes_in(self.now_s, RECOVERY_S)
        if any(card.fault and card.fault.hangs and card.began_s < self.restarted_s for card in self.cards):
            for card in self.cards:  # NVML cannot be shut down while a call hangs
                card.owes_in(self.now_s, RECOVERY_S)
        if self.left and self.now_s >= self._next_restart_s:
            self._restart_driver()
        self._list_cards()
        return ended

    def _begin(self, index: int, card: Card) -> None:
        self.left -= 1
        card.fault = draw(self._rng)
        self.happened[card.fault.name] += 1
        card.began_s, card.means = self.now_s, []
        card.ends_s = self.now_s + self._rng.uniform(*card.fault.seconds)
        card.last_fault = f"{card.fault.name} from {card.began_s:.1f} to {card.ends_s:.1f} s"
        card.fault.begin(self.double, index, card.load)
        card.floor_percent = max(card.floor_percent, *(fan.floor for fan in self.fans(index)))

    def _restart_driver(self) -> None:
        self._next_restart_s = self.now_s + self._rng.uniform(150, 300)
        word, manual = self._rng.choice(["Uninitialized", "Unknown", "GPU is lost"]), self._rng.random() < 0.5
        gone_s = self._rng.choice([0, 3, 20])
        init_error = pynvml.NVML_ERROR_DRIVER_NOT_LOADED if gone_s else 0
        self.double.restart(error=CODES[word], init_error=init_error, manual=manual)
        self._set_foreign()
        self.driver_back_s = self.now_s + gone_s
        fans = "manual" if manual else "auto"
        self.driver_fault = f"driver restarted at {self.now_s:.1f} s ({word}, fans {fans}, gone for {gone_s} s)"
        self.happened["the driver restarts"] += 1

    def _set_foreign(self) -> None:
        for fan in self.fans(FOREIGN):
            fan.policy, fan.target = MANUAL, FOREIGN_PERCENT
