"""Prove that gpufan can set the fans of this box.

The proof moves the fans by a visible step, reads their speeds, and gives the fans back to the driver.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from gpufan.core.gpu import Gpu, Reading
from gpufan.daemon.guardian import guardian
from gpufan.daemon.read_back import STILL_DUTY_PERCENT, STILL_SHARE, TARGET_TOLERANCE, release_and_read_back
from gpufan.daemon.taken import Taken
from gpufan.errors import GpuError, GpufanError, NoAnswer
from gpufan.gpu.cards import Cards
from gpufan.system import signals
from gpufan.system.background import call_with_timeout
from gpufan.system.lock import controller_lock
from gpufan.system.paths import RUNTIME_FOLDER, TAKEN

STEP_PERCENT = 15
MOVED_PERCENT = 5
"""A fan has obeyed if its speed has changed by this many percentage points, or by more."""
PATIENCE_S = 6.0
"""All fans of a card must obey within this time, s."""
_CALL_S = 5.0
_LATE_S = 20.0
"""Longest wait for the end of a call that sets fans, s. After this time the fans are given back anyway."""
_POLL_S = 0.2


@contextmanager
def guarded_proof(runtime_folder: Path, gpus: Sequence[Gpu]) -> Iterator[None]:
    """Guard the proof that the block makes.

    If this process is killed during the block, a guardian process gives the fans of `gpus` back. The record of these
    cards is a file in `runtime_folder`.
    """
    record = runtime_folder / TAKEN
    with guardian(record), Taken(record, None) as taken:
        for gpu in gpus:
            taken.add(gpu.info)
        yield


def prove_control_under_lock(cards: Cards, gpus: Sequence[Gpu], say: Callable[[str], None]) -> None:
    """Prove that the fans of `gpus` can be set. Hold the lock of the controller meanwhile.

    `cards` are all open cards. If the fans of some of `gpus` are set over gpufan's own X server, the server runs during
    the proof. `say` gets a sentence about each card. Raises GpufanError.
    """
    with controller_lock(RUNTIME_FOLDER, say):
        cards.start_x_server(gpus)
        with guarded_proof(RUNTIME_FOLDER, gpus):
            prove_control(gpus, say)
    cards.stop_x_server()  # the service starts its own X server, and the driver may allow only one


def prove_control(gpus: Sequence[Gpu], say: Callable[[str], None]) -> None:
    """Move the fans of every card, and give the fans back to the driver.

    `say` gets a sentence about each card. The first card that fails ends the proof with GpufanError.
    """
    for gpu in gpus:
        try:
            say(f"{gpu.info.label}: {prove_card(gpu)}")
        except (GpuError, NoAnswer) as error:
            raise GpufanError(
                f"{gpu.info.label}: {error}: look at `gpufan doctor`, or name other cards with --gpu"
            ) from error


def prove_card(gpu: Gpu) -> str:
    """Move the fans of one card, and give the fans back to the driver.

    Returns a sentence that says how the fans moved. Raises GpuError, NoAnswer or NoPermission.
    """
    before = call_with_timeout(_CALL_S, gpu.read)
    duty_percent = _duty_for_proof(before, gpu.info.duty_range)
    with signals.deferred() as received:  # a signal in between would leave the fans in manual mode
        _prove_by_moving(gpu, before, duty_percent, received)
    count = len(before.fans)
    fans = "its fan" if count == 1 else f"its {count} fans"
    return f"{fans} went from {_speed_before_proof(before)} to {duty_percent} % and back to the driver"


def _prove_by_moving(gpu: Gpu, before: Reading, duty_percent: int, received: Sequence[int]) -> None:
    """Set the fans to `duty_percent`, and wait until they move. Always give the fans back to the driver at the end.

    `before` is a reading from before the movement. The wait ends early if `received` contains the number of a signal.
    Raises GpuError, NoAnswer or NoPermission.
    """
    is_set = threading.Event()

    def set_proof_duty() -> None:
        """Set the fans to `duty_percent`. Then set the event `is_set`, even after an error."""
        try:
            gpu.set_duty(duty_percent)
        finally:
            is_set.set()

    try:
        call_with_timeout(_CALL_S, set_proof_duty)
        _wait_for_proof(gpu, before, duty_percent, received)
    finally:
        # A late call must not set the fans after they are given back.
        is_set.wait(_LATE_S)
        call_with_timeout(2 * _CALL_S, partial(release_and_read_back, gpu))


def _duty_for_proof(reading: Reading, duty_range: tuple[int, int]) -> int:
    """Return the duty for the proof in percent.

    The duty is well above the present speed of the fastest fan. If that fan is near full speed, the duty is below its
    speed. `reading` has the present speeds. `duty_range` has the lowest and the highest duty of the card.
    """
    low, high = duty_range
    speed = max((fan.speed_percent for fan in reading.fans if fan.speed_percent is not None), default=low)
    wanted = speed + STEP_PERCENT
    if wanted > high:
        return max(min(speed, high) - STEP_PERCENT, low)
    return max(wanted, low, min(STILL_DUTY_PERCENT, high))


def _wait_for_proof(gpu: Gpu, before: Reading, duty_percent: int, received: Sequence[int]) -> None:
    """Wait until all fans obey, or until `received` contains the number of a signal.

    `before` is a reading from before the fans were set to `duty_percent`. Raises GpuError if a fan does not obey within
    `PATIENCE_S` seconds, NoAnswer if the card does not answer.
    """
    end_s = time.monotonic() + PATIENCE_S
    while problem := _unmoved_fan(before, call_with_timeout(_CALL_S, gpu.read), duty_percent):
        if received:
            return
        if time.monotonic() > end_s:
            raise GpuError(f"{problem}, {PATIENCE_S:g} s after it was set to {duty_percent} %")
        time.sleep(_POLL_S)


def _unmoved_fan(before: Reading, now: Reading, duty_percent: int) -> str | None:
    """Return a sentence about the first fan that does not obey or does not turn; None if all fans obey and turn.

    `before` and `now` are readings from before and after the fans were set to `duty_percent`. Many fans report the
    percent that they were set to. Only the rpm shows that a fan turns.
    """
    fastest_rpm = max((fan.speed_rpm or 0 for fan in now.fans), default=0)
    for number, (old, fan) in enumerate(zip(before.fans, now.fans, strict=False)):
        if fan.manual is False:
            return f"fan {number} stays with the driver"
        if fan.target_percent is not None and abs(fan.target_percent - duty_percent) > TARGET_TOLERANCE:
            return f"fan {number} has a target of {fan.target_percent} %"
        if fan.speed_percent is not None and old.speed_percent is not None:
            direction = 1 if duty_percent > old.speed_percent else -1
            moved = (fan.speed_percent - old.speed_percent) * direction
            if moved < min(MOVED_PERCENT, abs(duty_percent - old.speed_percent)):
                return f"fan {number} runs at {fan.speed_percent} % as before"
        if fan.speed_rpm is not None and fan.speed_rpm <= STILL_SHARE * fastest_rpm:
            return f"fan {number} stands still at {fan.speed_rpm} rpm"
    return None


def _speed_before_proof(reading: Reading) -> str:
    """Return the speed of the fastest fan as text, such as `40 %`."""
    speeds = [fan.speed_percent for fan in reading.fans if fan.speed_percent is not None]
    return f"{max(speeds)} %" if speeds else "an unknown speed"
