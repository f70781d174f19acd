"""Tries settings on a simulated box, and measures the outcome.

The same workers that control real cards control the simulated cards.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpufan.config.settings import Settings
from gpufan.core.card_settings import DEFAULT_TARGET_C, CardSettings
from gpufan.core.curve import Curve
from gpufan.core.thermal import sound_db, total_sound_db
from gpufan.daemon.case_fans import make_case_fan_workers
from gpufan.daemon.summary import CardSummary, Summary
from gpufan.daemon.workers import make_workers
from gpufan.gpu.simulated import Plant, SimulatedBox
from gpufan.tune.recorded_cards import RecordedCard

INTERVAL_S = 1.0
"""Simulated time between two ticks of the workers, s."""


@dataclass(frozen=True)
class Trace:
    """Temperature and duty of one card over time. The values belong to the times in `Outcome.times_s`."""

    label: str
    temperature_c: Sequence[float]
    duty_percent: Sequence[float]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a setting.

    With several cards, each value is that of the worst card. Only the sound is that of all cards together.
    """

    name: str
    peak_c: float
    hot_s: float
    """Time above `daemon.summary.HOT_C`, s."""
    sound_db: float
    """Mean sound of all cards over time, dB(A)."""
    swings: int
    throttled_percent: float | None
    """Throughput lost because of lower clocks, percent. None if it is unknown."""
    times_s: Sequence[float]
    cards: Sequence[Trace]
    sounds_db: Sequence[float]
    """Sound of all cards at `times_s`, dB(A)."""


def settings_to_compare(curves: Sequence[Curve], targets_c: Sequence[float]) -> dict[str, CardSettings | None]:
    """Return the settings to compare, by name.

    They are the settings with each curve, the settings with each target (°C), the default settings, and the stock
    driver. None stands for the stock driver.
    """
    default = CardSettings(target_c=DEFAULT_TARGET_C)
    chosen = [*map(CardSettings, curves), *(CardSettings(target_c=target_c) for target_c in targets_c)]
    named = {str(settings): settings for settings in chosen if settings != default}
    return named | {f"default: {default}": default, "stock driver": None}


def replay(
    box: SimulatedBox, name: str, settings: CardSettings | None, duration_s: float, stop_above_c: float = math.inf
) -> Outcome:
    """Control the fans of all cards of `box` by `settings`, and return the outcome. `name` is the name of the outcome.

    If `settings` is None, the simulated driver controls the fans. The replay ends after `duration_s` seconds of
    simulated time, or when a card is warmer than `stop_above_c`, °C.
    """
    workers = [] if settings is None else make_workers(box.cards, lambda _: settings)
    if settings is not None and box.case_fans:
        fans = Settings().with_case_fans(box.case_fans)
        workers = [*workers, *make_case_fan_workers(fans, box.chip.open_fan, workers)]
    summaries = [CardSummary(gpu) for gpu in box.gpus]
    traces: list[list[tuple[float, float]]] = [[] for _ in box.gpus]
    sounds_db = []
    for second in range(round(duration_s / INTERVAL_S) + 1):
        for worker in workers:
            worker.tick(second * INTERVAL_S)
        for gpu, summary, trace in zip(box.gpus, summaries, traces, strict=True):
            summary.add(INTERVAL_S)
            trace.append((gpu.die_c, gpu.speed_percent))
        sounds_db.append(total_sound_db(sound_db(gpu.speed_rpm) for gpu in box.gpus))
        if any(gpu.die_c > stop_above_c for gpu in box.gpus):
            break
        box.advance(INTERVAL_S)
    return Outcome(
        name,
        max(summary.peak_c for summary in summaries),
        max(summary.hot_s for summary in summaries),
        total_sound_db(summary.sound_db for summary in summaries),
        max(summary.swings.count for summary in summaries),
        max(summary.throttled_percent for summary in summaries),
        [second * INTERVAL_S for second in range(len(sounds_db))],
        [Trace(gpu.info.label, *zip(*trace, strict=True)) for gpu, trace in zip(box.gpus, traces, strict=True)],
        sounds_db,
    )


def outcome_as_recorded(card: RecordedCard) -> Outcome:
    """Compute the outcome of `card` from its recording alone, without a simulation.

    The lost throughput is unknown.
    """
    summary = Summary()
    full_scale_rpm = card.full_scale_rpm or Plant().full_scale_rpm
    trace, seconds = [], 0.0
    for elapsed_s, reading in card.steps():
        seconds += elapsed_s
        rpm = reading.speed_percent / 100 * full_scale_rpm
        duty_percent = reading.speed_percent if reading.duty_percent is None else reading.duty_percent
        summary.add_reading(elapsed_s, reading.temperature_c, rpm, duty_percent)
        trace.append((seconds, reading.temperature_c, reading.speed_percent, sound_db(rpm)))
    times_s, temperatures_c, speeds_percent, sounds_db = zip(*trace, strict=True)
    return Outcome(
        "as recorded",
        summary.peak_c,
        summary.hot_s,
        summary.sound_db,
        summary.swings.count,
        None,
        times_s,
        [Trace(card.label, temperatures_c, speeds_percent)],
        sounds_db,
    )
