"""The model of a card: a fit of the last day of its history. It is made in a worker. There is no HTTP here."""

import math
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpufan.core.gpu import CASE_FAN, GpuInfo
from gpufan.errors import MissingExtra
from gpufan.history.reader import HistoryReader, TimeRange
from gpufan.tune.fit import Fit, fit
from gpufan.tune.plant import FittedPlant, steady_c
from gpufan.tune.propose import proposal_notes
from gpufan.tune.recorded_cards import RecordedCard, recorded_cards, with_mean_power
from gpufan.tune.replay import outcome_as_recorded

if TYPE_CHECKING:  # the page works without numpy too, as in a package whose box has no scipy
    from gpufan.tune.day_load import DayLoad

DAY_S = 86400.0
"""The models are fitted to the history of the last `DAY_S` seconds."""

_MOST_READINGS = 100_000
"""At most this many readings of a card are used. A day has 86,400 seconds."""

_FIT_STEP_S = 5.0
"""The fit uses the mean power of this time, s. A heatsink is too slow for shorter steps. A day has 17,280 steps."""

_SHORTEST_S = 600.0
"""A card with less recorded time than this, s, is not fitted."""

_IDLE_W = 50.0
"""A card whose power was always below this value, W, has shown nothing about its cooling."""

_UNSURE_K = 3.0
"""A fit whose predictions are wrong by more than this, K, is not used."""

_LOWEST_DUTY = (20, 30)
"""If the lowest recorded duty is in this range, percent, it counts as the lowest that the card accepts.

The history does not store which duties a card accepts.
"""

_SURE = 1.64
"""An error is below this many times its root mean square in 90 % of the cases."""

_ROUNDING_K = 0.29
"""Root mean square of the rounding of a temperature to whole degrees, K. It is in `CardModel.unseen_k` too."""

_REPLAY_K = 0.3
"""The error that the replay makes in the peak is below this in nine of ten cases, K.

tests/benchmarks/README.md has the measurement.
"""

_USUAL_DUTY = 60.0
"""The uncertainty of a model is stated for this duty, percent."""

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""The environment in which numpy is loaded. More threads do not make a fit faster, and the service may have few."""

_NICE = 10
"""A fit must not take processor time from the work of the box."""


@dataclass(frozen=True)
class Outcome:
    """What a card did in the last day, or would have done with other settings."""

    peak_c: float
    sound_db: float
    """Mean sound, dB(A)."""
    swings: int
    hot_s: float
    """Time above `daemon.summary.HOT_C`, s."""


@dataclass(frozen=True, eq=False)
class CardModel:
    """A card, its fitted plant (thermal model), its recorded load, and the outcome of the recorded day."""

    key: str
    label: str
    info: GpuInfo
    seconds: float
    """Length of the recorded load, s."""
    plant: FittedPlant
    cool_plant: FittedPlant
    warm_plant: FittedPlant
    """Plants that fit about as well as `plant`. The card is cooler at work than the first, or warmer than the second,
    in one of twenty cases each.
    """
    unseen_k: float
    """The root mean square of the errors of predictions for readings that were left out of a fit, K."""
    load: "DayLoad"
    jitter_k: float
    """Standard deviation of the temperature from reading to reading, K."""
    work_w: float
    """Mean power at work, W."""
    others_w: float
    """Mean power of the other cards at the same times, W."""
    was: Outcome
    notes: tuple[str, ...]
    """What makes the model less certain, with a remedy."""

    @property
    def error_k(self) -> float:
        """The error of a predicted peak is below this in 90 % of the cases if `plant` is right, K.

        It consists of the error of the model on readings that it has not seen, and that of the replay.
        """
        return math.hypot(_SURE * max(self.unseen_k**2 - _ROUNDING_K**2, 0.0) ** 0.5, _REPLAY_K)

    @property
    def uncertainty_k(self) -> float:
        """The error of a predicted peak under load is below this in 90 % of the cases, K."""
        cool_c, warm_c = (steady_c(p, self.work_w, _USUAL_DUTY) for p in (self.cool_plant, self.warm_plant))
        return math.hypot((warm_c - cool_c) / 2, self.error_k)


@dataclass(frozen=True)
class NoModel:
    """A card without a model, and why it has none."""

    key: str
    label: str
    seconds: float
    text: str
    """Why there is no model, and what to record."""


def fit_last_day(folder: Path, now_s: float) -> dict[str, CardModel | NoModel]:
    """Fit each card to the last day of the history in `folder`. The key is that of the card.

    `now_s` is the present time, seconds since the epoch. Readings after it were made while the clock was wrong.
    Raises GpufanError if the history cannot be used, MissingExtra if scipy is not installed.
    """
    with suppress(OSError):  # the sandbox of the service forbids it, and has lowered the priority already
        os.nice(_NICE)
    os.environ.update(ONE_THREAD)
    try:
        from gpufan.tune.day_load import day_loads
    except ModuleNotFoundError:  # numpy comes with scipy
        raise MissingExtra("a fit needs", "scipy", "tune") from None
    with HistoryReader(folder) as reader:
        end_s = min(reader.time_range().end_s, now_s)
        cards_only = [card for card in reader.cards() if not card.uuid.startswith(CASE_FAN)]
        rows = reader.readings(cards_only, TimeRange(end_s - DAY_S, end_s))
        cards = recorded_cards(rows, _MOST_READINGS)
    return {card.uuid: model_of_card(card, load) for card, load in zip(cards, day_loads(cards), strict=True)}


def model_of_card(card: RecordedCard, load: "DayLoad") -> CardModel | NoModel:
    """Return the model of a card with this `load`, or a NoModel with the reason.

    Raises MissingExtra if scipy is not installed.
    """
    if not card.stretches:
        text = "the last day has no minute in which temperature, power and fan speed were read at least every 10 s"
        return NoModel(card.uuid, card.label, 0.0, text)
    minutes = card.seconds / 60
    if card.seconds < _SHORTEST_S:
        text = f"the last day has only {minutes:.0f} min of readings: let gpufan run for an hour while the card works"
        return NoModel(card.uuid, card.label, card.seconds, text)
    high_w = card.usual_range(lambda reading: reading.power_w)[1]
    if high_w < _IDLE_W:
        text = (
            f"in the last day the card drew at most {high_w:.0f} W, which shows nothing about its cooling: let it work"
            " for half an hour with a pause of some minutes, so that the fans move"
        )
        return NoModel(card.uuid, card.label, card.seconds, text)
    found = fit(with_mean_power(card, _FIT_STEP_S))
    if found.unseen_k is None or found.unseen_k > _UNSURE_K:
        wrong = "cannot be tested" if found.unseen_k is None else f"is wrong by {found.unseen_k:.1f} K"
        text = (
            f"a model of the last {minutes / 60:.1f} h {wrong}, so it is not used: let the card work for an hour as"
            " usual, while nothing but the load changes"
        )
        return NoModel(card.uuid, card.label, card.seconds, text)
    return _card_model(card, load, found, found.unseen_k, high_w)


def _card_model(card: RecordedCard, load: "DayLoad", found: Fit, unseen_k: float, high_w: float) -> CardModel:
    """Return the model of a card from its fit. `high_w` is its usual highest power, W."""
    from gpufan.tune.day_load import reading_jitter_k

    working = [reading for reading in card.readings if reading.power_w > high_w / 3]
    was = outcome_as_recorded(card)
    lowest = min((r.duty_percent for r in card.readings if r.duty_percent is not None), default=0.0)
    lowest_percent = round(lowest) if _LOWEST_DUTY[0] <= lowest <= _LOWEST_DUTY[1] else _LOWEST_DUTY[1]
    highest_w = max(reading.power_w for reading in card.readings)
    work_w = sum(reading.power_w for reading in working) / len(working)
    others_w = sum(reading.others_w for reading in working) / len(working)
    by_heat = sorted(found.draws, key=lambda p: steady_c(p, work_w, _USUAL_DUTY) + p.coupling * others_w)
    return CardModel(
        key=card.uuid,
        label=card.label,
        info=replace(card.info, duty_range=(lowest_percent, 100), power_limit_w=highest_w),
        seconds=card.seconds,
        plant=found.plant,
        cool_plant=by_heat[len(by_heat) // 20],
        warm_plant=by_heat[-1 - len(by_heat) // 20],
        unseen_k=unseen_k,
        load=load,
        jitter_k=reading_jitter_k(card),
        work_w=work_w,
        others_w=others_w,
        was=Outcome(was.peak_c, was.sound_db, was.swings, was.hot_s),
        notes=tuple(proposal_notes(found)),
    )
