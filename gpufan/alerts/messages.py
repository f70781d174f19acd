"""Messages about troubles of a card or of gpufan, and the text of messages. Nothing here reads a file or a clock."""

import time
from enum import Enum

import msgspec

from gpufan.core.sentences import h_mm_ss


class Trouble(str, Enum):
    """The subject of a message. The values are the words of the settings file."""

    THROTTLED = "throttled"
    """Heat lowers the clocks of the card."""
    HOT = "hot"
    """The card is so close to its slowdown temperature that its fans run at full speed."""
    LOST = "lost"
    """The card does not answer, or gpufan no longer lists it."""
    FAIL_SAFE = "fail-safe"
    """The temperature cannot be read, or cannot be true."""
    FAN_STILL = "fan-still"
    """A fan does not turn."""
    NOT_FOLLOWING = "not-following"
    """A fan stays too slow, or another program sets it too."""
    GIVEN_BACK = "given-back"
    """The fans were given back to the driver, after a fault."""
    NO_CONTROLLER = "no-controller"
    """gpufan does not run, or it hangs."""
    RESTARTS = "restarts"
    """gpufan crashes or is restarted again and again."""
    SETTINGS_REFUSED = "settings-refused"
    """A reload of the settings was refused."""


class Phase(str, Enum):
    """The stage of a trouble that a message reports."""

    BEGAN = "began"
    LASTS = "lasts"
    """The trouble still lasts, so the message is repeated."""
    OVER = "over"
    TEST = "test"
    """There is no trouble. A person tests the delivery of messages."""


_HEADLINES = {
    Trouble.THROTTLED: "heat slows the card down",
    Trouble.HOT: "the card is close to its slowdown temperature",
    Trouble.LOST: "the card does not answer",
    Trouble.FAIL_SAFE: "the temperature of the card is in doubt",
    Trouble.FAN_STILL: "a fan does not turn",
    Trouble.NOT_FOLLOWING: "a fan does not follow gpufan",
    Trouble.GIVEN_BACK: "gpufan has given the fans back to the driver",
    Trouble.NO_CONTROLLER: "no gpufan controls the fans",
    Trouble.RESTARTS: "gpufan ends and starts again and again",
    Trouble.SETTINGS_REFUSED: "gpufan refused its new settings",
}

REMEDIES = {
    Trouble.THROTTLED: "look for dust and for warm air at the inlet. If the fans are not at full speed, choose a lower"
    " target or a steeper curve, or in quiet hours a higher max_duty_percent. `gpufan status` shows the fans.",
    Trouble.HOT: "look for dust, for a fan that stands still, and for warm air at the inlet. If the fans are at full"
    " speed already, reduce the load or the power limit (`nvidia-smi -pl`).",
    Trouble.LOST: "look for `Xid` in `sudo dmesg`; a reboot may bring the card back. If the card was removed on"
    " purpose: `sudo systemctl restart gpufan-alerts`.",
    Trouble.FAIL_SAFE: "nothing at once: the fans keep their duty at first, then run at full speed. If it lasts, look"
    " at `gpufan doctor` and restart the driver.",
    Trouble.FAN_STILL: "look at the fan: free it or replace it. Until then the other fans of the card run at full"
    " speed.",
    Trouble.NOT_FOLLOWING: "run `gpufan doctor`: it names another program that sets the fans. If there is none, look"
    " for dust or for a worn-out fan.",
    Trouble.GIVEN_BACK: "run `gpufan doctor`: it says why the fans do not obey. gpufan tries again by itself.",
    Trouble.NO_CONTROLLER: "run `systemctl status gpufan`; `sudo systemctl restart gpufan` starts it again, and"
    " `sudo gpufan restore` gives the fans back to the driver.",
    Trouble.RESTARTS: "run `sudo journalctl -u gpufan -n 50`: it says why gpufan ended. Between two runs the driver"
    " controls the fans.",
    Trouble.SETTINGS_REFUSED: "correct the file that this names; `gpufan config check --config FILE` shows all of its"
    " mistakes. Then run `sudo systemctl reload gpufan`.",
}
"""What a person can do about each trouble."""

ABOUT = {
    Trouble.THROTTLED: "heat lowers the clocks of a card",
    Trouble.HOT: "a card is within 5 °C of its slowdown temperature",
    Trouble.LOST: "a card does not answer, or has vanished",
    Trouble.FAIL_SAFE: "the temperature of a card is in doubt",
    Trouble.FAN_STILL: "a fan does not turn",
    Trouble.NOT_FOLLOWING: "a fan stays too slow, or another program sets it too",
    Trouble.GIVEN_BACK: "the fans of a card were given back to the driver",
    Trouble.NO_CONTROLLER: "gpufan does not run, or it hangs",
    Trouble.RESTARTS: "gpufan crashes again and again",
    Trouble.SETTINGS_REFUSED: "a reload of the settings was refused",
}
"""What each trouble means. The settings file shows these texts."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message, as values. Scripts receive these fields as JSON, together with the title and the text."""

    phase: Phase
    trouble: Trouble | None
    """What the message is about; None for a test."""
    box: str
    """The host name of the machine."""
    card: str = ""
    """The index and the model of the card; empty if the trouble concerns all cards."""
    uuid: str = ""
    detail: str = ""
    """The state of the card or of gpufan, as a sentence with numbers."""
    since_s: float
    """When the trouble began, seconds since the epoch."""
    time_s: float
    """The time of the message, seconds since the epoch. If the trouble is over, the time at which it ended."""
    times: int = 1
    """1 for the first report of a trouble. It grows by 1 each time that the trouble soon comes back and is reported."""


def message_title(message: Message) -> str:
    """Return the title of the message: `gpufan on box: 0 GTX 1080 Ti: a fan does not turn`."""
    words = [f"gpufan on {message.box}", message.card, _message_phase_word(message), _message_headline(message)]
    return ": ".join(filter(None, words))


def message_text(message: Message) -> str:
    """Return the text of the message for a person: machine, card, trouble, time, state and remedy.

    The text of a trouble that is over has no remedy. The text of a test only says that it is a test.
    """
    where = f"{message.card} in {message.box}" if message.card else message.box
    if message.trouble is None:
        return f"This is a test of the messages of gpufan on {where}, sent at {_message_time(message.time_s)}."
    lasted = h_mm_ss(max(message.time_s - message.since_s, 0.0))
    if message.phase is Phase.OVER:
        return (
            f"Over, {where}: {_message_headline(message)}.\n"
            f"From {_message_time(message.since_s)} to {_message_time(message.time_s)}, for {lasted}.\n"
            f"Now: {message.detail}"
        )
    lines = [
        f"{where}: {_message_headline(message)}.",
        f"Since {_message_time(message.since_s)}, for {lasted}.",
        f"Now: {message.detail}",
        f"What to do: {REMEDIES[message.trouble]}",
    ]
    if message.times > 1:
        lines.insert(2, f"It has come back: this is report {message.times}.")
    return "\n".join(lines)


def message_as_json(message: Message) -> bytes:
    """Return the message as JSON, for the standard input of a script."""
    fields = {**msgspec.structs.asdict(message), "title": message_title(message), "text": message_text(message)}
    return msgspec.json.encode(fields)


def message_environment(message: Message) -> dict[str, str]:
    """Return the environment variables that describe the message to a script."""
    return {
        "GPUFAN_ALERT_PHASE": message.phase.value,
        "GPUFAN_ALERT_TROUBLE": message.trouble.value if message.trouble else "",
        "GPUFAN_ALERT_BOX": message.box,
        "GPUFAN_ALERT_CARD": message.card,
        "GPUFAN_ALERT_UUID": message.uuid,
        "GPUFAN_ALERT_SINCE": str(int(message.since_s)),
        "GPUFAN_ALERT_TITLE": message_title(message),
        "GPUFAN_ALERT_TEXT": message_text(message),
    }


def _message_headline(message: Message) -> str:
    """Return the trouble of a message in words: `a fan does not turn`. Return `test message` for a test."""
    return _HEADLINES[message.trouble] if message.trouble else "test message"


def _message_phase_word(message: Message) -> str:
    """Return `still` if the trouble lasts, `over` if it is over, else an empty text."""
    return {Phase.LASTS: "still", Phase.OVER: "over"}.get(message.phase, "")


def _message_time(time_s: float) -> str:
    """Return `time_s`, seconds since the epoch, as local date and time."""
    return time.strftime("%F %T %Z", time.localtime(time_s))
