"""Laws to compare: ours, those of other tools with their published defaults, and no law at all."""

from collections.abc import Callable
from dataclasses import fields

from gpufan.control.law import CurveSettings
from gpufan.gpu.simulated import SimulatedGpu
from gpufan.worker import Worker

TARGET_C = 80.0
"""What every law that holds a temperature is told to hold."""

Step = Callable[[SimulatedGpu, int], None]
"""What a law does with a card at a second."""


def gpufan(settings: CurveSettings) -> Step:
    """Ours, through the same worker that keeps real cards."""
    worker: Worker | None = None

    def step(gpu: SimulatedGpu, second: int) -> None:
        nonlocal worker
        worker = worker or Worker(gpu, lambda _: settings)
        worker.tick(second)

    return step


def coolgpus() -> Step:
    """coolgpus 0.23 with its defaults: 30..99 % over 55..80 °C, 2 °C of hysteresis, every 5 s."""
    duty = 0

    def line(temperature_c: float) -> int:
        return int(min(max(30 + (99 - 30) * (temperature_c - 55) / (80 - 55), 30), 99))

    def step(gpu: SimulatedGpu, second: int) -> None:
        nonlocal duty
        if second % 5 == 0:
            duty = min(max(duty, line(_temperature_c(gpu))), line(_temperature_c(gpu) + 2))
            gpu.set_duty(duty)

    return step


def stock() -> Step:
    """The driver's own law, as the simulated card models it."""
    return lambda gpu, second: None


def constant(duty: int) -> Step:
    """The same duty whatever happens."""
    return lambda gpu, second: gpu.set_duty(duty)


def _temperature_c(gpu: SimulatedGpu) -> float:
    temperature_c = gpu.read().temperature_c
    assert temperature_c is not None
    return temperature_c


LAWS: dict[str, Callable[[], Step]] = {
    "gpufan": lambda: gpufan(CurveSettings()),
    "coolgpus": coolgpus,
    "stock driver": stock,
    "constant 62 %": lambda: constant(62),
    "constant 100 %": lambda: constant(100),
}
if "target_c" in {field.name for field in fields(CurveSettings)}:
    LAWS = {"gpufan --target 80": lambda: gpufan(CurveSettings(target_c=TARGET_C)), **LAWS}

HOLDING = ("gpufan --target 80",)
"""Laws that were told to hold `TARGET_C`: they may be as hot as that, and are compared with a bound that is."""
