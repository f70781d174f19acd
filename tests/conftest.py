"""What every test is given."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain, count, groupby
from pathlib import Path

import pytest

from gpufan.gpu import kernel_cards
from gpufan.xorg import headless_server

# gpufan waits until much that it writes is on the disk. The folders of the tests are in memory, where that is at once.
MEMORY = Path("/dev/shm")
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and os.access(MEMORY, os.W_OK):
    _file_system = os.statvfs(MEMORY)
    if not _file_system.f_flag & os.ST_NOEXEC and _file_system.f_bavail * _file_system.f_frsize > 2**30:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)

# Many tests start gpufan as a process. Where bytecode is not to lie beside the sources it goes elsewhere, since without
# any each of them would compile the whole program first, and every worker of pytest all tests.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.pycache_prefix = f"{tempfile.gettempdir()}/gpufan-bytecode-{os.getuid()}"
    sys.dont_write_bytecode = False
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix

# X servers that several processes of pytest start at the same time must not race for one display.
headless_server._NUMBERS = range(1000 + 10 * (os.getpid() % 5000), headless_server._NUMBERS.stop)

# Started in the background, by nohup or a shell without job control, we ignore what the tests are about, and so would
# every process that they start.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


def pytest_xdist_auto_num_workers() -> int:
    """The number of processes for `-n auto`: many tests wait, so one more than there are processors."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files with tests that wait over the run, so that some processes compute while others wait."""
    files: dict[bool, list[list[pytest.Item]]] = {True: [], False: []}
    for path, tests in groupby(items, lambda item: item.path):
        files["integration" in path.parts].append(list(tests))
    places = [(place / len(group), tests) for group in files.values() for place, tests in enumerate(group)]
    items[:] = chain.from_iterable(tests for _, tests in sorted(places, key=lambda entry: entry[0]))


@pytest.fixture(scope="session")
def state_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for each time that this is asked."""
    base = tmp_path_factory.mktemp("state")
    return (base / str(number) for number in count())


@pytest.fixture(autouse=True)
def no_cards_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lists the cards of the machine; a double has others."""
    monkeypatch.setattr(kernel_cards, "DRIVER_FOLDER", Path("/nonexistent"))


@pytest.fixture(autouse=True)
def state_directory(state_directories: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, for it and the processes that it starts, in place of the machine's."""
    folder = next(state_directories)
    folder.mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(folder))
    return folder


HANDLERS = {number: handler for number in signal.Signals if (handler := signal.getsignal(number)) is not None}


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Put back what a test, or the product in its process, made of signals."""
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in HANDLERS.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
