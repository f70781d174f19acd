"""A day of history for `gpufan web --simulate`: simulated cards at plausible work, written by the real history writer.

The same seed and the same end give the same day.
"""

import math
import os
import random
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from gpufan.config.settings import Settings
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import GpuInfo
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import recording
from gpufan.daemon.case_fans import make_case_fan_workers
from gpufan.daemon.snapshot_file import read_snapshot, snapshot_now
from gpufan.daemon.workers import make_workers
from gpufan.gpu.simulated import PROFILES, SimulatedBox, SimulatedGpu, Workload
from gpufan.history.events import EventDetector
from gpufan.history.recorder import POLL_S, HistoryRecorder
from gpufan.history.writer import HistoryWriter, Sample
from gpufan.system.clock import since_boot_s

_SEED = 7
"""The day on the page is always the same, apart from its time of day."""

_NICE = 5
"""The page and the simulated cards have priority."""

DAY_S = 86400.0
HOUR_S = 3600.0

INTERVAL_S = 5.0
"""Time between two readings of the generated day, s. With 1 s it would take three times as long to make it."""

_NOISE_W, _NOISE_C = 4.0, 0.2
"""The generated cards have this noise of power and temperature, so that the day looks like one of real cards."""

_OFF_S = 40.0
"""The restart interrupts the readings for this time, s."""

_STUCK_S = 150.0
"""The speed of the fan that does not obey stays the same for this time after a job has begun, s."""

_WRITE_AT_ONCE = 300
"""This many snapshots are written together."""


def record_simulated_day(
    folder: Path,
    profile: str,
    settings_for: Callable[[GpuInfo], CardSettings],
    before: Sequence[Snapshot],
    snapshot_path: Path,
) -> None:
    """Write the day of a simulated box to the history in `folder`, and record its snapshots. This never returns.

    `profile` is the name of the box in `PROFILES`. The day ends where the snapshots `before` begin. The folder appears
    when the day is complete.
    """
    with suppress(OSError):  # a sandbox may forbid it
        os.nice(_NICE)
    recorder = make_day_and_record(folder, profile, settings_for, before, lambda: read_snapshot(snapshot_path))
    while True:
        time.sleep(POLL_S)
        recorder.tick(time.time(), since_boot_s())


def make_day_and_record(
    folder: Path,
    profile: str,
    settings_for: Callable[[GpuInfo], CardSettings],
    before: Sequence[Snapshot],
    read: Callable[[], Snapshot],
    wall_clock: Callable[[], float] = time.time,
    seconds: float = DAY_S,
) -> HistoryRecorder:
    """Write the day of a simulated box like `record_simulated_day`, and record its present snapshots at the same time.

    Without the second, the history would lack the seconds in which the day is made. `read` returns the present
    snapshot. `wall_clock` returns seconds since the epoch. `seconds` is the length of the day.
    Returns the recorder, which is to be continued.
    """
    making = folder.with_name(f"{folder.name}-making")
    making.mkdir(parents=True, exist_ok=True)
    writer = HistoryWriter(making)
    # The recorder is made while the history is empty. So it never finds a gap before its first snapshot.
    recorder = HistoryRecorder(writer, read, since_boot_s())
    writer.write([sample for snapshot in before for sample in _samples(snapshot)], ())
    due_s = -math.inf

    def record_when_due() -> None:
        nonlocal due_s
        now_s = since_boot_s()
        if now_s >= due_s:
            due_s = now_s + POLL_S
            recorder.tick(wall_clock(), now_s)

    # A short gap, since the cards of the page were made anew: in a stretch without a gap, a fit would see a jump.
    end_s = (before[0].time_s if before else wall_clock()) - _OFF_S
    write_day(making, profile, settings_for, end_s, _SEED, seconds, record_when_due)
    recorder.close()
    making.rename(folder)
    return HistoryRecorder(HistoryWriter(folder), read, since_boot_s())


def write_day(
    folder: Path,
    profile: str,
    settings_for: Callable[[GpuInfo], CardSettings],
    end_s: float,
    seed: int,
    seconds: float = DAY_S,
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Write the day before `end_s`, seconds since the epoch, to the history in `folder`. `seconds` is its length.

    `profile` is the name of the simulated box in `PROFILES`. `settings_for` returns the settings of a card.
    `after_each` is called after each snapshot of the day.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = HistoryWriter(folder)
    detector = EventDetector()
    samples: list[Sample] = []
    last_s = math.inf
    try:
        for number, snapshot in enumerate(_snapshots(profile, settings_for, end_s, seed, seconds)):
            samples += _samples(snapshot)
            if snapshot.time_s > last_s + 2 * INTERVAL_S:
                detector.add_gap(last_s, snapshot.time_s, "gpufan did not run")
            last_s = snapshot.time_s
            detector.add(snapshot)
            if number % _WRITE_AT_ONCE == 0:
                writer.write(samples, detector.changed.values())
                samples.clear()
                detector.changed.clear()
            after_each()
        writer.write(samples, detector.changed.values())
    finally:
        writer.close()


def _samples(snapshot: Snapshot) -> Iterator[Sample]:
    """Yield a sample of each card and each case fan in `snapshot`."""
    rows = recording.rows_of_states(snapshot, snapshot.states)
    for row, gpu in zip(rows, snapshot.states, strict=True):
        yield Sample(row._replace(time_s=snapshot.time_s), snapshot.interval_s, gpu)


def _snapshots(
    profile: str, settings_for: Callable[[GpuInfo], CardSettings], end_s: float, seed: int, seconds: float
) -> Iterator[Snapshot]:
    """Yield the snapshots of the day, in the order of time. Their times are those of the day."""
    chosen = PROFILES[profile]
    plants = tuple(replace(plant, power_noise_w=_NOISE_W, sensor_noise_c=_NOISE_C) for plant in chosen.plants)
    begin_s = end_s - seconds
    box = SimulatedBox(replace(chosen, plants=plants), lambda _: 0.0)
    for gpu in box.gpus:
        gpu.workload = day_workload(begin_s, gpu.info.index, seed)
        gpu.power_w = gpu.workload(0.0)
    draw = random.Random(f"{seed}/events")
    restart_s = draw.uniform(0.4, 0.6) * seconds
    rival_s = draw.uniform(0.1, 0.3) * seconds
    stuck_s = _work_begins_s(box.gpus[0].workload, draw.uniform(0.6, 0.75) * seconds, seconds)
    fan_settings = Settings().with_case_fans(box.case_fans)

    def local_time(now_s: float) -> time.struct_time:
        return time.localtime(begin_s + now_s)

    workers = make_workers(box.cards, settings_for, wall_clock=local_time)
    case_fans = make_case_fan_workers(fan_settings, box.chip.open_fan, workers, wall_clock=local_time)
    process, started_s = 1000 + seed % 1000, begin_s - 3 * HOUR_S

    now_s = 0.0
    while now_s < seconds:
        if restart_s <= now_s:
            restart_s = math.inf
            learnt = {worker.gpu.info.uuid: found for worker in workers if (found := worker.learnt) is not None}
            for worker in (*workers, *case_fans):
                worker.stop()
            box.advance(_OFF_S)
            now_s += _OFF_S
            process, started_s = process + 17, begin_s + now_s
            workers = make_workers(box.cards, settings_for, learnt=learnt, wall_clock=local_time)
            case_fans = make_case_fan_workers(fan_settings, box.chip.open_fan, workers, wall_clock=local_time)
        if rival_s <= now_s < rival_s + 3 * INTERVAL_S:
            box.gpus[-1].set_duty(35)  # another program
        _hold_fan(box.gpus[0], plants[0].ramp_percent_per_s, is_stuck=stuck_s <= now_s < stuck_s + _STUCK_S)
        for worker in (*workers, *case_fans):
            worker.tick(now_s)
        states, fans = (tuple(worker.state for worker in each) for each in (workers, case_fans))
        snapshot = snapshot_now(states, case_fans=fans, interval_s=INTERVAL_S)
        yield msgspec.structs.replace(snapshot, time_s=begin_s + now_s, pid=process, started_s=started_s)
        box.advance(INTERVAL_S)
        now_s += INTERVAL_S


def _hold_fan(gpu: SimulatedGpu, ramp_percent_per_s: float, *, is_stuck: bool) -> None:
    """Let the fans of `gpu` follow their target at `ramp_percent_per_s`, or stay as fast as they are."""
    ramp = 0.0 if is_stuck else ramp_percent_per_s
    if gpu.plant.ramp_percent_per_s != ramp:
        gpu.plant = replace(gpu.plant, ramp_percent_per_s=ramp)


def _work_begins_s(workload: Workload, near_s: float, seconds: float) -> float:
    """Return when a card begins to work after ten minutes of rest, s: the time that is nearest to `near_s`."""
    found, rest_s = [near_s], 0.0
    for second in range(0, int(seconds), 10):
        power_w = workload(float(second))
        if power_w > 150 and rest_s >= 600:
            found.append(float(second))
        rest_s = rest_s + 10 if power_w < 100 else 0.0
    return min(found[1:] or found, key=lambda begin_s: abs(begin_s - near_s))


def day_workload(begin_s: float, card: int, seed: int) -> Workload:
    """Return the work of the card `card` over a day that begins at `begin_s`, seconds since the epoch.

    The hours are local: by night nobody works, and in the morning jobs begin.
    """
    draw = random.Random(f"{seed}/{card}")
    starts_s, powers_w = [0.0], [_idle_w(card)]

    def add(start_s: float, power_w: float) -> None:
        starts_s.append(max(start_s, starts_s[-1]))
        powers_w.append(power_w)

    local = time.localtime(begin_s)
    hour = local.tm_hour + local.tm_min / 60
    for day in (0, 24):
        for begin_hour, end_hour, kind in _PLAN[card % len(_PLAN)]:
            first_s = (begin_hour + day - hour + draw.uniform(-0.2, 0.2)) * HOUR_S
            last_s = (end_hour + day - hour + draw.uniform(-0.2, 0.2)) * HOUR_S
            for start_s, power_w in _JOBS[kind](first_s, last_s, draw):
                if start_s < DAY_S:
                    add(start_s, power_w)
            add(last_s, _idle_w(card))
    return lambda time_s: powers_w[bisect_right(starts_s, time_s) - 1]


def _idle_w(card: int) -> float:
    """Return the power of a card without work, W."""
    return 12.0 - card % 2 * 3


def _training(begin_s: float, end_s: float, draw: random.Random) -> Iterator[tuple[float, float]]:
    """Yield the start, s, and the power, W, of each phase of a training: epochs, and a validation after each."""
    epoch_s, check_s = draw.uniform(240, 900), draw.uniform(15, 60)
    epoch_w, check_w = draw.uniform(215, 242), draw.uniform(60, 110)
    while begin_s < end_s:
        yield begin_s, epoch_w
        yield begin_s + epoch_s, check_w
        begin_s += epoch_s + check_s


def _short_jobs(begin_s: float, end_s: float, draw: random.Random) -> Iterator[tuple[float, float]]:
    """Yield the phases of a queue of short jobs of different lengths, with pauses."""
    while begin_s < end_s:
        yield begin_s, draw.uniform(130, 235)
        begin_s += math.exp(draw.uniform(math.log(30), math.log(900)))
        yield begin_s, 55.0
        begin_s += math.exp(draw.uniform(math.log(10), math.log(300)))


def _answers(begin_s: float, end_s: float, draw: random.Random) -> Iterator[tuple[float, float]]:
    """Yield the phases of a language model that answers questions now and then."""
    while begin_s < end_s:
        yield begin_s, draw.uniform(140, 200)
        begin_s += draw.uniform(8, 60)
        yield begin_s, 62.0
        begin_s += draw.uniform(20, 400)


_JOBS = {"training": _training, "queue": _short_jobs, "answers": _answers}

_PLAN = (
    ((0.2, 1.5, "training"), (9.0, 12.5, "training"), (13.5, 17.0, "queue"), (19.5, 23.9, "training")),
    ((8.0, 9.5, "queue"), (10.0, 14.5, "training"), (15.0, 18.5, "training"), (20.0, 22.5, "answers")),
)
"""The work of each card: the local hours of its beginning and end, and its kind. The night is quiet."""
