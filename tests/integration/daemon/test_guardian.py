"""Fans are given back when gpufan is killed without a service manager, and only the fans that it has set."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from gpufan.daemon.guardian import guardian
from gpufan.daemon.taken import Taken, read_taken
from gpufan.gpu import release_fans
from gpufan.gpu.nvml import NvmlGpu
from tests.doubles.nvml import MANUAL, Kind, NvmlDouble, wait_for
from tests.integration.harness import Program, fans, given_back_after_s, guardians

DRIVERS = [None, None]

SYS_EXIT = {"x86_64": 60, "aarch64": 93}.get(os.uname().machine, 1)
"""The system call that ends one thread only."""

Command = Callable[..., tuple[int, str, str]]
Start = Callable[..., Program]


def wait_until_released(double: NvmlDouble, *cards: int) -> None:
    wait_for(lambda: all(fans(double, card) == DRIVERS for card in cards))


def take(double: NvmlDouble, path: Path, *cards: int) -> None:
    """Set the fans of `cards` and record them, as a run does that was killed."""
    path.parent.mkdir(exist_ok=True)
    taken = Taken(path, None)
    for number in cards:
        card = NvmlGpu(number)
        card.open()
        taken.add(card.info)
        card.set_duty(30)


def script(double: NvmlDouble, record: Path) -> tuple[int, str]:
    """Exit status and standard error of the script, run as the fallback of the service runs it."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", release_fans.__file__, str(record), str(double.library)],
        env={**os.environ, **double.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def hang_in_set(double: NvmlDouble) -> None:
    """Return when a running gpufan hangs in a call that sets the fans of the first card."""
    double.cards[0].hang[Kind.SET_FAN] = 1
    before = double.calls(0)[Kind.SET_FAN]
    double.cards[0].temperature = 90
    wait_for(lambda: double.calls(0)[Kind.SET_FAN] > before)


# ---- the guardian ----


def test_after_kill_9_every_fan_is_given_back_within_1_s(double: NvmlDouble, start: Start, folder: Path) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    killed_s = program.signal(signal.SIGKILL)
    wait_until_released(double, 0, 1)
    assert max(given_back_after_s(double, card, killed_s) for card in (0, 1)) < 1
    assert program.end()[2] == program.guardians_line()
    assert not {"taken.json", "state.json"} & {path.name for path in folder.iterdir()}


def test_after_kill_9_while_a_set_hangs_the_other_card_is_given_back_within_1_s(
    double: NvmlDouble, start: Start
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    double.cards[0].hang[Kind.SET_DEFAULT] = 1
    hang_in_set(double)
    killed_s = program.signal(signal.SIGKILL)
    wait_until_released(double, 1)
    assert given_back_after_s(double, 1, killed_s) < 1
    assert program.end()[2] == "gpufan: fans not given back to the driver: 0 GTX 1080 Ti: no answer within 2 s\n"


def test_the_guardian_acts_when_the_main_thread_dies_while_another_hangs(tmp_path: Path) -> None:
    # As after SIGKILL, when a thread hangs in the driver: nothing that the process holds open is closed.
    record = tmp_path / "taken.json"
    record.write_text('{"cards": []}')
    text = f"""
import ctypes, threading, time
from pathlib import Path
from gpufan.daemon.guardian import guardian
with guardian(Path({str(record)!r})):
    threading.Thread(target=time.sleep, args=[60]).start()
    time.sleep(0.3)
    ctypes.CDLL(None).syscall({SYS_EXIT}, 0)
"""
    with subprocess.Popen([sys.executable, "-c", text], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "its guardian has given the fans back" in process.stderr.readline()
        assert process.poll() is None
        process.kill()
    assert not record.exists()


@pytest.mark.parametrize("is_python_broken", [False, True], ids=["removed", "broken"])
def test_the_guardian_acts_when_gpufan_or_its_python_was_removed_from_the_disk_meanwhile(
    tmp_path: Path, is_python_broken: bool
) -> None:
    if is_python_broken and not Path("/usr/bin/python3").exists():
        pytest.skip("there is no Python of the system")
    record, home = tmp_path / "taken.json", tmp_path / "home"
    record.write_text('{"cards": []}')
    home.mkdir()
    if is_python_broken:  # as after an upgrade of the distribution, without the libraries of the old Python
        (tmp_path / "python3").write_text("#!/bin/sh\nexit 127\n")
        (tmp_path / "python3").chmod(0o755)
    (home / "python3").symlink_to(tmp_path / "python3" if is_python_broken else sys.executable)
    shutil.copy(release_fans.__file__, home / "release_fans.py")
    text = f"""
import os, shutil, sys
from pathlib import Path
from gpufan.daemon.guardian import guardian, release_fans
sys.executable, release_fans.__file__ = "{home}/python3", "{home}/release_fans.py"
with guardian(Path("{record}")):
    shutil.rmtree("{home}")
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert "its guardian has given the fans back" in done.stderr
    assert not record.exists()


def test_the_guardian_is_ready_for_the_signal_of_the_kernel_before_the_run_goes_on(tmp_path: Path) -> None:
    before = guardians(os.getpid())
    with guardian(tmp_path / "taken.json"):
        (folder,) = set(guardians(os.getpid())).difference(before)
        caught = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("SigCgt"))
        assert int(caught.split()[1], 16) >> signal.SIGUSR1 - 1 & 1
    assert not folder.exists()


def test_a_guardian_that_is_ready_too_late_prints_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gpufan.daemon.guardian._READY_LIMIT_S", 0.0)
    with guardian(tmp_path / "taken.json"):
        pass
    assert capfd.readouterr() == ("", "")


def test_without_a_shell_a_warning_says_so_and_the_fans_are_controlled(
    double: NvmlDouble, gpufan: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpufan.daemon.guardian._SHELL", "/none/sh")
    status, out, err = gpufan("run", "--duration", "0.1s")
    assert (status, err) == (0, "")
    assert "no guardian: /none/sh does not start; if gpufan is killed, run `sudo gpufan restore`" in out
    assert [call for call in double.log() if call.operation == Kind.SET_FAN]


def test_a_clean_end_leaves_neither_guardian_nor_record(double: NvmlDouble, start: Start, folder: Path) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    child = program.guardian()
    assert (folder / "taken.json").stat().st_mode & 0o777 == 0o600
    program.signal(signal.SIGTERM)
    status, _, err = program.end()
    assert (status, err, child.exists(), (folder / "taken.json").exists()) == (0, "", False, False)
    assert {call.pid for call in double.log()} == {program.process.pid}


def test_ctrl_c_in_the_process_group_does_not_reach_the_guardian(double: NvmlDouble, start: Start) -> None:
    double.cards[0].delay_us[Kind.SET_DEFAULT] = 200_000
    program = start(start_new_session=True)
    program.wait_until_it_controls(0, 1)
    child = program.guardian()
    os.killpg(program.process.pid, signal.SIGINT)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        os.kill(int(child.name), number)
    wait_for(lambda: double.calls(0)[Kind.SET_DEFAULT])
    assert child.exists()
    assert program.end()[0] == 0
    assert not child.exists()


@pytest.mark.slow
def test_fans_that_a_run_could_not_give_back_are_given_back_by_the_guardian(
    double: NvmlDouble, start: Start, folder: Path
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    child = program.guardian()
    hang_in_set(double)
    program.signal(signal.SIGTERM)
    status, _, err = program.end()
    assert (status, err) == (
        1,
        "gpufan: fans not given back to the driver: 0 GTX 1080 Ti: the card does not answer\n"
        + program.guardians_line(),
    )
    wait_for(lambda: not child.exists())
    assert not (folder / "taken.json").exists()
    assert fans(double, 0) == DRIVERS


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--simulate"]], ids=" ".join)
def test_a_run_that_sets_nothing_has_no_guardian(
    double: NvmlDouble, start: Start, folder: Path, arguments: list[str]
) -> None:
    program = start(*arguments)
    wait_for(lambda: double.calls(0)[Kind.GET_FAN] or (folder / "state.json").exists())
    assert guardians(program.process.pid) == []


def test_under_a_service_manager_there_is_no_guardian(double: NvmlDouble, start: Start, tmp_path: Path) -> None:
    program = start(env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    program.wait_until_it_controls(0, 1)
    assert guardians(program.process.pid) == []


def test_a_killed_guardian_does_not_disturb_the_run(double: NvmlDouble, start: Start) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    os.kill(int(program.guardian().name), signal.SIGKILL)
    program.signal(signal.SIGTERM)
    status, _, err = program.end()
    assert (status, err) == (0, "")


def test_the_guardian_has_less_than_1_mb_of_private_memory_and_sleeps(double: NvmlDouble, start: Start) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    child = program.guardian()
    lines = (child / "smaps_rollup").read_text().splitlines()
    assert sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) < 1000

    def switches() -> list[str]:
        return [line for line in (child / "status").read_text().splitlines() if "ctxt_switches" in line]

    before = switches()
    wait_for(lambda: len(double.log()) and double.calls(0)[Kind.TEMPERATURE] > 10)
    assert switches() == before


def test_a_run_of_root_asks_that_the_oom_killer_prefers_others(double: NvmlDouble, start: Start) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    asked = subprocess.run(["sh", "-c", "echo -500 >/proc/self/oom_score_adj"], check=False, stderr=subprocess.DEVNULL)
    if asked.returncode:
        pytest.skip("this needs CAP_SYS_RESOURCE")
    assert int(Path(f"/proc/{program.process.pid}/oom_score_adj").read_text()) == -500


# ---- the record, and what is given back of it ----


def test_the_script_gives_back_exactly_the_recorded_cards_and_removes_the_record(
    double: NvmlDouble, tmp_path: Path
) -> None:
    record = tmp_path / "taken.json"
    take(double, record, 0)
    NvmlGpu(1).set_duty(40)
    assert script(double, record) == (0, "")
    assert (fans(double, 0), fans(double, 1)) == (DRIVERS, [40, 40])
    assert not record.exists()
    assert script(double, record) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.SET_DEFAULT, Kind.HANDLE, Kind.DESCRIBE, Kind.FAN_COUNT, Kind.SET_POLICY])
def test_a_card_that_hangs_does_not_keep_the_script_from_the_others(
    double: NvmlDouble, tmp_path: Path, kind: Kind
) -> None:
    record = tmp_path / "taken.json"
    take(double, record, 0, 1)
    double.cards[0].hang[kind] = 1
    began_s = time.monotonic()
    assert script(double, record) == (
        1,
        "gpufan: fans not given back to the driver: 0 GTX 1080 Ti: no answer within 2 s\n",
    )
    assert time.monotonic() - began_s < 4
    assert given_back_after_s(double, 1, began_s) < 1
    assert record.exists()


def test_the_script_names_every_card_where_it_failed_and_why(double: NvmlDouble, tmp_path: Path) -> None:
    record = tmp_path / "taken.json"
    take(double, record, 0, 1)
    double.cards[0].lost = 1
    double.cards[1].fans[1].stuck = 1  # accepts the call, and ignores it
    status, err = script(double, record)
    assert (status, err.count("\n")) == (1, 1)
    assert "0 GTX 1080 Ti: " in err
    assert "1 GTX 1080 Ti: fan 1 is still in manual mode" in err


def test_the_script_gives_back_every_recorded_fan_where_the_driver_reports_fewer(
    double: NvmlDouble, tmp_path: Path
) -> None:
    record = tmp_path / "taken.json"
    take(double, record, 0)
    double.cards[0].error[Kind.FAN_COUNT] = pynvml.NVML_ERROR_UNKNOWN
    assert script(double, record) == (0, "")
    assert fans(double, 0) == DRIVERS


def test_the_script_passes_over_a_card_that_is_no_longer_there(double: NvmlDouble, tmp_path: Path) -> None:
    record = tmp_path / "taken.json"
    take(double, record, 0, 1)
    double.map.card_count = 1
    assert script(double, record) == (0, "")
    assert fans(double, 0) == DRIVERS


def test_the_script_finds_a_card_at_another_address(double: NvmlDouble, tmp_path: Path) -> None:
    record = tmp_path / "taken.json"
    take(double, record, 0)
    double.cards[0].pci, double.cards[1].pci = double.cards[1].pci, double.cards[0].pci
    assert script(double, record) == (0, "")
    assert fans(double, 0) == DRIVERS
    assert not [call for call in double.log() if call.card == 1]


def test_the_script_does_not_claim_to_release_fans_that_are_set_over_x(double: NvmlDouble, tmp_path: Path) -> None:
    record = tmp_path / "taken.json"
    take(double, record, 0, 1)
    content = json.loads(record.read_text())
    content["cards"][0]["backend"] = "x11"
    record.write_text(json.dumps(content))
    assert script(double, record) == (
        1,
        "gpufan: fans not given back to the driver: 0 GTX 1080 Ti: its fans were set over X:"
        " run `sudo gpufan restore`\n",
    )


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cards": 1}', '{"cards": [{"uuid": 1}]}', '{"cards": [1]}'])
def test_a_damaged_record_is_one_line_of_error(double: NvmlDouble, gpufan: Command, folder: Path, content: str) -> None:
    folder.mkdir()
    record = folder / "taken.json"
    record.write_text(content)
    status, err = script(double, record)
    assert (status, err.count("\n"), str(record) in err) == (1, 1, True)
    status, _, err = gpufan("restore", "--taken")
    assert (status, err.count("\n"), "run `sudo gpufan restore`" in err) == (1, 1, True)


def test_restore_taken_gives_back_what_the_killed_run_took_and_opens_no_other_card(
    double: NvmlDouble, gpufan: Command, folder: Path
) -> None:
    take(double, folder / "taken.json", 1)
    for fan in double.cards[0].fans:
        fan.policy, fan.target = MANUAL, 70
    before = double.calls(0)
    double.cards[0].hang[Kind.HANDLE] = 1
    status, out, err = gpufan("restore", "--taken")
    assert (status, out, err) == (0, "1 GTX 1080 Ti: the driver controls its fans\n", "")
    assert (fans(double, 0), fans(double, 1), double.calls(0)) == ([70, 70], DRIVERS, before)
    assert not (folder / "taken.json").exists()


def test_restore_taken_without_a_record_succeeds_without_a_driver(
    double: NvmlDouble, gpufan: Command, folder: Path
) -> None:
    double.map.init_error = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    assert gpufan("restore", "--taken") == (0, "", "")


def test_restore_taken_names_the_cards_that_fail_and_leaves_the_record(
    double: NvmlDouble, gpufan: Command, folder: Path
) -> None:
    take(double, folder / "taken.json", 0, 1)
    double.cards[0].error[Kind.SET_DEFAULT] = double.cards[0].error[Kind.SET_POLICY] = pynvml.NVML_ERROR_UNKNOWN
    status, _, err = gpufan("restore", "--taken")
    assert (status, err) == (1, "gpufan: fans not given back to the driver: 0 GTX 1080 Ti: Unknown Error\n")
    assert fans(double, 1) == DRIVERS
    double.cards[0].error[Kind.SET_DEFAULT] = 0
    assert gpufan("restore", "--taken")[0] == 0
    assert fans(double, 0) == DRIVERS


def test_restore_of_all_cards_removes_the_record(double: NvmlDouble, gpufan: Command, folder: Path) -> None:
    take(double, folder / "taken.json", 0)
    assert gpufan("restore")[0] == 0
    assert not (folder / "taken.json").exists()


def test_restore_taken_and_a_name_are_refused(gpufan: Command) -> None:
    status, _, err = gpufan("restore", "--taken", "--gpu", "0")
    assert (status, err) == (2, "gpufan: --gpu names cards, and --taken does so too: leave one out\n")


def test_a_run_records_only_the_cards_that_it_sets(double: NvmlDouble, start: Start, folder: Path) -> None:
    program = start("--gpu", "1")
    program.wait_until_it_controls(1)
    assert [card.label for card in read_taken(folder / "taken.json")] == ["1 GTX 1080 Ti"]


def test_a_card_of_an_earlier_run_stays_in_the_record_until_it_is_given_back(
    double: NvmlDouble, gpufan: Command, folder: Path
) -> None:
    take(double, folder / "taken.json", 0, 1)
    assert gpufan("run", "--gpu", "1", "--duration", "0.1s")[0] == 0
    assert [card.label for card in read_taken(folder / "taken.json")] == ["0 GTX 1080 Ti"]


def test_a_record_that_somebody_removed_is_written_again_before_the_next_set(
    double: NvmlDouble, start: Start, folder: Path
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    (folder / "taken.json").unlink()
    double.cards[0].temperature = 90
    wait_for(lambda: fans(double, 0) == [100, 100])
    killed_s = program.signal(signal.SIGKILL)
    wait_until_released(double, 0, 1)
    assert given_back_after_s(double, 1, killed_s) < 1


def test_fans_that_went_back_to_the_driver_in_a_run_are_not_in_the_record(
    double: NvmlDouble, start: Start, folder: Path
) -> None:
    program = start()
    program.wait_until_it_controls(0, 1)
    double.cards[0].error[Kind.SET_FAN] = pynvml.NVML_ERROR_UNKNOWN
    double.cards[0].temperature = 90
    wait_for(lambda: [card.label for card in read_taken(folder / "taken.json")] == ["1 GTX 1080 Ti"])


def test_a_record_that_cannot_be_written_is_said_once_and_control_goes_on(
    double: NvmlDouble, start: Start, folder: Path
) -> None:
    (folder / "taken.json.new").mkdir(parents=True)
    program = start()
    program.wait_until_it_controls(0, 1)
    program.signal(signal.SIGTERM)
    status, out, _ = program.end()
    assert (status, out.count("taken.json: ")) == (0, 1)
    assert (fans(double, 0), fans(double, 1)) == (DRIVERS, DRIVERS)
