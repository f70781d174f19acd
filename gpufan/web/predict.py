"""The prediction of the last day with other settings: a replay of the recorded power on the fitted models.

There is no HTTP here. Workers make the replays: one with the fitted models, and for the interval of the peak two with
models that are a little cooler and a little warmer.
"""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import GpuInfo
from gpufan.core.thermal import total_sound_db
from gpufan.tune.plant import FittedPlant
from gpufan.tune.settled_law import settled_learnt
from gpufan.web.card_model import ONE_THREAD, CardModel, Outcome
from gpufan.web.worker import Worker

if TYPE_CHECKING:  # only workers load numpy
    from gpufan.tune.day_replay import DayOutcome
    from gpufan.tune.lane_box import DayCard
    from gpufan.tune.lanes import LaneLoad

_COURSE_POINTS = 600
"""The course of a card has at most this many points."""


class Wish(NamedTuple):
    """The settings that a person tries on one card."""

    settings: CardSettings
    slowdown_c: int | None = None
    """The temperature at which the card slows itself down, °C; None if it is unknown."""
    duty_range: tuple[int, int] | None = None
    """Lowest and highest duty that the card accepts, percent; None for those that the history suggests."""


class Course(NamedTuple):
    """The temperature and the fan speed of a card over the day: the warmest second of each stretch of time."""

    time_s: list[int]
    temperature_c: list[float]
    duty_percent: list[int]


class Replayed(NamedTuple):
    """The outcome of a replay of one card."""

    would: Outcome
    course: Course


class Heat(str, Enum):
    """Which of the models of a card is replayed."""

    FITTED = "plant"
    COOL = "cool_plant"
    WARM = "warm_plant"

    def plant_of(self, model: CardModel) -> FittedPlant:
        """Return the plant (thermal model)."""
        plant: FittedPlant = getattr(model, self.value)
        return plant


_MODELS: "dict[str, tuple[CardModel, LaneLoad]]" = {}
"""In a worker: the models that it replays, and their loads."""


class Predictor:
    """Predicts in several workers, one request after the other."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._turn = threading.Lock()
        self._known: Mapping[str, CardModel] = {}
        """The models that the workers have."""

    def prepare(self, models: Mapping[str, CardModel]) -> None:
        """Give `models` to the workers, so that the next prediction need not wait for that."""
        with self._turn:
            self._prepare(models)

    def predict(self, models: Mapping[str, CardModel], wishes: Mapping[str, Wish]) -> dict[str, Any]:
        """Return what `wishes` would have done: the answer to `/api/predict`.

        `wishes` has the settings of each chosen card, by its key; cards without a model are left out.
        """
        begin = time.perf_counter()
        with self._turn:
            chosen = {key: wish for key, wish in wishes.items() if key in models}
            if not chosen:
                return {"hours": 0.0, "elapsed_ms": 0.0, "cards": {}, "together": None, "error": _nothing(wishes)}
            self._prepare(models)
            # With two workers, the first makes the first and the last replay.
            tasks = [(peaks_task, (chosen, Heat.COOL)), (replay_task, (chosen,)), (peaks_task, (chosen, Heat.WARM))]
            cool, fitted, warm = self._call(tasks)
        cards = {}
        for key, (would, course) in fitted.items():
            low_c, high_c = _interval(would.peak_c, cool[key], warm[key], models[key].error_k)
            cards[key] = _card_answer(models[key].was, would, low_c, high_c, course)
        together = {
            f"{name}_sound_db": round(total_sound_db(card[name]["sound_db"] for card in cards.values()), 2)
            for name in ("was", "would")
        }
        hours = max(models[key].seconds for key in chosen) / 3600
        elapsed_ms = round((time.perf_counter() - begin) * 1000, 1)
        return {
            "hours": round(hours, 2),
            "elapsed_ms": elapsed_ms,
            "cards": cards,
            "together": together,
            "error": "",
        }

    def _prepare(self, models: Mapping[str, CardModel]) -> None:
        """Give `models` to the workers, unless they have them."""
        known = self._known
        if models.keys() != known.keys() or any(model is not known[key] for key, model in models.items()):
            self._known = {}  # if this fails, some workers have the new models and others the old ones
            self._call([(set_models, (dict(models),))] * len(self._workers))
            self._known = dict(models)

    def _call(self, calls: Sequence[tuple[Any, tuple[Any, ...]]]) -> list[Any]:
        """Make the calls in the workers, as many at the same time as there are workers. Return their results.

        Raises what a call raises.
        """
        results: list[Any] = [None] * len(calls)
        errors: list[Exception] = []

        def run(worker_number: int) -> None:
            try:
                for n in range(worker_number, len(calls), len(self._workers)):
                    function, arguments = calls[n]
                    results[n] = self._workers[worker_number].call(function, *arguments)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(n,)) for n in range(1, min(len(self._workers), len(calls)))]
        for thread in threads:
            thread.start()
        run(0)
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results


def set_models(models: dict[str, CardModel]) -> None:
    """In a worker: use `models` from now on, and make one replay of each kind, so that the next replay is fast."""
    import os

    os.environ.update(ONE_THREAD)
    from gpufan.tune.lanes import LaneLoad

    _MODELS.clear()
    for key, model in models.items():
        limit_w = model.info.power_limit_w or model.work_w
        _MODELS[key] = model, LaneLoad(model.load, limit_w, model.jitter_k)
    wishes = {key: Wish(CardSettings(target_c=78.0)) for key in models}
    replay_task(wishes)
    peaks_task(wishes, Heat.COOL)
    peaks_task(wishes, Heat.WARM)


def known_keys() -> set[str]:
    """In a worker: return the keys of the models that it has."""
    return set(_MODELS)


def replay_task(wishes: Mapping[str, Wish]) -> dict[str, Replayed]:
    """In a worker: replay the cards with their fitted models, and return the outcome of each by its key."""
    from gpufan.tune.day_replay import replay_day

    outcomes = replay_day(_day_cards(wishes, Heat.FITTED), time.localtime) if wishes else []
    return {key: _replayed(outcome) for key, outcome in zip(wishes, outcomes, strict=True)}


def peaks_task(wishes: Mapping[str, Wish], heat: Heat) -> dict[str, float]:
    """In a worker: replay the cards, and return the peak of each, °C, by its key."""
    from gpufan.tune.day_replay import peaks_c

    return dict(zip(wishes, peaks_c(_day_cards(wishes, heat), time.localtime) if wishes else [], strict=True))


def _day_cards(wishes: Mapping[str, Wish], heat: Heat) -> "list[DayCard]":
    """Return the cards for a replay."""
    return [_day_card(*_MODELS[key], wish, heat) for key, wish in wishes.items()]


def _day_card(model: CardModel, load: "LaneLoad", wish: Wish, heat: Heat) -> "DayCard":
    """Return the card for a replay. A target law knows the card already."""
    from gpufan.tune.lane_box import DayCard

    plant = heat.plant_of(model)
    settings, learnt = wish.settings, None
    info: GpuInfo = replace(
        model.info,
        slowdown_c=wish.slowdown_c or plant.slowdown_c,
        duty_range=wish.duty_range or model.info.duty_range,
    )
    targets_c = [hours.target_c for hours in settings.quiet_hours if hours.target_c is not None]
    target_c = settings.target_c or max(targets_c, default=None)
    if target_c is not None:
        limit_w = model.info.power_limit_w or model.work_w
        learnt = settled_learnt(plant, target_c, model.work_w, model.others_w, limit_w)
    return DayCard(info, plant, load, settings, learnt)


def _replayed(outcome: "DayOutcome") -> Replayed:
    """Return the part of `outcome` that the page shows."""
    would = Outcome(outcome.peak_c, outcome.sound_db, outcome.swings, outcome.hot_s)
    return Replayed(would, _thinned(outcome))


def _thinned(outcome: "DayOutcome") -> Course:
    """Return the warmest second of each of some hundred equal stretches of time."""
    import numpy as np

    seconds = len(outcome.time_s)
    if not seconds:
        return Course([], [], [])
    length = math.ceil(seconds / _COURSE_POINTS)
    begins = np.arange(0, seconds, length)
    padded = np.pad(outcome.temperature_c, (0, len(begins) * length - seconds), constant_values=-1)
    warmest = begins + padded.reshape(-1, length).argmax(axis=1)
    return Course(
        outcome.time_s[warmest].astype(int).tolist(),
        [round(temperature_c, 1) for temperature_c in outcome.temperature_c[warmest].tolist()],
        outcome.duty_percent[warmest].astype(int).tolist(),
    )


def _interval(peak_c: float, cool_c: float, warm_c: float, error_k: float) -> tuple[float, float]:
    """Return the lowest and the highest likely peak, °C.

    `cool_c` and `warm_c` are the peaks on plants that are cooler and warmer than the fitted one. `error_k` is the error
    that stays even if the plant is right.
    """
    low_k, high_k = max(peak_c - cool_c, 0.0), max(warm_c - peak_c, 0.0)
    return peak_c - math.hypot(low_k, error_k), peak_c + math.hypot(high_k, error_k)


def _card_answer(was: Outcome, would: Outcome, low_c: float, high_c: float, course: Course) -> dict[str, Any]:
    """Return the prediction for one card as the page reads it."""
    return {
        "was": _outcome_answer(was),
        "would": _outcome_answer(would),
        "peak_low_c": round(low_c, 2),
        "peak_high_c": round(high_c, 2),
        "course": course._asdict(),
    }


def _outcome_answer(outcome: Outcome) -> dict[str, float]:
    """Return an outcome as the page reads it."""
    return {
        "peak_c": round(outcome.peak_c, 2),
        "sound_db": round(outcome.sound_db, 2),
        "swings": outcome.swings,
        "hot_s": round(outcome.hot_s, 1),
    }


def _nothing(wishes: Mapping[str, Wish]) -> str:
    """Return why there is no prediction."""
    return "the models of these cards are not ready: see their states" if wishes else "there are no cards"
