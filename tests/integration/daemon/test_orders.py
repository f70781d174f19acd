"""`gpufan set` at a running `gpufan run`."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gpufan.daemon.orders import KeptOrder, kept_orders_path, read_kept_orders, write_kept_orders
from gpufan.system.paths import ORDERS
from tests.doubles.nvml import NvmlDouble, wait_for
from tests.integration.daemon.test_pause import Command, Start, controlling, states
from tests.integration.harness import CURVE, Program, fans

DRIVERS = [None, None]
Both = Callable[[], tuple[list[int | None], list[int | None]]]


@pytest.fixture
def both(double: NvmlDouble) -> Both:
    """What the fans of both cards were set to."""
    return lambda: (fans(double, 0), fans(double, 1))


def test_an_order_is_followed_and_cleared(start: Start, gpufan: Command, folder: Path, both: Both) -> None:
    controlling(start, folder)
    assert gpufan("set", "80", "--gpu", "0") == (
        0,
        "0 GTX 1080 Ti: 80 % at 60 °C: ordered: 80 %, until cleared\n",
        "",
    )
    assert both() == ([80, 80], [60, 60])
    assert (folder / ORDERS).stat().st_mode & 0o777 == 0o600
    assert gpufan("set", "max", "--for", "10m")[1].count("100 % at 60 °C: ordered: 100 %, for another 0:0") == 2
    assert both() == ([100, 100], [100, 100])
    assert "ordered: 100 %, for another 0:09:5" in " ".join(gpufan("status")[1].split())
    assert [(card["order"], 590 < card["order_left_s"] <= 600) for card in states(folder)] == [("100 %", True)] * 2
    assert gpufan("set", "auto", "--gpu", "1")[0] == 0
    assert both() == ([100, 100], DRIVERS)
    assert gpufan("set", "target", "75", "--gpu", "1")[0] == 0
    assert states(folder)[1]["target_c"] == 75
    status, out, _ = gpufan("set", "--clear")
    assert (status, out.count("GTX 1080 Ti"), "ordered" in out) == (0, 2, False)
    wait_for(lambda: both()[0][0] in range(60, 98))  # as slowly as the settings want it


def test_an_order_ends_by_itself(start: Start, gpufan: Command, folder: Path, both: Both) -> None:
    controlling(start, folder)
    assert gpufan("set", "61", "--for", "1s")[0] == 0
    assert both() == ([61, 61], [61, 61])
    wait_for(lambda: [card["order"] for card in states(folder)] == ["", ""])


def test_only_an_order_to_keep_outlasts_a_new_start(start: Start, gpufan: Command, folder: Path, both: Both) -> None:
    program = controlling(start, folder)
    assert gpufan("set", "70", "--gpu", "0", "--keep")[0] == gpufan("set", "90", "--gpu", "1")[0] == 0
    program.kill_with_guardian()
    program = start("--curve", CURVE)
    wait_for(lambda: both() == ([70, 70], [60, 60]))
    wait_for(lambda: [card["order"] for card in states(folder)] == ["70 %", ""])
    assert gpufan("set", "--clear")[0] == 0
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert not (folder / ORDERS).exists()
    start("--curve", CURVE)
    wait_for(lambda: both() == ([60, 60], [60, 60]))


def test_an_order_outlasts_a_reload_and_a_pause(
    double: NvmlDouble, start: Start, gpufan: Command, folder: Path, both: Both
) -> None:
    program = controlling(start, folder)
    assert gpufan("set", "70", "--gpu", "0")[0] == 0
    assert gpufan("pause", "--gpu", "0")[0] == 0
    assert both()[0] == DRIVERS
    assert gpufan("resume", "--gpu", "0")[0] == 0
    program.signal(signal.SIGHUP)
    double.cards[1].temperature = 71
    wait_for(lambda: both() == ([70, 70], [71, 71]))


def test_what_cannot_be_ordered_changes_nothing(start: Start, gpufan: Command, folder: Path) -> None:
    controlling(start, folder)
    for arguments, message in (
        ([], "nothing is ordered: write 60, auto, max"),
        (["fast"], "'fast' is not a number"),
        (["--clear", "--for", "10m"], "--for is for a new order"),
        (["max", "--clear"], "max is a new order, and --clear ends one"),
        (["60", "--for", "99999d"], "is too long: at most 3650d"),
        (["60", "--gpu", "7"], "--gpu 7: gpufan controls no such card; it controls 0 GTX 1080 Ti"),
    ):
        status, _, err = gpufan("set", *arguments)
        assert (status, message in err, err.count("\n")) == (2, True, 1), (arguments, err)
    assert not (folder / ORDERS).exists()


def test_orders_that_are_given_at_the_same_time_are_all_followed(
    double: NvmlDouble, start: Start, folder: Path, both: Both
) -> None:
    controlling(start, folder)
    commands = [["set", "71", "--gpu", "0", "--keep"], ["set", "72", "--gpu", "1", "--keep"]]
    programs = [Program(double, folder, command) for command in commands]
    assert [program.end()[0] for program in programs] == [0, 0]
    assert both() == ([71, 71], [72, 72])
    assert len(read_kept_orders()) == 2


@pytest.mark.parametrize("command", [["set", "60"], ["pause"], ["resume"]], ids=str)
def test_without_a_running_gpufan_the_command_says_so(gpufan: Command, command: list[str]) -> None:
    status, _, err = gpufan(*command)
    assert (status, "no gpufan is running" in err, err.count("\n")) == (1, True, 1)


def test_an_order_to_keep_needs_no_running_gpufan(start: Start, gpufan: Command, both: Both) -> None:
    label = "1 GTX 1080 Ti"
    assert gpufan("set", "70", "--keep", "--gpu", "1") == (0, f"{label}: ordered: 70 %, from the next start on\n", "")
    status, _, err = gpufan("set", "80", "--keep", "--gpu", "7")
    assert (status, err) == (2, "gpufan: --gpu 7: no such card: `gpufan list` shows the cards\n")
    start("--curve", CURVE)
    wait_for(lambda: both() == ([60, 60], [70, 70]))


def test_an_order_to_keep_needs_a_driver_that_knows_the_cards(gpufan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.daemon.set_fans.known_cards", lambda names: [])
    status, _, err = gpufan("set", "max", "--keep")
    assert (status, "no driver answers" in err, err.count("\n")) == (1, True, 1)
    assert read_kept_orders() == {}


def test_orders_that_are_kept_for_the_next_start_end_without_a_running_gpufan_too(
    start: Start, gpufan: Command, folder: Path, both: Both
) -> None:
    program = controlling(start, folder)
    assert gpufan("set", "70", "--keep")[0] == 0
    first, second = (card["uuid"] for card in states(folder))
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0

    assert gpufan("set", "--clear", "--gpu", "1") == (0, f"{second}: no longer ordered: 70\n", "")
    assert list(read_kept_orders()) == [first]
    status, out, err = gpufan("set", "--clear", "--gpu", "1")
    assert (status, out) == (2, "")
    assert f"--gpu 1: no order is kept for this card; orders are kept for {first}\n" in err
    start("--curve", CURVE)
    wait_for(lambda: both() == ([70, 70], [60, 60]))


@pytest.mark.parametrize("is_damaged", [True, False])
def test_all_orders_end_without_a_running_gpufan(gpufan: Command, is_damaged: bool) -> None:
    write_kept_orders({"GPU-1": KeptOrder("70"), "GPU-2": KeptOrder("max")})
    if is_damaged:
        kept_orders_path().write_text("{")
    cleared = "GPU-1: no longer ordered: 70\nGPU-2: no longer ordered: max\n"
    nothing = "no gpufan is running, and no order is kept for the next start\n"
    assert gpufan("set", "--clear") == (0, nothing if is_damaged else cleared, "")
    assert not kept_orders_path().exists()
    assert gpufan("set", "--clear") == (0, nothing, "")


def test_after_a_kill_the_orders_that_are_kept_can_be_ended(start: Start, gpufan: Command, folder: Path) -> None:
    program = controlling(start, folder)
    assert gpufan("set", "70", "--keep", "--gpu", "1")[0] == 0
    program.kill_with_guardian()
    assert gpufan("set", "--clear")[0] == 0
    assert read_kept_orders() == {}


def test_the_order_for_a_card_that_has_vanished_can_be_ended(start: Start, gpufan: Command, folder: Path) -> None:
    gone = "GPU-99999999-0000-4000-8000-000000000000"
    write_kept_orders({gone: KeptOrder("70")})
    assert gpufan("set", "--clear", "--gpu", gone) == (0, f"{gone}: no longer ordered: 70\n", "")
    write_kept_orders({gone: KeptOrder("70")})
    controlling(start, folder)
    assert gpufan("set", "--clear")[0] == 0
    assert read_kept_orders() == {}


def test_a_damaged_file_is_replaced_by_the_next_order(start: Start, gpufan: Command, folder: Path, both: Both) -> None:
    controlling(start, folder)
    (folder / ORDERS).write_text("{")
    assert gpufan("set", "70")[0] == 0
    assert both() == ([70, 70], [70, 70])
    assert json.loads((folder / ORDERS).read_bytes())["cards"]
