"""Reads and writes the files with the orders that people give to the running daemon.

The daemon does not listen on a socket. `pause.py` and `set_fans.py` write into the file `orders.json`, which only root
can write, and the daemon looks at this file at every tick. Orders to keep are orders that outlast restarts. They are in
the state folder too, and are copied from there at a start.
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
"""Time limit for waiting until another command has given its orders, s."""

_Time = Annotated[float, Meta(ge=0, le=1e11)]
"""A time in seconds that can be published in a snapshot."""

_log = logging.getLogger(__name__)


class CardOrders(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The orders for one card. Times are in seconds since boot."""

    paused_until_s: _Time = 0.0
    order: str = ""
    """The text of the order; empty if there is none."""
    order_until_s: _Time | None = None
    """When the order ends; None if it never ends."""


class _OrdersFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the file with orders."""

    cards: dict[str, CardOrders]
    """The orders for each card. The key is the UUID of the card, or its PCI address if the UUID is unknown."""


class KeptOrder(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An order that outlasts restarts and reboots."""

    order: str
    for_s: _Time | None = None
    """For how many seconds the order was given; None if the order never ends."""
    until_s: _Time | None = None
    """When the order ends, in seconds since the epoch; None if it never ends."""


class _KeptOrdersFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the file with the orders to keep."""

    cards: dict[str, KeptOrder]


class Orders:
    """Reads the file with orders.

    When a `with` block begins, the orders to keep replace the content of the file. When it ends, the file is removed.
    """

    def __init__(self, path: Path | None) -> None:
        """`path` is the file with orders. If it is None, there are never any orders."""
        self._path = path
        self._version: tuple[int, int] | None = None
        self._cards: dict[str, CardOrders] = {}
        self._parsed: dict[str, Order] = {}

    def __enter__(self) -> "Orders":
        if self._path is not None:
            with suppress(OSError):
                remove_unsynced(self._path)
            try:
                kept = call_with_timeout(READ_TIMEOUT_S, _kept_orders_in_effect)
                if kept:
                    write_orders(self._path.parent, kept)
            except (GpufanError, NoAnswer) as error:
                _log.warning("the orders to keep in %s are not followed: %s", kept_orders_path(), error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            with suppress(OSError):
                remove_unsynced(self._path)

    def look(self) -> None:
        """Read the file if it has changed. A file that is damaged, or that belongs to another user, has no effect."""
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
            _check_owner_of_orders(status)
            cards = _read_orders_file(self._path)
            self._parsed = {card.order: Order.parse(card.order) for card in cards.values() if card.order}
            self._cards = cards
        except GpufanError as error:
            _log.warning("nothing in %s is followed: %s", self._path, error)

    def pause_left_s(self, info: GpuInfo, now_s: float) -> float:
        """Return for how long the card is still paused, s; 0 if it is not paused. `now_s` is in seconds since boot."""
        if not self._cards:
            return 0.0
        return max(max(card.paused_until_s for card in self._of(info)) - now_s, 0.0)

    def order(self, info: GpuInfo, now_s: float) -> tuple[Order | None, float | None]:
        """Return the order for the card, and the number of seconds until the order ends.

        Without an order, both are None. If the order never ends, the second value is None. `now_s` is in seconds since
        boot.
        """
        if not self._cards:
            return None, None
        for card in self._of(info):
            if card.order and (card.order_until_s is None or card.order_until_s > now_s):
                return self._parsed[card.order], None if card.order_until_s is None else card.order_until_s - now_s
        return None, None

    def _of(self, info: GpuInfo) -> list[CardOrders]:
        """Return two entries: the orders under the UUID of the card, and the orders under its PCI address."""
        return [self._cards.get(key, CardOrders()) for key in (info.uuid, info.pci)]


def kept_orders_path() -> Path:
    """Return the path of the file with the orders to keep."""
    return state_folder() / ORDERS


@contextmanager
def changing_orders(runtime_folder: Path) -> Iterator[None]:
    """Lock the orders during the block, so that no other command changes them. Raises GpufanError or NoPermission."""
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


def read_orders(runtime_folder: Path) -> dict[str, CardOrders]:
    """Return all orders, by UUID or PCI address; empty if the file is damaged or cannot be read."""
    try:
        return _read_orders_file(runtime_folder / ORDERS)
    except GpufanError:
        return {}


def write_orders(runtime_folder: Path, cards: dict[str, CardOrders]) -> None:
    """Replace all orders by those of `cards`, by UUID or PCI address. Raises GpufanError or NoPermission."""
    path = runtime_folder / ORDERS
    try:
        replace_unsynced(path, msgspec.json.encode(_OrdersFile(cards)), 0o600)
    except PermissionError:
        raise NoPermission("only root can give orders: run this with sudo") from None
    except OSError as error:
        raise GpufanError(f"cannot write {path}: {error.strerror}") from error


def read_kept_orders() -> dict[str, KeptOrder]:
    """Return the orders to keep, by UUID or PCI address; empty if there is no file. Raises GpufanError."""
    path = kept_orders_path()
    try:
        content = read_file(path)
        _check_owner_of_orders(path.lstat())
        return msgspec.json.decode(content, type=_KeptOrdersFile).cards
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise GpufanError(f"it cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GpufanError(f"it is damaged: {error}") from error


def write_kept_orders(cards: dict[str, KeptOrder]) -> None:
    """Replace the orders to keep by those of `cards`, by UUID or PCI address. Raises GpufanError or NoPermission."""
    path = kept_orders_path()
    try:
        if not cards:
            remove(path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        raise NoPermission("only root can give orders: run this with sudo") from None
    except OSError as error:
        raise GpufanError(f"cannot create {path.parent}: {error.strerror}") from error
    replace(path, msgspec.json.encode(_KeptOrdersFile(cards)) + b"\n", mode=0o600)


def _kept_orders_in_effect() -> dict[str, CardOrders]:
    """Return the orders to keep that have not ended yet, by UUID or PCI address. Raises GpufanError.

    The end of an order is converted to seconds since boot.
    """
    orders = {}
    for key, kept in read_kept_orders().items():
        Order.parse(kept.order)  # one that cannot be followed raises here, and not at every tick
        if kept.until_s is None or kept.for_s is None:
            orders[key] = CardOrders(order=kept.order)
            continue
        left_s = min(kept.until_s - time.time(), kept.for_s)  # a clock that is not set yet prolongs no order
        if left_s > 0:
            orders[key] = CardOrders(order=kept.order, order_until_s=since_boot_s() + left_s)
    return orders


def _check_owner_of_orders(status: os.stat_result) -> None:
    """Raise GpufanError if the file with orders belongs to another user. `status` is the status of this file."""
    if status.st_uid != os.geteuid():
        raise GpufanError("it belongs to another user")


def _read_orders_file(path: Path) -> dict[str, CardOrders]:
    """Return the orders in the file, by UUID or PCI address; empty if there is no file. Raises GpufanError."""
    try:
        return msgspec.json.decode(read_file(path), type=_OrdersFile).cards
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise GpufanError(f"it cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GpufanError(f"it is damaged: {error}") from error
