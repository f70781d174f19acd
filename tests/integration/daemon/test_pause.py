"""`gpufan pause` and `resume` at a running `gpufan run`; cards that appear while it runs."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from gpufan.daemon import loop, passes, recovery
from gpufan.daemon import running as running_daemon
from gpufan.daemon.worker import Worker
from gpufan.gpu.nvml import NvmlGpu
from gpufan.system.paths import ORDERS, SNAPSHOT
from gpufan.system.uevents import Uevents
from tests.doubles.nvml import Kind, NvmlDouble, wait_for
from tests.integration.harness import CURVE, Program, fans, running, settings, workers

Command = Callable[..., tuple[int, str, str]]
Start = Callable[..., Program]
DRIVERS = [None, None]


def calls(double: NvmlDouble, card: int) -> int:
    """How many calls of any kind were made on a card."""
    return sum(double.calls(card).values())


def states(folder: Path) -> list[dict[str, Any]]:
    """The cards in the snapshot; none before there is a snapshot."""
    path = folder / SNAPSHOT
    return json.loads(path.read_bytes())["gpus"] if path.exists() else []


def controlling(start: Start, folder: Path, *arguments: str) -> Program:
    """A `gpufan run` that has published that it controls both cards."""
    program = start("--curve", CURVE, *arguments)
    wait_for(lambda: [card["control"] for card in states(folder)] == ["ours", "ours"])
    return program


def is_left_alone(double: NvmlDouble, card: int) -> bool:
    """Whether nobody makes a call on a card, for three ticks."""
    before = calls(double, card)
    time.sleep(0.3)
    return calls(double, card) == before


def test_a_paused_card_is_given_back_and_left_alone_until_it_is_resumed(
    double: NvmlDouble, start: Start, gpufan: Command, folder: Path
) -> None:
    controlling(start, folder)
    handles = double.calls(1)[Kind.HANDLE]
    status, out, _ = gpufan("pause", "--gpu", "0", "--for", "1h")
    assert (status, out) == (
        0,
        "0 GTX 1080 Ti: paused for 1:00:00: the driver controls its fans, gpufan has closed it\n",
    )
    assert fans(double, 0) == DRIVERS
    assert is_left_alone(double, 0)
    # NVML closes handles only when it is unloaded, so the other card is opened anew and set again.
    wait_for(lambda: double.calls(1)[Kind.HANDLE] > handles)
    double.cards[1].temperature = 71
    wait_for(lambda: fans(double, 1) == [71, 71], timeout_s=2)
    status, out, _ = gpufan("status")
    assert "0 GTX 1080 Ti: paused for another" in " ".join(out.split())
    status, out, _ = gpufan("resume", "--gpu", "0")
    assert status == 0
    assert out.startswith("0 GTX 1080 Ti: 60 % at 60 °C")
    assert fans(double, 0) == [60, 60]


@pytest.mark.slow
def test_the_other_card_is_set_again_within_two_seconds_if_closing_it_lets_the_driver_have_its_fans(
    double: NvmlDouble, start: Start, gpufan: Command, folder: Path
) -> None:
    start("--interval", "3").wait_until_it_controls(0, 1)
    wait_for((folder / SNAPSHOT).exists)
    before = len(double.log())
    assert gpufan("pause", "--gpu", "0")[0] == 0
    wait_for(lambda: [call.fan for call in double.log()[before:] if call.card == 1] == [0, 1], timeout_s=2)


def test_a_pause_ends_by_itself(double: NvmlDouble, start: Start, gpufan: Command, folder: Path) -> None:
    controlling(start, folder)
    assert gpufan("pause", "--for", "1s")[0] == 0
    assert (fans(double, 0), fans(double, 1)) == (DRIVERS, DRIVERS)
    wait_for(lambda: fans(double, 0) == fans(double, 1) == [60, 60])


def test_a_second_pause_leaves_the_first_as_it_is(
    double: NvmlDouble, start: Start, gpufan: Command, folder: Path
) -> None:
    controlling(start, folder)
    assert gpufan("pause", "--gpu", "0")[0] == gpufan("pause", "--gpu", "1")[0] == 0
    assert (fans(double, 0), fans(double, 1)) == (DRIVERS, DRIVERS)
    assert gpufan("resume", "--gpu", "1")[0] == 0
    assert (fans(double, 0), fans(double, 1)) == (DRIVERS, [60, 60])


def test_the_end_of_the_daemon_ends_the_pause_and_leaves_the_card_alone(
    double: NvmlDouble, start: Start, gpufan: Command, folder: Path
) -> None:
    program = controlling(start, folder)
    assert gpufan("pause", "--gpu", "0")[0] == 0
    assert (folder / ORDERS).stat().st_mode & 0o777 == 0o600
    before = calls(double, 0)
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert calls(double, 0) == before
    assert not (folder / ORDERS).exists()
    assert fans(double, 1) == DRIVERS


def test_a_pause_that_a_killed_daemon_has_left_does_not_count(
    double: NvmlDouble, start: Start, gpufan: Command, folder: Path
) -> None:
    folder.mkdir()
    (folder / ORDERS).write_text(json.dumps({"cards": {double.cards[0].uuid.decode(): {"paused_until_s": 1e9}}}))
    controlling(start, folder)
    assert not (folder / ORDERS).exists()


def test_a_card_that_needs_a_reset_can_be_paused_and_doctor_says_how(
    double: NvmlDouble, start: Start, gpufan: Command, folder: Path
) -> None:
    controlling(start, folder)
    for kind in Kind:
        double.cards[0].error[kind] = pynvml.NVML_ERROR_RESET_REQUIRED
    uuid = double.cards[0].uuid.decode()

    def remedies() -> list[str]:
        findings = json.loads(gpufan("doctor", "--json")[1])["findings"]
        return [line for finding in findings if finding["uuid"] == uuid for line in finding["remedies"]]

    wait_for(lambda: any(f"pause --gpu {uuid}" in line for line in remedies()))
    assert f"sudo nvidia-smi --gpu-reset -i {uuid}" in remedies()
    assert gpufan("pause", "--gpu", uuid)[0] == 0
    for kind in Kind:
        double.cards[0].error[kind] = 0
    assert gpufan("resume")[0] == 0
    wait_for(lambda: fans(double, 0) == [60, 60])


@pytest.mark.slow
def test_while_a_call_to_another_card_hangs_the_command_says_that_the_card_is_not_closed(
    double: NvmlDouble, start: Start, gpufan: Command, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    controlling(start, folder)
    double.cards[1].hang[Kind.TEMPERATURE] = 1
    wait_for(lambda: states(folder)[1]["reason"]["cause"] == "hang")
    monkeypatch.setattr(running_daemon, "WAIT_S", 0.5)
    status, _, err = gpufan("pause", "--gpu", "0")
    assert (status, fans(double, 0)) == (1, DRIVERS)
    assert "gpufan closes it once no call to another card hangs" in err
    double.let_go()
    monkeypatch.undo()
    wait_for(lambda: is_left_alone(double, 0))


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_without_a_running_gpufan_the_command_says_so(gpufan: Command, command: str, folder: Path) -> None:
    status, _, err = gpufan(command, "--runtime-dir", str(folder))
    assert (status, "no gpufan is running" in err) == (1, True)


def test_a_card_that_gpufan_does_not_control_is_named(
    double: NvmlDouble, start: Start, gpufan: Command, folder: Path
) -> None:
    controlling(start, folder)
    status, _, err = gpufan("pause", "--gpu", "7")
    assert (status, "--gpu 7: gpufan controls no such card; it controls 0 GTX 1080 Ti" in err) == (2, True)


# ---- cards appear ----


def test_a_new_card_is_controlled_from_the_next_tick_on(double: NvmlDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    double.map.card_count = 1
    monkeypatch.setattr(loop, "LOOK_S", 0.1)
    found = 1

    def find_new() -> list[Worker]:
        nonlocal found
        first, found = found, double.map.card_count
        return [Worker(NvmlGpu(index), settings()) for index in range(first, found)]

    with running(*workers(0), find_new=find_new) as run:
        run.wait_for_control(0, "ours")
        double.map.card_count = 2
        wait_for(lambda: fans(double, 1) == [60, 60])
        wait_for(lambda: [gpu.index for gpu in run.snapshots[-1].gpus] == [0, 1])
    assert fans(double, 1) == DRIVERS


def test_a_search_that_hangs_delays_no_card_but_a_reload_of_nvml(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOOK_S", 0.1)
    monkeypatch.setattr(recovery, "ALL_BLIND_S", 0.05)
    monkeypatch.setattr(passes, "HANG_S", 0.15)
    double.cards[1].hang[Kind.HANDLE] = 1

    def find_new() -> list[Worker]:
        NvmlGpu(1).open()
        return []

    reloads: list[int] = []
    with running(*workers(0), find_new=find_new, reload_driver=lambda: reloads.append(1)) as run:
        wait_for(lambda: double.calls(1)[Kind.HANDLE])
        for temperature_c in range(61, 64):
            double.cards[0].temperature = temperature_c
            wait_for(lambda duty=temperature_c: fans(double, 0) == [duty, duty])
        double.cards[0].lost = 1
        run.wait_for_control(0, "lost")
        seen = len(run.snapshots)
        wait_for(lambda: len(run.snapshots) > seen + 10)
        assert not reloads
        double.let_go()
        wait_for(lambda: reloads)
        double.cards[0].lost = 0
        run.wait_for_control(0, "ours")
    assert run.error is None


@pytest.fixture
def device() -> Path:
    """What makes the kernel send a message about a PCI device."""
    devices = sorted(Path("/sys/bus/pci/devices").glob("*/uevent"))
    if not devices or not os.access(devices[0], os.W_OK):
        pytest.skip("the kernel sends no message on demand here")
    return devices[0]


def test_the_kernel_is_heard_when_a_card_appears(device: Path) -> None:
    uevents = Uevents()
    assert not uevents.card_appeared()
    device.write_text("change")
    assert not uevents.card_appeared()
    device.write_text("add")
    wait_for(uevents.card_appeared, timeout_s=2)
    assert not uevents.card_appeared()


@pytest.mark.slow
def test_gpufan_run_controls_a_new_card_at_once_and_a_returned_one_as_before(
    double: NvmlDouble, start: Start, folder: Path, device: Path
) -> None:
    double.map.card_count = 1
    program = start("--curve", CURVE)
    wait_for(lambda: [card["control"] for card in states(folder)] == ["ours"])
    double.map.card_count = 2
    device.write_text("add")
    wait_for(lambda: fans(double, 1) == [60, 60], timeout_s=5)
    wait_for(lambda: [card["control"] for card in states(folder)] == ["ours", "ours"])
    double.cards[1].absent = 1
    wait_for(lambda: states(folder)[1]["control"] == "lost")
    double.cards[1].absent = 0
    device.write_text("add")
    wait_for(lambda: [card["control"] for card in states(folder)] == ["ours", "ours"])
    program.signal(signal.SIGTERM)
    status, log, _ = program.end()
    assert (status, fans(double, 0), fans(double, 1)) == (0, DRIVERS, DRIVERS)
    assert log.count("1 GTX 1080 Ti has appeared, and is controlled from now on") == 1
    assert log.count("1 GTX 1080 Ti: lost") == 1


def test_gpufan_run_leaves_a_new_card_alone_that_is_not_selected(
    double: NvmlDouble, start: Start, folder: Path, device: Path
) -> None:
    double.map.card_count = 1
    start("--curve", CURVE, "--gpu", double.cards[0].uuid.decode())
    wait_for(lambda: [card["control"] for card in states(folder)] == ["ours"])
    double.map.card_count = 2
    device.write_text("add")
    time.sleep(0.5)
    assert fans(double, 1) == DRIVERS
    assert len(states(folder)) == 1


def test_a_snapshot_of_a_pause_says_so_in_values(
    double: NvmlDouble, start: Start, gpufan: Command, folder: Path
) -> None:
    controlling(start, folder)
    assert gpufan("pause", "--gpu", "0", "--for", "5m")[0] == 0
    card = states(folder)[0]
    assert (card["control"], card["reason"]["cause"], card["temperature_c"]) == ("driver", "paused", None)
    assert 290 < card["reason"]["seconds"] <= 300
    assert card["uncontrolled_s"] == 0
