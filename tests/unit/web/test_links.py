"""Links to the page, and the key file by which root makes one for the service."""

import os
import stat
from pathlib import Path

import pytest

from gpufan.errors import GpufanError
from gpufan.web.access import Sessions
from gpufan.web.links import link_of_running_page, page_link, write_key_file

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("listen", "begin"),
    [
        (("127.0.0.1", 10836), "http://127.0.0.1:10836/?token="),
        (("", 80), "http://127.0.0.1:80/?token="),
        (("0.0.0.0", 80), "http://127.0.0.1:80/?token="),
        (("::1", 80), "http://[::1]:80/?token="),
        (("box.lan", 80), "http://box.lan:80/?token="),
    ],
)
def test_the_key_file_gives_a_link_that_opens_the_page_once(
    tmp_path: Path, listen: tuple[str, int], begin: str
) -> None:
    write_key_file(tmp_path / "key", KEY, listen)
    link, tunnel = link_of_running_page(tmp_path / "key")
    assert link.startswith(begin) and len(link) < 76
    assert bool(tunnel) == (listen[0] in ("127.0.0.1", "::1"))
    assert page_link(*listen, "x") == f"{begin}x"
    sessions = Sessions(KEY)
    token = link.removeprefix(begin)
    assert sessions.login(token)
    assert not sessions.login(token)


def test_only_its_owner_can_read_the_key_file(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key", KEY, ("", 1))
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


HOSTILE = [
    b"",
    b"127.0.0.1:10836\n",
    b"127.0.0.1:10836\n" + b"0" * 63 + b"\n",
    b"evil.example/?x=:10836\n" + b"0" * 64 + b"\n",
    b"\x1b[2J:10836\n" + b"0" * 64 + b"\n",
    b"127.0.0.1:10836\n" + b"0" * 64 + b"\nmore\n",
    b"root:x:0:0:root:/root:/bin/bash\n" * 100,
    b"\xff" * 1000,
]


@pytest.mark.parametrize("content", HOSTILE, ids=lambda content: content[:20].decode("latin-1"))
def test_a_key_file_of_a_process_that_was_taken_over_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(GpufanError, match="not a key"):
        link_of_running_page(tmp_path / "key")


def test_a_link_or_a_pipe_in_place_of_the_key_file_is_refused(tmp_path: Path) -> None:
    write_key_file(tmp_path / "real", KEY, ("", 1))
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(GpufanError):
            link_of_running_page(tmp_path / name)


def test_without_a_key_file_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(GpufanError, match="install-service --web"):
        link_of_running_page(tmp_path / "key")
