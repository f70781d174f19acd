"""Reads one card. Temperature and power are read at every tick; fans and the reason for lower clocks less often."""

import math

from gpufan.core.gpu import Gpu, Reading

FANS_EVERY_S = 3.0
"""While no fan has a fault, the fans are read at this interval, s."""

SAME_POWER_W = 25.0
"""While a card follows a curve, a smaller change of its power needs no new decision, W.

The sensor guard looks for changes of twice this size.
"""


class CardReader:
    """Reads one card, and remembers the last two readings."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._before: Reading | None = None
        self._last: Reading | None = None
        self._fans_s = -math.inf
        self._last_s = -math.inf

    def read(self, now_s: float, *, fans: bool, dry_run: bool) -> Reading:
        """Read temperature and power at `now_s`. Returns them with the state of the fans. Raises GpuLost.

        The fans are read if `fans` is set, or if `FANS_EVERY_S` has passed since they were last read. Otherwise their
        last known state is returned. If `dry_run` is set, reading never starts an X server.
        """
        last, self._last_s = self._last, now_s
        if last is None or fans or now_s - self._fans_s >= FANS_EVERY_S:
            reading, self._fans_s = self._gpu.observe() if dry_run else self._gpu.read(), now_s
        else:
            temperature_c, power_w = self._gpu.sense()
            reading = Reading(temperature_c, power_w, last.fans, last.throttle)
        self._before, self._last = last, reading
        return reading

    def forget(self) -> None:
        """Forget all readings, so that the next call of `read` reads the fans too."""
        self._before = self._last = None

    @property
    def has_fans(self) -> bool:
        """Whether the fans were read in the last call of `read`."""
        return self._fans_s == self._last_s

    @property
    def is_same(self) -> bool:
        """Whether the last two readings have the same temperature and a similar power.

        If the card follows a curve, such readings lead to the same decision.
        """
        before, last = self._before, self._last
        return (
            before is not None
            and last is not None
            and last.temperature_c == before.temperature_c
            and abs((last.power_w or 0) - (before.power_w or 0)) < SAME_POWER_W
        )
