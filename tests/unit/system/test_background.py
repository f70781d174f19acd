"""Work that may hang for ever, and work that must not wait for it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpufan.errors import NoAnswer
from gpufan.system.background import BackgroundWriter, call_with_timeout
from gpufan.system.files import read_file

LONG_S = 30
"""For what happens at once; only a failing test waits for so long."""


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """What a hanging call waits for; set at the end, so that no thread is left behind."""
    event = threading.Event()
    yield event
    event.set()


def test_a_call_that_comes_back_gives_its_result() -> None:
    assert call_with_timeout(LONG_S, lambda: 42) == 42


def test_a_call_may_come_back_with_nothing() -> None:
    assert call_with_timeout(LONG_S, lambda: None) is None


@pytest.mark.parametrize("error", [NoAnswer("late"), KeyError("x"), SystemExit(3)])
def test_what_a_call_raises_is_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        call_with_timeout(LONG_S, fail)
    assert caught.value is error


def test_a_call_that_hangs_is_left_behind_as_a_lost_card(stuck: threading.Event) -> None:
    with pytest.raises(NoAnswer, match=r"no answer within 0\.01 s"):
        call_with_timeout(0.01, stuck.wait)


def test_items_are_taken_in_order_and_all_of_them_by_the_end() -> None:
    taken: list[int] = []
    aside = BackgroundWriter(taken.append)
    for item in range(50):
        aside.put(item)
    aside.close(LONG_S)
    assert taken == list(range(50))
    assert not aside.busy


def test_items_are_taken_in_another_thread() -> None:
    threads: list[int] = []
    aside = BackgroundWriter(lambda item: threads.append(threading.get_ident()))
    aside.put(1)
    aside.close(LONG_S)
    assert threads != [threading.get_ident()]


def test_who_puts_never_waits_for_one_that_hangs_and_what_piles_up_is_dropped(stuck: threading.Event) -> None:
    taken: list[int] = []

    def hang(item: int) -> None:
        stuck.wait()
        taken.append(item)

    aside = BackgroundWriter(hang)
    for item in range(10_000):
        aside.put(item)
    aside.close(0.01)
    assert aside.busy
    stuck.set()
    aside.close(LONG_S)
    # One more may find room when the first has been taken.
    assert taken[:100] == list(range(100))
    assert len(taken) <= 101


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_once_the_reader_is_gone_nothing_more_is_taken(error: Exception) -> None:
    taken: list[int] = []

    def fail(item: int) -> None:
        taken.append(item)
        raise error

    aside = BackgroundWriter(fail)
    aside.put(1)
    aside.put(2)
    aside.close(LONG_S)
    assert taken == [1]
    assert not aside.busy
    aside.put(3)


def test_only_a_file_of_a_sensible_size_is_read(tmp_path: Path) -> None:
    whole, giant, pipe = (tmp_path / name for name in ("whole", "giant", "pipe"))
    whole.write_bytes(b"all of it")
    with giant.open("wb") as file:
        file.truncate(1 << 40)
    os.mkfifo(pipe)
    assert read_file(whole) == b"all of it"
    for path in (giant, pipe, tmp_path, Path("/dev/zero"), tmp_path / "none"):
        with pytest.raises(OSError):
            read_file(path)
