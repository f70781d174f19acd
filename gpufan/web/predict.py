"""The prediction of the last day with other settings: a replay of the recorded power on the fitted models.

There is no HTTP here. Workers make the replay: each replays all chosen cards for a part of the day. A part begins with
half an hour that is not counted, in which temperatures and laws settle. Then the workers find how warm a card would be
if its model were a little wrong.
"""

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from gpufan.core.card_settings import CardSettings
from gpufan.core.thermal import total_sound_db
from gpufan.errors import GpufanError
from gpufan.tune.day_replay import DayCard, DayOutcome, Point, replay_day
from gpufan.tune.plant import FittedPlant, steady_c
from gpufan.tune.settled_law import settled_learnt
from gpufan.tune.thinned_load import LoadPart
from gpufan.web.model import CardModel, Outcome
from gpufan.web.worker import Worker

WARM_UP_S = 1800.0
"""A part of the day begins this much earlier, s. A heatsink has forgotten its beginning then."""

_SHORTEST_PARTS = 1500
"""A load with fewer parts than this is not divided among workers."""

_PEAKS = 3
"""The interval of the peak is found from the warmest moments of this many different hours."""

_COURSE_POINTS = 600
"""The course of a card has at most this many points."""


class Superseded(GpufanError):
    """A newer request of the same page has arrived, so this one is not answered."""


class Wish(NamedTuple):
    """The settings that a person tries on one card."""

    settings: CardSettings
    slowdown_c: int | None = None
    """The temperature at which the card slows itself down, °C; None if it is unknown."""
    duty_range: tuple[int, int] | None = None
    """Lowest and highest duty that the card accepts, percent; None for those that the history suggests."""


class _Task(NamedTuple):
    """The chosen cards in a part of the day."""

    wishes: Mapping[str, Wish]
    """By the key of the card."""
    begin_s: float
    end_s: float


class _PeakTask(NamedTuple):
    """A card whose plant (thermal model) is a little different, at some moments."""

    key: str
    wish: Wish
    plant: FittedPlant
    moments_s: Sequence[float]


_MODELS: dict[str, CardModel] = {}
"""In a worker: the models that it replays."""


class Predictor:
    """Predicts in several workers, one request after the other."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._count = 0
        self._newest: dict[str, int] = {}
        """The number of the newest request that waits, by its page."""
        self._known: Mapping[str, CardModel] = {}
        """The models that the workers have."""

    def predict(self, models: Mapping[str, CardModel], wishes: Mapping[str, Wish], page: str = "") -> dict[str, Any]:
        """Return what `wishes` would have done: the answer to `/api/predict`.

        `wishes` has the settings of each chosen card, by its key; cards without a model are left out. Raises
        Superseded if a newer request of `page` arrives while this one waits for its turn. Requests of the page "" are
        all answered.
        """
        begin = time.perf_counter()
        with self._counting:
            self._count += 1
            number = self._newest[page] = self._count
        with self._turn:
            if page and self._newest.get(page) != number:
                raise Superseded("a newer request has replaced this one")
            self._newest.pop(page, None)
            if models != self._known:
                self._call([(set_models, (dict(models),))] * len(self._workers))
                self._known = dict(models)
            chosen = {key: wish for key, wish in wishes.items() if key in models}
            if not chosen:
                return {"hours": 0.0, "elapsed_ms": 0.0, "cards": {}, "together": None, "error": _nothing(wishes)}
            outcomes = self._replay(models, chosen)
            intervals = self._intervals(models, chosen, outcomes)
        cards = {key: _card_answer(models[key], outcomes[key], *intervals[key]) for key in chosen}
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

    def _replay(self, models: Mapping[str, CardModel], wishes: Mapping[str, Wish]) -> dict[str, DayOutcome]:
        """Return the outcome of each card over the day."""
        ends_s = sorted(part.end_s for key in wishes for part in models[key].load)
        count = len(self._workers) if len(ends_s) >= _SHORTEST_PARTS else 1
        bounds_s = [-math.inf, *(ends_s[len(ends_s) * n // count] for n in range(1, count)), math.inf]
        tasks = [_Task(wishes, *bounds_s[n : n + 2]) for n in range(count)]
        pieces = self._call([(replay_task, (task,)) for task in tasks])
        return {key: _joined([piece[key] for piece in pieces if key in piece]) for key in wishes}

    def _intervals(
        self,
        models: Mapping[str, CardModel],
        wishes: Mapping[str, Wish],
        outcomes: Mapping[str, DayOutcome],
    ) -> dict[str, tuple[float, float]]:
        """Return the lowest and the highest likely peak of each card, °C."""
        tasks = []
        for key in wishes:
            moments_s, duty_percent = _warmest_moments(outcomes[key].course)
            by_heat = _plants_by_heat(models[key], duty_percent)
            for share in (0.05, 0.95):
                plant = by_heat[round(share * (len(by_heat) - 1))]
                tasks.append(_PeakTask(key, wishes[key], plant, moments_s))
        peaks_c = self._call([(peak_task, (task,)) for task in tasks])
        intervals = {}
        for number, key in enumerate(wishes):
            cool_c, warm_c = peaks_c[2 * number : 2 * number + 2]
            intervals[key] = _interval(outcomes[key].peak_c, cool_c, warm_c, models[key].error_k)
        return intervals

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
    """In a worker: use `models` from now on."""
    _MODELS.clear()
    _MODELS.update(models)


def replay_task(task: _Task) -> dict[str, DayOutcome]:
    """In a worker: replay the cards in a part of the day. A card without load in this part is left out."""
    found = {}
    for key, wish in task.wishes.items():
        model = _MODELS[key]
        load = [part for part in model.load if task.begin_s - WARM_UP_S <= part.end_s <= task.end_s]
        if any(part.end_s > task.begin_s for part in load[1:]):
            found[key] = _day_card(model, wish, model.plant, load)
    outcomes = replay_day(list(found.values()), time.localtime, task.begin_s, task.end_s) if found else []
    thinned = (outcome._replace(course=_thinned(outcome.course)) for outcome in outcomes)
    return dict(zip(found, thinned, strict=True))


def peak_task(task: _PeakTask) -> float:
    """In a worker: return the highest temperature of the card around the moments, °C."""
    model = _MODELS[task.key]
    peak_c = -math.inf
    for moment_s in task.moments_s:
        load = [part for part in model.load if moment_s - WARM_UP_S <= part.end_s <= moment_s + 120]
        if len(load) > 1:
            card = _day_card(model, task.wish, task.plant, load)
            (outcome,) = replay_day([card], time.localtime, moment_s - WARM_UP_S / 6)
            peak_c = max(peak_c, outcome.peak_c)
    return peak_c


def _day_card(model: CardModel, wish: Wish, plant: FittedPlant, load: Sequence[LoadPart]) -> DayCard:
    """Return the card for a replay of `load`. A target law knows the card already."""
    settings, learnt = wish.settings, None
    info = replace(
        model.info,
        slowdown_c=wish.slowdown_c or plant.slowdown_c,
        duty_range=wish.duty_range or model.info.duty_range,
    )
    targets_c = [hours.target_c for hours in settings.quiet_hours if hours.target_c is not None]
    target_c = settings.target_c or max(targets_c, default=None)
    if target_c is not None:
        limit_w = model.info.power_limit_w or model.work_w
        learnt = settled_learnt(plant, target_c, model.work_w, model.others_w, limit_w)
    return DayCard(info, plant, load, settings, learnt, model.jitter_k)


def _joined(pieces: Sequence[DayOutcome]) -> DayOutcome:
    """Return the outcome of a day from the outcomes of its parts."""
    warmest = max(pieces, key=lambda piece: piece.peak_c)
    seconds = sum(piece.seconds for piece in pieces)
    energy = sum(10 ** (piece.sound_db / 10) * piece.seconds for piece in pieces if piece.sound_db)
    return DayOutcome(
        seconds,
        warmest.peak_c,
        warmest.peak_s,
        sum(piece.hot_s for piece in pieces),
        10 * math.log10(energy / seconds) if energy else 0.0,
        sum(piece.swings for piece in pieces),
        [point for piece in pieces for point in piece.course],
    )


def _thinned(course: Sequence[Point]) -> list[Point]:
    """Return the warmest point of each of some hundred equal stretches of time."""
    if len(course) < 2:
        return list(course)
    step_s = (course[-1].time_s - course[0].time_s) / _COURSE_POINTS * 2
    warmest: dict[float, Point] = {}
    for point in course:
        step = point.time_s // step_s
        if step not in warmest or point.temperature_c > warmest[step].temperature_c:
            warmest[step] = point
    return list(warmest.values())


def _warmest_moments(course: Iterable[Point]) -> tuple[list[float], float]:
    """Return the warmest moments of different hours, s, and the duty at the warmest, percent."""
    moments: list[Point] = []
    for point in sorted(course, key=lambda point: -point.temperature_c):
        if all(abs(point.time_s - other.time_s) > 3600 for other in moments):
            moments.append(point)
            if len(moments) == _PEAKS:
                break
    return [point.time_s for point in moments], moments[0].duty_percent


def _plants_by_heat(model: CardModel, duty_percent: float) -> list[FittedPlant]:
    """Return the likely plants of the card, the coolest at work first."""
    return sorted(
        model.draws,
        key=lambda plant: steady_c(plant, model.work_w, duty_percent) + plant.coupling * model.others_w,
    )


def _interval(peak_c: float, cool_c: float, warm_c: float, error_k: float) -> tuple[float, float]:
    """Return the lowest and the highest likely peak, °C.

    `cool_c` and `warm_c` are the peaks on plants that are cooler and warmer than the fitted one. `error_k` is the error
    that stays even if the plant is right.
    """
    low_k, high_k = max(peak_c - cool_c, 0.0), max(warm_c - peak_c, 0.0)
    return peak_c - math.hypot(low_k, error_k), peak_c + math.hypot(high_k, error_k)


def _card_answer(model: CardModel, would: DayOutcome, low_c: float, high_c: float) -> dict[str, Any]:
    """Return the prediction for one card as the page reads it."""
    course = would.course
    return {
        "was": _outcome_answer(model.was),
        "would": _outcome_answer(Outcome(would.peak_c, would.sound_db, would.swings, would.hot_s)),
        "peak_low_c": round(low_c, 2),
        "peak_high_c": round(high_c, 2),
        "course": {
            "time_s": [round(point.time_s) for point in course],
            "temperature_c": [round(point.temperature_c, 1) for point in course],
            "duty_percent": [point.duty_percent for point in course],
        },
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
