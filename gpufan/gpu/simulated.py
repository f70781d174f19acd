"""A box of cards that exists only as numbers: a thermal model per card, its fans, and what the stock driver would do.

It fulfils the same protocol as real cards. Time passes only in `SimulatedBox.advance`.

The constants and where they come from:

* Thermal resistance from die to inlet air, R(d) = 0.08 + 0.108·d^-0.8 K/W at duty d in 0..1, was fitted to operating
  points of GTX 1080 Ti cards published in reviews (56 %/84 °C/177 W, 66 %/82 °C/220 W and others; the air that these
  took in was not told, and the fit puts it at 39 and 31 °C).
* Full scale is 4800 rpm, and 44.5 dB(A) were measured at 2400 rpm (computerbase.de, March 2017: 29 dB(A) at 1100 rpm,
  55 dB(A) at 3600 rpm). Sound grows with the fifth power of fan speed, 50·log10(rpm), as for any fan (least squares
  over these three points gives 50.5).
* Heat capacity, the share of the resistance between die and heatsink, and the coupling of cards are guesses within a
  factor of two; the benchmarks draw them at random.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from gpufan.core.gpu import FanReading, GpuInfo, Reading, SingleWay

_STEP_S = 0.5
"""Longest step of the integration; a shorter one does not change the reading by a whole degree."""

_CLOCK_STEP = 12 / 1900
"""The driver drops clocks by about 12 MHz of 1900 at a time."""

_BASE_CLOCK = 1480 / 1900
"""Throttling by temperature ends at the base clock."""

_POWER_EXPONENT = 2.5
"""Power over clock: linear in frequency, and voltage squared falls with it."""

_EMERGENCY_CLOCK = 0.5
"""At the slowdown threshold the hardware halves the clock, whatever the driver wants."""


@dataclass(frozen=True, slots=True)
class Plant:
    """Every constant of one card's physics."""

    resistance_floor: float = 0.08
    """K/W that no air flow can remove."""
    resistance_flow: float = 0.108
    """K/W at full flow on top of the floor."""
    resistance_exponent: float = 0.8
    resistance_still: float = 2.0
    """K/W with the fan standing still."""
    die_resistance: float = 0.05
    """K/W of the whole that lie between die and heatsink."""
    die_time_constant_s: float = 1.5
    heat_capacity: float = 350.0
    """J/K of the heatsink."""
    inlet_c: float = 25.0
    sensor_noise_c: float = 0.0
    """Standard deviation of the reading before it is rounded to whole degrees."""
    power_noise_w: float = 0.0
    """Standard deviation of the load's power from second to second."""
    power_limit_w: float = 250.0
    ramp_percent_per_s: float = 30.0
    """How fast a fan follows its target."""
    full_scale_rpm: float = 4800.0
    fan_count: int = 1
    duty_range: tuple[int, int] = (23, 100)
    idle_duty: float = 23.0
    target_c: float = 84.0
    """Where the driver begins to drop clocks."""
    slowdown_c: int = 93

    def resistance(self, duty_percent: float) -> float:
        """K/W from die to inlet air with the fans at `duty_percent`."""
        d = max(duty_percent / 100, 1e-3)
        flowing = self.resistance_floor + self.resistance_flow * math.pow(d, -self.resistance_exponent)
        return min(flowing, self.resistance_still)


def sound_db(rpm: float) -> float:
    """Sound of one card's fans in dB(A) at `rpm`, 0 when they stand still."""
    return 44.5 + 50 * math.log10(rpm / 2400) if rpm > 100 else 0.0


Workload = Callable[[float], float]
"""Power in W that the load asks for at a time in s."""

WORKLOADS: dict[str, Workload] = {
    "epochs": lambda t: 230.0 if t % 330 < 300 else 60.0,
    "sweep": lambda t: 220.0 if t % 100 < 60 else 15.0,
    "step": lambda t: 12.0 if t < 300 else 230.0,
    "idle": lambda t: 12.0,
}


class SimulatedGpu(SingleWay):
    """One modelled card. `manual_percent` is None while the driver has the fans."""

    def __init__(self, index: int, name: str, plant: Plant, workload: Workload, seed: int) -> None:
        self.plant = plant
        self.workload = workload
        self.info = GpuInfo(
            uuid=f"GPU-{seed:08x}-0000-4000-8000-{index:012x}",
            pci=f"00000000:{(0x0A, 0x41, 0x81, 0xC1)[index % 4]:02X}:00.0",
            index=index,
            name=name,
            fan_count=plant.fan_count,
            duty_range=plant.duty_range,
            slowdown_c=plant.slowdown_c,
            power_limit_w=plant.power_limit_w,
            backend="simulated",
        )
        self.manual_percent: int | None = None
        self.time_s = 0.0
        self.neighbour_heat_k = 0.0
        self.clock = 1.0
        self.speed_percent = self.driver_percent = plant.idle_duty
        self.power_w = workload(0.0)
        self.sink_c = self.die_c = plant.inlet_c + 5
        self._random = random.Random(f"{seed}/{index}")
        self._noise_w = 0.0
        self._noise_c = 0.0
        self._since_driver_s = 0.0
        # Constant over the card's life, and read in the innermost loop.
        self._die_capacity = plant.die_time_constant_s / plant.die_resistance

    @property
    def speed_rpm(self) -> float:
        """Speed of the fans, turns per minute."""
        return self.speed_percent / 100 * self.plant.full_scale_rpm

    @property
    def exhaust_w(self) -> float:
        """Heat that leaves through the heatsink, W."""
        rest = self.plant.resistance(self.speed_percent) - self.plant.die_resistance
        return (self.sink_c - self.plant.inlet_c - self.neighbour_heat_k) / rest

    def read(self) -> Reading:
        """Read whole degrees, as the driver reports them."""
        fan = FanReading(
            speed_percent=round(self.speed_percent),
            target_percent=self.manual_percent if self.manual_percent is not None else round(self.driver_percent),
            manual=self.manual_percent is not None,
            speed_rpm=round(self.speed_rpm),
        )
        temperature_c = round(self.die_c + self._noise_c)
        throttle = "heat" if self.clock < 1 else "none"
        return Reading(temperature_c, round(self.power_w, 1), (fan,) * self.plant.fan_count, throttle)

    def set_duty(self, duty_percent: int) -> None:
        """Take the fans and set them."""
        self.manual_percent = duty_percent

    def release(self) -> None:
        """Give the fans back to the modelled driver."""
        self.manual_percent = None

    def advance(self, seconds: float) -> None:
        """Let `seconds` of at most half a second pass."""
        plant = self.plant
        # The load is that of the step's beginning, so that a jump on a full second falls between two steps.
        asked_w = self.workload(self.time_s)
        self.time_s += seconds
        self._since_driver_s += seconds
        if self._since_driver_s > 1 - 1e-9:
            self._since_driver_s -= 1
            self._second()
        target = self.driver_percent if self.manual_percent is None else self.manual_percent
        ramp = plant.ramp_percent_per_s * seconds
        self.speed_percent += min(max(target - self.speed_percent, -ramp), ramp)

        wanted_w = min(max(asked_w + self._noise_w, 8.0), plant.power_limit_w)
        # Leakage and memory keep drawing at any clock.
        self.power_w = wanted_w if self.clock == 1 else 8 + (wanted_w - 8) * self.clock**_POWER_EXPONENT
        # Heatsink first, then the die against it: each is exact for a constant right-hand side, so any step is stable.
        rest = plant.resistance(self.speed_percent) - plant.die_resistance
        inlet_c = plant.inlet_c + self.neighbour_heat_k
        sink_end_c = inlet_c + self.power_w * rest
        self.sink_c = sink_end_c + (self.sink_c - sink_end_c) * math.exp(-seconds / (rest * plant.heat_capacity))
        die_end_c = self.sink_c + self.power_w * plant.die_resistance
        self.die_c = die_end_c + (self.die_c - die_end_c) * math.exp(-seconds / plant.die_time_constant_s)

    def _second(self) -> None:
        """What happens once a second: noise, and the driver's own rules for fan and clock."""
        plant = self.plant
        if plant.power_noise_w:
            self._noise_w = self._random.gauss(0, plant.power_noise_w)
        if plant.sensor_noise_c:
            self._noise_c = self._random.gauss(0, plant.sensor_noise_c)
        # Lazy: a point a second towards a line that is at 50 % only where the driver begins to drop clocks.
        wanted = plant.idle_duty + (50 - plant.idle_duty) * (self.die_c - 50) / (plant.target_c - 50)
        wanted = min(max(wanted, plant.idle_duty), 100)
        self.driver_percent += min(max(wanted - self.driver_percent, -1), 1)
        if self.die_c >= plant.slowdown_c:
            self.clock = _EMERGENCY_CLOCK
        elif self.die_c >= plant.target_c:
            self.clock = max(self.clock - _CLOCK_STEP, _BASE_CLOCK)
        else:
            self.clock = min(max(self.clock, _BASE_CLOCK) + _CLOCK_STEP, 1.0)


@dataclass(frozen=True, slots=True)
class Profile:
    """A box to simulate: its cards, and how much the heat of one warms the inlet of another."""

    name: str
    plants: tuple[Plant, ...]
    coupling: tuple[tuple[float, ...], ...] = ()
    """Row i, column j: K that each W leaving card j at half duty adds to the inlet of card i; empty where cards do not
    share air."""
    dilution_exponent: float = 0.0
    """How much a faster fan thins the heat it blows at others: K go with (0.5/d)^exponent at duty d in 0..1. 0: not at
    all; 1: a fixed share of the exhaust air is taken in. A guess."""


_1080TI = Plant()
_1080TI_OPEN_AIR = Plant(
    resistance_floor=0.05, resistance_flow=0.068, heat_capacity=450, full_scale_rpm=3500, fan_count=2
)
_2080TI_BLOWER = Plant(resistance_floor=0.07, resistance_flow=0.11, duty_range=(30, 100), idle_duty=30)
_STACK_OF_4 = tuple(tuple(0.025 if j == i + 1 else 0.0 for j in range(4)) for i in range(4))

PROFILES = {
    "1080ti": Profile("NVIDIA GeForce GTX 1080 Ti", (_1080TI,)),
    "dual-1080ti": Profile("NVIDIA GeForce GTX 1080 Ti", (_1080TI,) * 2, ((0, 0.03), (0, 0))),
    "dual-1080ti-open-air": Profile("NVIDIA GeForce GTX 1080 Ti", (_1080TI_OPEN_AIR,) * 2, ((0, 0.06), (0.01, 0))),
    "quad-2080ti": Profile("NVIDIA GeForce RTX 2080 Ti", (_2080TI_BLOWER,) * 4, _STACK_OF_4),
}


def dilution(speed_percent: float, exponent: float) -> float:
    """How much hotter than at half duty the air is that carries a card's heat to its neighbours.

    >>> dilution(20, 0), dilution(25, 1), dilution(50, 1), dilution(100, 1)
    (1.0, 2.0, 1.0, 0.5)
    """
    # A fan that stands still does not blow its heat at anyone; what is below a tenth of full speed counts as that.
    return math.pow(50 / max(speed_percent, 10), exponent)


class SimulatedBox:
    """The cards of a profile under a workload. The same seed gives the same noise."""

    def __init__(self, profile: Profile, workload: Workload, seed: int = 1) -> None:
        self.gpus = [SimulatedGpu(i, profile.name, plant, workload, seed) for i, plant in enumerate(profile.plants)]
        self._coupling = profile.coupling
        self._dilution = profile.dilution_exponent

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for every card."""
        steps = max(math.ceil(seconds / _STEP_S), 1)
        for _ in range(steps):
            if self._coupling:
                heat_w = [gpu.exhaust_w * dilution(gpu.speed_percent, self._dilution) for gpu in self.gpus]
                for gpu, row in zip(self.gpus, self._coupling, strict=True):
                    gpu.neighbour_heat_k = sum(k * w for k, w in zip(row, heat_w, strict=True))
            for gpu in self.gpus:
                gpu.advance(seconds / steps)

    def close(self) -> None:
        """Nothing is held open."""
