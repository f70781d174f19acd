"""The faults of the storm: how each begins and ends on a card of the NVML double, and what gpufan owes meanwhile."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import pynvml

from tests.doubles.nvml import IGNORES, JAMS, MOVES, Kind, NvmlDouble, Rival

CODES = {
    "Unknown": pynvml.NVML_ERROR_UNKNOWN,
    "Uninitialized": pynvml.NVML_ERROR_UNINITIALIZED,
    "Not Supported": pynvml.NVML_ERROR_NOT_SUPPORTED,
    "Timeout": pynvml.NVML_ERROR_TIMEOUT,
    "GPU is lost": pynvml.NVML_ERROR_GPU_IS_LOST,
    "Invalid Argument": pynvml.NVML_ERROR_INVALID_ARGUMENT,
}

OPTIONAL = (Kind.POWER, Kind.THROTTLE, Kind.GET_FAN, Kind.GET_TARGET, Kind.GET_POLICY, Kind.RPM)
"""Control needs none of these calls."""

READS = (*OPTIONAL, Kind.TEMPERATURE)
CALLS = (*READS, Kind.SET_FAN)

LOW_PERCENT = 30
"""What a rival sets, percent."""


class Demand(Enum):
    """What the daemon owes a card while a fault lasts."""

    NOTHING = "nothing"
    SAFETY = "safety"
    """The fans can be set: none is in manual mode below what the true temperature asks for."""
    CONTROL = "control"
    """The card can be controlled: its fans are in manual mode at what the temperature asks for, or above."""
    FULL = "full"
    """The temperature is in doubt: fans in manual mode run at full speed."""
    OTHERS_FULL = "others full"
    """The first fan stands still: the others run at full speed."""
    MEAN = "mean"
    """Another program sets the fans too: the mean target is near what the temperature asks for."""


@dataclass
class Load:
    """The true temperature of a card, and what the sensor makes of it. The storm moves it once a second."""

    level_c: float = 50.0
    """Temperature that the card approaches, °C."""
    true_c: float = 50.0
    frozen: bool = False
    """The sensor repeats its last value while the power changes."""
    reported_c: int | None = None
    """What the sensor reports instead; None: the truth."""


@dataclass
class Fault:
    """A fault of one card."""

    name: str
    seconds: tuple[float, float]
    """Shortest and longest duration, s."""
    begin: Callable[[NvmlDouble, int, Load], None]
    end: Callable[[NvmlDouble, int, Load], None]
    demand: Demand = Demand.NOTHING
    patience_s: float = 3.0
    """Time until the demand must be met, s."""
    level_c: float | None = None
    """Temperature that the card approaches meanwhile, °C; None: any."""
    hangs: bool = False
    is_relative: bool = False
    """To find it, one must have seen the card without it."""


def draw(rng: random.Random) -> Fault:
    """Any fault; weak fans and odd codes are more frequent than others."""
    return rng.choice(
        (
            _hang,
            _hang,
            _code,
            _code,
            _code,
            _odd,
            _odd,
            _sensor,
            _sensor,
            _weak_fan,
            _weak_fan,
            _weak_fan,
            _rival,
            _gone,
        )
    )(rng)


def _hang(rng: random.Random) -> Fault:
    kind = rng.choice((*CALLS, Kind.HANDLE))

    def begin(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].hang[kind] = 1

    def end(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].hang[kind] = 0

    return Fault(f"{kind.name} hangs", (1, 25), begin, end, hangs=True)


def _code(rng: random.Random) -> Fault:
    """Some calls, or all, return an error."""
    word, code = rng.choice(list(CODES.items()))
    kinds: tuple[Kind, ...] = rng.choice([(rng.choice(CALLS),), (rng.choice(OPTIONAL),), READS, tuple(Kind)])

    def begin(double: NvmlDouble, card: int, _: Load) -> None:
        for kind in kinds:
            double.cards[card].error[kind] = code

    def end(double: NvmlDouble, card: int, _: Load) -> None:
        for kind in kinds:
            double.cards[card].error[kind] = 0

    lost = code in (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNINITIALIZED)
    if Kind.SET_FAN in kinds:
        demand = Demand.NOTHING
    elif Kind.TEMPERATURE in kinds:
        demand = Demand.SAFETY if lost or len(kinds) > 1 else Demand.FULL
    else:
        demand = Demand.SAFETY if lost else Demand.CONTROL
    names = "every call" if len(kinds) > len(READS) else "every read" if len(kinds) > 1 else kinds[0].name
    return Fault(f"{names} returns {word}", (2, 40), begin, end, demand, patience_s=10)


def _odd(rng: random.Random) -> Fault:
    """A few calls return an error, and the next ones work."""
    kind, (word, code), calls = rng.choice(CALLS), rng.choice(list(CODES.items())), rng.randint(1, 3)

    def begin(double: NvmlDouble, card: int, _: Load) -> None:
        double.odd(card, kind, code, calls)

    def end(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].odd_calls[kind] = 0

    return Fault(f"{calls} calls {kind.name} return {word}", (4, 4), begin, end)


def _sensor(rng: random.Random) -> Fault:
    reported_c = rng.choice([None, 0, -40, 131, 255])

    def begin(_: NvmlDouble, __: int, load: Load) -> None:
        load.frozen, load.reported_c = reported_c is None, reported_c

    def end(_: NvmlDouble, __: int, load: Load) -> None:
        load.frozen, load.reported_c = False, None

    if reported_c is None:
        return Fault("the temperature is frozen", (95, 110), begin, end, Demand.FULL, patience_s=88)
    return Fault(f"the temperature is {reported_c} °C", (8, 30), begin, end, Demand.FULL, patience_s=7)


def _weak_fan(rng: random.Random) -> Fault:
    return rng.choice((_stuck, _capped, _capped, _floored, _floored, _still, _still, _slow))(rng)


def _stuck(rng: random.Random) -> Fault:
    stuck, fan = rng.choice([IGNORES, JAMS]), rng.randrange(2)

    def begin(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].fans[fan].stuck = stuck

    def end(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].fans[fan].stuck = MOVES

    return Fault(f"fan {fan} is {'deaf' if stuck == IGNORES else 'jammed'}", (10, 40), begin, end)


def _capped(rng: random.Random) -> Fault:
    cap, fan = rng.choice([40, 55]), rng.randrange(2)

    def begin(double: NvmlDouble, card: int, _: Load) -> None:
        # A fan that already turns faster does not slow down.
        double.cards[card].fans[fan].cap = max(cap, double.cards[card].fans[fan].speed)

    def end(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].fans[fan].cap = 100

    return Fault(f"fan {fan} turns no faster than {cap} %", (30, 50), begin, end, Demand.CONTROL, level_c=78)


def _floored(rng: random.Random) -> Fault:
    floor, fan = rng.choice([50, 60]), rng.randrange(2)

    def begin(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].fans[fan].floor = floor

    def end(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].fans[fan].floor = 0

    return Fault(f"fan {fan} has a floor of {floor} %", (20, 40), begin, end, Demand.CONTROL, level_c=43)


def _still(rng: random.Random) -> Fault:
    rpm_percent = rng.choice([0, 0, 5])

    def begin(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].fans[0].rpm_percent = rpm_percent

    def end(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].fans[0].rpm_percent = 100

    name = f"fan 0 turns at {rpm_percent} % of what it reports"
    return Fault(name, (30, 40), begin, end, Demand.OTHERS_FULL, patience_s=20, level_c=60, is_relative=rpm_percent > 0)


def _slow(rng: random.Random) -> Fault:
    """No fault at all: slow fans at the onset of load."""

    def begin(double: NvmlDouble, card: int, load: Load) -> None:
        load.true_c = 45
        for fan in double.cards[card].fans:
            fan.ramp = 3

    def end(double: NvmlDouble, card: int, _: Load) -> None:
        pass

    return Fault("fans of 3 points a second at the onset of load", (20, 30), begin, end, Demand.CONTROL, level_c=78)


def _rival(rng: random.Random) -> Fault:
    rivals: list[Rival] = []

    def begin(double: NvmlDouble, card: int, _: Load) -> None:
        rivals.append(Rival(card, LOW_PERCENT, pid=1, due_s=rng.random()))
        double.rivals.extend(rivals)

    def end(double: NvmlDouble, card: int, _: Load) -> None:
        double.rivals.remove(rivals.pop())

    return Fault("another program sets the fans every 0.9 s", (20, 30), begin, end, Demand.MEAN, level_c=75)


def _gone(rng: random.Random) -> Fault:
    def begin(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].absent = 1

    def end(double: NvmlDouble, card: int, _: Load) -> None:
        double.cards[card].absent = 0
        for fan in double.cards[card].fans:
            fan.policy = 0

    return Fault("the card is gone", (3, 40), begin, end)
