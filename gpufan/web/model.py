"""The models of the cards: when they are fitted, and what the page says about them. There is no HTTP here."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from gpufan.web.card_model import CardModel, NoModel, fit_last_day
from gpufan.web.worker import Worker, run_in_fresh_process

RENEW_S, RETRY_S, SEARCH_S = 3600.0, 300.0, 5.0
"""A model is fitted again after the first time, s. While a card has no model, a fit is tried after the second time.

If the history cannot be used, it is opened again after the third time.
"""


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


class Models:
    """The models of the cards. They are fitted in a worker, and again when there is much new history."""

    def __init__(
        self,
        worker: Worker,
        folder: Path | None,
        clock: Callable[[], float] = time.monotonic,
        *,
        wall_clock: Callable[[], float] = time.time,
        is_simulated: bool = False,
        on_fitted: Callable[[dict[str, CardModel]], None] = lambda _: None,
    ) -> None:
        """`folder` is that of the history; None if there is none.

        `clock` returns seconds, `wall_clock` seconds since the epoch. `on_fitted` is called with new models, in a
        thread, before the page gets them. If `is_simulated` is set and there is no folder yet, the history is being
        made.
        """
        self._is_simulated = is_simulated
        self._on_fitted = on_fitted
        self._worker = worker
        self._folder = folder
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._fitted_s: float | None = None
        self._models: CardModels = {}
        self._error = ""

    def ready(self) -> dict[str, CardModel]:
        """Return the models that can predict. Starts a fit if there is none yet, or if it is old."""
        self.renew()
        return _usable(self._models)

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
            models = self._worker.call(run_in_fresh_process, fit_last_day, self._folder, self._wall_clock())
            self._on_fitted(_usable(models))
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


def _usable(models: CardModels) -> dict[str, CardModel]:
    """Return the models that can predict."""
    return {key: model for key, model in models.items() if isinstance(model, CardModel)}


def _state(state: ModelState, text: str, hours: float = 0.0, uncertainty_k: float | None = None) -> dict[str, Any]:
    """Return the state of a model as the page reads it."""
    return {"state": state, "text": text, "hours": round(hours, 2), "uncertainty_k": uncertainty_k}
