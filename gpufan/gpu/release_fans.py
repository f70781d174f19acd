"""Give fans and limits back without the rest of gpufan, when the process that set them is gone.

    python3 -I release_fans.py RECORD [LIBRARY]

RECORD is the file that `daemon/taken.py` writes. Fans and limits of cards are given back over NVML, channels of the
motherboard through the files of hwmon. This is a plain script: any Python from 3.7 on can run it, also where
the interpreter or the packages of gpufan are broken. Exit status 0: every fan and limit of the recorded cards was given
back. Exit status 1: one line on standard error names the cards where that failed, and why.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

TIMEOUT_S = 2.0
"""Time limit for all cards at the same time, s."""

_LIBRARY = "libnvidia-ml.so.1"
_NOT_FOUND = 6
_AUTO, _MANUAL = 0, 1
_ACOUSTIC_CURR = 5
_SAME = 0.5
"""Two values of a limit that differ by at most this, W or °C, are the same: a driver may round."""
_TRIES = 5
"""A channel is given back in at most this many tries."""
_SAME_DUTY, _STEP_OF_DUTY = 2, 16
"""Two duties of a channel that differ by at most this, of 255, are the same: a chip may round."""


_HID_DEVICE = re.compile(r"[0-9A-F]{4}:[0-9A-F]{4}:[0-9A-F]{4}\.[0-9A-F]{4}$")
"""The name of a device on USB, as in `hwmon/channels.py`."""


class _Card(NamedTuple):
    """An open card."""

    nvml: ctypes.CDLL
    handle: ctypes.c_void_p
    record: dict[str, Any]
    """The entry of the card in the record."""
    notes: list[str]
    """Messages about the limits of the card."""


def release_fans_and_limits(
    cards: list[dict[str, Any]],
    library: str = _LIBRARY,
    timeout_s: float = TIMEOUT_S,
    notes: dict[str, list[str]] | None = None,
) -> dict[str, str]:
    """Give every fan and limit of `cards` back. Returns the reason of each failure, by UUID.

    `cards` are entries of a record. Raises LookupError or TypeError if an entry is not valid. `library` is the name of
    the library of NVML. Messages about limits are added to `notes`, by UUID.
    """
    return _for_each_card_to_release(
        cards, [_release_fans, _release_limits], library, timeout_s, {} if notes is None else notes
    )


def release_channels(channels: list[dict[str, Any]], timeout_s: float = TIMEOUT_S) -> str:
    """Put mode and duty of every channel in `channels` back. Returns the reasons of all failures; empty without one.

    `channels` are entries of a record. Lasts at most `timeout_s` seconds, also if a chip hangs.
    """
    calls: dict[Any, Callable[[], str]] = {
        f"{channel['name']}: ": partial(_release_channel, channel) for channel in channels
    }
    results = _call_all(calls, timeout_s)
    return _joined(_failure(result, what, timeout_s) for what, result in results.items())


def release_limits(cards: list[dict[str, Any]], notes: dict[str, list[str]], library: str = _LIBRARY) -> dict[str, str]:
    """Give every limit of `cards` back, but no fan. Returns the reason of each failure, by UUID.

    Messages about limits are added to `notes`, by UUID. `library` is the name of the library of NVML.
    """
    return _for_each_card_to_release(cards, [_release_limits], library, TIMEOUT_S, notes)


def _for_each_card_to_release(
    cards: list[dict[str, Any]],
    steps: list[Callable[[_Card], str]],
    library: str,
    timeout_s: float,
    notes: dict[str, list[str]],
) -> dict[str, str]:
    """Call each of `steps` with each card, and give its channels back if fans are to be given back.

    All cards and channels are called at the same time, since each of them may hang. Returns the reason of each failure,
    by UUID. A step returns the reason of its failure, or an empty text.
    """
    calls: dict[Any, Callable[[], str]] = {}
    of_cards: dict[str, list[tuple[Any, str]]] = {}  # the keys in `calls` of each card, and what is called
    for card in cards:
        of_card = of_cards[card["uuid"]] = []
        for channel in (card.get("channels") or ()) if _release_fans in steps else ():
            place = channel["home"], channel["chip"], channel["number"]  # several cards may share a channel
            calls[place] = partial(_release_channel, channel)
            of_card.append((place, f"{channel['name']}: "))
        if card["backend"] != "hwmon" or card.get("limits"):
            calls[card["uuid"]] = partial(_release_over_nvml, card, steps, library, notes)
            of_card.append((card["uuid"], ""))
    results = _call_all(calls, timeout_s)
    reasons = {
        uuid: _joined(_failure(results[key], what, timeout_s) for key, what in keys) for uuid, keys in of_cards.items()
    }
    return {uuid: reason for uuid, reason in reasons.items() if reason}


def _call_all(calls: dict[Any, Callable[[], str]], timeout_s: float) -> dict[Any, str | None]:
    """Make all `calls` at the same time. Returns the result of each by its key; None if it has not returned in time."""
    results: dict[Any, str | None] = dict.fromkeys(calls)

    def call_one(key: Any) -> None:
        try:
            results[key] = calls[key]()
        except Exception as error:  # such as no library
            results[key] = str(error)

    threads = [threading.Thread(target=call_one, args=[key], daemon=True) for key in calls]
    deadline_s = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline_s - time.monotonic(), 0))
    return results.copy()


def _joined(reasons: Iterable[str]) -> str:
    """Return all `reasons` as one text."""
    return "; ".join(filter(None, reasons))


def _failure(result: str | None, what: str, timeout_s: float) -> str:
    """Return the reason of a failure; empty without one. `result` is that of `_call_all`. `what` was called."""
    return f"{what}no answer within {timeout_s:g} s" if result is None else result


def _release_over_nvml(
    record: dict[str, Any], steps: list[Callable[[_Card], str]], library: str, notes: dict[str, list[str]]
) -> str:
    """Call each of `steps` with the card that the entry `record` describes. Returns the reasons of all failures."""
    card = _Card(ctypes.CDLL(library), ctypes.c_void_p(), record, notes.setdefault(record["uuid"], []))
    card.nvml.nvmlErrorString.restype = ctypes.c_char_p
    code = card.nvml.nvmlInit_v2() or _find_card_to_release(card.nvml, record, card.handle)
    if code:  # a card that is no longer there has nothing to give back
        return "" if code == _NOT_FOUND else _release_error_text(card.nvml, code)
    return _joined(step(card) for step in steps)


def _release_fans(card: _Card) -> str:
    """Give every fan of a card back. Returns the reason of the first failure; empty if all succeeded."""
    nvml, handle, record, _ = card
    if record.get("backend") == "hwmon":
        return ""
    if record.get("backend") == "x11":  # where NVML does not move the fans, its success means nothing
        return "its fans were set over X: run `sudo gpufan restore`"
    set_default = getattr(nvml, "nvmlDeviceSetDefaultFanSpeed_v2", None)
    if set_default is None:
        return "the driver cannot set fans over NVML"
    fan_count, policy = ctypes.c_uint(record["fan_count"]), ctypes.c_uint()
    nvml.nvmlDeviceGetNumFans(handle, ctypes.byref(fan_count))
    set_policy = getattr(nvml, "nvmlDeviceSetFanControlPolicy", None)
    get_policy = getattr(nvml, "nvmlDeviceGetFanControlPolicy_v2", None)
    reason = ""
    for fan in range(max(fan_count.value, record["fan_count"])):
        code = set_default(handle, fan)
        if set_policy is not None and set_policy(handle, fan, _AUTO) == 0:
            code = 0
        if code:
            reason = reason or _release_error_text(nvml, code)
        elif get_policy is not None and get_policy(handle, fan, ctypes.byref(policy)) == 0 and policy.value == _MANUAL:
            reason = reason or f"fan {fan} is still in manual mode"
    return reason


def _release_channel(channel: dict[str, Any]) -> str:
    """Put mode and duty of a channel back, and read them back. Returns the reason of a failure; empty without one."""
    home, number = Path(channel["home"]), channel["number"]
    folders = [
        folder
        for folder in (*sorted(home.glob("hwmon*")), home.parent)
        if _chip_name(folder) == channel["chip"] and (folder / f"pwm{number}").exists()
    ]
    if not folders:
        if _HID_DEVICE.match(home.parent.name) and not home.parent.exists():
            return ""  # a hub on USB that is unplugged forgets what was set
        return f"{channel['name']}: its chip is gone: load its kernel module, then run `sudo gpufan restore`"
    duty_file, mode_file = folders[0] / f"pwm{number}", folders[0] / f"pwm{number}_enable"
    for left in reversed(range(_TRIES)):  # a chip may be busy for a moment
        reason = _try_to_release_channel(channel, duty_file, mode_file)
        if not reason or not left:
            break
    return reason


def _try_to_release_channel(channel: dict[str, Any], duty_file: Path, mode_file: Path) -> str:
    """Put mode and duty of a channel back, and read them back. Returns the reason of a failure; empty without one.

    The duty is in `duty_file`, and the mode in `mode_file`.
    """
    duty, mode = channel["pwm_before"], channel["mode_before"]
    try:
        if mode == 1 and _number_in(mode_file) != 1:  # many chips accept a duty only in manual mode
            mode_file.write_text("1")
        try:
            for higher in range(duty, 256, _STEP_OF_DUTY):  # a chip with few levels may round down
                duty_file.write_text(str(higher))
                if _number_in(duty_file) >= duty - _SAME_DUTY:
                    break
        except OSError:
            if mode in (None, 1):
                raise
        if mode is not None:
            mode_file.write_text(str(mode))
        found_mode = None if mode is None else _number_in(mode_file)
        found_duty = _number_in(duty_file)
    except (OSError, ValueError) as error:
        return f"{channel['name']}: {error}"
    is_same_duty = abs(found_duty - duty) <= _SAME_DUTY
    if found_mode != mode and not ({found_mode, mode} <= {0, 1} and is_same_duty):
        return f"{channel['name']} is in mode {found_mode} instead of {mode}"
    if mode in (None, 1) and not is_same_duty:
        return f"{channel['name']} has the duty {found_duty} instead of {duty} of 255"
    return ""


def _number_in(file: Path) -> int:
    """Return the number in `file`. Raises OSError or ValueError. `read_text` would raise TypeError for a busy chip."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return int(os.read(descriptor, 100))
    finally:
        os.close(descriptor)


def _chip_name(folder: Path) -> str:
    """Return the name of the chip whose files are in `folder`, as `hwmon/channels.py` does; empty without a name."""
    try:
        name = (folder / "name").read_bytes().decode("utf-8", "replace").strip()
    except OSError:
        return ""
    safe = "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in name)
    return re.sub("[/@]", "?", safe)


def _release_limits(card: _Card) -> str:
    """Give every limit of a card back. Returns the reasons of all failures; empty if all succeeded."""
    return _joined(_release_limit(card, limit) for limit in card.record.get("limits") or ())


def _release_limit(card: _Card, limit: dict[str, Any]) -> str:
    """Set a limit to its value before gpufan, and read it back. A limit that another program has set stays unchanged.

    `limit` is the entry of the limit in the record. Returns the reason of a failure; empty without a failure.
    """
    nvml, handle, _, notes = card
    before, value = limit["before"], ctypes.c_uint()
    if limit["name"] == "power_w":
        name, unit, scale, setter = "power limit", "W", 1000, nvml.nvmlDeviceSetPowerManagementLimit
        get = partial(nvml.nvmlDeviceGetPowerManagementLimit, handle, ctypes.byref(value))
        arguments: tuple[Any, ...] = (round(before * 1000),)
    else:
        name, unit, scale, setter = "temperature limit", "°C", 1, nvml.nvmlDeviceSetTemperatureThreshold
        get = partial(nvml.nvmlDeviceGetTemperatureThreshold, handle, _ACOUSTIC_CURR, ctypes.byref(value))
        arguments = (_ACOUSTIC_CURR, ctypes.byref(ctypes.c_int(round(before))))

    def limit_is_now(other: float) -> bool:
        return abs(value.value / scale - other) <= _SAME

    code = get()
    if not code and limit_is_now(before):
        return ""
    if not code and not any(map(limit_is_now, limit["set"])):
        notes.append(f"another program has set the {name} of {value.value / scale:g} {unit}: it stays")
        return ""
    code = code or setter(handle, *arguments) or get()
    if code:
        return f"{name} not given back: {_release_error_text(nvml, code)}"
    if not limit_is_now(before):
        return f"{name} of {value.value / scale:g} {unit} is read back after {before:g} {unit} was given back"
    notes.append(f"{name} {before:g} {unit} given back")
    return ""


def _find_card_to_release(nvml: ctypes.CDLL, card: dict[str, Any], handle: ctypes.c_void_p) -> int:
    """Find the card that the entry `card` of the record describes, and write its handle into `handle`.

    Returns NVML's error code; 0 for success.
    """
    # To search for a UUID, NVML opens every card, and one of them may hang. So look at the known address first.
    uuid = ctypes.create_string_buffer(96)
    if nvml.nvmlDeviceGetHandleByPciBusId_v2(card["pci"].encode(), ctypes.byref(handle)) == 0:
        nvml.nvmlDeviceGetUUID(handle, uuid, len(uuid))
    if uuid.value.decode(errors="replace") == card["uuid"]:
        return 0
    code: int = nvml.nvmlDeviceGetHandleByUUID(card["uuid"].encode(), ctypes.byref(handle))
    return code


def _release_error_text(nvml: ctypes.CDLL, code: int) -> str:
    """Return NVML's text for an error code."""
    return (nvml.nvmlErrorString(code) or b"").decode(errors="replace") or f"NVML error {code}"


def release_recorded_cards(path: Path, library: str = _LIBRARY) -> int:
    """Give fans and limits of all cards in the record `path` back. Cards where this failed stay in the record.

    `library` is the name of the library of NVML. Returns the exit status.
    """
    try:
        with path.open(encoding="utf-8") as file:
            cards = json.load(file)["cards"]
            labels = {card["uuid"]: card["label"] for card in cards}
            notes: dict[str, list[str]] = {}
            reasons = release_fans_and_limits(cards, library, notes=notes)
            for uuid, lines in notes.items():
                for line in lines:
                    print(f"gpufan: {labels[uuid]}: {line}", file=sys.stderr, flush=True)
            # A gpufan that has started meanwhile has replaced the record by its own.
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                leave_cards_in_record(path, reasons)
    except FileNotFoundError:  # every card was given back
        return 0
    except (OSError, ValueError, LookupError, TypeError) as error:
        print(f"gpufan: {path}: {error}: run `sudo gpufan restore`", file=sys.stderr, flush=True)
        return 1
    if reasons:
        failed = "; ".join(f"{labels[uuid]}: {reason}" for uuid, reason in reasons.items())
        print(f"gpufan: fans not given back to the driver: {failed}", file=sys.stderr, flush=True)
    return 1 if reasons else 0


def leave_cards_in_record(path: Path, uuids: Container[str]) -> None:
    """Remove all cards except those with `uuids` from the record `path`. Without such a card, remove the file.

    Raises OSError.
    """
    cards = [card for card in json.loads(path.read_bytes())["cards"] if card["uuid"] in uuids]
    if not cards:
        path.unlink()
        return
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({"cards": cards}, file)
    new.replace(path)


if __name__ == "__main__":
    # Not sys.exit: a thread that hangs in the driver would delay it.
    os._exit(release_recorded_cards(Path(sys.argv[1]), *sys.argv[2:3]))
