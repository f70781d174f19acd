"""English sentences about causes, states and durations. No other module makes them."""

from collections.abc import Sequence

import msgspec

from gpufan.core.gpu import FanReading, Throttle
from gpufan.core.news import News
from gpufan.core.reasons import Cause, Control, Group, Reason, Remedy
from gpufan.core.snapshot import GpuState, SettingsInUse, Snapshot

_SENTENCES = {
    Cause.START: "not read yet",
    Cause.CURVE: "{curve}",
    Cause.CURVE_MINIMUM: "{curve}; {limit_percent} % is the lowest duty of this card",
    Cause.CURVE_MAXIMUM: "{curve}; {limit_percent} % is the highest duty of this card",
    Cause.SLOWING: "{wanted}; the fans slow down gradually",
    Cause.HYSTERESIS: "{curve}; the fans slow down once the card is {difference_c:g} °C cooler",
    Cause.COOLING: "{curve}; the fans slow down once the card has been cooler for {seconds:g} s",
    Cause.SMALL_CHANGE: "{curve}; a change of less than {change_percent} points is not made",
    Cause.AUTO: "below {limit_c:g} °C the curve leaves the fans to the driver",
    Cause.TARGET: "{needed}",
    Cause.TARGET_MINIMUM: "{needed}; {limit_percent} % is the lowest duty of this card",
    Cause.BELOW_TARGET: "{needed}; the card is {difference_c:.3g} °C below{so}",
    Cause.ABOVE_TARGET: "{needed}; the card is {difference_c:.3g} °C above{so}",
    Cause.SETTLING: "{needed}; {change} for now",
    Cause.EXPECTED_LOAD: "{needed}; {change} for load that may come",
    Cause.NEIGHBOUR: "{needed}; {change} for a neighbour that takes in its heat",
    Cause.FOLLOWS: "the cards need {needed_percent:.0f} %",
    Cause.NEAR_SLOWDOWN: "{temperature_c:g} °C is too close to the card's slowdown threshold: full speed{quiet}",
    Cause.QUIET_HOURS: "quiet hours until {until}: at most {limit_percent} % instead of {needed_percent:g} %",
    Cause.QUIET_HOURS_HOT: "{temperature_c:g} °C is close to the card's slowdown threshold: more than the"
    " {limit_percent} % of quiet hours until {until}",
    Cause.NO_TEMPERATURE: "no temperature{then}",
    Cause.ABSURD_TEMPERATURE: "a temperature of {temperature_c:g} °C is absurd{then}",
    Cause.RETURNING_TEMPERATURE: "the temperature is back, and counts again after {ticks} readings: full speed",
    Cause.FROZEN_TEMPERATURE: "the temperature has been {temperature_c:g} °C for {seconds:.0f} s, while power changed"
    " by {power_w:.0f} W: full speed",
    Cause.CLOSING: "to be paused: gpufan closes it once no call to another card hangs",
    Cause.PAUSED: "paused for another {left}: the driver controls its fans",
    Cause.UNCONTROLLABLE: "{message}",
    Cause.FAN_TAKEN: "another program took fan {fan} from the driver",
    Cause.FAN_RELEASED: "another program gave fan {fan} back to the driver",
    Cause.OTHER_TARGET: "fan {fan} has a target of {found_percent} % instead of {set_percent} %",
    Cause.FAN_SLOW: "fan {fan} stays at {found_percent} % although it is set to {set_percent} %",
    Cause.FAN_STILL: "fan {fan} has stood still for {seconds:g} s although it is set to {found_percent} %",
    Cause.FAN_FLOOR: "the driver runs fan {fan} at {limit_percent} % at least",
    Cause.FAN_FAST: "the driver runs fan {fan} at {found_percent} %",
    Cause.REFUSED: "{message}",
    Cause.LOST: "{message}",
    Cause.RESET_REQUIRED: "{message}",
    Cause.X_LOST: "its fans are out of reach: {message}",
    Cause.HANG: "a call to the card has not returned for over {seconds:g} s",
}

_NEWS = {
    News.THROTTLED: ("throttled by heat", "no longer throttled by heat"),
    News.HOT: ("close to its slowdown temperature", "no longer close to its slowdown temperature"),
    News.FULL_FANS: ("full fans are not enough", "full fans are enough again"),
    News.QUIET_FANS: ("too hot for the limit of quiet hours", "no longer too hot for quiet hours"),
    News.GIVING_WAY: ("the clocks give way", "the clocks need not give way any more"),
    News.LOST: ("lost", "back"),
    News.FAIL_SAFE: ("no credible temperature", "the temperature is credible again"),
    News.FAN_STILL: ("a fan stands still", "no fan stands still any more"),
    News.NOT_FOLLOWING: ("a fan does not follow", "the fans follow again"),
    News.ANOTHER_WRITER: ("another program sets the fans", "no other program sets the fans any more"),
    News.GIVEN_BACK: ("out of control", "under control again"),
    News.PAUSED: ("paused", "no longer paused"),
    News.UNCONTROLLABLE: ("the fans cannot be set", "the fans can be set again"),
}
"""The words for each kind of news: while it is present, and when it is over."""

_THROTTLES = {
    Throttle.HEAT: "heat lowers the clocks",
    Throttle.POWER_BRAKE: "an external signal, such as that of the power supply, lowers the clocks",
    Throttle.HARDWARE: "heat or power lowers the clocks",
    Throttle.POWER_CAP: "the power limit lowers the clocks, as usual for a busy card",
    Throttle.GIVING_WAY: "gpufan lowers the clocks, since the fans may not run faster",
}


def reason_sentence(reason: Reason, curve: str = "the curve") -> str:
    """Return `reason` as a sentence with numbers and units. `curve` is the name of the curve in the sentence.

    >>> reason_sentence(Reason(Cause.BELOW_TARGET, power_w=230, needed_percent=86, limit_c=78, change_percent=-9,
    ...     difference_c=1))
    '86 % holds 78 °C at 230 W; the card is 1 °C below, so 9 points less'
    """
    template = _SENTENCES[reason.cause]
    numbers = {name: getattr(reason, name) for name in reason.__struct_fields__}
    if "{wanted}" in template:
        wanted = _curve_sentence(curve, reason.curve_percent) if reason.needed_percent is None else None
        numbers["wanted"] = wanted or _needed_sentence(reason)
    if "{curve}" in template:
        numbers["curve"] = _curve_sentence(curve, reason.curve_percent)
    if "{needed}" in template:
        numbers["needed"] = _needed_sentence(reason)
        numbers["change"] = _change_in_words(reason.change_percent or 0)
        numbers["so"] = f", so {numbers['change']}" if reason.change_percent else ""
    numbers["left"] = h_mm_ss(reason.seconds or 0)
    is_quiet = bool(reason.until)
    numbers["quiet"] = f", although quiet hours until {reason.until} allow {reason.limit_percent} %" * is_quiet
    numbers["then"] = ": full speed" if reason.tick is None else f" ({reason.tick} of {reason.ticks}): the duty stays"
    return template.format(**numbers)


def _curve_sentence(curve: str, percent: int | None) -> str:
    """Return the duty on the curve as a sentence: `the curve gives 62 %`.

    `curve` is the name of the curve in the sentence. `percent` is None if the curve says auto.
    """
    return f"{curve} leaves the fans to the driver" if percent is None else f"{curve} gives {percent} %"


def _needed_sentence(reason: Reason) -> str:
    """Return the duty that would hold the target as a sentence: `86 % holds 78 °C at 230 W`.

    Raises TypeError if `reason` has no such duty.
    """
    if reason.needed_percent is None:
        raise TypeError(f"{reason.cause.value} lacks needed_percent")
    if reason.power_w is None:
        return f"without power readings, {reason.needed_percent:.0f} % is found to hold {reason.limit_c:g} °C"
    if reason.needed_percent >= 100.5:
        return f"full fans cannot hold {reason.limit_c:g} °C at {reason.power_w:.0f} W"
    return f"{reason.needed_percent:.0f} % holds {reason.limit_c:g} °C at {reason.power_w:.0f} W"


def _change_in_words(percent: int) -> str:
    """Return `percent`, a difference of duties, in words: -9 as `9 points less`. A point is 1 % of full fan speed."""
    return f"{abs(percent)} point{'s' * (abs(percent) != 1)} {'less' if percent < 0 else 'more'}"


def throttle_sentence(gpu: GpuState) -> str:
    """Return a sentence that says why a card lowers its clocks; empty if it does not, or if that is unknown."""
    return next((text for throttle, text in _THROTTLES.items() if throttle.value == gpu.throttle), "")


def state_sentence(gpu: GpuState) -> str:
    """Return a sentence that says why a card has its duty, what fault its fans have, and what gpufan does about it."""
    parts = [sentence_about(gpu, gpu.reason)]
    if gpu.order and gpu.reason.cause in (Cause.CURVE, Cause.AUTO):
        parts = [order_sentence(gpu)]
    elif gpu.order:
        parts.append(order_sentence(gpu))
    if gpu.control is Control.RELEASED:
        if gpu.release_error:
            error = _without_name(gpu, gpu.release_error)
            parts = [f"out of control: {parts[0]}; giving the fans back failed: {error}"]
        elif gpu.backend == "hwmon":
            parts = [f"set to full speed: {parts[0]}"]
        else:
            parts = [f"given back to the driver: {parts[0]}"]
    elif gpu.fault is not None:
        again = "set again: " if gpu.remedy is Remedy.SET_AGAIN else ""
        parts.append(again + sentence_about(gpu, gpu.fault))
    if gpu.x_error and gpu.reason.cause is not Cause.X_LOST:
        parts.append(f"over X it fails too: {gpu.x_error}")
    if gpu.remedy is Remedy.OTHER_BACKEND:
        parts.append("gpufan now sets the fans over X")
    elif gpu.remedy is Remedy.RETRY and gpu.retry_after_s is not None:
        parts.append(f"trying again after {gpu.retry_after_s:g} s")
    return "; ".join(parts)


def sentence_about(gpu: GpuState, reason: Reason) -> str:
    """Return `reason`, a reason or a fault of `gpu`, as a sentence for a line that begins with the name of `gpu`.

    The message of a case fan begins with this name too. It is left out.
    """
    if gpu.is_case_fan and reason.cause is Cause.X_LOST:
        return f"out of reach: {_without_name(gpu, reason.message)}"  # it is a fan, and has none
    plain = msgspec.structs.replace(reason, message=_without_name(gpu, reason.message)) if reason.message else reason
    return reason_sentence(plain, "the order" if gpu.order else "the curve")


def _without_name(gpu: GpuState, message: str) -> str:
    """Return `message` without the name of `gpu` at its beginning, if `gpu` is a case fan."""
    return message.removeprefix(f"{gpu.label}: ") if gpu.is_case_fan else message


def order_sentence(gpu: GpuState) -> str:
    """Return the order for a card, and how long it lasts: `ordered: 60 %, for another 0:09:12`."""
    lasts = "until cleared" if gpu.order_left_s is None else f"for another {h_mm_ss(gpu.order_left_s)}"
    return f"ordered: {gpu.order}, {lasts}"


def settings_sentence(snapshot: Snapshot) -> str | None:
    """Return a sentence about a settings file that was refused. Return None if the settings of the file are in use.

    The sentence says which settings are in use instead, and why the file was refused.
    """
    if snapshot.reload_refused is not None:
        return refused_settings_sentence(snapshot.reload_refused)
    if snapshot.settings_in_use is SettingsInUse.CHOSEN:
        return None
    used = "last good" if snapshot.settings_in_use is SettingsInUse.LAST_GOOD else "built-in"
    return f"settings not used, but the {used} ones: {snapshot.settings_refused}"


def refused_settings_sentence(reload_refused: str) -> str:
    """Return a sentence that says that a reload changed nothing. `reload_refused` describes the mistake in the file."""
    return f"settings not reloaded, the old ones stay: {reload_refused}"


def duty_text(gpu: GpuState) -> str:
    """Return the duty of a card as text: `62 %`.

    It is `auto` while the driver decides, `lost` if the card does not answer, and `paused` if it is paused.
    """
    if gpu.control is Control.LOST:
        return "lost"
    if gpu.reason.cause.group is Group.PAUSED:
        return "paused"
    return "auto" if gpu.duty_percent is None else f"{gpu.duty_percent} %"


def rpm_text(fans: Sequence[FanReading]) -> str:
    """Return the speed of fans as text: `fans at 2950 2900 rpm`; empty if the driver reports no speed."""
    speeds = ["?" if fan.speed_rpm is None else str(fan.speed_rpm) for fan in fans]
    if all(speed == "?" for speed in speeds):
        return ""
    return f"{'fan' if len(speeds) == 1 else 'fans'} at {' '.join(speeds)} rpm"


def card_sentence(gpu: GpuState) -> str:
    """Return the state of a card in one line: `0 GTX 1080 Ti: 62 % at 74 °C: the curve gives 62 %`."""
    return f"{gpu.label}: {_duty_sentence(gpu)}"


def _duty_sentence(gpu: GpuState) -> str:
    """Return duty, temperature and reason: `62 % at 74 °C: the curve gives 62 %`."""
    if gpu.reason.cause.group is Group.PAUSED:
        return state_sentence(gpu)  # it begins with the word for the duty
    at = "" if gpu.temperature_c is None else f" at {gpu.temperature_c:g} °C"
    return f"{duty_text(gpu)}{at}: {state_sentence(gpu)}"


def news_sentence(gpu: GpuState, news: News, how_often: str = "") -> str:
    """Return a sentence that says that `news` is present.

    Example: `0 GTX 1080 Ti: throttled by heat: 100 % at 84 °C: the curve gives 100 %`. `how_often` is put after the
    words for the news, for example ` (3 more times in 0:02:00)` or ` for 0:01:00`.
    """
    state = state_sentence(gpu) if _NEWS[news][0] == duty_text(gpu) else _duty_sentence(gpu)
    return f"{gpu.label}: {_NEWS[news][0]}{how_often}: {state}"


def end_of_news_sentence(gpu: GpuState, news: News, how_long: str = "") -> str:
    """Return a sentence that says that `news` is over.

    Example: `0 GTX 1080 Ti: back after 0:00:31: 62 % at 74 °C: the curve gives 62 %`. `how_long` is put after the
    words for the news, here ` after 0:00:31`.
    """
    return f"{gpu.label}: {_NEWS[news][1]}{how_long}: {_duty_sentence(gpu)}"


def changed_settings_sentence(gpu: GpuState, before: str) -> str:
    """Return a sentence that names the new settings of a card, and the settings `before` that they replace."""
    return f"{gpu.label}: {gpu.settings} instead of {before}"


def limits_and_faults_in_words(gpu: GpuState) -> list[str]:
    """Return texts about the limits of a card, and about its faults since the start: `fans set again 3 times`."""
    found = list(filter(None, [limits_in_words(gpu), gpu.limits_error]))
    if gpu.overrides:
        found.append(f"fans set again {gpu.overrides} times")
    if gpu.errors:
        found.append(f"errors {gpu.errors}")
    if gpu.uncontrolled_s >= 10:
        found.append(f"without control for {h_mm_ss(gpu.uncontrolled_s)}")
    if gpu.throttle == "heat" or gpu.throttled_s:
        found.append(f"throttled by heat {'now, ' if gpu.throttle == 'heat' else ''}{h_mm_ss(gpu.throttled_s)}")
    return found


def limits_in_words(gpu: GpuState) -> str:
    """Return the limits that gpufan has set, and the power that they hold back; empty if gpufan has set no limit.

    Example: `the clocks give way: power limit 180 W instead of 250 W, about 50 W held back`
    """
    parts = []
    if gpu.power_limit_w is not None:
        before = "" if gpu.power_limit_before_w is None else f" instead of {gpu.power_limit_before_w:g} W"
        parts.append(f"power limit {gpu.power_limit_w:g} W{before}")
    if gpu.temperature_limit_c is not None:
        parts.append(f"temperature limit {gpu.temperature_limit_c:g} °C")
    if parts and gpu.held_back_w:
        parts.append(f"about {gpu.held_back_w:.0f} W held back")
    return "the clocks give way: " * (gpu.gives_way and bool(parts)) + ", ".join(parts)


def h_mm_ss(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds: `1:05:09`."""
    whole_s = int(seconds)
    return f"{whole_s // 3600}:{whole_s // 60 % 60:02}:{whole_s % 60:02}"
