"""Workers: functions run in another process, and nothing is left when it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from gpufan.errors import GpufanError, InputError
from gpufan.system.processes import process_is_alive
from gpufan.web.worker import Worker, run_in_fresh_process


@pytest.fixture
def worker() -> Iterator[Worker]:
    with closing(Worker()) as made:
        yield made


def refuse() -> None:
    raise InputError("the history is damaged")


def fail() -> None:
    raise KeyError("a bug")


def end_at_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_function_runs_in_another_process(worker: Worker) -> None:
    assert worker.call(os.getpid) != os.getpid()
    assert worker.call(divmod, 7, 3) == (2, 1)


def test_an_error_of_the_function_arrives_and_the_worker_goes_on(worker: Worker) -> None:
    with pytest.raises(GpufanError, match="the history is damaged"):
        worker.call(refuse)
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        worker.call(fail)
    assert worker.call(abs, -1) == 1


def test_a_worker_that_was_killed_is_one_clear_error(worker: Worker) -> None:
    os.kill(worker.call(os.getpid), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(GpufanError, match="start `gpufan web` again"):
            worker.call(abs, -1)


def test_a_fresh_process_ends_with_its_function(worker: Worker) -> None:
    process = worker.call(run_in_fresh_process, os.getpid)
    assert process not in (os.getpid(), worker.call(os.getpid))
    assert not process_is_alive(process)


def test_a_fresh_process_that_is_killed_leaves_the_worker_alive(worker: Worker) -> None:
    with pytest.raises(GpufanError):
        worker.call(run_in_fresh_process, end_at_once)
    assert worker.call(abs, -1) == 1


def test_workers_end_with_the_process_that_made_them() -> None:
    program = (
        "import os\nfrom gpufan.web.worker import Worker\n"
        "workers = [Worker(), Worker()]\n"
        "print(*(worker.call(os.getpid) for worker in workers), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=60, check=False)
    processes = [int(word) for word in done.stdout.split()]
    assert len(processes) == 2
    until_s = time.monotonic() + 20
    while any(process_is_alive(process) for process in processes) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not any(process_is_alive(process) for process in processes)
