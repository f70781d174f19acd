"""The passes of the control loop. A pass is a tick of every card, and the steps that follow. A step may hang."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from gpufan.core.snapshot import GpuState
from gpufan.daemon.card_state import hanging_state
from gpufan.daemon.orders import Orders
from gpufan.daemon.worker import Worker
from gpufan.errors import GpufanError

HANG_S = 2.0
"""A call that takes longer counts as a call that hangs, s."""


class Pass(NamedTuple):
    """The values that all steps of one pass use."""

    number: int
    now_s: float
    """Seconds since boot, sleep included."""
    forced_number: int = 0
    """Number of the last pass that sets all fans, although their duties have not changed. A card that hung in that pass
    has its fans set in a later one."""
    is_look: bool = False
    """Whether all steps of the pass are made, and a snapshot is published even without anything new."""
    is_recheck: bool = False
    """Whether the pass lies between two ticks, and only checks the fans of contested cards."""


class Step:
    """A call that is made once in each pass. It may hang. Only one thread at a time makes it."""

    def __init__(self, call: Callable[[Pass], None]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._pass_number = 0
        self.busy_since_s: float | None = None
        self.done_s = time.monotonic()

    @property
    def left_s(self) -> float:
        """Seconds until the running call counts as hanging; `HANG_S` if no call is running."""
        busy_since_s = self.busy_since_s
        return HANG_S if busy_since_s is None else busy_since_s + HANG_S - time.monotonic()

    @property
    def hangs(self) -> bool:
        """Whether the call has not returned within `HANG_S`."""
        return self.left_s <= 0

    def run(self, this: Pass) -> None:
        """Make the call, unless it was made in this pass already, or another thread is still making it."""
        with self._lock:
            if self.busy_since_s is not None or self._pass_number == this.number:
                return
            self._pass_number = this.number
            self.busy_since_s = time.monotonic()
        try:
            self._call(this)
        finally:
            self.done_s = time.monotonic()
            self.busy_since_s = None


class CardStep(Step):
    """The ticks of one card, and the checks between them."""

    def __init__(self, worker: Worker, orders: Orders) -> None:
        super().__init__(self._tick)
        self.worker = worker
        self._orders = orders
        self._ticked_number = 0
        """Number of the last pass in which the card was ticked."""
        self.rescue = Step(lambda _: worker.make_safe_while_hanging())

    def _tick(self, this: Pass) -> None:
        """Pause, recheck or tick the card, as the orders and the pass demand."""
        left_s = self._orders.pause_left_s(self.worker.gpu.info, this.now_s)
        self.worker.obey(*self._orders.order(self.worker.gpu.info, this.now_s))
        try:
            if left_s > 0:
                self.worker.pause(this.now_s, left_s)
            elif this.is_recheck:
                self.worker.recheck(this.now_s)
            else:
                force_write, self._ticked_number = this.forced_number > self._ticked_number, this.number
                self.worker.tick(this.now_s, force_write=force_write)
        finally:
            if self.worker.stopped:  # it was stopped while this call hung, and the call may have set a fan after that
                with suppress(GpufanError):
                    self.worker.stop()

    @property
    def is_quiet(self) -> bool:
        """Whether the last tick had nothing to do, and no call is running."""
        return self.worker.quiet and self.busy_since_s is None

    def state(self, now_s: float) -> GpuState:
        """Return the state of the card at `now_s`. While a call hangs, the state says that."""
        state = self.worker.state
        return msgspec.structs.replace(
            hanging_state(state, HANG_S) if self.hangs else state,
            tick_age_s=round(time.monotonic() - self.done_s, 3),
            uncontrolled_s=round(self.worker.recovery.uncontrolled_s(now_s), 3),
            order_left_s=self.worker.instructions.order_left_s,
        )

    def stop(self, deadline_s: float) -> None:
        """Wait until a running tick ends, at most until `deadline_s`. Then give the fans back.

        `deadline_s` is a time of `time.monotonic`.
        """
        while self.busy_since_s is not None and time.monotonic() < deadline_s:
            time.sleep(0.005)
        self.worker.stop()
