"""What the keys of the file of settings mean, said once: for the file itself, `config show` and gpufan.toml(5).

Ranges and defaults are not here: `config.py` knows them.
"""

ABOUT = {
    "target_c": "Hold the card at this temperature in °C or under, with the least sound; the curve counts only above"
    " it. A curve that is set where it counts more than the target is followed instead.",
    "curve": "Duty in percent over temperature in °C, linear between the points and flat outside them. Temperatures"
    " rise, duties never fall. `auto` as the first duty leaves the fans to the driver below the second point:"
    ' "0:auto,50:30,83:100".',
    "hysteresis_c": "How many °C a card must cool before its fans slow down.",
    "hold_s": "How many seconds it must stay that cool.",
    "min_duty_percent": "Lowest duty ever set, percent, but never below what the card takes. Without it that is what"
    " the card says, and 30 where it says less than 20, since such low duties can stall and harm a fan.",
    "neighbours": "Cards that take in this one's heat, named as in gpus: when a target is held, its fans also run for"
    " them where that is quieter in sum, or the only way.",
    "gpus": "Which cards to control, each by UUID, PCI address, index or part of its name (* and ? stand for any"
    " letters and for one), as `gpufan list` shows them. [] is all of them. A change needs a restart.",
    "backend": 'What sets the fans: "nvml", "x11", or "auto", which takes NVML for every card where that works, and X'
    " for the rest. A change needs a restart.",
    "display": "The X server to use, where one runs already, with the cookie in XAUTHORITY; without it gpufan starts"
    " one of its own when it needs one. A change needs a restart.",
    "interval_s": "Seconds from one reading to the next.",
    "dry_run": "true reads the cards and says what would be set, but sets nothing. A change needs a restart.",
    "duration_s": "Stop after so many seconds; without it gpufan runs until it is stopped. A change needs a restart.",
    "match": "The cards that a table is for: by UUID, PCI address, index or part of the name, as in gpus.",
}
"""What each key means, without its range."""

UNSET = {
    "target_c": "none, the curve is followed",
    "neighbours": "none",
    "min_duty_percent": "the card's own, or 30 where that is under 20",
    "gpus": "all",
    "display": "our own, when needed",
    "duration_s": "until stopped",
}
"""What holds where a key has no value, in words."""
