"""The clock for times that several processes compare or that must count while the machine sleeps, and local time."""

import time


def since_boot_s() -> float:
    """Seconds since boot, sleep included. Nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def local_time() -> time.struct_time:
    """The local time, in the time zone that the machine has now."""
    time.tzset()  # else a change of the time zone would count only after a restart
    return time.localtime()
