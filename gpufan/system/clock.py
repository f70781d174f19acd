"""Read clocks: the seconds since boot, which all processes can compare, and the local time."""

import time


def since_boot_s() -> float:
    """Return the seconds since boot, including the time that the machine slept.

    A change of the system time does not change this clock.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def local_clock_time() -> time.struct_time:
    """Return the present local time. A change of the time zone has effect at once."""
    time.tzset()  # else a change of the time zone would count only after a restart
    return time.localtime()
