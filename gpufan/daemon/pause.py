"""`gpufan pause` and `gpufan resume`: gpufan closes a card for a while.

Then the card can be reset, given to a virtual machine, or unbound from the driver.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from gpufan.core.reasons import Cause, Group
from gpufan.core.sentences import card_sentence, h_mm_ss
from gpufan.core.snapshot import GpuState
from gpufan.daemon import orders
from gpufan.daemon.running import (
    cards_of_running_daemon,
    key_of_running_card,
    running_snapshot,
    wait_for_running_daemon,
)
from gpufan.daemon.snapshot_file import NotRunning
from gpufan.errors import GpufanError, InputError
from gpufan.system.clock import since_boot_s


def pause_cards(names: Sequence[str], runtime_folder: Path, for_s: float) -> list[str]:
    """Pause the cards in `names`, or all, for `for_s` seconds, and wait until the daemon has closed them.

    Returns a line for each card. Raises InputError. Raises GpufanError, for example if the daemon takes too long.
    """
    cards = _cards_to_pause_or_resume("pause", names, runtime_folder)
    if any(gpu.backend == "x11" for gpu in running_snapshot(runtime_folder).gpus):
        # The X server has all cards open, as long as it runs.
        raise GpufanError("fans are set over an X server, which has every card open: stop gpufan and the X server")
    _write_pause_orders(runtime_folder, [key_of_running_card(gpu) for gpu in cards], since_boot_s() + for_s)
    found, late = wait_for_running_daemon(runtime_folder, cards, lambda gpu: gpu.reason.cause is Cause.PAUSED)
    if late:
        text = "; ".join(filter(None, (part for gpu in late for part in (card_sentence(gpu), gpu.limits_error))))
        raise GpufanError(f"not paused yet: {text}; gpufan goes on trying, and `sudo gpufan resume` ends that")
    return [
        f"{gpu.label}: paused for {h_mm_ss(for_s)}: the driver controls its fans, gpufan has closed it" for gpu in found
    ]


def resume_cards(names: Sequence[str], runtime_folder: Path) -> list[str]:
    """End the pause of the cards in `names`, or of all, and wait until the daemon has opened them again.

    Returns a line for each card. Raises InputError. Raises GpufanError, for example if the daemon takes too long.
    """
    cards = _cards_to_pause_or_resume("resume", names, runtime_folder)
    _write_pause_orders(runtime_folder, [key_of_running_card(gpu) for gpu in cards], 0.0)
    found, late = wait_for_running_daemon(runtime_folder, cards, lambda gpu: gpu.reason.cause.group is not Group.PAUSED)
    if late:
        raise GpufanError(f"still paused: {'; '.join(map(card_sentence, late))}: look at `gpufan status`")
    return [card_sentence(gpu) for gpu in found]


def _cards_to_pause_or_resume(verb: str, names: Sequence[str], runtime_folder: Path) -> list[GpuState]:
    """Return the cards in `names`, or all cards of the running daemon. Raises InputError or GpufanError.

    `verb` is `pause` or `resume`. An error message uses it.
    """
    try:
        cards = cards_of_running_daemon(names, runtime_folder)
    except NotRunning as error:
        text = f"no gpufan is running, so no card is open or paused: there is nothing to {verb}"
        raise GpufanError(text) from error
    for fan in (state for state in cards if state.is_case_fan):
        remedy = f"`gpufan set auto --gpu '{fan.name}' --for 10m` gives it back to the BIOS for a while"
        raise InputError(f"--gpu {fan.name}: only a card can be paused; {remedy}")
    return cards


def _write_pause_orders(runtime_folder: Path, keys: Sequence[str], until_s: float) -> None:
    """Write orders that pause the cards `keys` until `until_s`, in seconds since boot. Raises GpufanError.

    An `until_s` of 0 ends the pause. Each key is the UUID or the PCI address of a card.
    """
    with orders.changing_orders(runtime_folder):
        cards = orders.read_orders(runtime_folder)
        changed = {key: replace(cards.get(key, orders.CardOrders()), paused_until_s=until_s) for key in keys}
        orders.write_orders(runtime_folder, cards | changed)
