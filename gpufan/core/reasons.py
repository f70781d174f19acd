"""Who controls the fans of a card, and why: causes and their numbers. `sentences.py` turns them into text."""

from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

_Number = Annotated[float, Meta(ge=-1e12, le=1e12)] | None
_Integer = Annotated[int, Meta(ge=-(10**12), le=10**12)] | None


class Control(str, Enum):
    """Who sets the fans of a card."""

    OURS = "ours"
    DRIVER = "driver"
    """The driver, as intended: the curve says auto, the card is paused, no fan can be set, or this is a dry run."""
    RELEASED = "released"
    """The driver, after a fault."""
    LOST = "lost"
    """Unknown: the card does not answer."""


class Group(str, Enum):
    """Groups of causes, for colours, metrics and the history."""

    START = "start"
    CURVE = "curve"
    TARGET = "target"
    HOLD = "hold"
    """The duty is higher than needed now, so that the fans change speed less often."""
    HOT = "hot"
    """The card is warmer than the target."""
    NEIGHBOUR = "neighbour"
    LIMIT = "limit"
    AUTO = "auto"
    PAUSED = "paused"
    """A person has paused the card, for another program."""
    FULL = "full"
    FAIL_SAFE = "fail-safe"
    UNCONTROLLABLE = "uncontrollable"
    FAULT = "fault"
    LOST = "lost"
    HANG = "hang"


class Cause(str, Enum):
    """Why a card has its duty, or why gpufan sets no duty.

    The descriptions name in brackets the fields of `Reason` that belong to the cause.
    """

    group: Group

    def __new__(cls, value: str, group: Group) -> "Cause":
        """Make a cause that has `value` in JSON and belongs to `group`."""
        member = str.__new__(cls, value)
        member._value_, member.group = value, group
        return member

    START = "start", Group.START
    """The card has not been read yet."""

    CURVE = "curve", Group.CURVE
    """The duty is on the curve [curve_percent]."""
    CURVE_MINIMUM = "curve-minimum", Group.LIMIT
    """The curve is below the lowest duty of the card [curve_percent, limit_percent]."""
    CURVE_MAXIMUM = "curve-maximum", Group.LIMIT
    """The curve is above the highest duty of the card [curve_percent, limit_percent]."""
    SLOWING = "slowing", Group.HOLD
    """The fans slow down at a limited rate [under a curve curve_percent, under a target as TARGET]."""
    HYSTERESIS = "hysteresis", Group.HOLD
    """The card has not cooled enough to slow the fans down [curve_percent, difference_c]."""
    COOLING = "cooling", Group.HOLD
    """The card has not been cool for long enough to slow the fans down [curve_percent, seconds]."""
    SMALL_CHANGE = "small-change", Group.HOLD
    """The change to the duty on the curve would be too small [curve_percent, change_percent]."""
    AUTO = "auto", Group.AUTO
    """The curve leaves the fans to the driver [limit_c]."""

    TARGET = "target", Group.TARGET
    """The duty holds the target at this power [power_w if it is known, needed_percent, limit_c, change_percent]."""
    TARGET_MINIMUM = "target-minimum", Group.LIMIT
    """A duty below the lowest duty of the card would hold the target [as TARGET, limit_percent]."""
    BELOW_TARGET = "below-target", Group.TARGET
    """The card is cooler than the target [as TARGET, difference_c]."""
    ABOVE_TARGET = "above-target", Group.HOT
    """The card is warmer than the target [as TARGET, difference_c]."""
    SETTLING = "settling", Group.TARGET
    """The card is on its way to the target [as TARGET]."""
    EXPECTED_LOAD = "expected-load", Group.HOLD
    """More load may come [as TARGET]."""
    NEIGHBOUR = "neighbour", Group.NEIGHBOUR
    """Another card takes in the heat of this card [as TARGET]."""

    FOLLOWS = "follows", Group.TARGET
    """A case fan has the highest duty that a followed card needs [needed_percent]."""

    NEAR_SLOWDOWN = "near-slowdown", Group.FULL
    """The card is close to its slowdown threshold [temperature_c; limit_percent and until in quiet hours]."""
    QUIET_HOURS = "quiet-hours", Group.LIMIT
    """Quiet hours limit the duty [limit_percent, needed_percent, until]."""
    QUIET_HOURS_HOT = "quiet-hours-hot", Group.FULL
    """The card is so warm that the duty is above the limit of quiet hours [temperature_c, limit_percent, until]."""

    NO_TEMPERATURE = "no-temperature", Group.FAIL_SAFE
    """The temperature cannot be read [tick and ticks, as long as the duty stays]."""
    ABSURD_TEMPERATURE = "absurd-temperature", Group.FAIL_SAFE
    """No chip has such a temperature [temperature_c; tick and ticks, as long as the duty stays]."""
    RETURNING_TEMPERATURE = "returning-temperature", Group.FAIL_SAFE
    """Readings are valid again, but not yet for long enough [ticks]."""
    FROZEN_TEMPERATURE = "frozen-temperature", Group.FAIL_SAFE
    """The temperature does not follow the power [temperature_c, seconds, power_w]."""

    CLOSING = "closing", Group.PAUSED
    """The card is to be paused; the driver controls its fans, but gpufan still has the card open [seconds]."""
    PAUSED = "paused", Group.PAUSED
    """The card is paused: the driver controls its fans, and gpufan does not have the card open [seconds]."""

    UNCONTROLLABLE = "uncontrollable", Group.UNCONTROLLABLE
    """The fans cannot be set [message]."""
    FAN_TAKEN = "fan-taken", Group.FAULT
    """Another program took a fan from the driver [fan]."""
    FAN_RELEASED = "fan-released", Group.FAULT
    """Another program gave a fan back to the driver [fan]."""
    OTHER_TARGET = "other-target", Group.FAULT
    """The target of a fan differs from the duty that was set [fan, found_percent, set_percent]."""
    FAN_SLOW = "fan-slow", Group.FAULT
    """A fan stays below its target [fan, found_percent, set_percent]."""
    FAN_STILL = "fan-still", Group.FAULT
    """A fan does not turn, although a duty is set [fan, found_percent, seconds]."""
    FAN_FLOOR = "fan-floor", Group.LIMIT
    """The driver accepts no lower target for a fan [fan, limit_percent]."""
    FAN_FAST = "fan-fast", Group.FAULT
    """The driver runs a fan faster than the duty that was set [fan, found_percent]."""
    REFUSED = "refused", Group.FAULT
    """The driver refused to set the fans [message]."""
    LOST = "lost", Group.LOST
    """The card does not answer [message]."""
    RESET_REQUIRED = "reset-required", Group.LOST
    """The card does not answer until it is reset [message]."""
    X_LOST = "x-lost", Group.LOST
    """The card answers, but the X server over which its fans are set does not [message]."""
    HANG = "hang", Group.HANG
    """A call to the card has not returned [seconds]."""


class Remedy(str, Enum):
    """The remedy that gpufan tries for a fault."""

    SET_AGAIN = "set-again"
    RETRY = "retry"
    """Try again after `retry_after_s`."""
    OTHER_BACKEND = "other-backend"
    """Set the fans over X from now on, since NVML does not move them."""


class Reason(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A cause and its numbers. A number that does not belong to the cause is None, and is left out of JSON."""

    cause: Cause
    temperature_c: _Number = None
    limit_c: _Number = None
    """The target, °C. With the cause AUTO: the temperature below which the driver controls the fans, °C."""
    difference_c: _Number = None
    power_w: _Number = None
    curve_percent: _Integer = None
    """The duty on the curve; None if the curve says auto."""
    needed_percent: _Number = None
    """The duty that would hold the target if the power stayed the same; above 100 if no duty can hold it.

    With the cause QUIET_HOURS: the duty that the card would have without quiet hours.
    """
    change_percent: _Integer = None
    limit_percent: _Integer = None
    fan: _Integer = None
    found_percent: _Integer = None
    set_percent: _Integer = None
    seconds: _Number = None
    tick: _Integer = None
    """How many readings in a row were bad so far."""
    ticks: _Integer = None
    """How many readings in a row make the temperature count as lost, or as valid again."""
    until: str = ""
    """The local time at which quiet hours end: `07:00`."""
    message: str = ""
    """The error message of the driver, or why the fans cannot be set."""
