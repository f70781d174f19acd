"""`gpufan set`: gives the running gpufan an order for the fans. gpufan follows the order in place of its settings."""

import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from gpufan.config.channel_names import is_same_channel
from gpufan.config.order import Order
from gpufan.core.gpu import CASE_FAN, GpuInfo
from gpufan.core.selection import card_matches
from gpufan.core.sentences import card_sentence
from gpufan.core.snapshot import GpuState
from gpufan.daemon import orders
from gpufan.daemon.known_cards import known_cards
from gpufan.daemon.running import (
    WAIT_S,
    cards_of_running_daemon,
    daemon_is_running,
    key_of_running_card,
    running_snapshot,
    wait_for_running_daemon,
)
from gpufan.errors import GpufanError, InputError
from gpufan.hwmon.channels import find_channels, is_channel_name
from gpufan.system.clock import since_boot_s

_LEAST_START = 8
"""The start of a UUID can name a card if it has at least this number of letters."""


def set_fans(
    order: Order, names: Sequence[str], runtime_folder: Path, *, for_s: float | None = None, keep: bool = False
) -> list[str]:
    """Give `order` for the cards and case fans in `names`, or for all cards, and wait until the daemon follows it.

    The order ends after `for_s` seconds. If `for_s` is None, the order never ends. If `keep` is set, the order outlasts
    restarts of the daemon; if no daemon runs, the next one follows it. An earlier order for the cards ends. Returns a
    line for each card. Raises InputError. Raises GpufanError, for example if the daemon takes too long.
    """
    kept = orders.KeptOrder(order.text, for_s, None if for_s is None else time.time() + for_s) if keep else None
    if kept is not None and not daemon_is_running(runtime_folder):
        return [f"{card.label}: ordered: {order}, from the next start on" for card in _keep_set_order(names, kept)]

    def is_set_order_obeyed(gpu: GpuState) -> bool:
        left_s = gpu.order_left_s
        if gpu.order != str(order) or (left_s is None) != (for_s is None):
            return False
        return left_s is None or for_s is None or for_s - 2 * WAIT_S < left_s <= for_s

    cards = cards_of_running_daemon(names, runtime_folder)
    for fan in (card for card in cards if card.is_case_fan and order.target_c is not None):
        raise InputError(f"--gpu {fan.name}: a case fan cannot hold a target: order a duty or a curve")
    until_s = None if for_s is None else since_boot_s() + for_s
    with orders.changing_orders(runtime_folder):
        _write_set_orders(runtime_folder, cards, order.text, until_s)
        _write_kept_set_orders(cards, kept)
    found, late = wait_for_running_daemon(runtime_folder, cards, is_set_order_obeyed)
    if late:
        raise GpufanError(f"not followed yet: {'; '.join(map(card_sentence, late))}: look at `gpufan status`")
    return [card_sentence(gpu) for gpu in found]


def _keep_set_order(names: Sequence[str], kept: orders.KeptOrder) -> list[GpuInfo]:
    """Keep an order for the next start, for the cards in `names` or for all. Returns these cards.

    Raises InputError if there is no such card. Raises GpufanError if no driver answers, or if the order cannot be kept.
    """
    for name in filter(is_channel_name, names):
        raise GpufanError(f"--gpu {name}: no gpufan is running: start it first, to keep an order for a case fan")
    cards = known_cards(names)
    if not cards and not known_cards(()):
        raise GpufanError("no gpufan is running, and no driver answers that knows the cards: look at `gpufan doctor`")
    for name in names:
        if not any(card_matches(card, name) for card in cards):
            raise InputError(f"--gpu {name}: no such card: `gpufan list` shows the cards")
    chosen = [card for card in cards if not names or any(card_matches(card, name) for name in names)]
    try:
        before = orders.read_kept_orders()
    except GpufanError:  # it is damaged, and is replaced
        before = {}
    orders.write_kept_orders(before | {card.uuid or card.pci: kept for card in chosen})
    return chosen


def clear_set_orders(names: Sequence[str], runtime_folder: Path) -> list[str]:
    """End the orders for the cards and case fans in `names`, or all orders, and wait until the daemon has ended them.

    If no daemon runs, this only ends the orders that are kept for the next start. Returns a line for each card. Raises
    InputError. Raises GpufanError, for example if the daemon takes too long.
    """
    if not daemon_is_running(runtime_folder):
        return _clear_kept_set_orders(names)
    cards = cards_of_running_daemon(names, runtime_folder)
    if not names:
        cards += running_snapshot(runtime_folder).case_fans
    with orders.changing_orders(runtime_folder):
        _write_set_orders(runtime_folder, cards, "", None)
        _write_kept_set_orders(cards if names else None, None)
    found, late = wait_for_running_daemon(runtime_folder, cards, lambda gpu: not gpu.order)
    if late:
        raise GpufanError(f"still followed: {'; '.join(map(card_sentence, late))}: look at `gpufan status`")
    return [card_sentence(gpu) for gpu in found]


def _clear_kept_set_orders(names: Sequence[str]) -> list[str]:
    """End the orders that are kept for the next start, for the cards in `names` or for all.

    Returns a line for each order that was ended. If no order is kept, returns one line that says so. Raises InputError
    or GpufanError.
    """
    try:
        kept = orders.read_kept_orders()
    except GpufanError as error:
        if names:
            raise GpufanError(f"{orders.kept_orders_path()}: {error}") from error
        kept = {}
    present = {key for name in names for card in known_cards([name]) for key in (card.uuid, card.pci)}
    ended = [
        key for key in kept if not names or key in present or any(_is_key_of_set_order(key, name) for name in names)
    ]
    if names and not ended:
        known = ", ".join(kept) or "no card"
        raise InputError(f"--gpu {' '.join(names)}: no order is kept for this card; orders are kept for {known}")
    orders.write_kept_orders({key: order for key, order in kept.items() if key not in ended})
    lines = [f"{key}: no longer ordered: {kept[key].order}" for key in ended]
    return lines or ["no gpufan is running, and no order is kept for the next start"]


def _is_key_of_set_order(key: str, name: str) -> bool:
    """Whether `key` is the key of the case fan `name`, or a UUID that begins with `name`, which is long enough.

    Such a name is valid even if the card or the fan is no longer in the box.
    """
    if key.startswith(CASE_FAN):
        return is_same_channel(key.removeprefix(CASE_FAN), name, find_channels())
    return len(name) >= _LEAST_START and key.lower().startswith(name.lower())


def _write_set_orders(runtime_folder: Path, cards: Sequence[GpuState], text: str, until_s: float | None) -> None:
    """Write the order `text` for each of `cards`. If `text` is empty, end the orders for these cards.

    The order ends at `until_s`, in seconds since boot; None if it never ends. Raises GpufanError.
    """
    before = orders.read_orders(runtime_folder)
    changed = {
        key: replace(before.get(key, orders.CardOrders()), order=text, order_until_s=until_s)
        for key in map(key_of_running_card, cards)
    }
    orders.write_orders(runtime_folder, before | changed)


def _write_kept_set_orders(cards: Sequence[GpuState] | None, kept: orders.KeptOrder | None) -> None:
    """Write `kept` as the order to keep for each of `cards`. Raises GpufanError.

    If `kept` is None, remove the orders to keep for these cards. If `cards` is None, change the orders to keep for all
    cards, even for cards that are no longer in the box.
    """
    try:
        before = orders.read_kept_orders()
        is_damaged = False
    except GpufanError:
        before, is_damaged = {}, True
    keys = list(before) if cards is None else [key_of_running_card(gpu) for gpu in cards]
    after = {key: order for key, order in before.items() if key not in keys}
    if kept is not None:
        after |= dict.fromkeys(keys, kept)
    if after == before and not is_damaged:
        return
    try:
        orders.write_kept_orders(after)
    except GpufanError as error:
        raise type(error)(f"followed, but what is kept for the next start is unchanged: {error}") from error
