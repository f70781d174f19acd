"""Give fans back to the driver over NVML without the rest of gpufan, when the process that set them is gone.

    python3 -I release_fans.py RECORD [LIBRARY]

RECORD is the file that `daemon/taken.py` writes. This is a plain script: any Python from 3.7 on can run it, also where
the interpreter or the packages of gpufan are broken. Exit status 0: every fan of the recorded cards was given back.
Exit status 1: one line on standard error names the cards where that failed, and why.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

TIMEOUT_S = 2.0
"""Time limit for all cards at the same time, s."""

_LIBRARY = "libnvidia-ml.so.1"
_NOT_FOUND = 6
_AUTO, _MANUAL = 0, 1


def release(cards: list[dict[str, Any]], library: str = _LIBRARY, timeout_s: float = TIMEOUT_S) -> dict[str, str]:
    """Give every fan of `cards` back; returns the reason of each failure, by UUID.

    `cards` are entries of a record. Raises LookupError or TypeError if they are not.
    """
    reasons = {card["uuid"]: f"no answer within {timeout_s:g} s" for card in cards}

    def run(card: dict[str, Any]) -> None:
        try:
            reason = _release_card(ctypes.CDLL(library), card)
        except Exception as error:  # such as no library, or one that is too old
            reason = str(error)
        if card.get("backend") == "x11":  # where NVML does not move the fans, its success means nothing
            reason = "its fans were set over X: run `sudo gpufan restore`"
        reasons[card["uuid"]] = reason

    threads = [threading.Thread(target=run, args=[card], daemon=True) for card in cards]
    deadline_s = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline_s - time.monotonic(), 0))
    return {uuid: reason for uuid, reason in reasons.copy().items() if reason}


def _release_card(nvml: ctypes.CDLL, card: dict[str, Any]) -> str:
    """Give the fans of `card` back. Returns why that failed; empty if it did not, or if the card is no longer there.

    Raises AttributeError if NVML lacks a function.
    """
    nvml.nvmlErrorString.restype = ctypes.c_char_p
    handle, fan_count, policy = ctypes.c_void_p(), ctypes.c_uint(card["fan_count"]), ctypes.c_uint()
    code = nvml.nvmlInit_v2() or _find_card(nvml, card, handle)
    if code:
        return "" if code == _NOT_FOUND else _error_text(nvml, code)
    nvml.nvmlDeviceGetNumFans(handle, ctypes.byref(fan_count))
    set_policy = getattr(nvml, "nvmlDeviceSetFanControlPolicy", None)
    get_policy = getattr(nvml, "nvmlDeviceGetFanControlPolicy_v2", None)
    reason = ""
    for fan in range(max(fan_count.value, card["fan_count"])):
        code = nvml.nvmlDeviceSetDefaultFanSpeed_v2(handle, fan)
        if set_policy is not None and set_policy(handle, fan, _AUTO) == 0:
            code = 0
        if code:
            reason = reason or _error_text(nvml, code)
        elif get_policy is not None and get_policy(handle, fan, ctypes.byref(policy)) == 0 and policy.value == _MANUAL:
            reason = reason or f"fan {fan} is still in manual mode"
    return reason


def _find_card(nvml: ctypes.CDLL, card: dict[str, Any], handle: ctypes.c_void_p) -> int:
    """Write the handle of `card` into `handle`; returns NVML's error code."""
    # To search for a UUID, NVML opens every card, and one of them may hang. So look at the known address first.
    uuid = ctypes.create_string_buffer(96)
    if nvml.nvmlDeviceGetHandleByPciBusId_v2(card["pci"].encode(), ctypes.byref(handle)) == 0:
        nvml.nvmlDeviceGetUUID(handle, uuid, len(uuid))
    if uuid.value.decode(errors="replace") == card["uuid"]:
        return 0
    code: int = nvml.nvmlDeviceGetHandleByUUID(card["uuid"].encode(), ctypes.byref(handle))
    return code


def _error_text(nvml: ctypes.CDLL, code: int) -> str:
    return (nvml.nvmlErrorString(code) or b"").decode(errors="replace") or f"NVML error {code}"


def main(path: Path, library: str = _LIBRARY) -> int:
    """Give back the cards of the record `path`, and remove it if all succeeded; returns the exit status."""
    try:
        with path.open(encoding="utf-8") as file:
            cards = json.load(file)["cards"]
            labels = {card["uuid"]: card["label"] for card in cards}
            reasons = release(cards, library)
            # A gpufan that has started meanwhile has replaced the record by its own.
            if not reasons and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                path.unlink()
    except FileNotFoundError:  # every card was given back
        return 0
    except (OSError, ValueError, LookupError, TypeError) as error:
        print(f"gpufan: {path}: {error}: run `sudo gpufan restore`", file=sys.stderr, flush=True)
        return 1
    if reasons:
        failed = "; ".join(f"{labels[uuid]}: {reason}" for uuid, reason in reasons.items())
        print(f"gpufan: fans not given back to the driver: {failed}", file=sys.stderr, flush=True)
    return 1 if reasons else 0


if __name__ == "__main__":
    # Not sys.exit: a thread that hangs in the driver would delay it.
    os._exit(main(Path(sys.argv[1]), *sys.argv[2:3]))
