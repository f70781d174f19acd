"""Processes that compute for the page, so that the process that answers browsers never waits for a calculation.

A worker is a fork, since a new program could not read the code of gpufan where only root can read it. It must be made
before there are threads.
"""

import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from gpufan.errors import GpufanError
from gpufan.web.rights import die_with_parent

T = TypeVar("T")


class Worker:
    """A process that runs one function after the other. It ends with the process that has made it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _work(theirs, ours, parent)
        theirs.close()
        self._stream = ours.makefile("rwb")
        ours.close()

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Run `function` in the worker, and return its result. Any thread may call this.

        The function must be one of a module, and arguments and result must be values that can be pickled. Raises what
        the function raises, and GpufanError if the worker has ended.
        """
        with self._lock:
            try:
                pickle.dump((function, arguments), self._stream)
                self._stream.flush()
                succeeded, value = pickle.load(self._stream)  # from our own child
            except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
                raise GpufanError("the process that calculates has ended: start `gpufan web` again") from error
        if not succeeded:
            raise value
        return value  # type: ignore[no-any-return]  # the result of `function`

    def close(self) -> None:
        """End the worker."""
        with suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        with suppress(OSError):
            self._stream.close()


def run_in_fresh_process(function: Callable[..., T], *arguments: object) -> T:
    """Run `function` in a process that ends with it, so that its memory is free again. Call this in a worker.

    Raises what the function raises, and GpufanError if the process is killed.
    """
    worker = Worker()
    try:
        return worker.call(function, *arguments)
    finally:
        worker.close()


def _work(connection: socket.socket, parent_end: socket.socket, parent: int) -> None:
    """Be the worker: run the functions that arrive on `connection`. This never returns."""
    with suppress(BaseException):
        parent_end.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when the page ends
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent(parent)
        stream = connection.makefile("rwb")
        while True:
            function, arguments = pickle.load(stream)
            stream.write(_result(function, arguments))
            stream.flush()
    os._exit(0)


def _result(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """Run `function`. Return whether it succeeded, and its result or its error, pickled."""
    try:
        return pickle.dumps((True, function(*arguments)))
    except GpufanError as error:
        return pickle.dumps((False, type(error)(str(error)) if type(error) is GpufanError else GpufanError(str(error))))
    except Exception as error:
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
