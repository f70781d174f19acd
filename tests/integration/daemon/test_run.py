"""`gpufan run` and `restore` as people and service managers meet them: signals, exit status, one line of error."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pynvml
import pytest

from gpufan.control.controller import Controller
from gpufan.daemon import loop as daemon
from gpufan.daemon import restore
from tests.doubles.nvml import MANUAL, Kind, NvmlDouble, wait_for
from tests.integration.harness import CURVE, Program, fans, full_pipe, given_back_after_s

DRIVERS = [None, None]

Command = Callable[..., tuple[int, str, str]]
Start = Callable[..., Program]


def take(double: NvmlDouble) -> None:
    """Leave every fan in manual mode, as a controller does that was killed."""
    for card in range(double.map.card_count):
        for fan in double.cards[card].fans:
            fan.policy, fan.target = MANUAL, 30


def all_fans(double: NvmlDouble) -> list[list[int | None]]:
    return [fans(double, card) for card in range(double.map.card_count)]


def cards_set(double: NvmlDouble) -> set[int]:
    return {call.card for call in double.log() if call.operation == Kind.SET_FAN}


def one_line(text: str) -> str:
    """The line that `text` is, and no more than that."""
    assert text.startswith("gpufan: ") and text.count("\n") == 1 and text.endswith("\n"), text
    return text


# ---- the end ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_gives_every_card_back_within_2_s_and_all_is_well(
    double: NvmlDouble, start: Start, number: signal.Signals
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    sent_s = program.signal(number)
    status, _, err = program.end()
    assert (status, err) == (0, "")
    assert max(given_back_after_s(double, card, sent_s) for card in (0, 1)) < 2
    assert all_fans(double) == [DRIVERS, DRIVERS]


def test_a_terminal_that_hangs_up_gives_every_card_back_within_2_s(
    double: NvmlDouble, start: Start, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"  # which any other SIGHUP would reload
    config.touch()
    master, slave = pty.openpty()
    program = start("--config", str(config), before=["setsid", "--ctty"], stdin=slave)
    os.close(slave)
    program.wait_until_it_controls(0, 1)
    hung_up_s = time.monotonic()
    os.close(master)
    assert program.end()[0] == 0
    assert max(given_back_after_s(double, card, hung_up_s) for card in (0, 1)) < 2


def test_a_hangup_without_a_terminal_does_not_stop_control(double: NvmlDouble, start: Start) -> None:
    program = start(start_new_session=True)
    program.wait_until_it_controls(0, 1)
    program.signal(signal.SIGHUP)
    double.cards[0].temperature = 90
    wait_for(lambda: fans(double, 0) == [100, 100])
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param((signal.SIGTERM, signal.SIGHUP), marks=pytest.mark.slow),
        pytest.param((signal.SIGINT, signal.SIGTERM), marks=pytest.mark.slow),
        (signal.SIGHUP, signal.SIGTERM, signal.SIGINT),
    ],
    ids=lambda numbers: "+".join(number.name for number in numbers),
)
def test_signals_on_each_other_s_heels_give_every_card_back_within_2_s(
    double: NvmlDouble, start: Start, numbers: tuple[signal.Signals, ...]
) -> None:
    double.cards[0].delay_us[Kind.SET_DEFAULT] = 30_000
    program = start()
    program.wait_until_it_controls(0, 1)
    sent_s = min([program.signal(number) for number in numbers])  # as a closed terminal does, or SendSIGHUP=yes
    assert program.end()[0] == 0
    assert max(given_back_after_s(double, card, sent_s) for card in (0, 1)) < 2


def test_a_signal_gives_the_other_cards_back_and_names_the_one_that_refuses(double: NvmlDouble, start: Start) -> None:
    double.cards[0].error[Kind.SET_DEFAULT] = double.cards[0].error[Kind.SET_POLICY] = pynvml.NVML_ERROR_UNKNOWN
    program = start()
    program.wait_until_it_controls(0, 1)
    sent_s = program.signal(signal.SIGTERM)
    status, _, err = program.end()
    assert (status, err) == (
        1,
        "gpufan: fans not given back to the driver: 0 GTX 1080 Ti: the driver refused: Unknown Error\n",
    )
    assert given_back_after_s(double, 1, sent_s) < 2


def test_a_signal_while_a_card_hangs_gives_the_others_back_within_2_s_and_names_it(
    double: NvmlDouble, start: Start
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    double.cards[0].hang[Kind.TEMPERATURE] = 1
    seen = double.calls(0)[Kind.TEMPERATURE]
    wait_for(lambda: double.calls(0)[Kind.TEMPERATURE] > seen)
    sent_s = program.signal(signal.SIGTERM)
    program.process.wait(20)
    assert time.monotonic() - sent_s < 2.5  # the guardian, which starts a new Python, ends later
    status, _, err = program.end()
    assert (status, err) == (
        1,
        "gpufan: fans not given back to the driver: 0 GTX 1080 Ti: the card does not answer\n"
        + program.guardians_line(),
    )
    assert given_back_after_s(double, 1, sent_s) < 2


def test_the_end_of_the_duration_gives_every_card_back(double: NvmlDouble, gpufan: Command) -> None:
    status, _, err = gpufan("run", "--duration", "0.1s")
    assert (status, err) == (0, "")
    assert cards_set(double) == {0, 1}
    assert all_fans(double) == [DRIVERS, DRIVERS]


def test_the_end_of_the_duration_tells_of_a_card_that_could_not_be_given_back(
    double: NvmlDouble, gpufan: Command
) -> None:
    double.cards[1].error[Kind.SET_DEFAULT] = pynvml.NVML_ERROR_UNKNOWN
    status, _, err = gpufan("run", "--duration", "0.1s")
    assert status == 1
    assert "1 GTX 1080 Ti" in one_line(err)


def test_a_fault_of_our_own_gives_every_card_back_and_is_told_in_one_line(
    double: NvmlDouble, gpufan: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = Controller.decide

    def fail_once_all_is_taken(self: Controller, *reading: Any, **more: Any) -> object:
        if cards_set(double) == {0, 1}:
            raise ZeroDivisionError("ours")
        return decide(self, *reading, **more)

    monkeypatch.setattr(Controller, "decide", fail_once_all_is_taken)
    status, _, err = gpufan("run", "--interval", "0.1")
    assert status == 1
    assert "ZeroDivisionError: ours" in one_line(err)
    assert all_fans(double) == [DRIVERS, DRIVERS]


def test_when_all_cards_are_lost_for_long_the_exit_status_is_1(
    double: NvmlDouble, gpufan: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "ALL_LOST_S", 0.1)
    double.cards[0].lost = double.cards[1].lost = 1
    status, _, err = gpufan("run", "--interval", "0.1")
    assert status == 1
    assert "no card was under control for 0.1 s" in one_line(err)


def test_under_nohup_a_hangup_is_ignored(double: NvmlDouble, start: Start) -> None:
    master, slave = pty.openpty()
    program = start(before=["setsid", "--ctty", "nohup"], stdin=slave)
    os.close(slave)
    program.wait_until_it_controls(0, 1)
    os.close(master)
    double.cards[0].temperature = 90
    wait_for(lambda: fans(double, 0) == [100, 100])
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0


def test_the_last_table_stands_above_the_line_that_the_fans_were_given_back(double: NvmlDouble, start: Start) -> None:
    terminal, its_end = pty.openpty()
    program = start(stdout=its_end, env={"TERM": "xterm", "COLUMNS": "100", "LINES": "30"})
    os.close(its_end)
    shown = b""
    while b"bars: 10 minutes" not in shown:
        shown += os.read(terminal, 65536)
    program.signal(signal.SIGINT)
    with suppress(OSError):  # the other end is closed
        while chunk := os.read(terminal, 65536):
            shown += chunk
    os.close(terminal)
    assert program.process.wait(5) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    above, _, after = text.rpartition("fans given back to the driver: 0 GTX 1080 Ti, 1 GTX 1080 Ti")
    table = above.rpartition("why")[2]
    assert re.search("1 GTX 1080 Ti +60 .*bars: 10 minutes", table, re.DOTALL)
    assert after.strip() == ""


def test_list_says_which_gpufan_controls_a_card_and_as_json_too(
    double: NvmlDouble, start: Start, gpufan: Command
) -> None:
    program = start("--gpu", "0")
    program.wait_until_it_controls(0)
    wait_for(lambda: gpufan("status")[0] == 0)
    _, out, _ = gpufan("list")
    pid = program.process.pid
    assert [line.rpartition(" %, ")[2] for line in out.splitlines() if line.startswith("   fans")] == [
        f"controlled by gpufan (process {pid})",
        "controlled by the driver",
    ]
    cards = json.loads(gpufan("list", "--json")[1])
    assert [(card["index"], card["controlled_by_pid"], card["temperature_c"]) for card in cards] == [
        (0, pid, 60),
        (1, None, 60),
    ]
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert "gpufan" not in gpufan("list")[1]


# ---- output that nobody takes ----


def controls_to_the_end(double: NvmlDouble, program: Program) -> None:
    """Check that `program` reacts to heat, and gives the fans back at once when it is ended."""
    program.wait_until_it_controls(0, 1)
    double.cards[0].temperature = 90
    wait_for(lambda: fans(double, 0) == [100, 100])
    sent_s = program.signal(signal.SIGTERM)
    assert (program.process.wait(4), program.process.stderr.read()) == (0, "")
    assert given_back_after_s(double, 0, sent_s) < 2


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_stops_neither_control_nor_the_end(double: NvmlDouble, start: Start) -> None:
    read_end, write_end = full_pipe()
    program = start(stdout=write_end)
    os.close(write_end)
    controls_to_the_end(double, program)
    os.close(read_end)


def test_a_full_disk_behind_the_log_stops_neither_control_nor_the_end(double: NvmlDouble, start: Start) -> None:
    with open("/dev/full", "w") as full:
        program = start(stdout=full)
    controls_to_the_end(double, program)


def test_a_pipe_whose_reader_has_gone_stops_neither_control_nor_the_end(double: NvmlDouble, start: Start) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    program.process.stdout.close()
    double.cards[0].temperature = 90
    wait_for(lambda: fans(double, 0) == [100, 100])
    double.cards[0].temperature = 89
    sent_s = program.signal(signal.SIGTERM)
    program.process.wait(4)
    assert program.process.stderr.read() == ""
    assert given_back_after_s(double, 0, sent_s) < 2


@pytest.mark.slow
def test_a_terminal_that_nobody_reads_stops_neither_control_nor_the_end(double: NvmlDouble, start: Start) -> None:
    master, slave = pty.openpty()
    program = start(stdout=slave, env={"TERM": "xterm"})
    program.wait_until_it_controls(0, 1)
    os.set_blocking(slave, False)
    try:
        while True:
            os.write(slave, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(slave, True)
    os.close(slave)
    double.cards[0].temperature = 90
    wait_for(lambda: fans(double, 0) == [100, 100])
    sent_s = program.signal(signal.SIGTERM)
    assert (program.process.wait(4), program.process.stderr.read()) == (0, "")
    assert given_back_after_s(double, 0, sent_s) < 2
    os.close(master)


# ---- the runtime folder ----


def test_while_one_runs_another_and_restore_are_refused_and_set_nothing(
    double: NvmlDouble, start: Start, gpufan: Command
) -> None:
    first = start()
    first.wait_until_it_controls(0, 1)
    pid = first.process.pid
    remedy = f"stop it first, with `sudo systemctl stop gpufan` or `sudo kill {pid}`"
    refusal = f"gpufan: another gpufan (process {pid}) controls the fans: {remedy}\n"
    assert gpufan("run") == gpufan("restore") == (1, "", refusal)
    assert {call.pid for call in double.log()} == {first.process.pid}


def test_the_snapshot_tells_what_is_done_and_is_gone_after_the_end(
    double: NvmlDouble, start: Start, folder: Path
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    wait_for(lambda: (folder / "state.json").exists())
    wait_for(lambda: {gpu["control"] for gpu in json.loads((folder / "state.json").read_bytes())["gpus"]} == {"ours"})
    program.signal(signal.SIGTERM)
    program.end()
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_of_a_killed_gpufan_status_says_at_once_that_the_fans_are_not_given_back_until_restore_does(
    start: Start, gpufan: Command, folder: Path
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    wait_for(lambda: (folder / "state.json").exists())
    program.kill_with_guardian()
    status, _, err = gpufan("status")
    assert (status, "ended without giving the fans back: `sudo gpufan restore`" in one_line(err)) == (1, True)
    assert gpufan("status", "--json")[0] == 1
    assert gpufan("restore")[0] == 0
    assert "no gpufan is running" in one_line(gpufan("status")[2])


def test_a_snapshot_that_cannot_be_written_any_more_is_told_once_and_control_goes_on(
    double: NvmlDouble, start: Start, folder: Path
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    wait_for(lambda: (folder / "state.json").exists())
    shutil.rmtree(folder)
    folder.write_text("in the way")
    seen = double.calls(0)[Kind.TEMPERATURE]
    wait_for(lambda: double.calls(0)[Kind.TEMPERATURE] > seen + 1)
    double.cards[0].temperature = 90
    wait_for(lambda: fans(double, 0) == [100, 100])
    program.signal(signal.SIGTERM)
    status, out, _ = program.end()
    assert (status, out.count("state.json cannot be written: Not a directory; control goes on")) == (0, 1)


@pytest.mark.slow
def test_a_removed_folder_is_created_again_and_a_second_run_is_refused(
    start: Start, gpufan: Command, folder: Path
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    wait_for(lambda: (folder / "state.json").exists())
    shutil.rmtree(folder)
    wait_for(lambda: {"state.json", "taken.json"} <= set(os.listdir(folder) if folder.exists() else ()))
    status, _, err = gpufan("run")
    assert (status, "another gpufan" in one_line(err)) == (1, True)
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0


def mounted(double: NvmlDouble, folder: Path, options: str, fill: str) -> subprocess.CompletedProcess[str]:
    """`gpufan run` for a moment, its runtime folder a file system of its own mounted with `options`."""
    folder.mkdir()
    script = f'mount -t tmpfs {options} none "$1" && {fill} && shift && exec "$@"'
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", str(folder)]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount anything")
    return subprocess.run(
        [*inside, sys.executable, "-m", "gpufan", "run", "--interval", "0.1", "--duration", "0.15s"],
        env={**os.environ, **double.environment(), "GPUFAN_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("options", "fill", "why"),
    [
        ("-o size=4k", 'head -c 4096 /dev/zero > "$1/filler"', "No space left on device"),
        pytest.param(
            *("-o size=4k,nr_inodes=2", 'touch "$1/filler"', "No space left on device"), marks=pytest.mark.slow
        ),
        ("-o ro", "true", "Read-only file system"),
    ],
    ids=["full", "no inode left", "read-only"],
)
def test_where_nothing_can_be_written_it_is_told_once_and_the_fans_are_controlled(
    double: NvmlDouble, folder: Path, options: str, fill: str, why: str
) -> None:
    done = mounted(double, folder, options, fill)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(f"state.json cannot be written: {why}; control goes on") == 1
    assert cards_set(double) == {0, 1}


# ---- what stands in the way ----


def test_without_permission_one_line_says_so_and_what_to_do(double: NvmlDouble, gpufan: Command) -> None:
    double.map.not_permitted = 1
    status, _, err = gpufan("run")
    # The tests are root's; without sudo the remedy is that.
    remedy = "it asks for CAP_SYS_ADMIN, which a container may lack"
    assert (status, one_line(err)) == (1, f"gpufan: the driver refuses to let even root set fans: {remedy}\n")
    assert {call.result for call in double.log()} == {pynvml.NVML_ERROR_NO_PERMISSION}


def test_without_permission_for_the_runtime_folder_nothing_is_set(
    double: NvmlDouble, start: Start, folder: Path
) -> None:
    folder.mkdir(mode=0o555)
    before = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    program = start(before=before)
    status, _, err = program.end()
    assert (status, one_line(err)) == (
        1,
        f"gpufan: only root can set fans, and write to {folder}: run this with sudo\n",
    )
    assert double.log() == []


def test_without_a_driver_library_one_line_says_so(double: NvmlDouble, start: Start, tmp_path: Path) -> None:
    # Something else by that name: with nothing there, the loader would go on to the library of the machine.
    (tmp_path / "libnvidia-ml.so.1").write_text("no library, but long enough to be looked at\n" * 9)
    status, _, err = start(env={"LD_LIBRARY_PATH": str(tmp_path)}).end()
    assert status == 1
    assert "no NVIDIA driver found (no libnvidia-ml.so.1): install it" in one_line(err)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "kernel module is not loaded: `sudo modprobe nvidia`"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "are of different versions, as after an update: reboot"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission to talk to the NVIDIA driver: run as root"),
        (pynvml.NVML_ERROR_UNKNOWN, "the NVIDIA driver does not answer: Unknown Error"),
    ],
)
@pytest.mark.parametrize("command", ["run", "restore", "list"])
def test_a_driver_that_does_not_start_is_told_in_one_line(
    double: NvmlDouble, gpufan: Command, command: str, error: int, says: str
) -> None:
    pynvml.nvmlShutdown()
    double.map.init_error = error
    status, _, err = gpufan(command)
    assert status == 1
    assert says in one_line(err)


def test_a_box_without_cards_is_told_in_one_line(double: NvmlDouble, gpufan: Command) -> None:
    double.map.card_count = 0
    status, _, err = gpufan("run")
    assert status == 1
    assert "knows no card" in one_line(err)


@pytest.mark.parametrize("error", [0, pynvml.NVML_ERROR_NOT_SUPPORTED], ids=["0 fans", "not supported"])
def test_a_box_whose_cards_have_no_fan_is_told_in_one_line(double: NvmlDouble, gpufan: Command, error: int) -> None:
    for card in double.cards[:2]:
        card.fan_count, card.error[Kind.FAN_COUNT] = 0, error
    status, _, err = gpufan("run")
    assert status == 1
    assert "no card here has fans that can be set: 0 GTX 1080 Ti: the driver reports no fan" in one_line(err)


def test_a_card_without_fans_is_left_alone_and_the_other_controlled(double: NvmlDouble, gpufan: Command) -> None:
    double.cards[0].fan_count = 0
    status, out, err = gpufan("run", "--duration", "0.1s")
    assert (status, err, cards_set(double)) == (0, "", {1})
    assert "not controlled: 0 GTX 1080 Ti: the driver reports no fan" in out


def test_the_log_says_that_limits_of_a_card_without_fans_have_no_effect(
    double: NvmlDouble, gpufan: Command, tmp_path: Path
) -> None:
    double.cards[0].fan_count = 0
    file = tmp_path / "limits.toml"
    file.write_text('power_limit_w = 200\ngive_way = "power"\n')
    line = "0 GTX 1080 Ti: without effect, since its fans cannot be set: power_limit_w, give_way\n"
    assert line in gpufan("run", "--duration", "0.1s", "--config", str(file))[1]
    assert "without effect" not in gpufan("run", "--duration", "0.1s", "--config", str(file), "--gpu", "1")[1]


@pytest.mark.parametrize("driver", ["470.256", "510.47"])
def test_a_driver_that_cannot_set_fans_through_nvml_needs_the_x_path(
    install: Callable[..., NvmlDouble], gpufan: Command, driver: str
) -> None:
    install(driver)
    status, _, err = gpufan("run", "--backend", "nvml")
    assert status == 1
    assert f"driver {driver} cannot set fans through NVML" in one_line(err)
    assert "the X path is needed" in err


@pytest.mark.parametrize("driver", ["515.43", "535.43"])
def test_an_older_driver_is_controlled_and_given_back(
    install: Callable[..., NvmlDouble], gpufan: Command, driver: str
) -> None:
    double = install(driver)
    assert gpufan("run", "--duration", "0.1s")[0] == 0
    assert cards_set(double) == {0, 1}
    assert all_fans(double) == [DRIVERS, DRIVERS]


# ---- which cards ----


@pytest.mark.parametrize(
    "name",
    [
        "GPU-00000001-0000-4000-8000-000000000001",
        "gpu-00000001-0000-4000-8000-000000000001",
        "00000000:41:00.0",
        "0000:41:00.0",
        "41:00.0",
        "PCI:65:0:0",
        "1",
        "Titan",
    ],
)
def test_a_card_is_chosen_by_any_of_its_names_and_the_other_left_alone(
    double: NvmlDouble, gpufan: Command, name: str
) -> None:
    double.cards[1].name = b"NVIDIA TITAN Xp"
    assert gpufan("run", "--gpu", name, "--duration", "0.05s")[0] == 0
    assert {call.card for call in double.log()} == {1}


@pytest.mark.parametrize("command", ["run", "restore"])
@pytest.mark.parametrize("name", ["2", "GPU-none-such", "42:00.0", "RTX", "GPU-"])
def test_a_card_that_is_not_there_is_bad_input_and_nothing_is_set(
    double: NvmlDouble, gpufan: Command, command: str, name: str
) -> None:
    status, _, err = gpufan(command, "--gpu", "0", "--gpu", name)
    assert status == 2
    assert f"--gpu {name}: no such card; this box has 0 GTX 1080 Ti (00000000:0A:00.0), 1 " in one_line(err)
    assert double.log() == []


def test_every_fan_of_every_card_is_driven_and_given_back(install: Callable[..., NvmlDouble], gpufan: Command) -> None:
    double = install(profile="quad-2080ti")
    for card in double.cards[:4]:
        card.fan_count = 3
    assert gpufan("run", "--duration", "0.1s")[0] == 0
    for operation in (Kind.SET_FAN, Kind.SET_DEFAULT):
        assert {(call.card, call.fan) for call in double.log() if call.operation == operation} == {
            (card, fan) for card in range(4) for fan in range(3)
        }
    assert all_fans(double) == [[None] * 3] * 4


def test_a_dry_run_says_what_it_would_set_and_sets_and_writes_nothing(
    double: NvmlDouble, gpufan: Command, folder: Path
) -> None:
    status, out, err = gpufan("run", "--dry-run", "--duration", "0.1s", "--curve", CURVE)
    assert (status, err, double.log(), folder.exists()) == (0, "", [], False)
    assert re.search(r"0 GTX 1080 Ti: .*the curve gives 60 %", out)


# ---- restore ----


def test_restore_gives_every_fan_back_after_a_kill_and_may_be_repeated(
    double: NvmlDouble, start: Start, gpufan: Command
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    program.kill_with_guardian()
    assert None not in fans(double, 0) + fans(double, 1)
    for _ in range(2):
        status, out, err = gpufan("restore")
        assert (status, err) == (0, "")
        assert out == "0 GTX 1080 Ti: the driver controls its fans\n1 GTX 1080 Ti: the driver controls its fans\n"
        assert all_fans(double) == [DRIVERS, DRIVERS]


def test_restore_gives_back_only_what_is_named(double: NvmlDouble, gpufan: Command) -> None:
    take(double)
    assert gpufan("restore", "--gpu", "1")[0] == 0
    assert all_fans(double) == [[30, 30], DRIVERS]


def hung(double: NvmlDouble) -> None:
    double.cards[0].hang[Kind.SET_DEFAULT] = 1


def lost(double: NvmlDouble) -> None:
    double.cards[0].lost = 1


def refusing(double: NvmlDouble) -> None:
    double.cards[0].error[Kind.SET_DEFAULT] = pynvml.NVML_ERROR_UNKNOWN


@pytest.mark.parametrize("trouble", [hung, lost, refusing], ids=lambda trouble: trouble.__name__)
def test_restore_gives_the_others_back_and_names_the_card_that_fails(
    double: NvmlDouble, gpufan: Command, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[NvmlDouble], None]
) -> None:
    monkeypatch.setattr(restore, "CARD_TIMEOUT_S", 0.1)
    take(double)
    trouble(double)
    status, _, err = gpufan("restore")
    assert status == 1
    assert one_line(err).startswith("gpufan: fans not given back to the driver: 0 ")
    assert "1 GTX" not in err
    assert fans(double, 1) == DRIVERS


@pytest.mark.slow
def test_restore_gives_the_others_back_while_a_card_hangs_in_every_call(double: NvmlDouble, gpufan: Command) -> None:
    for card in double.cards[:2]:
        for fan in card.fans[: card.fan_count]:
            fan.policy, fan.target = MANUAL, 30
    for kind in Kind:
        double.cards[0].hang[kind] = 1
    began_s = time.monotonic()
    status, _, err = gpufan("restore")
    given_back = [call for call in double.log() if call.card == 1 and call.operation == Kind.SET_DEFAULT]
    assert given_back
    assert given_back[0].time_ns / 1e9 - began_s < 8
    assert (status, "card that does not answer" in one_line(err)) == (1, True)


def test_restore_without_permission_says_so(double: NvmlDouble, gpufan: Command) -> None:
    double.map.not_permitted = 1
    status, _, err = gpufan("restore")
    assert status == 1
    assert "even root" in one_line(err)


# ---- the journal ----


def test_lines_to_anything_else_carry_the_time(
    double: NvmlDouble, gpufan: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    lines = gpufan("run", "--duration", "0.1s")[1].splitlines()
    assert lines
    assert all(re.match(r"[0-9]{2}:[0-9]{2}:[0-9]{2} ([01] GTX 1080 Ti|fans given back)", line) for line in lines)


def test_a_service_controls_the_other_cards_while_one_that_its_settings_name_is_away(
    double: NvmlDouble, gpufan: Command, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    present = "GPU-00000001-0000-4000-8000-000000000000"
    config.write_text(f'gpus = ["{present}", "GPU-99999999-0000-4000-8000-000000000000"]\n')
    status, out, _ = gpufan("run", "--config", str(config), "--duration", "0.2s")
    assert status == 0
    assert "GPU-99999999-0000-4000-8000-000000000000: no such card at present" in out
    assert {call.card for call in double.log()} == {0}
