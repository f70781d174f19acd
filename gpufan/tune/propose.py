"""Proposes settings for a fitted card: the quietest curve or target that stays under a limit."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gpufan.config.toml_text import toml
from gpufan.core.card_settings import DEFAULT_CURVE, CardSettings
from gpufan.core.curve import Curve
from gpufan.tune.boxes import FittedBox
from gpufan.tune.fit import Fit
from gpufan.tune.plant import FittedPlant
from gpufan.tune.replay import Outcome, recorded, replay

TARGETS_BELOW_K = 6
"""Targets are tried from the limit down to this far below it, K."""

_IDLE_W = 50.0
"""A card that draws less shows nothing of its cooling, W."""

_AUDIBLE_DB = 0.5
"""A smaller gain is no reason to change a setting, dB(A)."""

_UNSURE_K = 3.0
"""If a peak may be so much higher than predicted, the prediction is too uncertain for a proposal, K."""

# Limits below (the first three) or above which a recording leaves something open; `gaps` names it.
_SHORT_S = 300.0
_NARROW_DUTY = 15.0
_NARROW_POWER_W = 80.0
_POOR_K = 0.8
_WIDE_K_PER_W = 0.03


@dataclass(frozen=True)
class Candidate:
    """A setting, and its outcome on the fitted card."""

    settings: CardSettings | None
    """None for the recording itself."""
    outcome: Outcome
    at_most_c: float
    """Peak on a plant warmer than 95 % of those that explain the recording, °C; NaN for the recording itself."""


@dataclass(frozen=True)
class Proposal:
    """The proposal for one card."""

    fit: Fit
    candidates: tuple[Candidate, ...]
    """The recording, the present setting, then the settings that stay under the limit, the quietest last."""
    best: CardSettings | None
    """The setting to change to; None if no change is worthwhile, or the recording is not good enough."""
    reason: str
    """Why, for the person who reads it."""

    def config(self) -> str:
        """The lines for the settings file that set `best`."""
        assert self.best is not None
        key, value = ("curve", self.best.curve) if self.best.target_c is None else ("target_c", self.best.target_c)
        return f"[[gpu]]\nmatch = {toml(self.fit.card.uuid)}\n{key} = {toml(value)}\n"


def propose(fit: Fit, present: CardSettings, limit_c: float) -> Proposal:
    """Find the quietest setting that keeps the card at `limit_c` or below under its recorded load."""
    bench = _Bench(fit, limit_c)
    now = bench.try_out(f"present: {present}", present)
    candidates = [Candidate(None, recorded(fit.card), math.nan), now]
    best = None
    if bench.high_w < _IDLE_W:
        reason = f"the card drew at most {bench.high_w:.0f} W: record it at work"
    elif (full_c := bench.try_out("full speed", CardSettings(Curve(((0, 100),)))).outcome.peak_c) > limit_c:
        reason = (
            f"even at full fan speed the card reaches {full_c:.0f} °C: give it cooler air, or less power"
            " (`nvidia-smi --power-limit`)"
        )
    else:
        found = [candidate for candidate in (bench.quietest_curve(), bench.quietest_target()) if candidate]
        found.sort(key=lambda candidate: -candidate.outcome.sound_db)
        if not found or found[-1].at_most_c - found[-1].outcome.peak_c > _UNSURE_K:
            reason = f"it is not certain enough which setting keeps the card under {limit_c:g} °C: record for longer"
        else:
            candidates += found
            best = found[-1].settings
            gain_db = now.outcome.sound_db - found[-1].outcome.sound_db
            reason = f"{best} keeps the card under {limit_c:g} °C"
            if now.at_most_c > limit_c:
                reason += f", which the present setting {'does' if now.outcome.peak_c > limit_c else 'may'} not"
            elif gain_db >= _AUDIBLE_DB:
                reason += f", {gain_db:.1f} dB quieter than the present setting"
            else:
                best, reason = None, "no setting is clearly quieter than the present one: leave it as it is"
    return Proposal(fit, tuple(candidates), best, reason)


def gaps(fit: Fit) -> list[str]:
    """A line for each thing that the recording of a card cannot show, with the remedy."""
    card = fit.card
    duty_low, duty_high = _middle(reading.speed_percent for reading in card.readings)
    power_low, power_high = _middle(reading.power_w for reading in card.readings)
    found = []
    if card.seconds < _SHORT_S:
        found.append(f"the recording has only {card.seconds / 60:.0f} min: record 10 min or more")
    if duty_high - duty_low < _NARROW_DUTY:
        found.append(
            f"the fans stayed at {_range(duty_low, duty_high)} %, so the effect of more air is assumed to be that of a"
            " GTX 1080 Ti: record 10 min under load with --curve 20:45 and 10 min with --curve 20:85"
        )
    if power_high - power_low < _NARROW_POWER_W:
        found.append(
            f"the power stayed at {_range(power_low, power_high)} W, so warm air cannot be distinguished from a weak"
            " heatsink: record a pause of some minutes too"
        )
    if fit.misfit_k > _POOR_K:
        found.append(
            f"the fit differs from the recording by {fit.misfit_k:.1f} K, so something beside the load changed, such as"
            " the air: record again while only the load changes"
        )
    low, high = fit.interval(lambda plant: plant.coupling)
    if high - low > _WIDE_K_PER_W and any(reading.others_w for reading in card.readings):
        found.append(
            "the cards worked at the same times, so their heat cannot be separated, and the figures below hold only for"
            " such times: record some minutes with only one card at work"
        )
    return found


def curve_through(limit_c: float, duty_percent: float) -> Curve:
    """A curve of the shape of the default curve, with `duty_percent` at `limit_c`.

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
    """Tries settings on the fitted plant, and on a warm one."""

    def __init__(self, fit: Fit, limit_c: float) -> None:
        self._fit = fit
        self._limit_c = limit_c
        self.high_w = _middle(reading.power_w for reading in fit.card.readings)[1]

    def try_out(self, name: str, settings: CardSettings, stop_above_c: float = math.inf) -> Candidate:
        """Replay the recording under `settings`, until the temperature is above `stop_above_c`."""
        card = self._fit.card

        def run(plant: FittedPlant) -> Outcome:
            return replay(FittedBox([(card, plant)]), name, settings, card.seconds, stop_above_c)

        outcome = run(self._fit.plant)
        duty_when_hottest = outcome.duty_percent[outcome.temperature_c.index(outcome.peak_c)]
        warm = run(self._fit.warm(self.high_w, duty_when_hottest))
        return Candidate(settings, outcome, max(warm.peak_c, outcome.peak_c))

    def quietest_curve(self) -> Candidate | None:
        """The curve with the lowest duty at the limit that stays under the limit; None if no curve does."""
        found = None
        low, high = 30, 100
        while low <= high:
            duty = (low + high) // 2
            if tried := self._under_limit(CardSettings(curve_through(self._limit_c, duty))):
                found, high = tried, duty - 1
            else:
                low = duty + 1
        return found

    def quietest_target(self) -> Candidate | None:
        """The highest target that stays under the limit; None if no target does."""
        targets = (CardSettings(target_c=self._limit_c - below_k) for below_k in range(TARGETS_BELOW_K + 1))
        return next((tried for settings in targets if (tried := self._under_limit(settings))), None)

    def _under_limit(self, settings: CardSettings) -> Candidate | None:
        tried = self.try_out(str(settings), settings, self._limit_c)
        return tried if tried.at_most_c <= self._limit_c else None


def _range(low: float, high: float) -> str:
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f}..{high:.0f}"


def _middle(values: Iterable[float]) -> tuple[float, float]:
    """Lowest and highest of `values` without the 2 % at either end."""
    ordered = sorted(values)
    return ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
