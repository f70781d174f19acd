"""Proposes a setting for a fitted card: the quietest curve or target that keeps the card under a limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpufan.config.toml_text import toml
from gpufan.core.card_settings import DEFAULT_CURVE, CardSettings
from gpufan.core.curve import Curve
from gpufan.tune.boxes import FittedBox
from gpufan.tune.fit import Fit
from gpufan.tune.plant import FittedPlant
from gpufan.tune.replay import Outcome, outcome_as_recorded, replay

TARGETS_BELOW_K = 6
"""The highest target that is tried is the limit. The lowest target is this value (K) below the limit."""

_IDLE_W = 50.0
"""If the power of a card was always below this value (W), the recording shows nothing about the cooling of the card."""

_AUDIBLE_DB = 0.5
"""Nobody hears a difference between two sounds that is smaller than this, dB(A)."""

_CALMER = 2
"""A setting that sounds the same as the present one is proposed only if it has at least this many fewer swings."""

_UNSURE_K = 3.0
"""Nothing is proposed if predictions may be wrong by more than this, K."""

# `proposal_notes` has a note for a value below the first three of these limits, or above the others.
_SHORT_S = 300.0
_NARROW_DUTY = 15.0
_NARROW_POWER_SHARE = 0.4
_POOR_K = 1.5
_WIDE_K_PER_W = 0.03


@dataclass(frozen=True)
class Candidate:
    """A setting that was tried on the fitted card, and its outcome. One candidate is the recording, for comparison."""

    settings: CardSettings | None
    """The setting that was tried. None if this candidate is the recording itself."""
    outcome: Outcome
    at_most_c: float
    """Highest temperature that is still likely with this setting, °C. NaN if this candidate is the recording itself.

    It is the peak on a plant that is warmer than 95 % of the plants that fit the recording.
    """


@dataclass(frozen=True)
class Proposal:
    """The proposal for one card."""

    fit: Fit
    candidates: tuple[Candidate, ...]
    """First the recording, then the present setting, then the best curve and the best target, if there are any."""
    best: Candidate | None
    """The proposed setting. None if no change is worthwhile, or if the recording is not good enough."""
    reason: str
    """A text for the user: why `best` is proposed, or why nothing is proposed."""

    def config(self) -> str:
        """Return the lines for the settings file that apply the setting `best`. `best` must not be None."""
        assert self.best is not None
        settings = self.best.settings
        assert settings is not None
        key, value = ("curve", settings.curve) if settings.target_c is None else ("target_c", settings.target_c)
        return f"[[gpu]]\nmatch = {toml(self.fit.card.uuid)}\n{key} = {toml(value)}\n"


def propose(fit: Fit, present: CardSettings, limit_c: float) -> Proposal:
    """Propose the quietest setting that keeps the card at `limit_c` (°C) or below under its recorded load.

    Of several settings with the same sound, the setting with the fewest swings of the fan speed is proposed. `present`
    is the setting of the card now. Nothing is proposed if no setting is clearly better than `present`.
    """
    proposer = _Proposer(fit, limit_c)
    now = proposer.try_setting(f"present: {present}", present)
    shown = [Candidate(None, outcome_as_recorded(fit.card), math.nan), now]
    if obstacle := _why_no_proposal(fit, proposer, limit_c):
        return Proposal(fit, tuple(shown), None, obstacle)
    found = [candidate for candidate in (proposer.quietest_curve(), proposer.quietest_target()) if candidate]
    shown += found
    sure = [candidate for candidate in found if candidate.at_most_c - candidate.outcome.peak_c <= _UNSURE_K]
    if not sure:
        reason = f"it is not certain enough which setting keeps the card under {limit_c:g} °C: record for longer"
        return Proposal(fit, tuple(shown), None, reason)
    best = calmest_of_the_quietest(sure)
    reason = f"{best.settings} keeps the card under {limit_c:g} °C, "
    gain_db = now.outcome.sound_db - best.outcome.sound_db
    if now.at_most_c > limit_c:
        reason += f"which the present setting {'does' if now.outcome.peak_c > limit_c else 'may'} not"
    elif gain_db >= _AUDIBLE_DB:
        reason += f"{gain_db:.1f} dB quieter than the present setting"
    elif gain_db > -_AUDIBLE_DB and best.outcome.swings <= now.outcome.swings - _CALMER:
        reason += f"with {best.outcome.swings} swings instead of {now.outcome.swings}, as quiet as the present setting"
    else:
        reason = "no setting is clearly quieter or calmer than the present one: leave it as it is"
        return Proposal(fit, tuple(shown), None, reason)
    return Proposal(fit, tuple(shown), best, reason)


def _why_no_proposal(fit: Fit, proposer: "_Proposer", limit_c: float) -> str:
    """Return why no setting can be proposed, and the remedy. Returns an empty text if a proposal is possible."""
    if proposer.high_w < _IDLE_W:
        return f"the card drew at most {proposer.high_w:.0f} W: record it at work"
    if fit.unseen_k is None:
        return "the recording is too short to test what is learnt from it: record 10 min or more"
    if fit.unseen_k > _UNSURE_K:
        return (
            f"predictions are wrong by {fit.unseen_k:.1f} K, which is too much for a proposal: record for longer, while"
            " only the load changes"
        )
    full_c = proposer.try_setting("full speed", CardSettings(Curve(((0, 100),)))).outcome.peak_c
    if full_c > limit_c:
        return (
            f"even at full fan speed the card reaches {full_c:.0f} °C: give it cooler air, or less power"
            " (`nvidia-smi --power-limit`)"
        )
    return ""


def calmest_of_the_quietest(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the fewest swings. Candidates that sound louder than the quietest one do not count."""
    least_db = min(candidate.outcome.sound_db for candidate in candidates)
    quiet = [candidate for candidate in candidates if candidate.outcome.sound_db <= least_db + _AUDIBLE_DB]
    return min(quiet, key=lambda candidate: (candidate.outcome.swings, candidate.outcome.sound_db))


def proposal_notes(fit: Fit) -> list[str]:
    """Return a note for each weakness of the recording that makes the proposal less certain.

    Each note contains a remedy.
    """
    card = fit.card

    def span(low: float, high: float) -> str:
        return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f}..{high:.0f}"

    duty_low, duty_high = card.usual_range(lambda reading: reading.speed_percent)
    power_low, power_high = card.usual_range(lambda reading: reading.power_w)
    found = []
    if card.seconds < _SHORT_S:
        found.append(f"the recording has only {card.seconds / 60:.0f} min: record 10 min or more")
    if duty_high - duty_low < _NARROW_DUTY:
        found.append(
            f"the fans stayed at {span(duty_low, duty_high)} %, so the effect of more air is assumed to be that of a"
            " typical card: record 10 min under load with --curve 20:45 and 10 min with --curve 20:85"
        )
    if power_high - power_low < _NARROW_POWER_SHARE * power_high:
        found.append(
            f"the power stayed at {span(power_low, power_high)} W, so warm air cannot be distinguished from a weak"
            " heatsink: record a pause of some minutes too"
        )
    wrong_k = max(fit.misfit_k, fit.unseen_k or 0.0)
    if wrong_k > _POOR_K:
        found.append(
            f"the fit is wrong by {wrong_k:.1f} K, so something beside the load changed, such as the air, or the load"
            " changes faster than it was recorded: record again, once a second, while only the load changes"
        )
    low, high = fit.interval(lambda plant: plant.coupling)
    if high - low > _WIDE_K_PER_W and any(reading.others_w for reading in card.readings):
        found.append(
            "the cards worked at the same times, so their heat cannot be separated, and the proposal holds only for"
            " such times: record some minutes with only one card at work"
        )
    return found


def proposed_curve(limit_c: float, duty_percent: float) -> Curve:
    """Return a curve that has `duty_percent` at `limit_c`, °C, and the shape of the default curve.

    >>> str(proposed_curve(80, 64))
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


class _Proposer:
    """Tries settings on the fitted plant, and on a warmer plant that is also likely."""

    def __init__(self, fit: Fit, limit_c: float) -> None:
        self._fit = fit
        self._limit_c = limit_c
        self.high_w = fit.card.usual_range(lambda reading: reading.power_w)[1]

    def try_setting(self, name: str, settings: CardSettings, stop_above_c: float = math.inf) -> Candidate:
        """Replay the load of the recording under `settings`, and return the outcome as a candidate.

        The replay stops early if the card gets warmer than `stop_above_c`, °C. `name` is the name of the outcome.
        """
        card = self._fit.card

        def run(plant: FittedPlant) -> Outcome:
            return replay(FittedBox([(card, plant)]), name, settings, card.seconds, stop_above_c)

        outcome = run(self._fit.plant)
        (trace,) = outcome.cards
        duty_when_hottest = trace.duty_percent[trace.temperature_c.index(outcome.peak_c)]
        warm = run(self._fit.warm(self.high_w, duty_when_hottest))
        return Candidate(settings, outcome, max(warm.peak_c, outcome.peak_c))

    def quietest_curve(self) -> Candidate | None:
        """Return the quietest curve that keeps the card under the limit, with its outcome.

        Returns None if no curve keeps the card under the limit.
        """
        found = None
        low, high = 30, 100
        while low <= high:
            duty = (low + high) // 2
            if tried := self._under_limit(CardSettings(proposed_curve(self._limit_c, duty))):
                found, high = tried, duty - 1
            else:
                low = duty + 1
        return found

    def quietest_target(self) -> Candidate | None:
        """Return the highest target that keeps the card under the limit, with its outcome.

        Returns None if no target keeps the card under the limit.
        """
        targets = (CardSettings(target_c=self._limit_c - below_k) for below_k in range(TARGETS_BELOW_K + 1))
        return next((tried for settings in targets if (tried := self._under_limit(settings))), None)

    def _under_limit(self, settings: CardSettings) -> Candidate | None:
        """Try `settings`, and return them as a candidate. Returns None if the card gets warmer than the limit."""
        tried = self.try_setting(str(settings), settings, self._limit_c)
        return tried if tried.at_most_c <= self._limit_c else None
