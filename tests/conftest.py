"""What every test is given."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Many tests start gpufan as a process. Where bytecode is not to lie beside the sources it goes elsewhere, since without
# any each of them would compile the whole program first.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    os.environ["PYTHONPYCACHEPREFIX"] = f"{tempfile.gettempdir()}/gpufan-bytecode-{os.getuid()}"


# Started in the background, by nohup or a shell without job control, we ignore what the tests are about, and so would
# every process that they start.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


@pytest.fixture(autouse=True)
def state_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, for it and the processes that it starts, in place of the machine's."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("STATE_DIRECTORY", str(folder))
    return folder


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Put back what a test, or the product in its process, made of signals."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
