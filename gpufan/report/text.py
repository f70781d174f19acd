"""One card's state in words, and one log line per change of it."""

from collections.abc import Callable

from gpufan.report.snapshot import GpuState, Snapshot

_PRIORITY = {"fail-safe": 4, "fault": 4, "lost": 3, "hang": 3}
"""By kind, as in syslog: 3 error, 4 warning; all else is 6, information."""


def duty_text(gpu: GpuState) -> str:
    """`62 %`, `auto` while the driver decides, `lost`."""
    if gpu.control == "lost":
        return "lost"
    return "auto" if gpu.duty_percent is None else f"{gpu.duty_percent} %"


def line(gpu: GpuState) -> str:
    """The state in one line: `0 GTX 1080 Ti: 62 % at 74 °C: curve says 58, holding for hysteresis`."""
    at = "" if gpu.temperature_c is None else f" at {gpu.temperature_c:g} °C"
    return f"{gpu.label}: {duty_text(gpu)}{at}: {gpu.reason}"


class ChangeLog:
    """Writes a line whenever a card's duty or the class of its reason changes."""

    def __init__(self, write: Callable[[str], None], stamp: Callable[[Snapshot, int], str]) -> None:
        """`stamp` gives what goes before a line, from the snapshot and the priority."""
        self._write = write
        self._stamp = stamp
        self._last: dict[int, tuple[object, ...]] = {}

    def publish(self, snapshot: Snapshot) -> None:
        """Take the next snapshot."""
        for gpu in snapshot.gpus:
            key = (gpu.control, gpu.duty_percent, gpu.kind)
            if self._last.get(gpu.index) != key:
                self._last[gpu.index] = key
                self._write(self._stamp(snapshot, _PRIORITY.get(gpu.kind, 6)) + line(gpu))
