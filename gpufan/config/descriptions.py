"""Descriptions of the keys of the settings file, for the file itself, `config show`, errors and gpufan.toml(5).

The bounds and the defaults of the keys are in `schema.py`.
"""

from gpufan.config.schema import EXAMPLES, is_number_key, is_whole_number_key, key_bounds

ABOUT = {
    "target_c": "Hold the card at this temperature in °C or below, with the least sound.",
    "curve": "Follow this curve instead of holding a target. A target in the same place, in a later table or on the"
    " command line overrides it. It is duty in percent over temperature in °C, linear between the points and flat"
    " outside them."
    " Temperatures must rise, duties must not fall. `auto` as the first duty leaves the fans to the driver below the"
    ' second point: "0:auto,50:30,83:100".',
    "hysteresis_c": "Under a curve: how many °C a card must cool before its fans slow down.",
    "hold_s": "Under a curve: how many seconds a card must stay that cool before its fans slow down.",
    "min_duty_percent": "Lowest duty ever set, in percent, but never below the range of the card. Without it, this is"
    " the lowest duty of the card, or 30 if that is below 20: a lower duty can stall and harm a fan.",
    "neighbours": "Cards that this card warms up, named as in gpus. Under a target, the fans of this card also run"
    " faster for them, if this is quieter in total or the only way to hold the target.",
    "power_limit_w": "Power limit of the card in W. `gpufan list` shows the range that the card accepts. When"
    " gpufan ends, it sets the former limit again.",
    "give_way": 'What happens if a card is too warm although its fans may not go higher. "power": its clocks give way.'
    " That holds the card 1 °C above target_c, or 4 °C below the temperature at which the curve has its highest duty."
    " Clocks give way earlier while the temperature rises. gpufan sets the temperature limit of the driver if the card"
    " accepts it, else lowers the power limit in steps of 5 W. Later it gives both back in steps, which may take"
    ' half an hour. "off": nothing happens.',
    "gpus": "Which cards to control, each by UUID, PCI address, index or part of its name (* and ? match any letters"
    " and any letter), as `gpufan list` shows them. [] means all cards. A change needs a restart.",
    "backend": 'How fans are set: "nvml", "x11", or "auto", which uses NVML for every card where that works, and X for'
    " the others. A change needs a restart.",
    "display": "The X server to use, if one runs already, with the cookie in XAUTHORITY. Without it, gpufan starts its"
    " own X server when it needs one. A change needs a restart.",
    "interval_s": "Seconds from one reading to the next.",
    "dry_run": "true reads the cards and says what would be set, but sets nothing. A change needs a restart.",
    "duration_s": "Stop after this many seconds; without it gpufan runs until stopped. A change needs a restart.",
    "fans": "In a [[gpu]] table: fans on headers of the motherboard that cool these cards. `gpufan list --fans` shows"
    " their names. Curve, target and learning are as for the fans of a card. Several cards may have the same fan: then"
    " the highest duty counts. A change needs a restart, after `gpufan install-service` if gpufan runs as a service.",
    "name": "In a [[fan]] table: the name of the case fan, as `gpufan list --fans` shows it.",
    "follows": "In a [[fan]] table: the cards that the case fan follows, named as in gpus. Without it, all cards.",
    "match": "The cards that a table is for: by UUID, PCI address, index or part of the name, as in gpus.",
    "from": "When quiet hours begin, in local time: hours and minutes with a colon between them.",
    "to": 'When they end; if this is not later than from, on the next day. "24:00" is midnight.',
    "days": "The days on which they begin, from mon to sun. Without it, every day.",
    "max_duty_percent": "Highest duty in quiet hours, in percent. The fans run faster all the same if the lowest duty"
    " is higher, if a card nears its slowdown threshold, if its temperature is in doubt, or if a fan stands still."
    " There is no limit while the curve leaves the fans to the driver.",
}
"""What each key means, without its bounds."""

QUIET_HOURS = (
    "A [[quiet]] table limits the fans of all cards at some hours of local time, also over midnight: with"
    " max_duty_percent, and with a target_c that counts in place of curve and target of the day. Near its slowdown"
    " threshold a card has all the fans it needs; with give_way its clocks give way before that. If the hours of"
    " several tables overlap, the lowest values count."
)
"""What a `[[quiet]]` table does."""

CASE_FANS = (
    "A [[fan]] table is for a fan on a header of the motherboard that follows cards. With a curve, it follows the"
    " temperature of the card that is hottest relative to its own target or curve. Without a curve, its duty is the"
    " highest that one of the cards needs. Without a card that answers, it runs at full speed."
)
"""What a `[[fan]]` table does."""

UNSET = {
    "target_c": "none, the curve is followed",
    "curve": "none, the target is held",
    "neighbours": "none",
    "power_limit_w": "unchanged",
    "min_duty_percent": "the card's own, or 30 if that is under 20",
    "gpus": "all",
    "display": "gpufan's own, when needed",
    "duration_s": "until stopped",
}
"""What happens if a key is not set."""

_CARDS = 'a list of UUIDs, PCI addresses, indices or names, such as ["0", "GTX 1080 Ti"]'
_EXPECTED = {
    "curve": f'text such as "{EXAMPLES.curve}"',
    "give_way": '"off" or "power"',
    "display": 'text such as ":0"',
    "neighbours": _CARDS,
    "gpus": _CARDS,
    "backend": '"auto" or "nvml" or "x11"',
    "dry_run": "true or false",
    "fans": 'a list of fans, such as fans = ["nct6798/pwm2"]',
    "name": 'the name of a fan, such as name = "nct6798/pwm2"',
    "follows": 'a list of UUIDs, PCI addresses, indices or names, such as follows = ["0a:00.0"]',
    "match": 'a UUID, PCI address, index or name, such as match = "GTX 1080 Ti"',
    "from": 'a time of day, such as from = "22:00"',
    "to": 'a time of day, such as to = "07:00"',
    "days": 'a list of days, such as days = ["fri", "sat"]; the days are mon, tue, wed, thu, fri, sat, sun',
}
"""The values that a key accepts, for each key that accepts no number."""


def describe_key(key: str) -> str:
    """Return one line of text: the meaning of `key`, and its bounds if its values are numbers."""
    return ABOUT[key] + (f" From {_describe_bounds(key)}." if is_number_key(key) else "")


def describe_values(key: str) -> str:
    """Return a description of the values that `key` accepts: `a number from 50 to 90`."""
    return (
        f"a {'whole ' * is_whole_number_key(key)}number from {_describe_bounds(key)}"
        if is_number_key(key)
        else _EXPECTED[key]
    )


def _describe_bounds(key: str) -> str:
    """Return the lowest and the highest number that `key` accepts: `50 to 90`."""
    low, high = key_bounds(key)
    return f"{low:.10g} to {high:.10g}"
