"""The clock for times that several processes compare, or that must count while the machine sleeps."""

import time


def since_boot_s() -> float:
    """Seconds since boot, sleep included. Nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
