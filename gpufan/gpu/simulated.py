"""A simulated box: a thermal model of each card, its fans, and the behaviour of the stock driver.

It has the same protocol as real cards. Time passes only in `SimulatedBox.advance`. The formulas are in
`gpufan.core.thermal`; the constants of a GTX 1080 Ti and their sources are:

* Thermal resistance from die to inlet air: 0.08 + 0.108 * duty^-0.8 K/W, duty in 0..1. Fitted to operating points in
  reviews (56 %, 84 °C, 177 W; 66 %, 82 °C, 220 W; and others). The reviews do not give the inlet temperature; the fit
  finds 39 °C and 31 °C for these two.
* Fan speed at full duty: 4800 rpm. The sources of the sound level are in `core.thermal`.
* Heat capacity 800 J/K, die to heatsink 0.05 K/W with 2.5 s. Fitted to three published recordings of an open-air GTX
  1080 Ti, 15 minutes in all, one reading a second: one at 250 W, two of a program that holds 60 °C and 80 °C by the
  power limit. A fit of all three finds 790 J/K, 0.060 K/W and 4.6 s; fits of each find 410 to 830 J/K, 0.038 to 0.058
  K/W and 1.6 to 2.6 s. No recording of a Founders Edition was found.
* With fans that stand still, 0.8 K/W; the same recordings give 0.7 to 0.9 K/W.
* The coupling of cards is a guess within a factor of two. The benchmarks choose coupling and heat capacity at random.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpufan.core.gpu import NO_FAN, FanReading, Gpu, GpuInfo, Limits, Reading, SingleBackend, Throttle
from gpufan.core.thermal import approach, remaining_share, thermal_resistance
from gpufan.errors import GpuError
from gpufan.gpu.header import HeaderGpu, NamesFor
from gpufan.gpu.simulated_headers import SimulatedChannel, SimulatedChip

_STEP_S = 0.5
"""Longest step of the integration, s; a shorter step does not change a reading by a whole degree."""

CLOCK_STEP = 12 / 1900
"""The driver lowers and raises the clock by about 12 MHz of 1900 MHz once a second."""

BASE_CLOCK = 1480 / 1900
"""The driver throttles for temperature down to the base clock, 1480 MHz."""

EMERGENCY_CLOCK = 0.5
"""At the slowdown threshold the hardware halves the clock."""

POWER_EXPONENT = 2.5
"""Exponent of power over clock. Power is proportional to frequency and to the square of the voltage."""

_CASE_AIR_S = 120.0
"""Time constant of the air in a case, s. It is a guess."""

LEAKAGE_W = 8.0
"""Leakage and memory draw this power at any clock, W."""


@dataclass(frozen=True, slots=True)
class Plant:
    """All constants of one card's physics."""

    resistance_floor: float = 0.08
    """Thermal resistance from die to inlet air that no air flow removes, K/W."""
    resistance_flow: float = 0.108
    """Thermal resistance on top of the floor at full duty, K/W."""
    resistance_exponent: float = 0.8
    resistance_still: float = 0.8
    """Highest thermal resistance, with fans that stand still, K/W."""
    die_resistance: float = 0.05
    """Part of the thermal resistance that is between die and heatsink, K/W."""
    die_time_constant_s: float = 2.5
    heat_capacity: float = 800.0
    """Heat capacity of the heatsink, J/K."""
    case_resistance: float = 0.0
    """How much each W of power warms the inlet air of the card, since a case holds some of the warm air back, K/W."""
    case_time_constant_s: float = 450.0
    inlet_c: float = 25.0
    """Temperature of the inlet air before cards warm it, °C."""
    sensor_noise_c: float = 0.0
    """Standard deviation of the reading before it is rounded to whole degrees, °C."""
    power_noise_w: float = 0.0
    """Standard deviation of the load's power from second to second, W."""
    power_limit_w: float = 250.0
    power_range_w: tuple[float, float] = (125.0, 300.0)
    """Lowest and highest power limit that the card accepts, W."""
    temperature_limit_range_c: tuple[int, int] | None = None
    """Lowest and highest `target_c` that the card accepts, °C; None if it is fixed."""
    ramp_percent_per_s: float = 30.0
    """How fast a fan follows its target, points per second."""
    full_scale_rpm: float = 4800.0
    fan_count: int = 1
    duty_range: tuple[int, int] = (23, 100)
    """Lowest and highest duty, percent."""
    idle_duty: float = 23.0
    """Duty that the driver sets for an idle card, percent."""
    target_c: float = 84.0
    """Temperature from which the driver lowers the clock, °C."""
    slowdown_c: int = 93
    """Temperature at which the hardware halves the clock, °C."""

    def resistance(self, duty_percent: float) -> float:
        """Return the thermal resistance from die to inlet air with the fans at `duty_percent`, K/W."""
        duty = max(duty_percent / 100, 1e-3)
        flowing = thermal_resistance(self.resistance_floor, self.resistance_flow, self.resistance_exponent, duty)
        return min(flowing, self.resistance_still)

    def next_clock(self, clock: float, die_c: float, target_c: float) -> float:
        """Return the clock that heat allows in the next second, as a share of the full clock.

        `clock` is the present clock, `die_c` the temperature, and `target_c` the temperature from which the driver
        lowers the clock, °C.
        """
        if die_c >= self.slowdown_c:
            return EMERGENCY_CLOCK
        if die_c >= target_c:
            return max(clock - CLOCK_STEP, BASE_CLOCK)
        return min(max(clock, BASE_CLOCK) + CLOCK_STEP, 1.0)

    def next_driver_percent(self, driver_percent: float, die_c: float, seconds: float) -> float:
        """Return the duty of the stock driver after `seconds`, percent. `driver_percent` is its present duty.

        It follows a line that reaches only 50 % where the driver begins to lower the clock, by at most a point a
        second.
        """
        wanted = self.idle_duty + (50 - self.idle_duty) * (die_c - 50) / (self.target_c - 50)
        wanted = min(max(wanted, self.idle_duty), 100)
        return driver_percent + min(max(wanted - driver_percent, -seconds), seconds)


def throttled_power_w(power_w: float, clock: float) -> float:
    """Return the power of a load that draws `power_w` at full clock, W. `clock` is a share of the full clock."""
    return LEAKAGE_W + (power_w - LEAKAGE_W) * math.pow(clock, POWER_EXPONENT)


Workload = Callable[[float], float]
"""Maps a time, s, to the power that the load draws at full clock, W."""

WORKLOADS: dict[str, Workload] = {
    "epochs": lambda t: 230.0 if t % 330 < 300 else 60.0,
    "sweep": lambda t: 220.0 if t % 100 < 60 else 15.0,
    "step": lambda t: 12.0 if t < 300 else 230.0,
    "idle": lambda t: 12.0,
}


class SimulatedGpu(SingleBackend):
    """One simulated card. `manual_percent` is None while the driver controls the fans."""

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
            power_range_w=plant.power_range_w,
            temperature_limit_range_c=plant.temperature_limit_range_c,
            backend="simulated",
            uncontrollable_reason=None if plant.fan_count else NO_FAN,
        )
        self.manual_percent: int | None = None
        self._limits = Limits()
        """The limits that were set. A limit that was not set is None; then the limit of `plant` is in effect."""
        self.time_s = 0.0
        self.neighbour_heat_k = 0.0
        """Warming of the inlet air by other cards, K."""
        self.case_heat_k = 0.0
        """Warming of the inlet air by this card, K."""
        self.clock = 1.0
        """Clock that heat allows, as a share of the full clock."""
        self.throughput = 1.0
        """Clock that heat and the power limit allow, as a share of the full clock."""
        self.speed_percent = self.driver_percent = plant.idle_duty
        self.power_w = workload(0.0)
        self.sink_c = self.die_c = plant.inlet_c + 5
        self._random = random.Random(f"{seed}/{index}")
        self._noise_w = 0.0
        self._noise_c = 0.0
        self._since_driver_s = 0.0

    @property
    def speed_rpm(self) -> float:
        """Speed of the fans, rpm."""
        return self.speed_percent / 100 * self.plant.full_scale_rpm

    @property
    def limits(self) -> Limits:
        """The limits in effect."""
        power_w, temperature_c = self._limits
        plant = self.plant
        return Limits(plant.power_limit_w if power_w is None else power_w, temperature_c or plant.target_c)

    @property
    def inlet_c(self) -> float:
        """Temperature of the inlet air, °C."""
        return self.plant.inlet_c + self.neighbour_heat_k + self.case_heat_k

    @property
    def exhaust_w(self) -> float:
        """Heat that the heatsink gives to the air, W."""
        return (self.sink_c - self.inlet_c) / (self.plant.resistance(self.speed_percent) - self.plant.die_resistance)

    def read(self) -> Reading:
        """Return the readings of the card. The temperature is in whole degrees, as the driver reports it."""
        fan = FanReading(
            speed_percent=round(self.speed_percent),
            target_percent=self.manual_percent if self.manual_percent is not None else round(self.driver_percent),
            manual=self.manual_percent is not None,
            speed_rpm=round(self.speed_rpm),
        )
        temperature_c = round(self.die_c + self._noise_c)
        throttle = Throttle.HEAT if self.clock < 1 else Throttle.NONE
        if throttle is Throttle.NONE and self.throughput < 1:
            throttle = Throttle.POWER_CAP
        return Reading(temperature_c, round(self.power_w, 1), (fan,) * self.plant.fan_count, throttle)

    def set_duty(self, duty_percent: int) -> None:
        """Switch the fans to manual control at `duty_percent`."""
        self.manual_percent = duty_percent

    def release(self) -> None:
        """Return the fans to the simulated driver."""
        self.manual_percent = None

    def read_limits(self) -> Limits:
        """Return the values of the limits that can be set. A limit that is fixed is None."""
        return self.limits if self.plant.temperature_limit_range_c else self.limits._replace(temperature_c=None)

    def set_limits(self, limits: Limits) -> None:
        """Set the limits that are not None. Raises GpuError if the card does not accept a value."""
        ranges = self.plant.power_range_w, self.plant.temperature_limit_range_c
        for value, accepted in zip(limits, ranges, strict=True):
            if value is not None and (accepted is None or not accepted[0] <= value <= accepted[1]):
                raise GpuError(f"the driver refused: {value:g} is not in {accepted}")
        before = self._limits
        self._limits = Limits(*(old if new is None else new for old, new in zip(before, limits, strict=True)))

    def advance(self, seconds: float) -> None:
        """Advance the time of the card by `seconds`. A step over `_STEP_S` makes the temperatures wrong."""
        plant = self.plant
        # The load at the beginning of the step counts, so a jump at a full second falls between two steps.
        asked_w = self.workload(self.time_s)
        self.time_s += seconds
        self._since_driver_s += seconds
        if self._since_driver_s > 1 - 1e-9:
            self._since_driver_s -= 1
            self._each_second()
        target = self.driver_percent if self.manual_percent is None else self.manual_percent
        ramp = plant.ramp_percent_per_s * seconds
        self.speed_percent += min(max(target - self.speed_percent, -ramp), ramp)

        asked_w = max(asked_w + self._noise_w, LEAKAGE_W)
        limit_w = self.limits.power_w or math.inf
        self.power_w, self.throughput = asked_w, 1.0
        if self.clock < 1:
            self.power_w, self.throughput = throttled_power_w(asked_w, self.clock), self.clock
        if self.power_w > limit_w:
            self.throughput = ((limit_w - LEAKAGE_W) / (asked_w - LEAKAGE_W)) ** (1 / POWER_EXPONENT)
            self.power_w = limit_w
        if plant.case_resistance:
            case_end_k = self.power_w * plant.case_resistance
            case_share = remaining_share(seconds, plant.case_time_constant_s)
            self.case_heat_k = approach(self.case_heat_k, case_end_k, case_share)
        rest = plant.resistance(self.speed_percent) - plant.die_resistance
        sink_end_c = self.inlet_c + self.power_w * rest
        self.sink_c = approach(self.sink_c, sink_end_c, remaining_share(seconds, rest * plant.heat_capacity))
        die_end_c = self.sink_c + self.power_w * plant.die_resistance
        self.die_c = approach(self.die_c, die_end_c, remaining_share(seconds, plant.die_time_constant_s))

    def _each_second(self) -> None:
        """Draw new noise, and adjust fan and clock as the stock driver does."""
        plant = self.plant
        if plant.power_noise_w:
            self._noise_w = self._random.gauss(0, plant.power_noise_w)
        if plant.sensor_noise_c:
            self._noise_c = self._random.gauss(0, plant.sensor_noise_c)
        self.driver_percent = plant.next_driver_percent(self.driver_percent, self.die_c, 1.0)
        self.clock = plant.next_clock(self.clock, self.die_c, self.limits.temperature_c or math.inf)


@dataclass(frozen=True, slots=True)
class Profile:
    """A box to simulate: its cards, and how much the heat of one card warms the inlet air of another."""

    name: str
    plants: tuple[Plant, ...]
    coupling: tuple[tuple[float, ...], ...] = ()
    """The value in row i and column j says how much each W of heat from card j warms the inlet air of card i, K/W. It
    holds while the fans of card j are at half duty. Empty if the cards share no air."""
    dilution_exponent: float = 0.0
    """A faster fan dilutes the heat that it blows at other cards: the warming is proportional to (0.5 / duty)^exponent.
    With 0 the duty does not matter. With 1 the other card breathes a fixed share of the exhaust air. It is a guess."""
    header_fans: tuple[tuple[str, ...], ...] = ()
    """For each card, the names of the channels that cool it; empty if the cards have their own fans."""
    case_fans: tuple[str, ...] = ()
    """Names of the channels of the case fans."""
    case_air_k_per_w: float = 0.0
    """Warming of the inlet air of all cards by the heat of all cards, with the case fans at half speed, K/W."""


_1080TI = Plant()
_1080TI_OPEN_AIR = Plant(resistance_floor=0.05, resistance_flow=0.068, full_scale_rpm=3500, fan_count=2)
_2080TI_BLOWER = Plant(resistance_floor=0.07, resistance_flow=0.11, duty_range=(30, 100), idle_duty=30)
_STACK_OF_4 = tuple(tuple(0.025 if j == i + 1 else 0.0 for j in range(4)) for i in range(4))

_P40 = Plant(
    resistance_floor=0.06, resistance_flow=0.11, fan_count=0, power_range_w=(125.0, 250.0), target_c=90, slowdown_c=92
)
"""A passive card with a radial fan on a header behind it. No recording was found; the values are those of a blower."""

PROFILES = {
    "1080ti": Profile("NVIDIA GeForce GTX 1080 Ti", (_1080TI,)),
    "dual-1080ti": Profile("NVIDIA GeForce GTX 1080 Ti", (_1080TI,) * 2, ((0, 0.03), (0, 0))),
    "dual-1080ti-open-air": Profile("NVIDIA GeForce GTX 1080 Ti", (_1080TI_OPEN_AIR,) * 2, ((0, 0.06), (0.01, 0))),
    "dual-1080ti-case": Profile(
        "NVIDIA GeForce GTX 1080 Ti",
        (_1080TI_OPEN_AIR,) * 2,
        ((0, 0.03), (0.01, 0)),
        case_fans=("nct6798/pwm2",),
        case_air_k_per_w=0.03,
    ),
    "p40-header": Profile("NVIDIA Tesla P40", (_P40,), header_fans=(("nct6798/pwm3",),)),
    "quad-2080ti": Profile("NVIDIA GeForce RTX 2080 Ti", (_2080TI_BLOWER,) * 4, _STACK_OF_4),
}


def simulated_dilution(speed_percent: float, exponent: float) -> float:
    """Return by which factor the speed `speed_percent` of its fans changes the heat that a card gives its neighbours.

    The factor is 1 at half speed. `exponent` is the `dilution_exponent` of the profile.

    >>> simulated_dilution(20, 0), simulated_dilution(25, 1), simulated_dilution(50, 1), simulated_dilution(100, 1)
    (1.0, 2.0, 1.0, 0.5)
    """
    # Fans that stand still blow no heat at a neighbour, so the factor stays limited below a tenth of full speed.
    return math.pow(50 / max(speed_percent, 10), exponent)


class SimulatedBox:
    """The cards of a profile under a workload. The same seed gives the same noise."""

    def __init__(self, profile: Profile, workload: Workload, seed: int = 1) -> None:
        self.gpus = [SimulatedGpu(i, profile.name, plant, workload, seed) for i, plant in enumerate(profile.plants)]
        self._profile = profile
        self._coupling = profile.coupling
        self._dilution = profile.dilution_exponent
        self.chip = SimulatedChip(
            {1: SimulatedChannel("CPU Fan"), 2: SimulatedChannel("Case Fan"), 3: SimulatedChannel(full_rpm=4800.0)}
            if profile.header_fans or profile.case_fans
            else {}
        )
        """The chip of the motherboard. Channel 1 is that of the processor, whose fan gpufan does not set."""
        self._case_air_k = 0.0
        self.cards: Sequence[Gpu] = self.gpus
        """The cards that workers control: with fans on headers of the motherboard, if the profile has such fans."""
        if profile.header_fans:
            self.cards = self.cards_with_headers(self.header_names)

    @property
    def case_fans(self) -> tuple[str, ...]:
        """The names of the channels of the case fans in this profile."""
        return self._profile.case_fans

    def header_names(self, info: GpuInfo) -> Sequence[str]:
        """Return the names of the channels that cool the card `info` in this profile."""
        return self._profile.header_fans[info.index] if self._profile.header_fans else ()

    def cards_with_headers(self, names_for: NamesFor) -> list[Gpu]:
        """Return the cards, each cooled by the channels that `names_for` returns for it."""
        return [HeaderGpu(gpu, names_for, self.chip.open_fan) for gpu in self.gpus]

    def advance(self, seconds: float) -> None:
        """Advance the time of every card by `seconds`."""
        steps = max(math.ceil(seconds / _STEP_S), 1)
        for _ in range(steps):
            if self._coupling:
                heat_w = [gpu.exhaust_w * simulated_dilution(gpu.speed_percent, self._dilution) for gpu in self.gpus]
                for gpu, row in zip(self.gpus, self._coupling, strict=True):
                    gpu.neighbour_heat_k = sum(k * w for k, w in zip(row, heat_w, strict=True))
            if self.chip.channels:
                self._advance_headers(seconds / steps)
            for gpu in self.gpus:
                gpu.advance(seconds / steps)

    def _advance_headers(self, seconds: float) -> None:
        """Let `seconds` pass for the fans on the motherboard, and for the air that they move."""
        self.chip.advance(seconds)
        for gpu, names in zip(self.gpus, self._profile.header_fans, strict=False):
            gpu.speed_percent = self.chip.mean_speed_percent(names)
            gpu.manual_percent = round(gpu.speed_percent)
        if self.case_fans:
            flow = simulated_dilution(self.chip.mean_speed_percent(self.case_fans), 1)
            end_k = sum(gpu.power_w for gpu in self.gpus) * self._profile.case_air_k_per_w * flow
            self._case_air_k = approach(self._case_air_k, end_k, remaining_share(seconds, _CASE_AIR_S))
            for gpu in self.gpus:
                gpu.neighbour_heat_k += self._case_air_k
