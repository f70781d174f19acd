"""Displays, cookies, the connection, and the errors if an X server cannot be reached."""

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpufan.errors import DriverError, InputError
from gpufan.gpu import x11
from gpufan.gpu.nvcontrol import NvControl
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.xorg.authority import SCHEME, find_cookie, write_cookie
from gpufan.xorg.client import Connection, Display
from tests.doubles import require
from tests.doubles.nvcontrol_server import NvControlServer

COOKIE = bytes(range(100, 116))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NvControlServer]:
    with NvControlServer(SimulatedBox(PROFILES["1080ti"], WORKLOADS["idle"]), tmp_path) as server:
        yield server


def entry(family: int, address: bytes, number: bytes, cookie: bytes, scheme: bytes = SCHEME) -> bytes:
    return struct.pack(">H", family) + b"".join(
        struct.pack(">H", len(field)) + field for field in (address, number, scheme, cookie)
    )


@pytest.mark.parametrize(("name", "number"), [(":0", 0), (":1.0", 1), ("unix:12", 12), (" :90 ", 90)])
def test_a_display_of_this_machine_is_understood(name: str, number: int) -> None:
    assert Display.parse(name).number == number


@pytest.mark.parametrize("name", ["", "0", ":", ":x", "box:0", "localhost:10.0", ":-1", ":123456"])
def test_any_other_display_is_rejected_with_an_example(name: str) -> None:
    with pytest.raises(InputError, match="write it as :0"):
        Display.parse(name)


def test_xauthority_names_the_cookie_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAUTHORITY", "/run/user/1000/gdm/Xauthority")
    assert Display.parse(":0").authority == Path("/run/user/1000/gdm/Xauthority")


def test_without_xauthority_the_cookie_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XAUTHORITY", raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    assert Display.parse(":0").authority == Path("/home/ada/.Xauthority")


def test_the_server_that_a_display_names_is_used(server: NvControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAUTHORITY", str(server.authority))
    display = Display.parse(server.name)
    assert len(x11.open_x11_cards(lambda: display)) == 1


def test_a_server_that_needs_a_cookie_is_reported_with_the_remedy(server: NvControlServer, tmp_path: Path) -> None:
    for authority in (None, tmp_path / "missing", tmp_path):
        with pytest.raises(DriverError, match=r"refused the connection \(Authorization required.*\): set XAUTHORITY"):
            Connection(Display(server.number, authority))


def test_a_display_without_a_server_is_reported(server: NvControlServer) -> None:
    server.close()
    with pytest.raises(DriverError, match=f"no X server runs on display {server.name}"):
        Connection(Display(server.number))


def test_a_server_that_accepts_but_never_answers_runs_into_the_time_limit(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind("\0/tmp/.X11-unix/X65000")
        mute.listen()
        with pytest.raises(DriverError, match=r"X server :65000 has not answered for 0\.1 s"):
            Connection(Display(65000), limit_s=0.1)


def test_a_server_that_closes_the_connection_is_reported(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as rude:
        rude.bind("\0/tmp/.X11-unix/X65001")
        rude.listen()
        pid = os.fork()
        if pid == 0:
            rude.accept()[0].close()
            os._exit(0)
        with pytest.raises(DriverError, match="X server :65001 has gone"):
            Connection(Display(65001), limit_s=5)
        os.waitpid(pid, 0)


def test_a_server_of_another_driver_is_reported(server: NvControlServer) -> None:
    server.extension = False
    with pytest.raises(DriverError, match=r'has no NV-CONTROL.*Driver "nvidia"'):
        NvControl(Display(server.number, server.authority))


def test_a_server_that_knows_no_card_is_an_error(server: NvControlServer) -> None:
    server.cards.clear()
    with pytest.raises(DriverError, match="knows no card"):
        x11.open_x11_cards(lambda: Display(server.number, server.authority))


def test_a_cookie_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "Xauthority"
    path.touch(mode=0o644)
    write_cookie(path, COOKIE)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_cookie_written_is_found_for_every_display(tmp_path: Path) -> None:
    write_cookie(tmp_path / "Xauthority", COOKIE)
    assert find_cookie(tmp_path / "Xauthority", 0) == find_cookie(tmp_path / "Xauthority", 90) == COOKIE


def test_xauth_reads_the_cookie_file(tmp_path: Path) -> None:
    xauth = require("xauth", "xauth")
    write_cookie(tmp_path / "Xauthority", COOKIE)
    listed = subprocess.run(
        [xauth, "-f", str(tmp_path / "Xauthority"), "list"], capture_output=True, text=True, check=True
    )
    assert listed.stdout.split()[-2:] == ["MIT-MAGIC-COOKIE-1", COOKIE.hex()]


def test_the_cookie_of_this_display_is_found_among_others(tmp_path: Path) -> None:
    path = tmp_path / "Xauthority"
    here = socket.gethostname().encode()
    path.write_bytes(
        entry(0, b"\x7f\0\0\1", b"0", b"over the network")
        + entry(256, here, b"1", b"another display")
        + entry(256, here, b"0", b"another scheme", b"XDM-AUTHORIZATION-1")
        + entry(256, b"old-name", b"0", b"before renaming")
        + entry(256, here, b"0", COOKIE)
    )
    assert find_cookie(path, 0) == COOKIE


def test_a_cookie_with_the_former_name_of_this_machine_is_used(tmp_path: Path) -> None:
    path = tmp_path / "Xauthority"
    path.write_bytes(entry(256, b"old-name", b"0", COOKIE))
    assert find_cookie(path, 0) == COOKIE


@pytest.mark.parametrize("cut", [1, 3, 10, 30])
def test_a_truncated_cookie_file_is_read_up_to_its_last_complete_entry(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "Xauthority"
    whole = entry(65535, b"", b"", COOKIE)
    path.write_bytes(entry(65535, b"", b"7", b"another") + whole[:cut])
    assert find_cookie(path, 0) == b""
