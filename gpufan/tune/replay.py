"""What settings come to: each is run through the same worker that keeps real cards, on simulated or fitted ones."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

from gpufan.core.card_settings import CardSettings
from gpufan.core.thermal import SOUND_EXPONENT, approach, mean_sound_db, remaining_share, sound_db, total_sound_db
from gpufan.daemon.summary import HOT_C, CardSummary, Swings
from gpufan.daemon.workers import make_workers
from gpufan.gpu.simulated import Plant, Profile, SimulatedBox, SimulatedGpu, Workload
from gpufan.history.plot import Panel, Series
from gpufan.tune.fit import FittedPlant
from gpufan.tune.readings import Reading, RecordedCard

INTERVAL_S = 1.0


@dataclass(frozen=True)
class Setting:
    """One way to keep the fans."""

    name: str
    settings: CardSettings | None
    """None leaves them to the driver, as the simulator models it."""


@dataclass
class _Trace:
    """One card, second by second."""

    temperature_c: list[float] = field(default_factory=list)
    duty_percent: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What a setting came to: of several cards the worst of each, and the sound of all together."""

    name: str
    peak_c: float
    hot_s: float
    """Seconds above 83 °C."""
    sound_db: float
    swings: int
    throttled_percent: float | None
    """None where it is not known."""
    times_s: Sequence[float]
    temperature_c: Sequence[float]
    """Of the hottest card at `times_s`; so are the duty, percent, and the sound of all cards, dB(A)."""
    duty_percent: Sequence[float]
    sounds_db: Sequence[float]

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of a table's row under `HEADINGS`."""
        return (
            self.name,
            f"{self.peak_c:.1f}",
            f"{self.hot_s:.0f}",
            f"{self.sound_db:.1f}",
            str(self.swings),
            "" if self.throttled_percent is None else f"{self.throttled_percent:.1f} %",
        )


HEADINGS = ("setting", "peak °C", f"s > {HOT_C:g} °C", "dB(A)", "swings", "throttled")


def replay(box: SimulatedBox, setting: Setting, duration_s: float, stop_above_c: float = math.inf) -> Outcome:
    """Keep the cards of `box`, as they are, by `setting` for `duration_s`, or until one is above `stop_above_c`."""
    settings = setting.settings
    workers = [] if settings is None else make_workers(box.gpus, lambda _: settings)
    summaries = [CardSummary(gpu) for gpu in box.gpus]
    traces = [_Trace() for _ in box.gpus]
    sounds_db = []
    for second in range(round(duration_s / INTERVAL_S) + 1):
        for worker in workers:
            worker.tick(second * INTERVAL_S)
        for gpu, summary, trace in zip(box.gpus, summaries, traces, strict=True):
            summary.add(INTERVAL_S)
            trace.temperature_c.append(gpu.die_c)
            trace.duty_percent.append(gpu.speed_percent)
        sounds_db.append(total_sound_db([sound_db(gpu.speed_rpm) for gpu in box.gpus]))
        if any(gpu.die_c > stop_above_c for gpu in box.gpus):
            break
        box.advance(INTERVAL_S)
    hottest, trace = max(zip(summaries, traces, strict=True), key=lambda pair: pair[0].peak_c)
    return Outcome(
        setting.name,
        hottest.peak_c,
        max(summary.hot_s for summary in summaries),
        total_sound_db([summary.sound_db for summary in summaries]),
        max(summary.swings.count for summary in summaries),
        max(summary.throttled_percent for summary in summaries),
        [second * INTERVAL_S for second in range(len(sounds_db))],
        trace.temperature_c,
        trace.duty_percent,
        sounds_db,
    )


def panels(outcomes: Sequence[Outcome], limit_c: float, card: str = "") -> list[Panel]:
    """Temperature, duty and sound of `outcomes` over time, to be drawn; `card` says whose they are."""

    def series(values: Callable[[Outcome], Sequence[float]]) -> list[Series]:
        return [Series(outcome.name, outcome.times_s, values(outcome)) for outcome in outcomes]

    return [
        Panel(f"{card}temperature", "°C", series(lambda o: o.temperature_c), [(limit_c, f"{limit_c:g} °C")]),
        Panel(f"{card}duty", "%", series(lambda o: o.duty_percent)),
        Panel(f"{card}sound", "dB(A)", series(lambda o: [value or math.nan for value in o.sounds_db])),
    ]


class FittedBox(SimulatedBox):
    """Recorded cards as the plants fitted to them, as warm as they were, under the power that they drew or `workload`.

    The heat of the others comes with the air as it did in the recording, or as `workload` makes it.
    """

    def __init__(self, cards: Sequence[tuple[RecordedCard, FittedPlant]], workload: Workload | None = None) -> None:
        super().__init__(Profile("", tuple(plant for _, plant in cards)), workload or (lambda _: 0.0))
        self._others: list[Workload] = []
        self._coupling_k_per_w = [plant.coupling for _, plant in cards]
        for gpu, (card, _) in zip(self.gpus, cards, strict=True):
            _take_place(gpu, card)
            if workload is None:
                gpu.workload = _recorded(card, lambda reading: reading.power_w)
                self._others.append(_recorded(card, lambda reading: reading.others_w))
            else:
                self._others.append(lambda time_s: workload(time_s) * (len(cards) - 1))
        self._others_w = [others(0.0) for others in self._others]

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for every card."""
        for number, gpu in enumerate(self.gpus):
            now_w = self._others[number](gpu.time_s)
            time_constant_s = gpu.plant.resistance(gpu.speed_percent) * gpu.plant.heat_capacity
            self._others_w[number] = approach(self._others_w[number], now_w, remaining_share(seconds, time_constant_s))
            gpu.neighbour_heat_k = self._coupling_k_per_w[number] * self._others_w[number]
        super().advance(seconds)


def _take_place(gpu: SimulatedGpu, card: RecordedCard) -> None:
    """Let `gpu` be `card` at its first reading."""
    gpu.info = replace(card.info, slowdown_c=gpu.plant.slowdown_c)
    first = card.readings[0]
    gpu.die_c = gpu.sink_c = first.temperature_c
    gpu.speed_percent = gpu.driver_percent = first.speed_percent
    highest_w = max(reading.power_w for reading in card.readings)
    gpu.plant = replace(gpu.plant, power_limit_w=max(gpu.plant.power_limit_w, highest_w))


def recorded(card: RecordedCard) -> Outcome:
    """What `card` itself came to while it was recorded, told as a replay is."""
    seconds, rpm5, hot_s, swings = 0.0, 0.0, 0.0, Swings()
    times_s, temperatures_c, speeds_percent, sounds_db = [], [], [], []
    full_scale_rpm = card.full_scale_rpm or Plant().full_scale_rpm
    for elapsed_s, reading in _steps(card):
        rpm = reading.speed_percent / 100 * full_scale_rpm
        seconds += elapsed_s
        rpm5 += elapsed_s * rpm**SOUND_EXPONENT
        hot_s += elapsed_s * (reading.temperature_c > HOT_C)
        swings.add(reading.speed_percent if reading.duty_percent is None else reading.duty_percent)
        times_s.append(seconds)
        temperatures_c.append(reading.temperature_c)
        speeds_percent.append(reading.speed_percent)
        sounds_db.append(sound_db(rpm))
    mean_db = mean_sound_db(rpm5 / seconds)
    peak_c = max(temperatures_c)
    return Outcome(
        "as recorded", peak_c, hot_s, mean_db, swings.count, None, times_s, temperatures_c, speeds_percent, sounds_db
    )


def _recorded(card: RecordedCard, value: Callable[[Reading], float]) -> Workload:
    """What `value` was of `card` at a time, stretch after stretch, and then again from the start."""
    values = [value(reading) for _, reading in _steps(card)]
    ends_s = list(accumulate(elapsed_s for elapsed_s, _ in _steps(card)))
    return lambda time_s: values[min(bisect_right(ends_s, time_s % ends_s[-1]), len(values) - 1)]


def _steps(card: RecordedCard) -> Iterator[tuple[float, Reading]]:
    """Each reading but the first of a stretch, and the seconds since the one before."""
    for stretch in card.stretches:
        for before, after in pairwise(stretch):
            yield after.time_s - before.time_s, after
