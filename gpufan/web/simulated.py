"""The box of `gpufan web --simulate`: simulated cards in real time, which a thread controls like real cards.

The thread writes a snapshot like the daemon, and reads the settings file again when it changes.
"""

import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from gpufan.config.settings import Settings, Source
from gpufan.core.snapshot import Snapshot
from gpufan.daemon.case_fans import make_case_fan_workers
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.daemon.workers import make_workers
from gpufan.errors import GpufanError
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.system.paths import SNAPSHOT

WARM_UP_S = 900.0
"""The cards have worked for this long when the page opens, s."""
_INTERVAL_S = 1.0


class SimulatedDaemon:
    """Controls simulated cards in a thread, and publishes their states."""

    def __init__(self, profile: str, workload: str, source: Source, runtime_folder: Path) -> None:
        """Simulate `WARM_UP_S` before the page opens. Raises InputError if the settings file has a mistake."""
        self._source = source
        self._box = SimulatedBox(PROFILES[profile], WORKLOADS[workload])
        self._settings = self._read_settings()
        self._refused: str | None = None
        self._file = SnapshotFile(runtime_folder / SNAPSHOT)
        self._workers = make_workers(self._box.cards, lambda info: self._settings.for_card(info))
        self._case_fans = make_case_fan_workers(self._settings, self._box.chip.open_fan, self._workers)
        self._now_s = 0.0
        self._ends = threading.Event()
        self.before: list[Snapshot] = []
        """The snapshots of the last ten minutes before the page opens. Their times are those of the clock."""
        while self._now_s < WARM_UP_S:
            self._tick()
            if self._now_s > WARM_UP_S - 600:
                self.before.append(self._snapshot(time.time() - WARM_UP_S + self._now_s))
        self._file.write(self._snapshot(time.time()))
        self._thread = threading.Thread(target=self._run, name="simulation", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and remove the snapshot."""
        self._ends.set()
        self._thread.join(2)
        with suppress(OSError):
            self._file.remove()

    def _run(self) -> None:
        """Simulate a second in each second."""
        next_s = time.monotonic()
        while not self._ends.wait(max(next_s - time.monotonic(), 0)):
            next_s = max(next_s + _INTERVAL_S, time.monotonic())
            self._reload_if_changed()
            self._tick()
            with suppress(OSError):
                self._file.write(self._snapshot(time.time()))

    def _tick(self) -> None:
        """Advance the box by a second, and let the workers decide."""
        for worker in (*self._workers, *self._case_fans):
            worker.tick(self._now_s)
        self._box.advance(_INTERVAL_S)
        self._now_s += _INTERVAL_S

    def _read_settings(self) -> Settings:
        """Read the settings file. The case fans are those of the box. Raises InputError if the file has a mistake."""
        settings = self._source.read()
        return settings.with_case_fans(self._box.case_fans) if self._box.case_fans else settings

    def _reload_if_changed(self) -> None:
        """Read the settings file, and give its settings to the workers if they have changed."""
        try:
            settings = self._read_settings()
        except GpufanError as error:
            self._refused = str(error)
            return
        self._refused = None
        if settings != self._settings:
            self._settings = settings
            for worker in (*self._workers, *self._case_fans):
                worker.instructions.follow(settings.for_card)

    def _snapshot(self, time_s: float) -> Snapshot:
        """Return a snapshot with the time `time_s`, seconds since the epoch."""
        states, fans = (tuple(worker.state for worker in each) for each in (self._workers, self._case_fans))
        snapshot = snapshot_now(
            states,
            case_fans=fans,
            interval_s=_INTERVAL_S,
            simulated_s=self._now_s,
            reload_refused=self._refused,
        )
        return msgspec.structs.replace(snapshot, time_s=time_s)
