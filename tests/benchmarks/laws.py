"""The laws to compare: those of gpufan, those of other tools with their published defaults, and constant duties.

If a law has no default for such a card (gains, a table), its docstring says so, and it gets gains by a tuning rule or
gpufan's curve.
"""

from collections.abc import Callable

from gpufan.core.card_settings import DEFAULT_CURVE, CardSettings
from gpufan.daemon.worker import Worker
from gpufan.gpu.simulated import SimulatedGpu
from tests.benchmarks.control.reference import Reference

TARGET_C = 80.0
"""The target of the laws of other tools, °C."""

Step = Callable[[SimulatedGpu, int], None]
"""Applies a law to a card at a time in s."""

Rule = Callable[[float], float]
"""From a temperature in °C to a duty in percent; a duty below the card's lowest counts as the lowest."""

# SIMC (Skogestad 2003) for the nominal card at 62 % and 230 W: 0.47 K per point, a time constant of 66 s, a delay of
# 3 s, and a closed loop of 20 s; a faster loop would jump by tens of points with each whole degree.
GAIN = 66 / (0.47 * (20 + 3))
INTEGRAL_S = min(66, 4 * (20 + 3))


def gpufan(settings: CardSettings, box: list[Worker]) -> Step:
    """The law of gpufan, in the same worker that controls real cards; it knows the workers of its box."""
    worker: Worker | None = None

    def step(gpu: SimulatedGpu, second: int) -> None:
        nonlocal worker
        if worker is None:
            worker = Worker(gpu, lambda _: settings)
            worker.box = box
            box.append(worker)
        worker.tick(second)

    return step


def stock() -> Step:
    """The law of the stock driver, as in the simulated card."""
    return lambda gpu, second: None


def constant(duty: int) -> Step:
    """A constant duty."""
    return lambda gpu, second: gpu.set_duty(duty)


def follow(rule: Rule, interval_s: int = 1) -> Step:
    """Read the temperature every `interval_s` and set the duty of `rule`."""

    def step(gpu: SimulatedGpu, second: int) -> None:
        if second % interval_s == 0:
            temperature_c = gpu.read().temperature_c
            assert temperature_c is not None
            low, high = gpu.plant.duty_range
            gpu.set_duty(min(max(round(rule(temperature_c)), low), high))

    return step


def coolgpus() -> Rule:
    """coolgpus 0.23: 30..99 % over 55..80 °C with a hysteresis of 2 °C; every 5 s."""
    duty = 0

    def line(temperature_c: float) -> int:
        return int(min(max(30 + (99 - 30) * (temperature_c - 55) / (80 - 55), 30), 99))

    def rule(temperature_c: float) -> float:
        nonlocal duty
        duty = min(max(duty, line(temperature_c)), line(temperature_c + 2))
        return duty

    return rule


def nfancurve() -> Rule:
    """nfancurve: 20, 35, 50, 70, 85 % up to 30, 40, 50, 65, 75 °C, and full speed above; every 5 s."""
    steps = ((30, 20), (40, 35), (50, 50), (65, 70), (75, 85))
    return lambda temperature_c: next((duty for limit_c, duty in steps if temperature_c <= limit_c), 100)


def coolercontrol() -> Rule:
    """CoolerControl's default function: no change below 2 points. It has no default curve, so it gets gpufan's."""
    duty = 0.0

    def rule(temperature_c: float) -> float:
        nonlocal duty
        wanted = _curve(temperature_c)
        duty = wanted if abs(wanted - duty) >= 2 else duty
        return duty

    return rule


def openbmc_stepwise() -> Rule:
    """phosphor-pid-control's stepwise: a hysteresis of 1 °C as in its example, and gpufan's curve in steps of 5 °C."""
    last_c = 0.0

    def rule(temperature_c: float) -> float:
        nonlocal last_c
        if abs(temperature_c - last_c) > 1:
            last_c = temperature_c
        return _curve(5 * (last_c // 5) + 5)

    return rule


def openbmc_pid() -> Rule:
    """phosphor-pid-control's PI with a clamped integral; gains by SIMC."""
    integral = 0.0

    def rule(temperature_c: float) -> float:
        nonlocal integral
        error_k = temperature_c - TARGET_C
        integral = min(max(integral + GAIN / INTEGRAL_S * error_k, 0), 100)
        return integral + GAIN * error_k

    return rule


def klipper_watermark() -> Rule:
    """Klipper's temperature_fan: full from 2 °C above the target, off from 2 °C below it."""
    return _two_point(TARGET_C + 2, TARGET_C - 2)


def klipper_pid() -> Rule:
    """Klipper's temperature_fan: integrates only while the output is in range; no change below 5 points for 4 s.

    Gains by SIMC, no derivative.
    """
    credit = 0.0
    duty, age_s = 0.0, 0

    def rule(temperature_c: float) -> float:
        nonlocal credit, duty, age_s
        under_k = TARGET_C - temperature_c
        summed = min(max(credit + GAIN / INTEGRAL_S * under_k, 0), 100)
        saved = GAIN * under_k + summed
        if 0 <= saved <= 100:
            credit = summed
        wanted = 100 - min(max(saved, 0), 100)
        age_s += 1
        if abs(wanted - duty) >= 5 or age_s >= 4:
            duty, age_s = wanted, 0
        return duty

    return rule


def linux_bang_bang() -> Rule:
    """The kernel's bang_bang: on at the trip point, off from 2 °C (a usual hysteresis) below it."""
    return _two_point(TARGET_C, TARGET_C - 2)


def linux_step_wise() -> Rule:
    """The kernel's step_wise: one state up if above the trip point and rising, one down if below it and falling.

    Ten states over the card's range; polled every second.
    """
    state, last_c = 0, 0.0

    def rule(temperature_c: float) -> float:
        nonlocal state, last_c
        if temperature_c >= TARGET_C and temperature_c > last_c:
            state = min(state + 1, 10)
        elif temperature_c < TARGET_C and temperature_c < last_c:
            state = max(state - 1, 0)
        last_c = temperature_c
        return 23 + 7.7 * state

    return rule


def linux_power_allocator() -> Rule:
    """The kernel's power_allocator with its estimated gains, inverted: the original lowers power.

    The sustained duty is 50 %. The law switches on 10 °C below the target and integrates only above it. Its gain is the
    sustained duty over 10 °C above the target, twice that below, and a tenth of that for the integral.
    """
    integral = 0.0

    def rule(temperature_c: float) -> float:
        nonlocal integral
        over_k = temperature_c - TARGET_C
        if over_k <= -10:
            integral = 0.0
            return 0
        if over_k > 0:
            integral = min(integral + over_k, 100)
        return 50 + (5 if over_k > 0 else 10) * over_k + integral

    return rule


def _two_point(on_c: float, off_c: float) -> Rule:
    duty = 0

    def rule(temperature_c: float) -> float:
        nonlocal duty
        if temperature_c >= on_c:
            duty = 100
        elif temperature_c <= off_c:
            duty = 0
        return duty

    return rule


def _curve(temperature_c: float) -> float:
    duty = DEFAULT_CURVE.duty_at(temperature_c)
    assert duty is not None
    return duty


def reference(target_c: float) -> Step:
    """PI with feed-forward of power, see `control/reference.py`."""
    law: Reference | None = None

    def step(gpu: SimulatedGpu, second: int) -> None:
        nonlocal law
        if law is None:
            law = Reference(target_c, gpu.plant.duty_range, gpu.plant.power_limit_w)
        reading = gpu.read()
        assert reading.temperature_c is not None
        gpu.set_duty(law.decide(second, reading.temperature_c, reading.power_w))

    return step


OURS, REFERENCE, CURVE, FULL = "gpufan, target", "PI + feed-forward", "gpufan, curve", "constant 100 %"

LAWS: dict[str, Callable[[list[Worker], float], Step]] = {
    OURS: lambda box, target_c: gpufan(CardSettings(target_c=target_c), box),
    REFERENCE: lambda _, target_c: reference(target_c),
    CURVE: lambda box, _: gpufan(CardSettings(), box),
    "coolgpus": lambda *_: follow(coolgpus(), 5),
    "stock driver": lambda *_: stock(),
    FULL: lambda *_: constant(100),
    "nfancurve": lambda *_: follow(nfancurve(), 5),
    "CoolerControl": lambda *_: follow(coolercontrol()),
    "OpenBMC stepwise": lambda *_: follow(openbmc_stepwise()),
    "OpenBMC PID": lambda *_: follow(openbmc_pid()),
    "Klipper watermark": lambda *_: follow(klipper_watermark()),
    "Klipper PID": lambda *_: follow(klipper_pid()),
    "Linux bang_bang": lambda *_: follow(linux_bang_bang()),
    "Linux step_wise": lambda *_: follow(linux_step_wise()),
    "Linux power_allocator": lambda *_: follow(linux_power_allocator()),
    "constant 62 %": lambda *_: constant(62),
}
"""By name: the law for a card, given the workers of its box so far, and the target in °C of a law that has one."""

HOLDING = (OURS, REFERENCE)
"""Laws with a target: they may reach it, and are compared with the bound at that temperature."""
