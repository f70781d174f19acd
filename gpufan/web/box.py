"""The box that the page shows: its snapshot, its settings file, and whether the page may change this file."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpufan.config.settings import Settings, Source
from gpufan.core.quiet_hours import QuietHours, quiet_at
from gpufan.core.snapshot import Snapshot
from gpufan.errors import GpufanError
from gpufan.history import DEFAULT_FOLDER
from gpufan.system.clock import local_clock_time
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT
from gpufan.terminal.recent_readings import recent_readings
from gpufan.terminal.service_state import ServiceStateReader
from gpufan.web.live import Live, Recent, SnapshotWatch


@dataclass(frozen=True)
class BoxOptions:
    """Where the page finds its data."""

    runtime_folder: Path
    source: Source
    """The settings file."""
    history_folder: Path | None
    """The folder of the history; None for no history."""
    simulated: bool = False
    why_not_apply: str = ""
    """Why the page cannot change the settings file; empty if it can."""


class WebBox:
    """The box, as the routes need it."""

    def __init__(self, options: BoxOptions) -> None:
        """Begin with the readings of the history. This needs a running event loop."""
        self.options = options
        self._quiet_hours: tuple[QuietHours, ...] = ()
        self._quiet_read_s = -60.0
        rows = [] if options.history_folder is None else recent_readings(options.history_folder)
        watch = SnapshotWatch(options.runtime_folder / SNAPSHOT, self._why_stopped_reader(), time.monotonic)
        self.live = Live(watch, self.quiet_text, Recent(rows))
        self._cards: tuple[Snapshot | None, list[dict[str, Any]]] = None, []

    def _why_stopped_reader(self) -> Callable[[], str | None]:
        """Return a function that returns why the service runs no gpufan; None if this is unknown."""
        if self.options.runtime_folder != RUNTIME_FOLDER:
            return lambda: None
        reader = ServiceStateReader()

        def why_stopped() -> str | None:
            state = reader.latest()
            return state.why_not_running if state is not None and state.why_not_running else None

        return why_stopped

    def description(self) -> dict[str, Any]:
        """Return the cards and the abilities of the page. While gpufan is stopped, the last known cards stay."""
        snapshot = self.live.moment.snapshot
        if snapshot is not None:
            self._cards = (
                snapshot,
                [
                    {
                        "key": gpu.key,
                        "index": gpu.index,
                        "name": gpu.name,
                        "pci": gpu.pci,
                        "label": gpu.label,
                        "slowdown_c": gpu.slowdown_c,
                    }
                    for gpu in snapshot.gpus
                ],
            )
        return {
            "simulated": self.options.simulated,
            "can_apply": not self.options.why_not_apply,
            "why_not_apply": self.options.why_not_apply,
            "cards": self._cards[1],
        }

    def settings(self) -> Settings:
        """Read the settings file. Raises InputError if it has a mistake."""
        return self.options.source.read()

    def quiet_text(self) -> str:
        """Return which quiet hours are in effect now, for people; empty for none."""
        if time.monotonic() - self._quiet_read_s > 10:
            self._quiet_read_s = time.monotonic()
            with suppress(GpufanError):
                self._quiet_hours = tuple(table.hours() for table in self.settings().file.quiet or ())
        quiet = quiet_at(self._quiet_hours, local_clock_time())
        if quiet is None:
            return ""
        limits = []
        if quiet.max_duty_percent is not None:
            limits.append(f"at most {quiet.max_duty_percent} %")
        if quiet.target_c is not None:
            limits.append(f"target {quiet.target_c:g} °C")
        if quiet.gives_way:
            limits.append("the clocks may give way")
        return f"quiet hours until {quiet.until}: {', '.join(limits)}"


def history_folder_to_read(state_folder: Path | None) -> Path:
    """Return the folder of the history: `state_folder`, or the folder of the service if it is None."""
    return state_folder or DEFAULT_FOLDER
