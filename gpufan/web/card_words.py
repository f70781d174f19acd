"""The state of a card as the page shows it: numbers, how serious it is, sentences, and what a person can do."""

from enum import Enum
from typing import Any

from gpufan.alerts.messages import REMEDIES
from gpufan.alerts.rules import TROUBLES
from gpufan.core.news import News, news
from gpufan.core.reasons import Control
from gpufan.core.sentences import duty_text, sentence_about, state_sentence, throttle_sentence
from gpufan.core.severity import Severity, severity
from gpufan.core.snapshot import GpuState
from gpufan.system.own_command import with_own_command

_REMEDIES = {
    **{kind: REMEDIES[trouble] for kind, trouble in TROUBLES.items()},
    News.LOST: "look for `Xid` in `sudo dmesg`; a reboot may bring the card back.",
    News.FULL_FANS: "reduce the load or the power limit (`nvidia-smi -pl`), or choose a higher target.",
    News.QUIET_FANS: "allow a higher max_duty_percent in quiet hours, or reduce the load.",
    News.UNCONTROLLABLE: "run `gpufan doctor`: it says why the fans cannot be set.",
    News.PAUSED: "`sudo gpufan resume` ends the pause.",
}
"""What a person can do about each kind of news. The remedies of troubles are those of the messages."""


class PageSeverity(str, Enum):
    """How serious the state of a card or an event is, as a word of the page."""

    OK = "ok"
    NOTE = "note"
    """A person should see it, but nothing is wrong."""
    WARNING = "warning"
    PROBLEM = "problem"


_NOTES = (News.QUIET_FANS, News.GIVING_WAY, News.PAUSED, News.UNCONTROLLABLE)
"""News that are no trouble, but that a person should see. All other news are warnings at least."""

_MOST_SERIOUS_FIRST = (
    *(News.LOST, News.FAN_STILL, News.GIVEN_BACK, News.FAIL_SAFE, News.HOT, News.ANOTHER_WRITER, News.NOT_FOLLOWING),
    *(News.THROTTLED, News.FULL_FANS, News.QUIET_FANS, News.UNCONTROLLABLE, News.PAUSED, News.GIVING_WAY),
)


def card_remedy(gpu: GpuState) -> str:
    """Return what a person can do about the state of a card; empty if nothing needs to be done."""
    if gpu.control is Control.RELEASED and gpu.release_error:
        return "run `sudo gpufan restore`; a reboot gives the fans back to the driver in any case."
    present = news(gpu)
    remedy = next((_REMEDIES.get(kind, "") for kind in _MOST_SERIOUS_FIRST if present.get(kind)), "")
    if not remedy and card_severity(gpu) in (PageSeverity.WARNING, PageSeverity.PROBLEM):
        return "run `gpufan doctor`."
    return remedy


def card_severity(gpu: GpuState) -> PageSeverity:
    """Return how serious the state of a card is."""
    level = severity(gpu)
    present = {kind for kind, is_present in news(gpu).items() if is_present}
    if level is Severity.PROBLEM:
        return PageSeverity.PROBLEM
    if level is Severity.WARNING or gpu.limits_error or present - {*_NOTES}:
        return PageSeverity.WARNING
    return PageSeverity.NOTE if present or gpu.order else PageSeverity.OK


def now_card(gpu: GpuState, quiet: str) -> dict[str, Any]:
    """Return the state of a card as the event `now` has it. Unknown values are None."""
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
        "fault": "" if gpu.fault is None else sentence_about(gpu, gpu.fault),
        "remedy": with_own_command(card_remedy(gpu)),
        "order": gpu.order,
        "order_left_s": gpu.order_left_s,
        "quiet": quiet,
        "throttle": throttle_sentence(gpu),
        "power_limit_w": gpu.power_limit_w,
        "temperature_limit_c": gpu.temperature_limit_c,
        "settings": gpu.settings,
        "target_c": gpu.target_c,
        "slowdown_c": gpu.slowdown_c,
        "age_s": gpu.tick_age_s,
    }
