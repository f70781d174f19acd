"""One card's decisions: the sensor's guard first, then the law."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpufan.control.card_model import Learnt
from gpufan.control.curve_law import CurveLaw, duty_range
from gpufan.control.law import Decision
from gpufan.control.sensor_guard import SensorGuard
from gpufan.core.card_settings import CardSettings

if TYPE_CHECKING:
    from gpufan.control.target_law import TargetLaw

SLOWDOWN_MARGIN_C = 5
"""Fans are at full speed from so many °C under the temperature at which the card slows itself down."""

DEFAULT_SLOWDOWN_C = 90
"""Assumed where the card does not tell, or tells something absurd, °C."""


class Controller:
    """Decides for one card, tick by tick. A function of what it is given, time included."""

    def __init__(
        self,
        settings: CardSettings,
        card_range: tuple[int, int],
        slowdown_c: float | None,
        learnt: Learnt | None = None,
        power_limit_w: float | None = None,
    ) -> None:
        """`card_range` is the lowest and highest duty that the card takes, percent; `slowdown_c` its threshold.

        `learnt` is what an earlier run learnt of this card, and `power_limit_w` the most that it draws, if it says so.
        """
        limits = duty_range(card_range, settings.min_duty_percent)
        if slowdown_c is None or not 60 <= slowdown_c <= 120:
            slowdown_c = DEFAULT_SLOWDOWN_C
        self._card_range = card_range
        self._full = limits[1]
        self._guard = SensorGuard()
        self._full_at_c = slowdown_c - SLOWDOWN_MARGIN_C
        self._learnt = learnt
        self._power_limit_w = power_limit_w
        self._law = self._law_for(settings, limits)
        self._last: Decision | None = None
        self._last_s = 0.0

    @property
    def learnt(self) -> Learnt | None:
        """What is known of the card, if a target was ever held."""
        return self._learnt if isinstance(self._law, CurveLaw) else self._law.model.learnt

    @property
    def own_percent(self) -> int | None:
        """The duty last decided, without what neighbours called for; None for the driver's.

        Were that told to neighbours as well, two cards that name each other would keep each other loud for ever.
        """
        if self._last is None:
            return None
        if isinstance(self._law, CurveLaw) or self._last.kind == "fail-safe":
            return self._last.duty_percent
        return self._law.own_percent

    @property
    def overwhelmed(self) -> bool:
        """Whether full fans leave the card over its target, and only those of others might help."""
        law = self._law  # which another thread may replace
        return not isinstance(law, CurveLaw) and law.overwhelmed

    def decide(
        self,
        now_s: float,
        temperature_c: float | None,
        power_w: float | None,
        speed_percent: float | None = None,
        neighbours_percent: Sequence[int] = (),
    ) -> Decision:
        """Duty for a reading at `now_s`; None stands for a value that could not be read.

        `neighbours_percent` are the duties that the cards which take in this one's heat call for by themselves.
        """
        self._last_s = now_s
        doubt = self._guard.judge(now_s, temperature_c, power_w)
        if doubt is None:
            assert temperature_c is not None  # or the guard would have doubted it
            if isinstance(self._law, CurveLaw):
                decision = self._law.decide(now_s, temperature_c)
            else:
                decision = self._law.decide(now_s, temperature_c, power_w, speed_percent, neighbours_percent)
        elif doubt.hot or self._last is None:
            self._law.force(now_s, self._full)
            decision = Decision(self._full, "fail-safe", f"{doubt.reason}: full speed")
        else:
            decision = Decision(self._last.duty_percent, "fail-safe", f"{doubt.reason}, holding")
        self._last = decision
        return decision

    def follow(self, settings: CardSettings) -> None:
        """Go by other settings from now on: a rise is made at once, a fall from the duty that is set, as ever.

        What is known of the sensor stays known.
        """
        limits = duty_range(self._card_range, settings.min_duty_percent)
        if isinstance(self._law, CurveLaw) is (settings.target_c is None):
            self._law.follow(settings, limits)
            return
        self._learnt = self.learnt
        self._law = self._law_for(settings, limits)
        if self._last is not None and self._last.duty_percent is not None:
            self._law.force(self._last_s, self._last.duty_percent)

    def _law_for(self, settings: CardSettings, limits: tuple[int, int]) -> "CurveLaw | TargetLaw":
        if settings.target_c is None:
            return CurveLaw(settings, limits, self._full_at_c)
        from gpufan.control.target_law import TargetLaw  # half a megabyte, for those who set one

        return TargetLaw(settings, limits, self._full_at_c, self._learnt, self._power_limit_w)

    def forget(self) -> None:
        """The fans have been the driver's meanwhile: decide as if for the first time."""
        self._law.forget()
        self._last = None
