"""The command `gpufan` with fans that need X: its X server, signals, exit status, one line of error."""

import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doubles import xorg
from tests.doubles.nvcontrol_server import NvControlServer
from tests.doubles.nvml import MANUAL, wait_for
from tests.integration.gpu.x_box import CURVE, XBox, end, ignoring, old

DRIVERS = [None, None]
NEEDS_X = "driver 470.256 cannot set fans through NVML"


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def inside(gpufan: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command on a box in this process, with these environment variables."""

    def run(box: XBox, *arguments: str, **environment: str) -> tuple[int, str, str]:
        for name, value in {"PATH": box.environment["PATH"], **environment}.items():
            monkeypatch.setenv(name, value)
        with box.double.install():
            return gpufan(*arguments)

    return run


def one_line(text: str) -> str:
    assert text.startswith("gpufan: ") and text.count("\n") == 1 and text.endswith("\n"), text
    return text


# ---- gpufan run ----


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "states"),
    [(old, [("x11", "ours")] * 2), (ignoring, [("x11", "ours"), ("nvml", "ours")])],
    ids=["old driver", "a card that ignores NVML"],
)
def test_fans_are_controlled_over_x_and_given_back_before_the_x_server_ends(
    tmp_path: Path, kind: Callable[[Path], XBox], states: list[tuple[str, str]]
) -> None:
    box = kind(tmp_path)
    with box.running("run", *CURVE) as process:
        box.wait_for_states(*states)
        assert box.fans() == [[60, 60]] * 2
        assert len(box.xorgs()) == 1
        _, listed, _ = box.gpufan("list")
        why = NEEDS_X if kind is old else "NVML does not move its fans: another program gave fan 0 back to the driver"
        assert f"over X (NV-CONTROL), as root: {why}" in listed
        assert listed.count("through NVML, as root") == states.count(("nvml", "ours"))
        # The first card can be given back only over X.
        assert end(process) == (0, "")
    assert (box.fans(), box.xorgs()) == ([DRIVERS] * 2, [])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["restore"], ["restore", "--taken"]], ids=" ".join)
def test_the_x_server_of_a_killed_gpufan_ends_and_restore_uses_another(tmp_path: Path, arguments: list[str]) -> None:
    box = old(tmp_path)
    with box.running("run", *CURVE) as process:
        box.wait_for_states(("x11", "ours"), ("x11", "ours"))
        process.kill()
        _, err = process.communicate(timeout=8)  # and the guardian has ended
        assert err.count("its fans were set over X: run `sudo gpufan restore`") == 2
        wait_for(lambda: not box.xorgs())
    assert box.fans() == [[60, 60]] * 2
    status, out, err = box.gpufan(*arguments)
    assert (status, err, out.count("the driver controls its fans")) == (0, "", 2)
    assert (box.fans(), box.xorgs()) == ([DRIVERS] * 2, [])
    assert not (box.runtime / "taken.json").exists()


def test_without_xorg_one_line_reports_it_if_all_cards_need_it(inside: Command, tmp_path: Path) -> None:
    status, out, err = inside(old(tmp_path), "run", PATH="")
    assert (status, out) == (1, "")
    assert one_line(err) == "gpufan: no Xorg here: install the X server (Debian: xserver-xorg-core)\n"


@pytest.mark.slow
def test_without_xorg_cards_that_do_not_need_it_are_controlled(tmp_path: Path) -> None:
    box = ignoring(tmp_path)
    with box.running("run", *CURVE, PATH="") as process:
        box.wait_for_states(("nvml", "released"), ("nvml", "ours"))
        assert box.states()[0]["x_error"].startswith("no Xorg here: install the X server")
        assert box.fans() == [DRIVERS, [60, 60]]
        assert end(process) == (0, "")
    assert box.fans() == [DRIVERS] * 2


def test_a_dry_run_and_a_list_start_no_x_server(inside: Command, tmp_path: Path) -> None:
    box = old(tmp_path)
    status, out, err = inside(box, "run", *CURVE, "--dry-run", "--duration", "0.1s", PATH="")
    assert (status, err) == (0, "")
    assert "the curve gives" in out
    status, out, err = inside(box, "list", PATH="")
    assert (status, err, out.count(f"over X (NV-CONTROL), as root: {NEEDS_X}")) == (0, "", 2)


# ---- an existing X server ----


def test_the_server_of_the_display_option_is_used_with_the_cookie_in_xauthority(tmp_path: Path) -> None:
    box = old(tmp_path)
    with NvControlServer(xorg.mapped_box(box.double.map), tmp_path) as server:
        with box.running("run", *CURVE, "--display", server.name, XAUTHORITY=str(server.authority)) as process:
            box.wait_for_states(("x11", "ours"), ("x11", "ours"))
            assert (box.fans(), box.xorgs()) == ([[60, 60]] * 2, [])
            assert end(process) == (0, "")
        assert box.fans() == [DRIVERS] * 2


@pytest.mark.slow
def test_after_a_kill_restore_taken_uses_the_server_and_the_cookie_of_the_run(tmp_path: Path) -> None:
    box = old(tmp_path)
    with NvControlServer(xorg.mapped_box(box.double.map), tmp_path) as server:
        with box.running("run", *CURVE, "--display", server.name, XAUTHORITY=str(server.authority)) as process:
            box.wait_for_states(("x11", "ours"), ("x11", "ours"))
            process.kill()
            process.communicate(timeout=8)
        assert box.fans() == [[60, 60]] * 2
        status, out, err = box.gpufan("restore", "--taken")
        assert (status, err, out.count("the driver controls its fans")) == (0, "", 2)
    assert (box.fans(), box.xorgs()) == ([DRIVERS] * 2, [])


@pytest.mark.slow
def test_after_a_kill_restore_taken_gives_back_cards_over_nvml_and_over_x(tmp_path: Path) -> None:
    box = ignoring(tmp_path)
    with box.running("run", *CURVE) as process:
        box.wait_for_states(("x11", "ours"), ("nvml", "ours"))
        process.kill()
        process.communicate(timeout=8)
    assert box.fans() == [[60, 60], DRIVERS]
    assert box.gpufan("restore", "--taken")[0] == 0
    assert box.fans() == [DRIVERS] * 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_limits_of_cards_over_nvml_and_over_x_are_set_and_given_back(tmp_path: Path, number: int) -> None:
    box = ignoring(tmp_path)
    settings = tmp_path / "config.toml"
    settings.write_text("power_limit_w = 200\n")
    limits = box.double.cards[0], box.double.cards[1]
    with box.running("run", *CURVE, "--config", str(settings)) as process:
        box.wait_for_states(("x11", "ours"), ("nvml", "ours"))
        wait_for(lambda: [card.power_limit_mw for card in limits] == [200_000] * 2)
        process.send_signal(number)
        process.communicate(timeout=8)
    wait_for(lambda: [card.power_limit_mw for card in limits] == [250_000] * 2)


@pytest.mark.parametrize("arguments", [["run"], ["run", "--backend", "x11"], ["restore"]], ids=" ".join)
def test_a_server_that_cannot_be_used_is_reported_in_one_line(
    inside: Command, tmp_path: Path, arguments: list[str]
) -> None:
    box = old(tmp_path)
    with NvControlServer(xorg.mapped_box(box.double.map), tmp_path) as server:
        status, _, err = inside(box, *arguments, "--display", server.name, XAUTHORITY=str(tmp_path / "none"))
        assert status == 1
        assert f"X server {server.name} refused the connection" in one_line(err)
    status, _, err = inside(box, *arguments, "--display", server.name)
    assert status == 1
    assert f"no X server runs on display {server.name}" in one_line(err)


def test_a_server_without_coolbits_is_reported_in_one_line(inside: Command, tmp_path: Path) -> None:
    box = old(tmp_path)
    with NvControlServer(xorg.mapped_box(box.double.map), tmp_path) as server:
        server.coolbits = False
        status, _, err = inside(box, "run", "--display", server.name, XAUTHORITY=str(server.authority))
    assert status == 1
    assert 'put Option "Coolbits" "4" into the Device section' in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--backend", "nvml", "--display", ":0"], "--display goes with --backend auto or x11"),
        (["run", "--display", "box:0"], "write it as :0"),
    ],
)
def test_an_impossible_display_is_an_input_error(
    inside: Command, tmp_path: Path, arguments: list[str], says: str
) -> None:
    status, _, err = inside(old(tmp_path), *arguments)
    assert status == 2
    assert says in one_line(err)


# ---- restore ----


def leave_in_manual_mode(box: XBox) -> None:
    """Leave every fan in manual mode, as a killed controller does."""
    for card in box.double.cards[:2]:
        for fan in card.fans:
            fan.policy, fan.target = MANUAL, 30


def test_restore_releases_over_x_if_nvml_fails_and_leaves_no_server(inside: Command, tmp_path: Path) -> None:
    box = ignoring(tmp_path)
    leave_in_manual_mode(box)
    status, out, err = inside(box, "restore", "--backend", "x11", "--gpu", "1")
    assert (status, out, err) == (0, "1 GTX 1080 Ti: the driver controls its fans\n", "")
    assert (box.fans(), box.xorgs()) == ([[30, 30], DRIVERS], [])
    leave_in_manual_mode(box)
    status, out, err = inside(box, "restore")
    assert (status, err, out.count("the driver controls its fans")) == (0, "", 2)
    assert (box.fans(), box.xorgs()) == ([DRIVERS] * 2, [])


def test_restore_uses_the_backend_of_the_settings_file(inside: Command, tmp_path: Path) -> None:
    box = ignoring(tmp_path)
    leave_in_manual_mode(box)
    (tmp_path / "config.toml").write_text('backend = "nvml"\n')
    status, _, err = inside(box, "restore", "--config", str(tmp_path / "config.toml"))
    assert (status, "still in manual mode" in err, box.fans()) == (1, True, [[30, 30], DRIVERS])


def test_restore_works_with_a_broken_settings_file(inside: Command, tmp_path: Path) -> None:
    box = ignoring(tmp_path)
    leave_in_manual_mode(box)
    (tmp_path / "config.toml").write_text("backend = 7\n")
    status, _, err = inside(box, "restore", "--config", str(tmp_path / "config.toml"))
    assert (status, "gpufan goes on without this file" in err, box.fans()) == (0, True, [DRIVERS] * 2)


def test_restore_reports_both_errors_and_releases_the_other_cards(inside: Command, tmp_path: Path) -> None:
    box = ignoring(tmp_path)
    leave_in_manual_mode(box)
    status, _, err = inside(box, "restore", PATH="")
    assert status == 1
    assert (
        "0 GTX 1080 Ti: fan 0 is still in manual mode after it was given back; over X it fails too: no Xorg here"
        in one_line(err)
    )
    assert box.fans()[1] == DRIVERS


# ---- gpufan xserver ----


@pytest.mark.slow
def test_xserver_runs_a_server_that_run_can_use_and_ends_it_at_its_end(tmp_path: Path) -> None:
    box = old(tmp_path)
    with box.running("xserver") as server:
        line = server.stdout.readline()
        match = re.fullmatch(r"X server on (:\d+); use it with: (XAUTHORITY=\S+) gpufan (run --display :\d+)\n", line)
        assert match is not None, line
        status, _, err = box.gpufan("xserver")
        assert status == 1
        assert "another gpufan" in one_line(err)
        name, value = match[2].split("=")
        with box.running(*shlex.split(match[3]), *CURVE, **{name: value}) as process:
            box.wait_for_states(("x11", "ours"), ("x11", "ours"))
            assert len(box.xorgs()) == 1
            assert end(process) == (0, "")
        assert (box.fans(), len(box.xorgs())) == ([DRIVERS] * 2, 1)
        assert end(server) == (0, "")
    assert box.xorgs() == []


@pytest.mark.slow
def test_xserver_opens_only_the_cards_in_the_settings(tmp_path: Path) -> None:
    box = old(tmp_path)
    (tmp_path / "config.toml").write_text('gpus = ["GPU-00000001-0000-4000-8000-000000000001"]\n')
    with box.running("xserver", "--config", str(tmp_path / "config.toml")) as server:
        assert server.stdout.readline().startswith("X server on ")
        assert re.findall("BusID +(.+)", (box.runtime / "xserver/xorg.conf").read_text()) == ['"PCI:65:0:0"']
        assert end(server) == (0, "")


def test_xserver_that_cannot_start_reports_why_in_one_line(inside: Command, tmp_path: Path) -> None:
    status, out, err = inside(old(tmp_path), "xserver", PATH="")
    assert (status, out) == (1, "")
    assert "no Xorg here" in one_line(err)
