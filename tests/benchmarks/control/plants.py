"""Plants of a structure that no law of gpufan was made for: three thermal nodes and a board, seven classes of cards.

Numbers only; no law and no load lives here. A number stands for the same plant on every machine.

    die --- cold plate --- fins --- air          G(fins, air) = G1 * shape(fan speed)
                             |
                           board (memory) --- air

The shape is that of a heat exchanger (NTU), a logarithm, or a line with a bend. It is scaled so that a drawn duty holds
80 °C at the power limit. So no constant is shared with `gpufan.gpu.simulated`.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gpufan.core.gpu import FanReading, Reading, Throttle

SECONDS = 4500
"""Length of a run, s."""

_SUBSTEP_S = 0.5

Load = Callable[[int], float]
"""The power that a load asks for in each second, as a share of the card's power limit."""


@dataclass(frozen=True, slots=True)
class Class:
    """What the cards of a class have in common; pairs are ranges from which a card is drawn."""

    limit_w: tuple[float, float]
    capacity: tuple[float, float]
    """Heat capacity of cold plate and fins, J/K."""
    hold_percent: tuple[float, float]
    """Duty that holds 80 °C at the power limit in air of 27 °C."""
    die_resistance: tuple[float, float]
    """Thermal resistance from die to cold plate, times the power limit, K."""
    duty_range: tuple[int, int]
    full_rpm: float
    fans: int
    memory_share: float = 0.12
    """Share of the power that the memory turns into heat."""
    memory_k: tuple[float, float] = (8, 20)
    """How much hotter than the board the memory is at the power limit, K."""


CLASSES = {
    "1080 Ti blower": Class((220, 260), (500, 1400), (60, 97), (9, 18), (23, 100), 4800, 1),
    "1080 Ti open-air": Class((250, 300), (600, 1500), (38, 80), (9, 18), (0, 100), 3500, 2),
    "3090": Class((320, 390), (900, 2000), (42, 85), (10, 22), (0, 100), 3200, 3, 0.25, (24, 42)),
    "4090": Class((380, 450), (1500, 3200), (36, 75), (12, 24), (30, 100), 2800, 3, 0.15),
    "A6000 blower": Class((270, 300), (600, 1400), (60, 95), (8, 16), (30, 100), 5000, 1),
    "70 W": Class((60, 75), (90, 260), (45, 90), (5, 12), (23, 100), 4500, 1),
    "GT 1030": Class((27, 34), (50, 160), (45, 92), (3, 9), (30, 100), 5000, 1),
}


@dataclass(frozen=True, slots=True)
class Plant:
    """All constants of one card and of what happens to it."""

    name: str
    limit_w: float
    plate_capacity: float
    fins_capacity: float
    die_resistance: float
    die_time_constant_s: float
    plate_conductance: float
    """From cold plate to fins, W/K."""
    air_conductance: float
    """From fins to air at full speed, W/K."""
    shape: tuple[float, ...]
    """The kind of the shape (0, 1, 2) and its constants."""
    still_share: float
    """Share of `air_conductance` that is left with fans that stand still."""
    board_capacity: float
    board_conductance: tuple[float, float]
    """From board to fins, and from board to air at full speed, W/K."""
    memory_share: float
    memory_resistance: float
    hotspot_resistance: float
    duty_range: tuple[int, int]
    stall_percent: float
    ramp_percent_per_s: float
    spin_exponent: float
    full_rpm: float
    fans: int
    inlet_c: float
    leak_share: float
    """Share of the power limit that leaks at 65 °C; it grows by a factor of e in 60 K."""
    throttle_c: float
    sensor_lag_s: float
    dither_c: float
    power_kind: str
    """`mean` of a second, `sample` of a moment, or `none`."""
    event: str
    """What happens in the run: `none`, `drift`, `window`, `dust`, `fan`, or `limit`."""


def _shape(shape: tuple[float, ...], speed: float) -> float:
    """The conductance at a fan speed of 0..1, as a share of that at full speed."""
    kind, *constants = shape
    if speed <= 0:
        return 0.0
    if kind == 0:  # a heat exchanger: the air warms up on its way through the fins
        ntu, exponent = constants
        return speed * (1 - math.exp(-ntu * speed ** (exponent - 1))) / (1 - math.exp(-ntu))
    if kind == 1:
        return math.log1p(constants[0] * speed) / math.log1p(constants[0])
    bend, at_bend = constants
    if speed < bend:
        return at_bend * speed / bend
    return at_bend + (1 - at_bend) * (speed - bend) / (1 - bend)


def draw(number: int) -> Plant:
    """Plant `number`: its class is `number` modulo 7."""
    rng = random.Random(f"plant/{number}")
    name, of = list(CLASSES.items())[number % len(CLASSES)]
    limit_w = rng.uniform(*of.limit_w)
    capacity = math.exp(rng.uniform(*map(math.log, of.capacity)))
    die_resistance = rng.uniform(*of.die_resistance) / limit_w
    plate_conductance = limit_w / rng.uniform(3, 8)
    spin_exponent = rng.uniform(0.85, 1.2)
    shape: tuple[float, ...] = (
        (0.0, math.exp(rng.uniform(math.log(0.4), math.log(2.5))), rng.uniform(0.4, 0.75)),
        (1.0, rng.uniform(2, 15)),
        (2.0, rng.uniform(0.35, 0.6), rng.uniform(0.55, 0.78)),
    )[rng.randrange(3)]
    hold_speed = (rng.uniform(*of.hold_percent) / 100) ** spin_exponent
    resistance = (80 - 27) / limit_w - die_resistance - 1 / plate_conductance
    board = (limit_w * rng.uniform(0.01, 0.03), limit_w * rng.uniform(0.003, 0.008))
    low = of.duty_range[0]
    return Plant(
        name=name,
        limit_w=limit_w,
        plate_capacity=0.3 * capacity,
        fins_capacity=0.7 * capacity,
        die_resistance=die_resistance,
        die_time_constant_s=rng.uniform(0.7, 2.5),
        plate_conductance=plate_conductance,
        air_conductance=1 / (resistance * _shape(shape, hold_speed)),
        shape=shape,
        still_share=rng.uniform(0.04, 0.10),
        board_capacity=capacity * rng.uniform(0.2, 0.5),
        board_conductance=board,
        memory_share=of.memory_share,
        memory_resistance=rng.uniform(*of.memory_k) / (of.memory_share * limit_w),
        hotspot_resistance=(rng.uniform(8, 20) if rng.random() < 0.85 else rng.uniform(24, 32)) / limit_w,
        duty_range=of.duty_range,
        stall_percent=rng.uniform(20, 29) if low < 20 else 0.0,
        ramp_percent_per_s=rng.uniform(5, 15),
        spin_exponent=spin_exponent,
        full_rpm=of.full_rpm,
        fans=of.fans,
        inlet_c=rng.uniform(20, 36),
        leak_share=rng.uniform(0.04, 0.10),
        throttle_c=rng.choice((84.0, 87.0, 90.0)),
        sensor_lag_s=rng.uniform(1, 3),
        dither_c=rng.uniform(0.1, 0.5),
        power_kind=rng.choices(("mean", "sample", "none"), (5, 3, 2))[0],
        event=rng.choices(("none", "drift", "window", "dust", "fan", "limit"), (8, 3, 3, 2, 2, 2))[0],
    )


@dataclass(slots=True)
class Card:
    """One plant at work. It offers what a law may see of a real card, and the truth for the judge."""

    plant: Plant
    load: Load
    seed: int
    speed_percent: float = field(init=False)
    die_c: float = field(init=False)
    throttled: bool = field(init=False, default=False)
    power_w: float = field(init=False)
    duty_percent: float = field(init=False)
    second: int = field(init=False, default=0)
    _state: list[float] = field(init=False)
    _clock: float = field(init=False, default=1.0)
    _sensed_c: float = field(init=False)
    _sample_w: float = field(init=False)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        plant = self.plant
        self._random = random.Random(f"card/{self.seed}")
        self.duty_percent = self.speed_percent = float(max(plant.duty_range[0], 30))
        start_c = plant.inlet_c + 8
        self._state = [start_c, start_c, start_c]  # cold plate, fins, board
        self.die_c = self._sensed_c = start_c
        self.power_w = self._sample_w = self.load(0) * plant.limit_w

    @property
    def speed_rpm(self) -> float:
        """Speed of the fans, rpm."""
        return self.plant.full_rpm * self._speed

    @property
    def _speed(self) -> float:
        duty = self.speed_percent
        return (duty / 100) ** self.plant.spin_exponent if duty >= self.plant.stall_percent else 0.0

    def set_duty(self, duty_percent: float) -> None:
        """Set the duty of all fans, within the card's range."""
        low, high = self.plant.duty_range
        self.duty_percent = min(max(duty_percent, low), high)

    def read(self) -> Reading:
        """What NVML reports: whole degrees, and power as this card reports it."""
        plant = self.plant
        power_w = None if plant.power_kind == "none" else self._sample_w
        fan = FanReading(round(self.speed_percent), round(self.duty_percent), True)
        temperature_c = round(self._sensed_c + self._random.gauss(0, plant.dither_c))
        return Reading(temperature_c, power_w, (fan,), Throttle.HEAT if self.throttled else Throttle.NONE)

    def advance(self) -> None:
        """Let a second pass."""
        plant, second = self.plant, self.second
        inlet_c, conductance, limit_w = _surroundings(plant, second)
        dynamic_w = min(self.load(second) * plant.limit_w, limit_w)
        self.second = second + 1
        plate_c, fins_c, board_c = self._state
        board_to_fins, board_to_air = plant.board_conductance
        boost = 1 - 0.015 * max(int((self.die_c - 40) / 5.5), 0)
        leak_w = plant.leak_share * limit_w * (math.exp((self.die_c - 65) / 60) - 1)
        power_w = min(dynamic_w * boost * self._clock**2.5 + leak_w, limit_w)
        power_w = max(power_w, 0.02 * plant.limit_w)
        memory_w = plant.memory_share * power_w
        core_w = power_w - memory_w
        remaining = math.exp(-_SUBSTEP_S / plant.die_time_constant_s)
        for _ in range(2):
            step = plant.ramp_percent_per_s * _SUBSTEP_S
            self.speed_percent += min(max(self.duty_percent - self.speed_percent, -step), step)
            share = plant.still_share + (1 - plant.still_share) * _shape(plant.shape, self._speed)
            to_fins_w = plant.plate_conductance * (plate_c - fins_c)
            board_w = board_to_fins * (board_c - fins_c)
            # The fins of a small card are light: this node is solved exactly, so that no step is too long.
            out = conductance * share + plant.plate_conductance + board_to_fins
            drive = conductance * share * inlet_c + plant.plate_conductance * plate_c + board_to_fins * board_c
            plate_c += _SUBSTEP_S * (core_w - to_fins_w) / plant.plate_capacity
            fins_c = drive / out + (fins_c - drive / out) * math.exp(-_SUBSTEP_S * out / plant.fins_capacity)
            board_loss_w = board_to_air * share * (board_c - inlet_c)
            board_c += _SUBSTEP_S * (memory_w - board_w - board_loss_w) / plant.board_capacity
            end_c = plate_c + core_w * plant.die_resistance
            self.die_c = end_c + (self.die_c - end_c) * remaining
        self._state = [plate_c, fins_c, board_c]
        self.power_w = power_w
        self._sensed_c += (self.die_c - self._sensed_c) * (1 - math.exp(-1 / plant.sensor_lag_s))
        self._throttle(board_c + memory_w * plant.memory_resistance, core_w)
        self._sample_power()

    def _throttle(self, memory_c: float, core_w: float) -> None:
        """Lower the clock while die, hotspot or memory are too hot."""
        hotspot_c = self.die_c + core_w * self.plant.hotspot_resistance
        over_k = max(self.die_c - self.plant.throttle_c, hotspot_c - 106, memory_c - 108)
        if over_k > 0:
            self._clock = max(self._clock - 0.01, 0.6)
        elif over_k < -1.5:
            self._clock = min(self._clock + 0.005, 1.0)
        self.throttled = self._clock < 0.999

    def _sample_power(self) -> None:
        draw = self._random.random
        if self.plant.power_kind == "sample" and self.power_w > 0.3 * self.plant.limit_w:
            # Between two kernels a card idles for milliseconds: a moment is 15 % above the mean, or far below it.
            self._sample_w = self.power_w * (1.15 + 0.1 * draw() if draw() < 0.7 else 0.35 + 0.5 * draw())
        else:
            self._sample_w = self.power_w * (0.98 + 0.04 * draw())


def _surroundings(plant: Plant, second: int) -> tuple[float, float, float]:
    """Temperature of the inlet air, °C; conductance to air at full speed, W/K; and power limit, W, at `second`."""
    inlet_c, conductance, limit_w = plant.inlet_c, plant.air_conductance, plant.limit_w
    match plant.event:
        case "drift":
            inlet_c += 8 * second / SECONDS
        case "window":
            inlet_c -= 6 * min(max((second - 2000) / 60, 0), 1)
        case "dust":
            conductance *= 1 - 0.2 * second / SECONDS
        case "fan" if plant.fans > 1 and second > SECONDS / 2:
            conductance *= 1 - 0.7 / plant.fans
        case "limit" if second > SECONDS / 2:
            limit_w *= 0.7
    return inlet_c, conductance, limit_w


def quiet(plant: Plant) -> Plant:
    """The same plant in air that does not change, with exact sensors: for tests."""
    return replace(plant, event="none", dither_c=0.0, power_kind="mean")
