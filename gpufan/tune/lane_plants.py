"""The plants (thermal models) of cards in lanes: a step advances all lanes together. Needs numpy.

The formulas are those of `gpufan.gpu.simulated`. In a step, the temperature is the exact solution for its mean power.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpufan.gpu.simulated import BASE_CLOCK, CLOCK_STEP, EMERGENCY_CLOCK, LEAKAGE_W, POWER_EXPONENT
from gpufan.tune.day_load import Array
from gpufan.tune.lanes import LaneLoad, Mask, PerLane
from gpufan.tune.plant import FittedPlant

_PERCENTS = 101
"""There is a table of the heatsink for each fan speed of 0 to 100 %."""


class PlantLanes(PerLane):
    """The temperatures, fans and clocks of all lanes."""

    PER_LANE = (
        *("die_c", "_sink_c", "speed_percent", "_driver_percent", "_clock", "_of_card"),
        *("_die_resistance", "_die_time_s", "_throttles_c", "_slowdown_c", "_idle_percent"),
    )

    def __init__(self, plants: Sequence[FittedPlant], loads: Sequence[LaneLoad], *, by_driver: bool) -> None:
        """Each card has a plant and a load. It begins settled at its recorded temperature and fan speed.

        `by_driver` is set if the driver controls the fans of some card at some time.
        """
        self._plants = plants
        lanes = len(loads[0].start_c)
        self._resistances = np.array(
            [[plant.resistance(percent) - plant.die_resistance for percent in range(_PERCENTS)] for plant in plants]
        )
        self._of_card = np.repeat(np.arange(len(plants)) * _PERCENTS, lanes)

        def of_lanes(name: str) -> Array:
            return np.repeat([float(getattr(plant, name)) for plant in plants], lanes)

        self._die_resistance, self._die_time_s = of_lanes("die_resistance"), of_lanes("die_time_constant_s")
        self._throttles_c, self._slowdown_c = of_lanes("target_c"), of_lanes("slowdown_c")
        self._idle_percent = of_lanes("idle_duty")
        self._seconds = 0.0
        self.die_c = np.concatenate([load.start_c for load in loads])
        self._sink_c = self.die_c - np.concatenate([load.power_w[0] for load in loads]) * self._die_resistance
        self.speed_percent = np.concatenate([load.start_percent for load in loads])
        self._driver_percent = self.speed_percent
        self._clock = np.ones(len(self.die_c))
        self._has_throttled = False
        self._by_driver = by_driver

    @property
    def throttled(self) -> Mask | None:
        """Which lanes lower their clocks for heat; None if none has done so yet."""
        return self._clock < 1 if self._has_throttled else None

    def replace_lanes(self, lanes: NDArray[np.intp], other: "PlantLanes") -> None:
        """See `PerLane.replace_lanes`."""
        super().replace_lanes(lanes, other)
        self._has_throttled = self._has_throttled or other._has_throttled

    def advance(self, seconds: float, power_w: Array, air_c: Array, duty_percent: Array) -> None:
        """Set the fans to `duty_percent`, and advance by `seconds`. NaN leaves them to the driver.

        `power_w` and `air_c` are the power of each card, W, and the temperature of the air at its heatsink, °C.
        """
        self._set_fans(duty_percent, seconds)
        if self._has_throttled or (self.die_c >= self._throttles_c).any():
            self._has_throttled = True
            power_w = self._throttled_w(power_w, seconds)
        if seconds != self._seconds:
            self._make_tables(seconds)
        speeds = self.speed_percent.astype(np.intp) + self._of_card
        resistance = self._resistances.take(speeds)
        left = self._left.take(speeds)
        end_c = resistance * power_w
        end_c += air_c
        gone_k = self._sink_c - end_c
        # The die follows a heatsink that itself approaches its end; this is the exact solution.
        part_k = gone_k * self._shares.take(speeds)
        die_end_c = self._die_resistance * power_w
        die_end_c += end_c
        rest_k = self.die_c - die_end_c
        rest_k -= part_k
        rest_k *= np.exp(-seconds / self._die_time_s)
        gone_k *= left
        part_k *= left
        self._sink_c = end_c + gone_k
        self.die_c = die_end_c + part_k + rest_k

    def _set_fans(self, duty_percent: Array, seconds: float) -> None:
        """Set the speed of the fans."""
        if not self._by_driver:
            self.speed_percent = duty_percent.copy()
            return
        by_driver = np.isnan(duty_percent)
        # `Plant.next_driver_percent`
        wanted = self._idle_percent + (50 - self._idle_percent) * (self.die_c - 50) / (self._throttles_c - 50)
        wanted = np.clip(wanted, self._idle_percent, 100)
        driver = self._driver_percent + np.clip(wanted - self._driver_percent, -seconds, seconds)
        self._driver_percent = np.where(by_driver, driver, duty_percent)
        self.speed_percent = np.rint(self._driver_percent)

    def _throttled_w(self, power_w: Array, seconds: float) -> Array:
        """Return the power of the cards, W, that draw `power_w` at full clock. Changes the clocks."""
        some = np.flatnonzero((self._clock < 1) | (self.die_c >= self._throttles_c))
        if not len(some):
            return power_w
        change = CLOCK_STEP * seconds
        clock, die_c, some_w = self._clock[some], self.die_c[some], power_w[some]
        lowered = np.maximum(clock - change, BASE_CLOCK)
        raised = np.minimum(np.maximum(clock, BASE_CLOCK) + change, 1.0)
        clock = np.where(die_c >= self._throttles_c[some], lowered, raised)
        clock = np.where(die_c >= self._slowdown_c[some], EMERGENCY_CLOCK, clock)
        throttled_w = LEAKAGE_W + (some_w - LEAKAGE_W) * clock**POWER_EXPONENT  # `throttled_power_w`
        self._clock, power_w = self._clock.copy(), power_w.copy()
        self._clock[some] = clock
        power_w[some] = np.where(clock < 1, throttled_w, some_w)
        return power_w

    def _make_tables(self, seconds: float) -> None:
        """Make tables for steps of `seconds`, with a value for each card and fan speed.

        They have the share of a difference that is left in the heatsink, and the share of the difference between the
        heatsink and its end that the die follows.
        """
        self._seconds = seconds
        capacities = np.array([plant.heat_capacity for plant in self._plants])[:, None]
        dies_s = np.array([plant.die_time_constant_s for plant in self._plants])[:, None]
        sinks_s = self._resistances * capacities
        self._left = np.exp(-seconds / sinks_s)
        self._shares = sinks_s / (sinks_s - dies_s)
