"""The orders that persons give to the running daemon: the file with them, and how the daemon reads it.

The daemon listens on nothing. `pause.py` and `set_fans.py` write into the file `orders.json`, which only root can
write, and the daemon looks at this file at every tick. Orders to keep stand in the state folder too, and are copied
from there at a start.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from gpufan.config.order import Order
from gpufan.core.gpu import GpuInfo
from gpufan.errors import GpufanError, NoAnswer, NoPermission
from gpufan.system.background import call_with_timeout
from gpufan.system.clock import since_boot_s
from gpufan.system.files import read_file, remove, remove_unsynced, replace, replace_unsynced
from gpufan.system.lock import LockHeld, acquire_lock
from gpufan.system.paths import ORDERS, state_folder

READ_TIMEOUT_S = 1.0
"""Time limit for reading the orders to keep, s. A disk that hangs must not delay control."""

LOCK_TIMEOUT_S = 2.0
"""Time that a command waits for another that gives orders, s."""

_Time = Annotated[float, Meta(ge=0, le=1e11)]
"""A time in seconds that can be published in a snapshot."""

_log = logging.getLogger(__name__)


class CardOrders(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The orders for one card. Times are in seconds since boot."""

    paused_until_s: _Time = 0.0
    order: str = ""
    """The text of the order; empty if there is none."""
    order_until_s: _Time | None = None
    """When the order ends; None for never."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cards: dict[str, CardOrders]
    """By UUID, or by PCI address if the UUID is unknown."""


class KeptOrder(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An order that outlasts restarts and reboots."""

    order: str
    for_s: _Time | None = None
    """How long it was to last; None for ever."""
    until_s: _Time | None = None
    """When it ends, seconds since the epoch."""


class _KeptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cards: dict[str, KeptOrder]


class Orders:
    """The orders in the file. At the begin of a `with` block, the file gets the orders to keep; at its end it goes."""

    def __init__(self, path: Path | None) -> None:
        """`path` is None if there is no file, so that nothing is ever ordered."""
        self._path = path
        self._version: tuple[int, int] | None = None
        self._cards: dict[str, CardOrders] = {}
        self._parsed: dict[str, Order] = {}

    def __enter__(self) -> "Orders":
        if self._path is not None:
            with suppress(OSError):
                remove_unsynced(self._path)
            try:
                kept = call_with_timeout(READ_TIMEOUT_S, _kept_orders)
                if kept:
                    write(self._path.parent, kept)
            except (GpufanError, NoAnswer) as error:
                _log.warning("the orders to keep in %s are not followed: %s", kept_path(), error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            with suppress(OSError):
                remove_unsynced(self._path)

    def look(self) -> None:
        """Read the file if it has changed. A file that is damaged, or another user's, orders nothing."""
        if self._path is None:
            return
        status = None
        if os.access(self._path, os.F_OK):  # usually there is no file, and an exception needs three times as long
            with suppress(OSError):
                status = self._path.lstat()
        version = None if status is None else (status.st_mtime_ns, status.st_ino)
        if version == self._version:
            return
        self._version, self._cards, self._parsed = version, {}, {}
        if status is None:
            return
        try:
            _check_owner(status)
            cards = _read(self._path)
            self._parsed = {card.order: Order.parse(card.order) for card in cards.values() if card.order}
            self._cards = cards
        except GpufanError as error:
            _log.warning("nothing in %s is followed: %s", self._path, error)

    def pause_left_s(self, info: GpuInfo, now_s: float) -> float:
        """For how long the card is still paused; 0 if it is not. `now_s` is in seconds since boot."""
        if not self._cards:
            return 0.0
        return max(max(card.paused_until_s for card in self._of(info)) - now_s, 0.0)

    def order(self, info: GpuInfo, now_s: float) -> tuple[Order | None, float | None]:
        """The order for the card and for how many seconds it still lasts; (None, None) without one.

        `now_s` is in seconds since boot. An order without an end lasts for None seconds.
        """
        if not self._cards:
            return None, None
        for card in self._of(info):
            if card.order and (card.order_until_s is None or card.order_until_s > now_s):
                return self._parsed[card.order], None if card.order_until_s is None else card.order_until_s - now_s
        return None, None

    def _of(self, info: GpuInfo) -> list[CardOrders]:
        """The orders for the card by its UUID, and those by its PCI address."""
        return [self._cards.get(key, CardOrders()) for key in (info.uuid, info.pci)]


def kept_path() -> Path:
    """The file of the orders to keep."""
    return state_folder() / ORDERS


@contextmanager
def changing(runtime_folder: Path) -> Iterator[None]:
    """Let no other command change the orders during the block. Raises GpufanError or NoPermission."""
    end_s = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            descriptor = acquire_lock(runtime_folder / "orders.lock", 0o600)
            break
        except LockHeld as held:
            if time.monotonic() > end_s:
                raise GpufanError(f"another gpufan (process {held}) gives orders: try again") from None
            time.sleep(0.02)
        except PermissionError:
            raise NoPermission("only root can give orders: run this with sudo") from None
        except OSError as error:
            raise GpufanError(f"cannot lock {runtime_folder / 'orders.lock'}: {error.strerror}") from error
    try:
        yield
    finally:
        os.close(descriptor)


def read(runtime_folder: Path) -> dict[str, CardOrders]:
    """All orders, by card. A damaged file is empty; one that may not be read is left to `write`."""
    try:
        return _read(runtime_folder / ORDERS)
    except GpufanError:
        return {}


def write(runtime_folder: Path, cards: dict[str, CardOrders]) -> None:
    """Replace all orders. Raises GpufanError or NoPermission."""
    path = runtime_folder / ORDERS
    try:
        replace_unsynced(path, msgspec.json.encode(_File(cards)), 0o600)
    except PermissionError:
        raise NoPermission("only root can give orders: run this with sudo") from None
    except OSError as error:
        raise GpufanError(f"cannot write {path}: {error.strerror}") from error


def read_kept() -> dict[str, KeptOrder]:
    """The orders to keep, by card. Raises GpufanError."""
    path = kept_path()
    try:
        content = read_file(path)
        _check_owner(path.lstat())
        return msgspec.json.decode(content, type=_KeptFile).cards
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise GpufanError(f"it cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GpufanError(f"it is damaged: {error}") from error


def write_kept(cards: dict[str, KeptOrder]) -> None:
    """Replace the orders to keep. Raises GpufanError or NoPermission."""
    path = kept_path()
    try:
        if not cards:
            remove(path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        raise NoPermission("only root can give orders: run this with sudo") from None
    except OSError as error:
        raise GpufanError(f"cannot create {path.parent}: {error.strerror}") from error
    replace(path, msgspec.json.encode(_KeptFile(cards)) + b"\n", mode=0o600)


def _kept_orders() -> dict[str, CardOrders]:
    """The orders to keep that are not over, with their ends in seconds since boot. Raises GpufanError."""
    orders = {}
    for key, kept in read_kept().items():
        Order.parse(kept.order)  # one that cannot be followed raises here, and not at every tick
        if kept.until_s is None or kept.for_s is None:
            orders[key] = CardOrders(order=kept.order)
            continue
        left_s = min(kept.until_s - time.time(), kept.for_s)  # a clock that is not set yet prolongs no order
        if left_s > 0:
            orders[key] = CardOrders(order=kept.order, order_until_s=since_boot_s() + left_s)
    return orders


def _check_owner(status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise GpufanError("it belongs to another user")


def _read(path: Path) -> dict[str, CardOrders]:
    """The orders in the file; none if there is no file. Raises GpufanError."""
    try:
        return msgspec.json.decode(read_file(path), type=_File).cards
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise GpufanError(f"it cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GpufanError(f"it is damaged: {error}") from error
