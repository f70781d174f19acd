"""The state of a card as the page shows it: numbers, how serious it is, sentences, and what a person can do."""

from typing import Any

from gpufan.core.gpu import Throttle
from gpufan.core.reasons import Cause, Control, Group
from gpufan.core.sentences import duty_text, reason_sentence, state_sentence
from gpufan.core.severity import Severity, severity
from gpufan.core.snapshot import GpuState

_SEVERITY_WORDS = {Severity.FINE: "ok", Severity.WARNING: "warning", Severity.PROBLEM: "problem"}

_NOTE_GROUPS = (Group.PAUSED, Group.UNCONTROLLABLE, Group.FULL)
"""Reasons that are no trouble, but that a person should see."""

_THROTTLE_SENTENCES = {
    Throttle.HEAT: "heat lowers the clocks",
    Throttle.POWER_BRAKE: "an external signal, such as that of the power supply, lowers the clocks",
    Throttle.HARDWARE: "heat or power lowers the clocks",
    Throttle.POWER_CAP: "the power limit sets the clocks, as usual for a busy card",
    Throttle.GIVING_WAY: "gpufan lowers the clocks, since the fans may not run faster",
}

_REMEDIES = {
    Group.FULL: "look for dust, for a fan that stands still and for warm air at the inlet",
    Group.FAIL_SAFE: "nothing at once; if it lasts, run `gpufan doctor` and restart the driver",
    Group.LOST: "look for `Xid` in `sudo dmesg`; a reboot may bring the card back",
    Group.HANG: "look for `Xid` in `sudo dmesg`; a reboot may bring the card back",
    Group.FAULT: "run `gpufan doctor`: it says why the fans do not obey; gpufan tries again by itself",
    Group.UNCONTROLLABLE: "run `gpufan doctor`: it says why the fans cannot be set",
    Group.PAUSED: "end the pause with `sudo gpufan resume`",
}

_FAULT_REMEDIES = {
    Cause.FAN_STILL: "look at the fan: free it or replace it; until then the other fans run at full speed",
    Cause.FAN_SLOW: "run `gpufan doctor`: it names another program that sets the fans; else look for dust",
}


def card_remedy(gpu: GpuState) -> str:
    """Return what a person can do about the state of a card; empty if nothing needs to be done."""
    if gpu.fault is not None and gpu.fault.cause in _FAULT_REMEDIES:
        return _FAULT_REMEDIES[gpu.fault.cause]
    if gpu.contested:
        return "run `gpufan doctor`: it names the other program that sets the fans"
    if gpu.control is Control.RELEASED and gpu.release_error:
        return "run `sudo gpufan restore`; a reboot gives the fans back in any case"
    if remedy := _REMEDIES.get(gpu.reason.cause.group, ""):
        return remedy
    if gpu.throttle == Throttle.HEAT.value:
        return "look for dust and warm air at the inlet, or choose a lower target or a steeper curve"
    return ""


def card_severity(gpu: GpuState) -> str:
    """Return how serious the state of a card is, as a word of the page: ok, note, warning or problem."""
    level = severity(gpu)
    if level is Severity.FINE:
        if gpu.throttle == Throttle.HEAT.value or gpu.contested or gpu.limits_error:
            return "warning"
        if gpu.reason.cause.group in _NOTE_GROUPS or gpu.order:
            return "note"
    return _SEVERITY_WORDS[level]


def now_card(gpu: GpuState, quiet: str) -> dict[str, Any]:
    """Return the state of a card as the event `now` has it. Unknown values are None."""
    try:
        throttle = _THROTTLE_SENTENCES.get(Throttle(gpu.throttle), "") if gpu.throttle else ""
    except ValueError:  # of a later version
        throttle = ""
    return {
        "key": gpu.key,
        "index": gpu.index,
        "name": gpu.name,
        "label": gpu.label,
        "temperature_c": gpu.temperature_c,
        "power_w": gpu.power_w,
        "duty_percent": gpu.duty_percent,
        "duty": duty_text(gpu),
        "read_percent": [fan.speed_percent for fan in gpu.fans],
        "rpm": [fan.speed_rpm for fan in gpu.fans],
        "control": gpu.control.value,
        "severity": card_severity(gpu),
        "reason": state_sentence(gpu),
        "fault": "" if gpu.fault is None else reason_sentence(gpu.fault),
        "remedy": card_remedy(gpu),
        "order": gpu.order,
        "order_left_s": gpu.order_left_s,
        "quiet": quiet,
        "throttle": throttle,
        "power_limit_w": gpu.power_limit_w,
        "temperature_limit_c": gpu.temperature_limit_c,
        "settings": gpu.settings,
        "target_c": gpu.target_c,
        "slowdown_c": gpu.slowdown_c,
        "age_s": gpu.tick_age_s,
    }
