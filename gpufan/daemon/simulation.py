"""`gpufan run --simulate`: controls the cards of a simulated box in simulated time, with the workers of a real run."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from gpufan import __version__
from gpufan.config.settings import Source
from gpufan.core.selection import select_cards
from gpufan.core.snapshot import Snapshot
from gpufan.daemon.case_fans import make_case_fan_workers
from gpufan.daemon.publish import Publish, publish_to_recording, publish_to_snapshot_file
from gpufan.daemon.run import log_run_settings_warnings, run_cards_named_by
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.daemon.summary import CardSummary
from gpufan.daemon.view import OpenView
from gpufan.daemon.worker import Worker
from gpufan.daemon.workers import make_workers
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.system.lock import controller_lock
from gpufan.system.signals import StopInbox


@dataclass(frozen=True)
class SimulationOptions:
    """The options of a simulation: the box, its load, and the speed at which simulated time passes."""

    profile: str
    workload: str
    time_scale: float
    """Simulated seconds per second; infinity for as fast as possible."""


def simulation_local_time(now_s: float) -> time.struct_time:
    """Convert `now_s`, a time of a simulation in seconds, to the local time.

    A simulation begins on a Monday at midnight, so that the results are repeatable.
    """
    return time.gmtime(4 * 86400 + now_s)


def run_simulation(
    source: Source,
    runtime_folder: Path | None,
    record: Path | None,
    options: SimulationOptions,
    open_view: OpenView,
) -> list[tuple[str, CardSummary]]:
    """Control the cards of a simulated box, and no real card. Returns label and summary of each card.

    If `runtime_folder` is None, there is no lock and no snapshot. `record` is the file of the recording; None for no
    recording. `open_view` opens the view of the run. Raises InputError.
    """
    inbox = StopInbox()
    inbox.catch_signals()
    settings = source.read()
    run = settings.run_settings()
    box = SimulatedBox(PROFILES[options.profile], WORKLOADS[options.workload])
    if box.case_fans and not settings.case_fans:
        settings = settings.with_case_fans(box.case_fans)
    gpus = box.cards
    if settings.has_header_fans:
        gpus = box.cards_with_headers(lambda info: settings.for_card(info).fans or box.header_names(info))
    chosen = select_cards(gpus, run.gpus, run_cards_named_by(settings))
    cards = {gpu.info.uuid: gpu for gpu in box.gpus}
    summaries = [CardSummary(cards[gpu.info.uuid]) for gpu in chosen]

    def add_to_summaries(_: Snapshot) -> None:
        for summary in summaries:
            summary.add(run.interval_s)

    with ExitStack() as stack:
        lock = stack.enter_context(controller_lock(runtime_folder))
        rows = stack.enter_context(publish_to_recording(record))
        title = f"gpufan {__version__} · simulated {options.profile}, {options.workload}"
        view = stack.enter_context(closing(open_view(title)))
        log_run_settings_warnings(settings, box.gpus)
        sinks = [
            add_to_summaries,
            view.publish,
            *stack.enter_context(publish_to_snapshot_file(runtime_folder, lock)),
            *rows,
        ]
        workers = make_workers(chosen, settings.for_card, dry_run=run.dry_run, wall_clock=simulation_local_time)
        simulate_workers(
            box,
            workers,
            sinks,
            inbox,
            case_fans=make_case_fan_workers(
                settings, box.chip.open_fan, workers, dry_run=run.dry_run, wall_clock=simulation_local_time
            ),
            interval_s=run.interval_s,
            duration_s=run.duration_s,
            time_scale=options.time_scale,
            dry_run=run.dry_run,
        )
    return [(gpu.info.label, summary) for gpu, summary in zip(chosen, summaries, strict=True)]


def simulate_workers(
    box: SimulatedBox,
    workers: Sequence[Worker],
    sinks: Sequence[Publish],
    inbox: StopInbox,
    *,
    case_fans: Sequence[Worker] = (),
    duration_s: float | None,
    interval_s: float = 1.0,
    time_scale: float = math.inf,
    dry_run: bool = False,
) -> None:
    """Let `workers` control a simulated `box`. In each tick they work one after the other.

    This ends after `duration_s` simulated seconds, or when `inbox` has a reason to stop. Each of `sinks` receives a
    snapshot after every tick. `time_scale` simulated seconds take one real second.
    """
    start_s = time.monotonic()
    now_s = 0.0
    try:
        while not inbox.wait(max(start_s + now_s / time_scale - time.monotonic(), 0)):
            for worker in (*workers, *case_fans):
                worker.tick(now_s)
            states, fans = (tuple(worker.state for worker in each) for each in (workers, case_fans))
            snapshot = snapshot_now(states, case_fans=fans, interval_s=interval_s, dry_run=dry_run, simulated_s=now_s)
            for publish in sinks:
                publish(snapshot)
            if duration_s is not None and now_s >= duration_s:
                break
            box.advance(interval_s)
            now_s += interval_s
    finally:
        for worker in (*workers, *case_fans):
            worker.stop()
