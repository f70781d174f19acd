"""HeadlessServer with the real Xorg and its dummy video driver."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gpufan.errors import DriverError
from gpufan.gpu import x11
from gpufan.xorg import headless_server as xserver
from gpufan.xorg.client import Connection, Display
from gpufan.xorg.headless_server import HeadlessServer
from tests.doubles import require
from tests.doubles.nvml import wait_for
from tests.doubles.xorg import running

CONFIG = """
Section "ServerFlags"
    Option "AutoAddDevices" "false"
EndSection
Section "Device"
    Identifier "card"
    Driver     "{driver}"
    {extra}
EndSection
Section "Screen"
    Identifier "screen"
    Device     "card"
EndSection
"""
DUMMY = CONFIG.format(driver="dummy", extra="")

Start = Callable[..., HeadlessServer]


@pytest.fixture(autouse=True)
def xorg() -> None:
    require("Xorg", "xserver-xorg-core xserver-xorg-video-dummy")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servers = []

    def start(folder: str = "x", config: str = DUMMY, **options: object) -> HeadlessServer:
        server = HeadlessServer(config, tmp_path / folder, **options)  # type: ignore[arg-type]
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


def ended(pid: int, timeout_s: float = 10) -> bool:
    """Whether a process ends within the time limit."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)


def children() -> set[int]:
    """Ids of our own children, zombies included."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # the thread has ended meanwhile; its children belong to another
            found.update(map(int, (task / "children").read_text().split()))
    return found


def take_display_above(number: int, other: socket.socket, path: str) -> int:
    """Bind `other` to `path` of the first free display above `number`: other tests run at the same time."""
    for taken in range(number + 1, number + 50):
        with suppress(OSError):
            other.bind(path.format(taken))
            return taken
    raise AssertionError("every display is taken")


def test_a_started_server_accepts_clients_with_its_cookie(start: Start) -> None:
    Connection(start().display()).close()


def test_a_client_without_the_cookie_is_refused(start: Start) -> None:
    number = start().display().number
    with pytest.raises(DriverError, match="refused the connection"):
        Connection(Display(number))


def test_the_cookie_is_readable_by_its_owner_only(start: Start, tmp_path: Path) -> None:
    start()
    assert (tmp_path / "x" / "Xauthority").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o700


def test_no_network_port_is_opened(start: Start) -> None:
    number = start().display().number
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("localhost", 6000 + number), timeout=5)


def test_low_displays_are_left_to_display_managers(start: Start) -> None:
    assert start().display().number >= 90


def test_a_server_already_running_is_not_disturbed(start: Start) -> None:
    first = start("first").display()
    client = Connection(first)
    second = start("second")
    assert second.display().number != first.number
    second.stop()
    assert client.extension("XTEST") is not None
    client.close()


def test_a_display_with_an_existing_socket_is_not_used(start: Start) -> None:
    number = start("probe").display().number
    with socket.socket(socket.AF_UNIX) as other:
        taken = take_display_above(number, other, "/tmp/.X11-unix/X{}")
        other.listen()
        path = Path(f"/tmp/.X11-unix/X{taken}")
        try:
            inode = path.stat().st_ino
            assert start().display().number not in (number, taken)
            assert path.stat().st_ino == inode
        finally:
            path.unlink()


@pytest.mark.slow
def test_if_the_display_is_taken_at_the_last_moment_the_server_chooses_another(start: Start) -> None:
    """An abstract socket is not visible in the folder, like that of a server that is just starting."""
    number = start("probe").display().number
    with socket.socket(socket.AF_UNIX) as other:
        taken = take_display_above(number, other, "\0/tmp/.X11-unix/X{}")
        other.listen()
        server = start()
        assert server.display().number not in (number, taken)
        Connection(server.display()).close()


@pytest.mark.slow
def test_planted_locks_and_sockets_do_not_use_up_the_displays(start: Start) -> None:
    planted = [
        Path(name.format(number)) for number in range(90, 200) for name in ("/tmp/.X{}-lock", "/tmp/.X11-unix/X{}")
    ]
    planted = [path for path in planted if not os.path.lexists(path)]
    try:
        for path in planted:
            path.write_text("      4711\n")
        Connection(start().display()).close()
    finally:
        for path in planted:
            path.unlink()


def test_stop_leaves_no_process_and_no_socket(start: Start, tmp_path: Path) -> None:
    before = children()
    server = start()
    number = server.display().number
    (pid,) = running(tmp_path / "x")
    server.stop()
    server.stop()
    assert ended(pid, 0)
    assert children() == before
    assert not Path(f"/tmp/.X11-unix/X{number}").exists()
    with pytest.raises(DriverError, match="the X server is stopped"):
        server.display()


def test_stop_ends_the_server_after_clients_came_and_went(start: Start, tmp_path: Path) -> None:
    server = start()
    for _ in range(3):
        Connection(server.display()).close()
    (pid,) = running(tmp_path / "x")
    server.stop()
    assert ended(pid, 0)
    assert "Server terminated successfully" in server.log.read_text()


def test_ctrl_c_does_not_reach_the_server_because_it_has_its_own_session(start: Start, tmp_path: Path) -> None:
    start()
    (pid,) = running(tmp_path / "x")
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)


def test_the_virtual_terminal_is_not_switched(start: Start) -> None:
    active = Path("/sys/class/tty/tty0/active")
    if not active.exists():
        pytest.skip("no virtual terminal here")
    before = active.read_text()
    start().stop()
    assert active.read_text() == before


PARENT = """
import sys, threading
from pathlib import Path
from gpufan.xorg.headless_server import HeadlessServer
server = HeadlessServer(sys.argv[1], Path(sys.argv[2]))
thread = threading.Thread(target=server.start)
thread.start()
thread.join()
print("ready", flush=True)
threading.Event().wait()
"""


def test_the_server_ends_with_our_process_even_after_sigkill(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, DUMMY, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    (pid,) = running(tmp_path)
    handle = os.pidfd_open(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert select.select([handle], [], [], 10)[0]
    os.close(handle)


def test_the_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = HeadlessServer(DUMMY, tmp_path / "x")
    asked: list[int] = []

    def ask() -> None:
        asked.append(threading.get_native_id())
        server.start()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    wait_for(lambda: not Path(f"/proc/self/task/{asked[0]}").exists())
    try:
        (pid,) = running(tmp_path / "x")
        assert not ended(pid, 0.2)
        Connection(server.display()).close()
    finally:
        server.stop()


def test_a_server_that_dies_is_started_again_and_no_zombie_is_left(start: Start, tmp_path: Path) -> None:
    server = start(retry_s=(0.05, 1.0))
    number = server.display().number
    (pid,) = running(tmp_path / "x")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: running(tmp_path / "x") not in ([], [pid]))
    assert pid not in children()
    wait_for(lambda: answers(server))
    assert server.display().number == number, "the socket of the dead one is cleared away"


@pytest.mark.slow
def test_the_socket_of_another_server_that_took_the_display_is_not_removed(start: Start, tmp_path: Path) -> None:
    server = start(retry_s=(60.0, 60.0))
    path = Path(f"/tmp/.X11-unix/X{server.display().number}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        try:
            os.kill(running(tmp_path / "x")[0], signal.SIGKILL)
            wait_for(lambda: server_error(server))
            assert path.exists()
        finally:
            path.unlink()


def test_until_the_server_runs_again_display_raises_the_reason(start: Start, tmp_path: Path) -> None:
    server = start(retry_s=(60.0, 60.0))
    number = server.display().number
    os.kill(running(tmp_path / "x")[0], signal.SIGKILL)
    wait_for(lambda: server_error(server))
    assert (
        server_error(server) == f"the X server on :{number} has died (signal SIGKILL); it is started again 60 s later"
    )


@pytest.mark.slow
def test_the_wait_before_the_next_start_doubles_if_the_server_fails_again(start: Start, tmp_path: Path) -> None:
    once = tmp_path / "once"
    once.write_text(f'#!/bin/sh\nmkdir {tmp_path}/done && exec Xorg "$@"\n')
    once.chmod(0o755)
    server = start(program=str(once), retry_s=(0.01, 60.0))
    os.kill(running(tmp_path / "x")[0], signal.SIGKILL)
    wait_for(lambda: server_error(server).endswith("it is started again 0.08 s later"))
    assert server_error(server).startswith("the X server did not start: it ended at once, see ")


def test_the_current_log_and_the_previous_one_are_preserved(start: Start) -> None:
    start().stop()
    again = start()
    assert "X.Org X Server" in again.log.read_text()
    assert "X.Org X Server" in again.log.with_suffix(".log.old").read_text()


@pytest.mark.parametrize(
    ("driver", "extra", "words"),
    [
        ("dummy", 'Drivr "x"', r"Parse error on line 8 of section Device in file .*/xorg\.conf .*: correct that line"),
        (
            "dummy",
            'EndSection\nSection "InputDevice"\n Identifier "k"',
            r'Data incomplete in file .*/xorg\.conf InputDevice section "k" must have a Driver line: correct that file',
        ),
        ("nvidia", "", r'Failed to load module "nvidia" .*: install the X driver of NVIDIA'),
        ("modesetting", 'BusID "PCI:10:0:0"', "No devices detected: check BusID: it is decimal"),
    ],
)
def test_a_failed_start_is_reported_with_the_decisive_line(
    start: Start, tmp_path: Path, driver: str, extra: str, words: str
) -> None:
    with pytest.raises(DriverError, match=words) as caught:
        start(config=CONFIG.format(driver=driver, extra=extra))
    assert "\n" not in str(caught.value)
    assert running(tmp_path / "x") == []


def test_a_server_that_does_not_get_ready_is_ended(start: Start, tmp_path: Path) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    before = children()
    with pytest.raises(DriverError, match=r"not ready after 0\.2 s, see .*Xorg\.log"):
        start(program=str(sleeper), ready_limit_s=0.2)
    assert children() == before


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.xorg.headless_server._STOP_LIMIT_S", 0.1)
    with HeadlessServer(DUMMY, tmp_path / "x"):
        (pid,) = running(tmp_path / "x")
        os.kill(pid, signal.SIGSTOP)
    assert ended(pid, 0)


def test_a_server_that_survives_sigkill_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class InTheDriver(subprocess.Popen[bytes]):
        """Blocked in the kernel, as by a driver that hangs."""

        def terminate(self) -> None: ...
        def kill(self) -> None: ...

    monkeypatch.setattr(xserver, "_STOP_LIMIT_S", 0.01)
    with InTheDriver(["sleep", "60"]) as process:
        xserver._end_server(process)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)


def test_without_xorg_the_package_to_install_is_named(start: Start) -> None:
    with pytest.raises(DriverError, match="no Xorg-9 here: install the X server"):
        start(program="Xorg-9")


def test_a_folder_that_cannot_be_created_is_named(start: Start, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(DriverError, match=str(tmp_path / "x")):
        start()


def test_a_server_of_another_driver_has_no_nv_control(start: Start) -> None:
    server = start()
    with pytest.raises(DriverError, match="has no NV-CONTROL"):
        x11.open_x11_cards(server.display)


def test_a_server_that_hangs_runs_into_the_time_limit(start: Start, tmp_path: Path) -> None:
    server = start()
    client = Connection(server.display(), limit_s=0.2)
    (pid,) = running(tmp_path / "x")
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(DriverError, match=r"has not answered for 0\.2 s"):
            client.extension("NV-CONTROL")
    finally:
        os.kill(pid, signal.SIGCONT)


def server_error(server: HeadlessServer) -> str:
    """Why the server does not run; empty while it runs."""
    try:
        server.display()
    except DriverError as error:
        return str(error)
    return ""


def answers(server: HeadlessServer) -> bool:
    try:
        Connection(server.display()).close()
    except DriverError:
        return False
    return True
