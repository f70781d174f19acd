"""`gpufan run` and `gpufan restore`: find the cards, put the parts together, and take them apart again."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from gpufan import __version__
from gpufan.bounded import within
from gpufan.config import COMMAND_LINE, Settings, Source, WholeRun
from gpufan.daemon import Daemon, Publish, StopInbox, simulate
from gpufan.errors import GpufanError, GpuLost, InputError, NotControllable
from gpufan.gpu import Gpu, GpuInfo, Reading
from gpufan.gpu.select import select
from gpufan.report.snapshot import Snapshot, SnapshotFile
from gpufan.runtime import SNAPSHOT, only_one
from gpufan.worker import SettingsFor, Worker, give_back

if TYPE_CHECKING:
    from gpufan.report.summary import CardSummary

G = TypeVar("G", bound=Gpu)

PATIENCE_S = 5.0
"""For one card to answer a command, s."""


@dataclass(frozen=True)
class SimulationOptions:
    """What is simulated, and how fast."""

    profile: str
    workload: str
    time_scale: float
    """Simulated seconds per second; infinity for as fast as it goes."""


class Report(Protocol):
    """Where people see what happens."""

    def publish(self, snapshot: Snapshot) -> None:
        """Take the next snapshot."""

    def warn(self, text: str) -> None:
        """Show a warning."""

    def note(self, text: str) -> None:
        """Show that something went as it should."""

    def close(self) -> None:
        """Show what is left."""


def run_cards(source: Source, runtime_folder: Path) -> None:
    """Control real cards until a signal or the end of the duration; read `source` again at SIGHUP to a service.

    Lock and snapshot go to `runtime_folder`. Raises InputError, DriverError, NotControllable, or what ended the run.
    """
    from gpufan.gpu.nvml import NvmlBox  # a simulation needs no driver

    inbox = StopInbox()
    inbox.catch_signals()
    inbox.reload_on_hang_up()
    settings = source.read()
    whole = settings.whole()
    box = NvmlBox(PATIENCE_S)
    usable, obstacles = _sort_out(select(box.gpus, whole.gpus, _who_wants(settings)))
    if not usable:
        raise NotControllable(f"no card here has fans that can be set: {'; '.join(obstacles)}")
    folder = None if whole.dry_run else runtime_folder
    complaints = [f"left alone: {obstacle}" for obstacle in obstacles]
    complaints += settings.idle_tables([gpu.info for gpu in box.gpus])
    with only_one(folder, complaints.append):
        report = _report(f"gpufan {__version__} · ctrl-c gives the fans back to the driver")
        for complaint in complaints:
            report.warn(complaint)
        workers = [Worker(gpu, settings.for_card, dry_run=whole.dry_run) for gpu in usable]
        reload = partial(_reload, source, whole, box.gpus, report)
        with _snapshots(folder, report) as sinks:
            daemon = Daemon(workers, sinks, interval_s=whole.interval_s, dry_run=whole.dry_run, reload=reload)
            try:
                daemon.run(inbox, whole.duration_s)
            finally:
                report.close()
                if not daemon.hung:
                    box.close()


def _reload(source: Source, started: WholeRun, gpus: Sequence[Gpu], report: Report) -> tuple[float, SettingsFor]:
    """Read `source` again; the interval, and how each card is to be kept. Raises InputError, after telling `report`."""
    try:
        settings = source.read()
        whole = settings.whole()
        for key in ("gpus", "dry_run", "duration_s"):
            if getattr(whole, key) != getattr(started, key):
                raise InputError(f"{source.path}: a new {key} needs a restart")
    except Exception as error:
        report.warn(f"settings not reloaded, those before stay: {error}")
        raise
    for line in settings.idle_tables([gpu.info for gpu in gpus]):
        report.warn(line)
    report.note(f"settings reloaded from {settings.path or 'the command line alone'}")
    return whole.interval_s, settings.for_card


def _who_wants(settings: Settings) -> str:
    """Who named the cards to control, for an error."""
    return "--gpu" if settings.look_up("gpus").origin == COMMAND_LINE else f"{settings.path}: gpus:"


def run_simulation(
    source: Source, runtime_folder: Path | None, simulation: SimulationOptions
) -> list[tuple[str, "CardSummary"]]:
    """Control the cards of a simulated box, touching nothing of the machine; what it came to, by card.

    Without a `runtime_folder` there is neither lock nor snapshot. Raises InputError.
    """
    from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
    from gpufan.report.summary import CardSummary

    inbox = StopInbox()
    inbox.catch_signals()
    settings = source.read()
    whole = settings.whole()
    box = SimulatedBox(PROFILES[simulation.profile], WORKLOADS[simulation.workload])
    chosen = select(box.gpus, whole.gpus, _who_wants(settings))
    summaries = [CardSummary(gpu) for gpu in chosen]

    def add(_: Snapshot) -> None:
        for summary in summaries:
            summary.add(whole.interval_s)

    with only_one(runtime_folder, _complain):
        report = _report(f"gpufan {__version__} · simulated {simulation.profile}, {simulation.workload}")
        workers = [Worker(gpu, settings.for_card, dry_run=whole.dry_run) for gpu in chosen]
        with _snapshots(runtime_folder, report) as sinks:
            try:
                simulate(
                    box,
                    workers,
                    [add, *sinks],
                    inbox,
                    interval_s=whole.interval_s,
                    duration_s=whole.duration_s,
                    time_scale=simulation.time_scale,
                )
            finally:
                report.close()
    return [(gpu.info.label, summary) for gpu, summary in zip(chosen, summaries, strict=True)]


def find(names: Sequence[str], profile: str | None) -> list[tuple[GpuInfo, Reading | None]]:
    """What every card named says of itself, and a reading; None for the reading of one that does not answer.

    Raises InputError or DriverError.
    """
    gpus: Sequence[Gpu]
    if profile is None:
        from gpufan.gpu.nvml import NvmlBox

        gpus = NvmlBox(PATIENCE_S).gpus
    else:
        from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox

        gpus = SimulatedBox(PROFILES[profile], WORKLOADS["idle"]).gpus
    found: list[tuple[GpuInfo, Reading | None]] = []
    for gpu in select(gpus, names):
        reading = None
        with suppress(GpuLost):
            reading = within(PATIENCE_S, gpu.read)
        found.append((gpu.info, reading))
    return found


def restore(names: Sequence[str], folder: Path) -> list[str]:
    """Give the fans of every card named back to the driver; a line for each.

    Raises InputError, DriverError, or GpufanError naming every card where it failed.
    """
    from gpufan.gpu.nvml import NvmlBox

    box = NvmlBox(PATIENCE_S)
    usable, obstacles = _sort_out(select(box.gpus, names))
    done = [f"{obstacle}: nothing to give back" for obstacle in obstacles]
    failed = []
    with only_one(folder, _complain):
        for gpu in usable:
            try:
                within(PATIENCE_S, partial(give_back, gpu))
                done.append(f"{gpu.info.label}: its fans are the driver's")
            except GpufanError as error:
                failed.append(f"{gpu.info.label}: {error}")
    if failed:
        raise GpufanError(f"fans not given back to the driver: {'; '.join(failed)}")
    return done


def _sort_out(gpus: Sequence[G]) -> tuple[list[G], list[str]]:
    """The cards that can be controlled, and what stands in the way of the others."""
    usable = [gpu for gpu in gpus if gpu.info.obstacle is None]
    obstacles = [f"{gpu.info.label}: {gpu.info.obstacle}" for gpu in gpus if gpu.info.obstacle is not None]
    return usable, obstacles


def _report(title: str) -> Report:
    if sys.stdout.isatty():
        from rich.console import Console

        from gpufan.report.live import LiveReport

        return LiveReport(Console(), title)
    from gpufan.report.log import LogReport

    return LogReport(sys.stdout)


@contextmanager
def _snapshots(folder: Path | None, report: Report) -> Iterator[list[Publish]]:
    """Where snapshots go: to `report`, and to the file in `folder`, which is removed at the end."""
    if folder is None:
        yield [report.publish]
        return
    file = SnapshotFile(folder / SNAPSHOT)
    complained = False

    def write(snapshot: Snapshot) -> None:
        nonlocal complained
        try:
            file.write(snapshot)
            complained = False
        except OSError as error:
            if not complained:
                report.warn(f"{folder / SNAPSHOT} cannot be written: {error.strerror}; control goes on")
            complained = True

    try:
        yield [report.publish, write]
    finally:
        with suppress(OSError):
            file.remove()


def _complain(text: str) -> None:
    print(f"gpufan: {text}", file=sys.stderr)
