"""What of a card's state is news to a person. The log writes it, and alerts report the troubles among it."""

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
    LOST = "lost"
    """The card does not answer, or its fans are out of reach."""
    FAIL_SAFE = "fail-safe"
    """The temperature cannot be read, or cannot be true."""
    FAN_STILL = "fan-still"
    """A fan does not turn."""
    NOT_FOLLOWING = "not-following"
    """A fan is not as it was set."""
    ANOTHER_WRITER = "another-writer"
    """Another program sets the fans too."""
    GIVEN_BACK = "given-back"
    """The fans were given back to the driver, after a fault."""
    PAUSED = "paused"
    """A person has paused the card."""
    UNCONTROLLABLE = "uncontrollable"
    """The card has no fans that can be set."""


_FOLLOWING_FAULTS = (Cause.FAN_SLOW, Cause.FAN_TAKEN, Cause.FAN_RELEASED, Cause.OTHER_TARGET)

_MORE_THAN_FULL_PERCENT = 100.5


def news(gpu: GpuState) -> Mapping[News, bool]:
    """For each kind of news whether it is present. A kind that the state says nothing about is left out."""
    group = gpu.reason.cause.group
    if group is Group.START:
        return {}
    if gpu.control is Control.LOST:
        return {News.LOST: True}
    fault = None if gpu.fault is None else gpu.fault.cause
    found = {
        News.THROTTLED: gpu.throttle == Throttle.HEAT.value,
        News.FULL_FANS: group is Group.HOT and _is_beyond_full_fans(gpu),
        News.LOST: False,
        News.FAIL_SAFE: group is Group.FAIL_SAFE,
        News.FAN_STILL: fault is Cause.FAN_STILL,
        News.NOT_FOLLOWING: fault is Cause.FAN_SLOW or (fault in _FOLLOWING_FAULTS and not gpu.contested),
        News.ANOTHER_WRITER: gpu.contested,
        News.GIVEN_BACK: gpu.control is Control.RELEASED and group is not Group.PAUSED,
        News.PAUSED: group is Group.PAUSED,
        News.UNCONTROLLABLE: group is Group.UNCONTROLLABLE,
    }
    if group is not Group.FAIL_SAFE:  # else the temperature is unknown
        is_hot = gpu.temperature_c is not None and gpu.temperature_c >= full_speed_from_c(gpu.slowdown_c)
        found[News.HOT] = is_hot
    return found


def _is_beyond_full_fans(gpu: GpuState) -> bool:
    """Whether full fans would not hold the target. The change from the needed duty, which is full speed, is then 0."""
    reason = gpu.reason
    return (reason.needed_percent or 0) >= _MORE_THAN_FULL_PERCENT and (reason.change_percent or 0) >= 0
