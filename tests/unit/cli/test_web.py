"""`gpufan web`: what is refused in one line, and what the page says at the start."""

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.unit.conftest import Run


@pytest.mark.parametrize("module", ["starlette", "uvicorn"])
def test_without_its_extra_the_command_says_what_to_install(
    gpufan: Run, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for name in [name for name in sys.modules if name.startswith(("gpufan.web", "starlette", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    done = gpufan("web", "--simulate")
    assert done.status == 2
    assert f"the page needs {module}" in done.err and "'gpufan[web]'" in done.err


def test_a_port_that_is_in_use_is_one_line(gpufan: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = gpufan("web", "--simulate", "--listen", listen)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"gpufan: cannot listen on {listen}: Address already in use; choose another address with --listen\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "nowhere"], "not an address"),
        (["--listen", "no such host:1"], "not an address"),
        (["--simulate", "--config", "x"], "--config is for real cards"),
        (["--workload", "idle"], "--workload goes with --simulate"),
        (["--url", "--listen", ":1"], "--listen is for a page that starts now"),
        (["--config", "/nowhere/config.toml"], "/nowhere/config.toml: no such file"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(gpufan: Run, arguments: list[str], said: str) -> None:
    done = gpufan("web", *arguments)
    assert (done.status, done.out) == (2, "")
    assert said in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"target_c = 'warm'", "target_c"),
        (b"curv = '40:40'", "curv"),
        (b"target_c 70", "line 1"),
        (b"# \xff", "not UTF-8"),
        (None, "it is not a file: name another file with --config"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_one_line(
    gpufan: Run, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "config.toml"
    if content is None:
        os.mkfifo(file)
    else:
        file.write_bytes(content)
    done = gpufan("web", "--listen", "127.0.0.1:0", "--config", str(file))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"gpufan: {file}: ") and said in done.err and done.err.count("\n") == 1


def test_a_link_needs_a_page_that_runs(gpufan: Run, tmp_path: Path) -> None:
    done = gpufan("web", "--url", "--key-file", str(tmp_path / "key"))
    assert (done.status, done.out) == (1, "")
    assert "install-service --web" in done.err
