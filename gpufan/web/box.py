"""The box that the page shows: its snapshot, its settings file, and whether the page may change this file."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpufan import __version__
from gpufan.config.change import SERVICE, text_before_change
from gpufan.config.settings import Settings, Source
from gpufan.config.toml_text import render_settings_text
from gpufan.core.quiet_hours import QuietHours, quiet_at
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.errors import GpufanError
from gpufan.system.clock import local_clock_time
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT
from gpufan.system.unit_state import unit_state
from gpufan.terminal.recent_readings import recent_readings
from gpufan.terminal.service_state import ServiceState, ServiceStateReader, service_state
from gpufan.web.helper import Appliers
from gpufan.web.live import Live, Recent, SnapshotWatch
from gpufan.web.model import Models
from gpufan.web.page_settings import (
    PageSettings,
    settings_with_page_settings,
    shown_settings,
    text_with_page_settings,
)
from gpufan.web.predict import Predictor, Wish
from gpufan.web.reload import info_of_state

_SYSTEMD_S = 3.0
"""The time limit for an answer of systemd, s."""
_MAKE_DAY_S = 60.0
"""Time limit for making the day of simulated cards, s."""
_CONSTANTS = ("key", "index", "name", "pci", "label", "slowdown_c")
"""The values of a card that do not change."""


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
    """The readings, settings and predictions that the routes of the page send."""

    def __init__(
        self,
        options: BoxOptions,
        applier: Appliers | None,
        models: Models,
        predictor: Predictor,
        before: Iterable[Snapshot] = (),
    ) -> None:
        """Begin with the readings of the history and with the snapshots `before`.

        `applier` changes the settings; None if the page cannot change them.
        """
        self.models = models
        self.predictor = predictor
        self.options = options
        self.applier = applier
        self._quiet_hours: tuple[QuietHours, ...] = ()
        self._quiet_read_s = -60.0
        rows = [] if options.history_folder is None else recent_readings(options.history_folder)
        watch = SnapshotWatch(options.runtime_folder / SNAPSHOT, self._why_stopped_reader(), time.monotonic)
        self.live = Live(watch, self.quiet_text, Recent(rows), self._settings_version)
        for snapshot in before:
            self.live.recent.add(snapshot)
        self._cards: tuple[GpuState, ...] = ()

    def _why_stopped_reader(self) -> Callable[[], str | None]:
        """Return a function that returns why the service runs no gpufan; None if this is unknown."""
        if self.options.runtime_folder != RUNTIME_FOLDER:
            return lambda: None
        reader = ServiceStateReader(_service_state_if_known)

        def why_stopped() -> str | None:
            state = reader.latest()
            return state.why_not_running if state is not None and not state.is_active else None

        return why_stopped

    @property
    def cards(self) -> tuple[GpuState, ...]:
        """The last known states of the cards. While gpufan is stopped, they stay."""
        snapshot = self.live.moment.snapshot
        if snapshot is not None:
            self._cards = snapshot.gpus
        return self._cards

    def description(self) -> dict[str, Any]:
        """Return the cards, and what the page can do."""
        return {
            "version": __version__,
            "simulated": self.options.simulated,
            "can_apply": self.applier is not None,
            "why_not_apply": self.options.why_not_apply,
            "cards": [{name: getattr(gpu, name) for name in _CONSTANTS} for gpu in self.cards],
        }

    def settings(self) -> Settings:
        """Read the settings file. Raises InputError if it has a mistake."""
        return self.options.source.read()

    def shown_settings(self) -> dict[str, Any]:
        """Return the present settings and the path of their file. Raises InputError if the file has a mistake."""
        return {"path": str(self.options.source.path or ""), **shown_settings(self.settings(), self.cards)}

    def text_with(self, wanted: PageSettings) -> str:
        """Return the text of the settings file with `wanted` in it. Nothing is written.

        Raises InputError if the file or `wanted` has a mistake.
        """
        path = self.options.source.path
        text = None if path is None else text_before_change(path)
        return text_with_page_settings(render_settings_text() if text is None else text, wanted)

    def model_states(self) -> dict[str, Any]:
        """Return the state of the model of each card."""
        return self.models.states(gpu.key for gpu in self.cards)

    def prediction(self, wanted: PageSettings) -> dict[str, Any]:
        """Predict the last day with the settings `wanted`.

        Raises InputError if the file or `wanted` has a mistake.
        """
        settings = settings_with_page_settings(self.settings(), wanted)
        models = self.models.ready()
        infos = {key: model.info for key, model in models.items()} | {gpu.key: info_of_state(gpu) for gpu in self.cards}
        ranges = {gpu.key: gpu.duty_range for gpu in self.cards}
        chosen = {key: infos[key] for key in wanted.cards or infos if key in infos}
        wishes = {key: Wish(settings.for_card(info), info.slowdown_c, ranges.get(key)) for key, info in chosen.items()}
        return self.predictor.predict(models, wishes)

    async def history_folder(self) -> Path:
        """Return the folder of the history, once the history of simulated cards is made.

        Raises GpufanError if there is none.
        """
        folder = self.options.history_folder
        if folder is None:
            raise GpufanError("there is no history here")
        until_s = time.monotonic() + _MAKE_DAY_S
        while self.options.simulated and not folder.exists() and time.monotonic() < until_s:
            await asyncio.sleep(0.1)
        return folder

    def _settings_version(self) -> str:
        """Return a text that differs after each change of the settings file; empty if there is no file."""
        path = self.options.source.path
        with suppress(OSError):
            status = None if path is None else path.stat()
            return "" if status is None else f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"
        return ""

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


def _service_state_if_known() -> ServiceState | None:
    """Return the state of the service; None if this user cannot ask systemd, as in some sandboxes."""
    with suppress(GpufanError):
        unit_state(SERVICE, _SYSTEMD_S)
        return service_state()
    return None
