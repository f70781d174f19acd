"""The model of each card: a fit of the last day of its history. There is no HTTP here."""

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from gpufan.core.gpu import GpuInfo
from gpufan.history.reader import HistoryReader, TimeRange
from gpufan.tune.fit import Fit, fit
from gpufan.tune.plant import FittedPlant, steady_c
from gpufan.tune.propose import proposal_notes
from gpufan.tune.recorded_cards import RecordedCard, recorded_cards, with_mean_power
from gpufan.tune.replay import outcome_as_recorded
from gpufan.tune.thinned_load import LoadPart, reading_jitter_k, thin_load
from gpufan.web.worker import Worker, run_in_fresh_process

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

_STEPS_K = 0.5
"""The error that the long steps of a replay make in the peak is below this in nine of ten cases, K.

tests/benchmarks/README.md has the measurement.
"""

_USUAL_DUTY = 60.0
"""The uncertainty of a model is stated for this duty, percent."""

_DRAWS = 100
"""Number of plants that represent the uncertainty of a fit."""

RENEW_S, RETRY_S, SEARCH_S = 3600.0, 300.0, 5.0
"""A model is fitted again after the first time, s. While a card has no model, a fit is tried after the second time.

If the history cannot be used, it is opened again after the third time.
"""

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


@dataclass(frozen=True)
class CardModel:
    """A card, its fitted plant (thermal model), its recorded load, and the outcome of the recorded day."""

    key: str
    label: str
    info: GpuInfo
    seconds: float
    """Length of the recorded load, s."""
    plant: FittedPlant
    draws: tuple[FittedPlant, ...]
    """Random plants that fit about as well as `plant`."""
    unseen_k: float
    """The root mean square of the errors of predictions for readings that were left out of a fit, K."""
    load: tuple[LoadPart, ...]
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

        It consists of the error of the model on readings that it has not seen, and that of the long steps of a replay.
        """
        return math.hypot(_SURE * max(self.unseen_k**2 - _ROUNDING_K**2, 0.0) ** 0.5, _STEPS_K)

    @property
    def uncertainty_k(self) -> float:
        """The error of a predicted peak under load is below this in 90 % of the cases, K."""
        warm = sorted(steady_c(plant, self.work_w, _USUAL_DUTY) for plant in self.draws)
        spread_k = (warm[-1 - len(warm) // 20] - warm[len(warm) // 20]) / 2
        return math.hypot(spread_k, self.error_k)


@dataclass(frozen=True)
class NoModel:
    """A card without a model, and why it has none."""

    key: str
    label: str
    seconds: float
    text: str
    """Why there is no model, and what to record."""


class ModelState(str, Enum):
    """The state of the model of a card, as the page reads it."""

    READY = "ready"
    FITTING = "fitting"
    """The model, or the simulated history for it, is being made."""
    TOO_LITTLE = "too-little"
    """The last day shows too little of the card."""
    NONE = "none"
    """There is no history of the card."""


CardModels = Mapping[str, CardModel | NoModel]


def fit_last_day(folder: Path) -> dict[str, CardModel | NoModel]:
    """Fit each card to the last day of the history in `folder`. The key is that of the card.

    Raises GpufanError if the history cannot be used, MissingExtra if scipy is not installed.
    """
    with suppress(OSError):  # the sandbox of the service forbids it, and has lowered the priority already
        os.nice(_NICE)
    os.environ.update(ONE_THREAD)
    with HistoryReader(folder) as reader:
        end_s = reader.time_range().end_s
        rows = reader.readings(reader.cards(), TimeRange(end_s - DAY_S, end_s))
        cards = recorded_cards(rows, _MOST_READINGS)
    return {card.uuid: model_of_card(card) for card in cards}


def model_of_card(card: RecordedCard) -> CardModel | NoModel:
    """Return the model of a card, or a NoModel with the reason. Raises MissingExtra if scipy is not installed."""
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
    return _card_model(card, found, found.unseen_k, high_w)


def _card_model(card: RecordedCard, found: Fit, unseen_k: float, high_w: float) -> CardModel:
    """Return the model of a card from its fit. `high_w` is its usual highest power, W."""
    working = [reading for reading in card.readings if reading.power_w > high_w / 3]
    was = outcome_as_recorded(card)
    lowest = min((r.duty_percent for r in card.readings if r.duty_percent is not None), default=0.0)
    lowest_percent = round(lowest) if _LOWEST_DUTY[0] <= lowest <= _LOWEST_DUTY[1] else _LOWEST_DUTY[1]
    highest_w = max(reading.power_w for reading in card.readings)
    return CardModel(
        key=card.uuid,
        label=card.label,
        info=replace(card.info, duty_range=(lowest_percent, 100), power_limit_w=highest_w),
        seconds=card.seconds,
        plant=found.plant,
        draws=found.draws[:: max(len(found.draws) // _DRAWS, 1)],
        unseen_k=unseen_k,
        load=tuple(thin_load(card)),
        jitter_k=reading_jitter_k(card),
        work_w=sum(reading.power_w for reading in working) / len(working),
        others_w=sum(reading.others_w for reading in working) / len(working),
        was=Outcome(was.peak_c, was.sound_db, was.swings, was.hot_s),
        notes=tuple(proposal_notes(found)),
    )


class Models:
    """The models of the cards. They are fitted in a worker, and again when there is much new history."""

    def __init__(
        self,
        worker: Worker,
        folder: Path | None,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_simulated: bool = False,
    ) -> None:
        """`folder` is that of the history; None if there is none. `clock` returns seconds.

        If `is_simulated` is set and there is no folder yet, the history is being made.
        """
        self._is_simulated = is_simulated
        self._worker = worker
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._fitted_s: float | None = None
        self._models: CardModels = {}
        self._error = ""

    def ready(self) -> dict[str, CardModel]:
        """Return the models that can predict. Starts a fit if there is none yet, or if it is old."""
        self.renew()
        return {key: model for key, model in self._models.items() if isinstance(model, CardModel)}

    def states(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the state of the model of each card: the answer to `/api/model`.

        `keys` are those of the present cards. Starts a fit if there is none yet, or if it is old.
        """
        self.renew()
        return {"cards": {key: self._state(key) for key in (*self._models, *keys)}}

    def renew(self) -> None:
        """Start a fit in a thread, if one is due and none runs."""
        with self._lock:
            if self._folder is None or self._thread is not None:
                return
            if self._fitted_s is not None:
                lacks = any(isinstance(model, NoModel) for model in self._models.values())
                wait_s = SEARCH_S if self._error else RETRY_S if lacks else RENEW_S
                if self._clock() - self._fitted_s < wait_s:
                    return
            self._thread = threading.Thread(target=self._fit, name="fit", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Wait until no fit runs."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _fit(self) -> None:
        """Fit all cards, in the thread."""
        models: CardModels = self._models
        error = ""
        try:
            models = self._worker.call(run_in_fresh_process, fit_last_day, self._folder)
        except Exception as problem:
            error = str(problem)
        with self._lock:
            self._models, self._error = models, error
            self._fitted_s, self._thread = self._clock(), None

    def _state(self, key: str) -> dict[str, Any]:
        """Return the state of the model of one card."""
        model = self._models.get(key)
        if isinstance(model, CardModel):
            hours, uncertainty_k = model.seconds / 3600, model.uncertainty_k
            text = f"learnt from {hours:.1f} h of the last day; predicted peaks are right within {uncertainty_k:.1f} °C"
            note = f"; {model.notes[0]}" if model.notes else ""
            return _state(ModelState.READY, text + note, hours, round(uncertainty_k, 2))
        if isinstance(model, NoModel):
            return _state(ModelState.TOO_LITTLE, model.text, model.seconds / 3600)
        if self._folder is None:
            return _state(ModelState.NONE, "there is no history to learn from")
        if self._is_simulated and not self._folder.exists():
            return _state(ModelState.FITTING, "the last day of the simulated cards is being made")
        if self._fitted_s is None or (self._is_simulated and self._error):
            return _state(ModelState.FITTING, "the model of this card is being made from the last day")
        return _state(ModelState.NONE, self._error or "the last day has no readings of this card")


def _state(state: ModelState, text: str, hours: float = 0.0, uncertainty_k: float | None = None) -> dict[str, Any]:
    """Return the state of a model as the page reads it."""
    return {"state": state, "text": text, "hours": round(hours, 2), "uncertainty_k": uncertainty_k}
