"""Signals: reasons to stop, requests to reload, and blocks that no signal interrupts."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gpufan.system.signals import StopInbox, deferred, exit_at_signals


@pytest.fixture
def inbox() -> Iterator[StopInbox]:
    numbers = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
    handlers = [signal.getsignal(number) for number in numbers]
    inbox = StopInbox()
    inbox.catch_signals()
    yield inbox
    signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def meanwhile(call: Callable[[], object]) -> None:
    threading.Timer(0.05, call).start()


def test_a_signal_that_another_thread_catches_stops_the_run(inbox: StopInbox) -> None:
    meanwhile(lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
    assert inbox.wait(5)


def test_a_signal_before_the_wait_is_not_lost(inbox: StopInbox) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    assert inbox.wait(0)


def test_an_error_of_another_thread_ends_the_wait(inbox: StopInbox) -> None:
    meanwhile(lambda: inbox.fail(OSError("why")))
    with pytest.raises(OSError, match="why"):
        inbox.wait(None)


def test_without_a_reason_the_wait_ends_at_its_time_limit(inbox: StopInbox) -> None:
    start_s = time.monotonic()
    assert not inbox.wait(0.05)
    assert 0.05 <= time.monotonic() - start_s < 1


def test_a_reload_is_requested_and_is_no_reason_to_stop(inbox: StopInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.system.signals._terminal_sends_sighup", lambda: False)
    inbox.reload_on_hang_up()
    os.kill(os.getpid(), signal.SIGHUP)
    assert not inbox.wait(0.05)
    assert inbox.reload_requested


def test_a_hang_up_of_a_terminal_is_a_reason_to_stop(inbox: StopInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.system.signals._terminal_sends_sighup", lambda: True)
    inbox.reload_on_hang_up()
    os.kill(os.getpid(), signal.SIGHUP)
    assert inbox.wait(5)


def test_under_nohup_a_hang_up_has_no_effect(inbox: StopInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.system.signals._terminal_sends_sighup", lambda: False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    inbox.catch_signals()
    inbox.reload_on_hang_up()
    os.kill(os.getpid(), signal.SIGHUP)
    assert not inbox.wait(0)
    assert not inbox.reload_requested


def test_a_stop_signal_is_delivered_after_the_block_that_defers_it() -> None:
    delivered: list[int] = []
    before = signal.signal(signal.SIGTSTP, lambda number, _: delivered.append(number))  # Ctrl-Z
    try:
        with deferred() as received:
            os.kill(os.getpid(), signal.SIGTSTP)
            assert (received, delivered) == ([signal.SIGTSTP], [])
        assert delivered == [signal.SIGTSTP]
    finally:
        signal.signal(signal.SIGTSTP, before)


def test_a_hang_up_does_not_end_an_install_under_nohup() -> None:
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGHUP)]
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        exit_at_signals()
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before:
            signal.signal(number, handler)
