"""What a fitted card would best be kept by: the quietest curve and target that stay under a limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpufan.config.schema import toml
from gpufan.core.card_settings import DEFAULT_CURVE, CardSettings
from gpufan.core.curve import Curve
from gpufan.tune.fit import Fit, FittedPlant
from gpufan.tune.replay import FittedBox, Outcome, Setting, recorded, replay

PRESENT = "present"

TARGETS_BELOW_K = 6
"""Targets are tried from the limit downwards, so many K at most."""

_NARROW_DUTY = 15.0
_NARROW_POWER_W = 80.0
_SHORT_S = 300.0
_IDLE_W = 50.0
_POOR_K = 0.8
_WIDE_K_PER_W = 0.03
"""Under these, and over the last two, a recording leaves something open, and `gaps` says what."""

_AUDIBLE_DB = 0.5
"""For less no setting need be changed."""

_UNSURE_K = 3.0
"""A peak that may be so much higher than predicted is nothing to choose settings by."""


@dataclass(frozen=True)
class Candidate:
    """One setting and what it would come to."""

    settings: CardSettings | None
    """None for what was recorded."""
    outcome: Outcome
    at_most_c: float
    """Peak on a plant warmer than nineteen in twenty that explain the recording; NaN for what was measured."""

    def __str__(self) -> str:
        """In words: `present: curve 50:30,75:50,80:64,83:100`."""
        if self.settings is None:
            return self.outcome.name
        return f"present: {self.settings}" if self.outcome.name == PRESENT else str(self.settings)


@dataclass(frozen=True)
class Proposal:
    """What was found for one card."""

    fit: Fit
    candidates: tuple[Candidate, ...]
    """What was recorded, the present setting, and then those that keep the limit, the quietest last."""
    best: CardSettings | None
    """What to change to; None where there is nothing to be gained, or nothing can be said."""
    reason: str
    """Why that, in words."""

    def config(self) -> str:
        """The lines for the file of settings that set the best."""
        assert self.best is not None
        key, value = ("curve", self.best.curve) if self.best.target_c is None else ("target_c", self.best.target_c)
        return f"[[gpu]]\nmatch = {toml(self.fit.card.uuid)}\n{key} = {toml(value)}\n"


def propose(fit: Fit, present: CardSettings, limit_c: float) -> Proposal:
    """Find the quietest setting under which the card, loaded as it was, stays under `limit_c`."""
    bench = _Bench(fit, limit_c)
    now = bench.try_out(PRESENT, present)
    base = (Candidate(None, recorded(fit.card), math.nan), now)
    if bench.high_w < _IDLE_W:
        return Proposal(fit, base, None, f"the card drew {bench.high_w:.0f} W at most: record it at work")
    full = bench.try_out("full speed", CardSettings(Curve(((0, 100),))))
    if full.outcome.peak_c > limit_c:
        remedy = "give it cooler air, or less power (`nvidia-smi --power-limit`)"
        return Proposal(fit, base, None, f"even fans at full speed let it get {full.outcome.peak_c:.0f} °C: {remedy}")
    found = sorted((*bench.quietest_curve(), *bench.quietest_target()), key=lambda c: -c.outcome.sound_db)
    if not found or found[-1].at_most_c - found[-1].outcome.peak_c > _UNSURE_K:
        return Proposal(fit, base, None, f"what keeps it under {limit_c:g} °C is not sure enough: record for longer")
    best = found[-1]
    assert best.settings is not None
    gain_db = now.outcome.sound_db - best.outcome.sound_db
    if now.at_most_c > limit_c:
        sure = "does" if now.outcome.peak_c > limit_c else "may"
        why = f"{best.settings} keeps it under {limit_c:g} °C, which the present setting {sure} not"
    elif gain_db < _AUDIBLE_DB:
        return Proposal(fit, (*base, *found), None, "the present setting is about as quiet as any: leave it as it is")
    else:
        why = f"{best.settings} keeps it under {limit_c:g} °C, {gain_db:.1f} dB quieter than the present setting"
    return Proposal(fit, (*base, *found), best.settings, why)


def gaps(fit: Fit) -> list[str]:
    """What the recording of a card cannot tell, and what to do about it, a line each."""
    card = fit.card
    readings = card.readings
    (duty_low, duty_high), (power_low, power_high) = (
        _middle([reading.speed_percent for reading in readings]),
        _middle([reading.power_w for reading in readings]),
    )
    found = []
    if card.seconds < _SHORT_S:
        found.append(f"only {card.seconds / 60:.0f} min were recorded: ten or more tell more")
    if duty_high - duty_low < _NARROW_DUTY:
        found.append(
            f"fans stayed at {_range(duty_low, duty_high)} %: what more air does is assumed as for a GTX 1080 Ti; to"
            " learn it, record ten minutes under load with --curve 20:45 and ten with --curve 20:85"
        )
    if power_high - power_low < _NARROW_POWER_W:
        found.append(
            f"power stayed at {_range(power_low, power_high)} W: warm air and a poor heatsink look alike then; to tell"
            " them apart, record a pause of some minutes too"
        )
    if fit.misfit_k > _POOR_K:
        found.append(
            f"the fit is off by {fit.misfit_k:.1f} K: something came and went that is not in it, such as warmer air;"
            " record a time when nothing changes but the work"
        )
    low, high = fit.interval(lambda plant: plant.coupling)
    if high - low > _WIDE_K_PER_W and any(reading.others_w for reading in readings):
        found.append(
            "the cards worked at the same times: which heat is whose is open, and the figures below are for such times;"
            " to tell it apart, record some minutes with one card at work"
        )
    return found


def curve_through(limit_c: float, duty_percent: float) -> Curve:
    """The default curve's shape, but with `duty_percent` at `limit_c`.

    >>> str(curve_through(80, 64))
    '50:30,75:50,80:64,83:100'
    """
    (low_c, low), (knee_c, knee), (top_c, top), (full_c, full) = DEFAULT_CURVE.points
    assert low is not None and knee is not None and top is not None
    below = max(round(duty_percent * knee / top), low)
    return Curve(
        (
            (limit_c - (top_c - low_c), min(low, duty_percent)),
            (limit_c - (top_c - knee_c), min(below, duty_percent)),
            (limit_c, duty_percent),
            (limit_c + (full_c - top_c), full),
        )
    )


class _Bench:
    """Tries settings out on the plant that was fitted, and on a warm one."""

    def __init__(self, fit: Fit, limit_c: float) -> None:
        self._fit = fit
        self._limit_c = limit_c
        self.high_w = _middle([reading.power_w for reading in fit.card.readings])[1]

    def try_out(self, name: str, settings: CardSettings, stop_above_c: float = math.inf) -> Candidate:
        """What `settings` would come to; from `stop_above_c` on that is not of interest."""
        setting = Setting(name, settings)
        outcome = self._run(self._fit.plant, setting, stop_above_c)
        duty_when_hottest = outcome.duty_percent[outcome.temperature_c.index(outcome.peak_c)]
        warm = self._run(self._fit.warm(self.high_w, duty_when_hottest), setting, stop_above_c)
        return Candidate(settings, outcome, max(warm.peak_c, outcome.peak_c))

    def quietest_curve(self) -> list[Candidate]:
        """The lowest curve that keeps the limit, if there is one; the more duty at the limit, the cooler."""
        found: list[Candidate] = []
        low, high = 30, 100
        while low <= high:
            duty = (low + high) // 2
            tried = self._keeping("curve", CardSettings(curve_through(self._limit_c, duty)))
            if tried:
                found, high = tried, duty - 1
            else:
                low = duty + 1
        return found

    def quietest_target(self) -> list[Candidate]:
        """The highest target that keeps the limit, if there is one."""
        for below_k in range(TARGETS_BELOW_K + 1):
            if tried := self._keeping("target", CardSettings(target_c=self._limit_c - below_k)):
                return tried
        return []

    def _keeping(self, name: str, settings: CardSettings) -> list[Candidate]:
        tried = self.try_out(name, settings, self._limit_c)
        return [tried] if tried.at_most_c <= self._limit_c else []

    def _run(self, plant: FittedPlant, setting: Setting, stop_above_c: float) -> Outcome:
        card = self._fit.card
        return replay(FittedBox([(card, plant)]), setting, card.seconds, stop_above_c)


def _range(low: float, high: float) -> str:
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f}..{high:.0f}"


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest of `values`, but for a fiftieth at either end."""
    ordered = sorted(values)
    return ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
