"""`gpufan run` and `gpufan restore`: find the cards, put the parts together, and take them apart again."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from gpufan import __version__
from gpufan.config.settings import COMMAND_LINE, RunSettings, Settings, Source
from gpufan.core.gpu import Gpu, GpuInfo, Reading
from gpufan.core.selection import select, split_controllable
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import learnt
from gpufan.daemon import snapshot_file as snapshot
from gpufan.daemon.loop import Daemon, Publish
from gpufan.daemon.read_back import release_verified
from gpufan.daemon.sd_notify import Notifier
from gpufan.daemon.simulation import simulate
from gpufan.daemon.snapshot_file import SnapshotFile
from gpufan.daemon.worker import SettingsFor
from gpufan.daemon.workers import make_workers
from gpufan.errors import GpuError, GpufanError, InputError, NoAnswer, NotControllable, NotGivenBack
from gpufan.system.background import BackgroundCall, BackgroundWriter, call_with_timeout
from gpufan.system.lock import controller_lock
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT
from gpufan.system.signals import StopInbox

if TYPE_CHECKING:
    from gpufan.daemon.recording import RecordingFile
    from gpufan.daemon.summary import CardSummary
    from gpufan.gpu.cards import Cards

DISPLAY_ENVIRONMENT = "environment"
"""In the folder of an X server of our own: what a process needs in its environment to use it."""

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


OpenReport = Callable[[str], Report]
"""Opens the report of a run with this title."""


def run_cards(source: Source, runtime_folder: Path, record: Path | None, open_report: OpenReport) -> None:
    """Control real cards until a signal or the end of the duration; read `source` again at SIGHUP to a service.

    Lock and snapshot go to `runtime_folder`, a row for each card and tick to the file `record`.
    Raises InputError, DriverError, NotControllable, or what ended the run.
    """
    inbox = StopInbox()
    inbox.catch_signals()
    inbox.reload_on_hang_up()
    notifier = Notifier.from_environment()
    try:
        with _recording(record) as recording:
            _control_cards(source, runtime_folder, recording, open_report, inbox, notifier)
    except GpufanError as error:
        if notifier is not None and not notifier.ready and not isinstance(error, NotGivenBack):
            notifier.hold_back(error, inbox)
        raise


def _control_cards(
    source: Source,
    runtime_folder: Path,
    recording: "RecordingFile | None",
    open_report: OpenReport,
    inbox: StopInbox,
    notifier: Notifier | None,
) -> None:
    settings = source.read()
    whole = settings.run_settings()
    folder = None if whole.dry_run else runtime_folder
    complaints: list[str] = []
    with controller_lock(folder, complaints.append), _cards(whole.backend, whole.display, folder) as cards:
        chosen = select(cards.gpus, whole.gpus, _who_wants(settings))
        if not whole.dry_run:
            cards.start_x_server(chosen)
        usable, obstacles = split_controllable(chosen)
        if not usable:
            raise NotControllable(f"no card here has fans that can be set: {'; '.join(obstacles)}")
        complaints += [f"left alone: {obstacle}" for obstacle in obstacles]
        complaints += settings.unmatched_tables([gpu.info for gpu in cards.gpus])
        report = open_report(
            f"gpufan {__version__} · "
            + ("dry run: nothing is set" if whole.dry_run else "ctrl-c gives the fans back to the driver")
        )
        for complaint in complaints:
            report.warn(complaint)
        learnt_folder = learnt.default_folder()
        known = learnt.read_all(learnt_folder, [gpu.info.uuid for gpu in usable])
        workers = make_workers(usable, settings.for_card, dry_run=whole.dry_run, learnt=known)
        keeper = learnt.Keeper(learnt_folder, workers)
        reload = partial(_reload, source, whole, cards.gpus, report)
        files = _rows_into(recording, report)
        if not whole.dry_run:
            files.append(_telling(keeper.publish, keeper.folder, report))
        with _snapshots(folder, report) as sinks, _aside(files) as asides:
            daemon = Daemon(
                workers,
                [*sinks, *asides] if notifier is None else [*sinks, *asides, notifier.publish],
                interval_s=whole.interval_s,
                dry_run=whole.dry_run,
                reload=reload,
                stopping=notifier.stopping if notifier else lambda: None,
            )
            try:
                daemon.run(inbox, whole.duration_s)
                if not whole.dry_run:
                    with suppress(NoAnswer, OSError):  # a disk that hangs or is full has been told of
                        call_with_timeout(0.5, keeper.save)
                    report.note(f"fans given back to the driver: {', '.join(gpu.info.label for gpu in usable)}")
            finally:
                report.close()


def _reload(source: Source, started: RunSettings, gpus: Sequence[Gpu], report: Report) -> tuple[float, SettingsFor]:
    """Read `source` again; the interval, and how each card is to be kept. Raises InputError, after telling `report`."""
    try:
        settings = source.read()
        whole = settings.run_settings()
        for key in RunSettings._fields:
            if key != "interval_s" and getattr(whole, key) != getattr(started, key):
                raise InputError(f"{source.path}: a new {key} needs a restart")
    except Exception as error:
        report.warn(f"settings not reloaded, those before stay: {error}")
        raise
    for line in settings.unmatched_tables([gpu.info for gpu in gpus]):
        report.warn(line)
    report.note(f"settings reloaded from {settings.path or 'the command line alone'}")
    return whole.interval_s, settings.for_card


def _who_wants(settings: Settings) -> str:
    """Who named the cards to control, for an error."""
    return "--gpu" if settings.resolve("gpus").origin == COMMAND_LINE else f"{settings.path}: gpus:"


def run_simulation(
    source: Source,
    runtime_folder: Path | None,
    record: Path | None,
    simulation: SimulationOptions,
    open_report: OpenReport,
) -> list[tuple[str, "CardSummary"]]:
    """Control the cards of a simulated box, touching nothing of the machine; what it came to, by card.

    Without a `runtime_folder` there is neither lock nor snapshot, without `record` no recording. Raises InputError.
    """
    from gpufan.daemon.summary import CardSummary
    from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox

    inbox = StopInbox()
    inbox.catch_signals()
    settings = source.read()
    whole = settings.run_settings()
    box = SimulatedBox(PROFILES[simulation.profile], WORKLOADS[simulation.workload])
    chosen = select(box.gpus, whole.gpus, _who_wants(settings))
    summaries = [CardSummary(gpu) for gpu in chosen]

    def add(_: Snapshot) -> None:
        for summary in summaries:
            summary.add(whole.interval_s)

    with controller_lock(runtime_folder, _complain), _recording(record) as recording:
        report = open_report(f"gpufan {__version__} · simulated {simulation.profile}, {simulation.workload}")
        for line in settings.unmatched_tables([gpu.info for gpu in box.gpus]):
            report.warn(line)
        workers = make_workers(chosen, settings.for_card, dry_run=whole.dry_run)
        with _snapshots(runtime_folder, report) as sinks:
            try:
                simulate(
                    box,
                    workers,
                    [add, *sinks, *_rows_into(recording, report)],
                    inbox,
                    interval_s=whole.interval_s,
                    duration_s=whole.duration_s,
                    time_scale=simulation.time_scale,
                    dry_run=whole.dry_run,
                )
            finally:
                report.close()
    return [(gpu.info.label, summary) for gpu, summary in zip(chosen, summaries, strict=True)]


def find(
    names: Sequence[str], profile: str | None, backend: str, display: str | None, folder: Path
) -> list[tuple[GpuInfo, Reading | None]]:
    """What every card named says of itself, and a reading; None for the reading of one that does not answer.

    A gpufan that runs, with its snapshot in `folder`, may have found out that a card needs X. Raises InputError,
    DriverError or GpufanError.
    """
    if profile is not None:
        from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox

        return [
            (gpu.info, gpu.read()) for gpu in select(SimulatedBox(PROFILES[profile], WORKLOADS["idle"]).gpus, names)
        ]
    found: list[tuple[GpuInfo, Reading | None]] = []
    falls_back = _found_to_need_x(folder) if backend == "auto" else {}
    with TemporaryDirectory(prefix="gpufan-") as own_folder, _cards(backend, display, Path(own_folder)) as cards:
        for gpu in select(cards.gpus, names):
            reading = None
            with suppress(NoAnswer):
                reading = call_with_timeout(PATIENCE_S, gpu.observe)
            info = gpu.info
            if info.uuid in falls_back:
                info = replace(info, backend="x11", backend_reason=falls_back[info.uuid])
            found.append((info, reading))
    return found


def restore(names: Sequence[str], folder: Path, source: Source) -> list[str]:
    """Give the fans of every card named back to the driver; a line for each.

    `source` tells the backend and the display. Raises InputError, DriverError, or GpufanError naming every card where
    it failed.
    """
    try:
        whole = source.read().run_settings()
    except InputError as error:
        # Of all times not now.
        _complain(f"{error}; going on without that file")
        whole = Settings(options=source.options).run_settings()
    failed = []
    # A daemon that systemd has killed may keep the lock while it hangs in the driver, for ever.
    lock_folder = None if os.environ.get("EXIT_CODE") in ("killed", "dumped") else folder
    with controller_lock(lock_folder, _complain), _cards(whole.backend, whole.display, folder) as cards:
        chosen = select(cards.gpus, names)
        cards.start_x_server(chosen)
        usable, obstacles = split_controllable(chosen)
        done = [f"{obstacle}: nothing to give back" for obstacle in obstacles]
        # Side by side: one that hangs must not use up the time of the others.
        for gpu, pending in [(gpu, BackgroundCall(partial(_give_back, gpu))) for gpu in usable]:
            try:
                pending.result(3 * PATIENCE_S)
                done.append(f"{gpu.info.label}: its fans are the driver's")
            except GpufanError as error:
                failed.append(f"{gpu.info.label}: {error}")
    if failed:
        raise GpufanError(f"fans not given back to the driver: {'; '.join(failed)}")
    if not names:
        # What a killed gpufan left is not true any more.
        with suppress(OSError):
            SnapshotFile(folder / SNAPSHOT).remove()
    return done


def run_xserver(folder: Path, tell: Callable[[str], None]) -> None:
    """Keep an X server that can set the fans of every card, until a signal; its files go into `folder`.

    `tell` is told how to use it. Raises DriverError where it cannot be started, GpufanError where there is no card or
    another process has its files in `folder`.
    """
    from gpufan.gpu.addresses import find_addresses
    from gpufan.xorg.server import HeadlessServer, headless_config

    inbox = StopInbox()
    inbox.catch_signals()
    with (
        controller_lock(folder, _complain),
        HeadlessServer(headless_config(find_addresses()), folder) as server,
    ):
        display = server.display()
        environment = f"GPUFAN_DISPLAY={display}\nXAUTHORITY={display.authority}\n"
        (folder / DISPLAY_ENVIRONMENT).write_text(environment)
        if notifier := Notifier.from_environment():
            notifier.send("READY=1", f"STATUS=X server on {display}")
        tell(f"X server on {display}; use it with: XAUTHORITY={display.authority} gpufan run --display {display}")
        inbox.wait(None)


@contextmanager
def _cards(backend: str, display: str | None, folder: Path | None) -> Iterator["Cards"]:
    """The cards of this machine, for as long as they are needed."""
    # Here as elsewhere not above, since a simulation needs no driver.
    from gpufan.gpu.cards import open_cards

    cards = open_cards(backend, display, folder or RUNTIME_FOLDER, PATIENCE_S)
    try:
        yield cards
    finally:
        cards.close()


def _give_back(gpu: Gpu) -> None:
    """Give the fans of `gpu` back, over X if NVML does not move them. Raises GpufanError."""
    try:
        call_with_timeout(PATIENCE_S, partial(release_verified, gpu))
    except NoAnswer:
        raise
    except GpuError as error:
        result = gpu.fall_back(str(error))
        if result.x_error:
            raise GpuError(f"{error}; over X neither: {result.x_error}") from error
        if not result.switched:
            raise
        try:
            call_with_timeout(PATIENCE_S, partial(release_verified, gpu))
        except GpufanError as x_error:
            raise GpuError(f"{error}; over X neither: {x_error}") from x_error


def _found_to_need_x(folder: Path) -> dict[str, str]:
    """UUIDs of the cards whose fans the running gpufan sets over X because NVML does not move them, and its words."""
    try:
        taken = snapshot.read(folder / SNAPSHOT)
    except GpufanError:
        return {}
    if snapshot.stale_s(taken) is not None:
        return {}
    return {gpu.uuid: gpu.backend_reason for gpu in taken.gpus if gpu.backend_reason}


@contextmanager
def _snapshots(folder: Path | None, report: Report) -> Iterator[list[Publish]]:
    """Where snapshots go: to `report`, and to the file in `folder`, which is removed at the end."""
    if folder is None:
        yield [report.publish]
        return
    file = SnapshotFile(folder / SNAPSHOT)
    try:
        yield [report.publish, _telling(file.write, folder / SNAPSHOT, report)]
    finally:
        with suppress(OSError):
            file.remove()


@contextmanager
def _recording(path: Path | None) -> Iterator["RecordingFile | None"]:
    """The recording in `path`, open. Raises InputError."""
    if path is None:
        yield None
        return
    from gpufan.daemon.recording import RecordingFile

    with RecordingFile(path) as recording:
        yield recording


def _rows_into(recording: "RecordingFile | None", report: Report) -> list[Publish]:
    return [] if recording is None else [_telling(recording.write, recording.path, report)]


@contextmanager
def _aside(sinks: Sequence[Publish]) -> Iterator[list[Publish]]:
    """`sinks` in threads of their own: a disk that hangs holds up neither control, nor the snapshot, nor the end."""
    asides = [BackgroundWriter(sink) for sink in sinks]
    try:
        yield [aside.put for aside in asides]
    finally:
        for aside in asides:
            aside.close(0.5)


def _telling(write: Publish, path: Path, report: Report) -> Publish:
    """`write`, and where it fails that is told to `report`: once, until it works again."""
    complained = False

    def publish(snapshot: Snapshot) -> None:
        nonlocal complained
        try:
            write(snapshot)
            complained = False
        except OSError as error:
            if not complained:
                report.warn(f"{path} cannot be written: {error.strerror}; control goes on")
            complained = True

    return publish


def _complain(text: str) -> None:
    print(f"gpufan: {text}", file=sys.stderr)
