"""The queue of a receiver on a clock of the tests, and its courier with receivers that fail, hang and recover."""

import logging
import threading
from collections.abc import Callable

import pytest

from gpufan.alerts import outbox
from gpufan.alerts.messages import Message, Phase, Trouble
from gpufan.alerts.outbox import CAPACITY, FIRST_WAIT_S, GIVE_UP_S, LONGEST_WAIT_S, Courier, Outbox, close_couriers
from gpufan.alerts.receivers import NotDelivered


def message(number: int = 0) -> Message:
    return Message(phase=Phase.BEGAN, trouble=Trouble.LOST, box="rig", since_s=number, time_s=number)


def test_attempts_come_after_growing_waits():
    box, now_s, waits = Outbox(), 0.0, []
    box.put(message(), now_s)
    assert box.wait_s(now_s) == 0
    for _ in range(9):
        waits.append(box.failed(now_s))
        assert box.wait_s(now_s) == waits[-1]
        now_s += waits[-1]
    assert waits[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert waits[-1] == LONGEST_WAIT_S


def test_an_outage_of_an_hour_loses_no_message_and_ends_within_five_minutes():
    box, now_s, delivered = Outbox(), 0.0, []
    for number in range(100):
        assert box.put(message(number), number * 36.0) == 0
    while len(box):
        wait_s = box.wait_s(now_s)
        now_s += wait_s or 0.0
        if now_s < 3600:
            box.failed(now_s)
        else:
            delivered.append(box.first()[1].since_s)
            box.delivered(box.first())
    assert delivered == list(range(100))
    assert 3600 <= now_s <= 3600 + LONGEST_WAIT_S


def test_after_a_success_the_waits_are_short_again():
    box = Outbox()
    box.put(message(1), 0)
    box.put(message(2), 0)
    box.failed(0)
    box.failed(10)
    box.delivered(box.first())
    assert box.wait_s(20) == 0
    assert box.failed(20) == FIRST_WAIT_S


def test_the_oldest_messages_are_dropped_when_too_many_or_too_old_wait():
    box = Outbox()
    dropped = [box.put(message(number), 0) for number in range(CAPACITY + 2)]
    assert sum(dropped) == 2
    assert (len(box), box.first()[1].since_s) == (CAPACITY, 2)
    assert box.put(message(7), GIVE_UP_S + 1) == CAPACITY
    assert len(box) == 1


def test_a_message_that_is_dropped_during_its_delivery_is_no_fault():
    box = Outbox()
    box.put(message(1), 0)
    entry = box.first()
    box.put(message(2), GIVE_UP_S + 1)
    box.delivered(entry)
    assert box.first()[1].since_s == 2


class FakeReceiver:
    """Raises `error`, or blocks, or accepts."""

    name = "urls 1 (json://localhost)"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.got: list[float] = []
        self.attempts = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def send(self, message: Message) -> None:
        self.attempts.release()
        self.free.wait(10)
        if self.error:
            raise self.error
        self.got.append(message.since_s)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "gpufan.alerts")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("error", [NotDelivered("exit status 1"), RuntimeError("hunter2")])
def test_a_receiver_that_fails_gets_everything_in_order_once_it_works(
    error: Exception, log: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outbox, "FIRST_WAIT_S", 0.01)
    receiver = FakeReceiver()
    receiver.error = error
    courier = Courier(receiver)
    for number in range(3):
        courier.put(message(number))
    for _ in range(3):
        assert receiver.attempts.acquire(timeout=5)
    receiver.error = None
    close_couriers([courier], 5)
    courier.join(5)
    assert receiver.got == [0, 1, 2]
    lines = log()
    assert sum("not delivered" in line for line in lines) == 1, "every failure made a line"
    assert sum("accepts messages again" in line for line in lines) == 1
    assert not [line for line in lines if "hunter2" in line]


def test_a_receiver_that_hangs_delays_neither_the_caller_nor_the_others(log: Callable[[], list[str]]):
    stuck, fine = FakeReceiver(), FakeReceiver()
    stuck.free.clear()
    couriers = [Courier(stuck), Courier(fine)]
    for number in range(3):
        for courier in couriers:
            courier.put(message(number))
    for _ in range(3):
        assert fine.attempts.acquire(timeout=5)
    close_couriers(couriers, 0.05)
    assert fine.got == [0, 1, 2]
    assert log()[-1] == "messages that were not delivered and are lost: 3"
    stuck.free.set()


def test_at_the_end_a_receiver_that_fails_is_tried_only_once_more(log: Callable[[], list[str]]):
    receiver = FakeReceiver()
    receiver.error = NotDelivered("down")
    courier = Courier(receiver)
    courier.put(message(1))
    assert receiver.attempts.acquire(timeout=5)
    close_couriers([courier], 5)
    assert log()[-1] == "messages that were not delivered and are lost: 1"
