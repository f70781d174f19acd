"""Calls that may hang, and callers that must not wait for them."""

import threading
from collections.abc import Iterator

import pytest

from gpufan.errors import NoAnswer
from gpufan.system.background import BackgroundWriter, call_all, call_with_timeout

LONG_S = 30
"""For calls that return at once; only a failing test waits this long."""


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """A hanging call waits for this event; it is set at the end, so that no thread remains."""
    event = threading.Event()
    yield event
    event.set()


def test_a_call_gives_its_result() -> None:
    assert call_with_timeout(LONG_S, lambda: 42) == 42


def test_a_call_may_return_none() -> None:
    assert call_with_timeout(LONG_S, lambda: None) is None


@pytest.mark.parametrize("error", [NoAnswer("late"), KeyError("x"), SystemExit(3)])
def test_an_error_of_the_call_is_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        call_with_timeout(LONG_S, fail)
    assert caught.value is error


def test_a_call_that_hangs_is_abandoned_after_the_time_limit(stuck: threading.Event) -> None:
    with pytest.raises(NoAnswer, match=r"no answer within 0\.01 s"):
        call_with_timeout(0.01, stuck.wait)


def test_all_items_are_written_in_order_before_close_returns() -> None:
    written: list[int] = []
    writer = BackgroundWriter(written.append)
    for item in range(50):
        writer.put(item)
    writer.close(LONG_S)
    assert written == list(range(50))
    assert not writer.is_busy


def test_items_are_written_in_another_thread() -> None:
    threads: list[int] = []
    writer = BackgroundWriter(lambda item: threads.append(threading.get_ident()))
    writer.put(1)
    writer.close(LONG_S)
    assert threads != [threading.get_ident()]


def test_put_never_waits_for_a_hanging_write_and_surplus_items_are_dropped(stuck: threading.Event) -> None:
    written: list[int] = []

    def hang(item: int) -> None:
        stuck.wait()
        written.append(item)

    writer = BackgroundWriter(hang)
    for item in range(10_000):
        writer.put(item)
    writer.close(0.01)
    assert writer.is_busy
    stuck.set()
    writer.close(LONG_S)
    # There may be room for one more item when the first is written.
    assert written[:100] == list(range(100))
    assert len(written) <= 101


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_after_the_first_error_no_more_items_are_written(error: Exception) -> None:
    written: list[int] = []

    def fail(item: int) -> None:
        written.append(item)
        raise error

    writer = BackgroundWriter(fail)
    writer.put(1)
    writer.put(2)
    writer.close(LONG_S)
    assert written == [1]
    assert not writer.is_busy
    writer.put(3)


def test_calls_at_the_same_time_are_waited_for_once_and_answer_each_for_itself() -> None:
    hang = threading.Event()
    try:
        first, second, third, fourth = call_all(0.1, [hang.wait, lambda: 7, hang.wait, lambda: 1 // 0])
    finally:
        hang.set()
    assert isinstance(first, NoAnswer) and isinstance(third, NoAnswer)
    assert second == 7
    assert isinstance(fourth, ZeroDivisionError)
