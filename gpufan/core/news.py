"""News: conditions of a card that people should know. The log writes all news; alerts report some as troubles."""

from collections.abc import Mapping
from enum import Enum

from gpufan.core.gpu import Throttle
from gpufan.core.reasons import Cause, Control, Group
from gpufan.core.snapshot import GpuState
from gpufan.core.thermal import full_speed_from_c


class News(str, Enum):
    """Kinds of news about a card. All of them last for a while."""

    THROTTLED = "throttled"
    """Heat lowers the clocks of the card."""
    HOT = "hot"
    """The card is so close to its slowdown temperature that its fans run at full speed."""
    FULL_FANS = "full-fans"
    """The card is warmer than its target, and full fans cannot hold the target at this power."""
    QUIET_FANS = "quiet-fans"
    """The card is warmer than its target, and quiet hours do not allow the duty that would help."""
    GIVING_WAY = "giving-way"
    """Limits of gpufan lower the clocks, since the fans may not run faster. The settings ask for this."""
    LOST = "lost"
    """The card does not answer, or its fans are out of reach."""
    FAIL_SAFE = "fail-safe"
    """The temperature cannot be read, or cannot be true."""
    FAN_STILL = "fan-still"
    """A fan does not turn."""
    NOT_FOLLOWING = "not-following"
    """A fan does not do what gpufan has set."""
    ANOTHER_WRITER = "another-writer"
    """Another program sets the fans too."""
    GIVEN_BACK = "given-back"
    """The fans were given back to the driver, after a fault."""
    PAUSED = "paused"
    """A person has paused the card."""
    UNCONTROLLABLE = "uncontrollable"
    """The card has no fans that can be set."""


_QUIET = (Cause.QUIET_HOURS, Cause.QUIET_HOURS_HOT)

_FOLLOWING_FAULTS = (Cause.FAN_SLOW, Cause.FAN_TAKEN, Cause.FAN_RELEASED, Cause.OTHER_TARGET)

_BEYOND_PERCENT = 0.5
"""A duty cannot hold the target if it is lower than the needed duty by more than this, percent."""

_CLEARLY_WARMER_C = 2.0
"""A card is clearly warmer than its target if its temperature is at least this many °C above the target."""


def news(gpu: GpuState) -> Mapping[News, bool]:
    """Return whether each kind of news is present in the state of a card.

    A kind is missing from the result if the state does not show whether it is present.
    """
    group = gpu.reason.cause.group
    if group is Group.START:
        return {}
    if gpu.control is Control.LOST:
        return {News.LOST: True}
    fault = None if gpu.fault is None else gpu.fault.cause
    found = {
        News.THROTTLED: gpu.throttle == Throttle.HEAT.value,
        News.QUIET_FANS: _has_news_of_quiet_fans(gpu),
        News.GIVING_WAY: gpu.gives_way,
        News.LOST: False,
        News.FAIL_SAFE: group is Group.FAIL_SAFE,
        News.FAN_STILL: fault is Cause.FAN_STILL,
        News.NOT_FOLLOWING: fault is Cause.FAN_SLOW or (fault in _FOLLOWING_FAULTS and not gpu.contested),
        News.ANOTHER_WRITER: gpu.contested,
        News.GIVEN_BACK: gpu.control is Control.RELEASED and group is not Group.PAUSED,
        News.PAUSED: group is Group.PAUSED,
        News.UNCONTROLLABLE: group is Group.UNCONTROLLABLE,
    }
    if group is Group.HOT and _has_news_of_full_fans(gpu):
        found[News.FULL_FANS] = True
    elif gpu.duty_percent is None or gpu.duty_percent < 100:  # else it is unknown: the load may have paused
        found[News.FULL_FANS] = False
    if group is not Group.FAIL_SAFE:  # else the temperature is unknown
        is_hot = gpu.temperature_c is not None and gpu.temperature_c >= full_speed_from_c(gpu.slowdown_c)
        found[News.HOT] = is_hot
    return found


def _has_news_of_full_fans(gpu: GpuState) -> bool:
    """Whether the card has its highest duty, and this duty cannot hold the target.

    The duty is the highest one if it is below the needed duty although nothing lowers it (`change_percent` is not
    negative).
    """
    needed_percent, duty_percent = gpu.reason.needed_percent, gpu.duty_percent
    if needed_percent is None or duty_percent is None or (gpu.reason.change_percent or 0) < 0:
        return False
    return needed_percent - duty_percent > _BEYOND_PERCENT


def _has_news_of_quiet_fans(gpu: GpuState) -> bool:
    """Whether quiet hours limit the duty of a card that is clearly warmer than its target."""
    if gpu.reason.cause not in _QUIET or gpu.temperature_c is None or gpu.target_c is None:
        return False
    return gpu.temperature_c >= gpu.target_c + _CLEARLY_WARMER_C
