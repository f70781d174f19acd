"""The log: a line for what changed, and none for what did not."""

import io
import logging
import os
import re
import time
from pathlib import Path

import pytest

from gpufan.core.reasons import Cause, Reason
from gpufan.core.sentences import card_line, reason_sentence
from gpufan.core.snapshot import GpuState
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.terminal.log import ChangeLog, log_to
from tests.unit.builders import gpu_state


def log(*ticks: GpuState | tuple[GpuState, ...], simulated: bool = True) -> list[str]:
    """Lines for one snapshot a second."""
    stream = io.StringIO()
    changes = ChangeLog()
    with log_to(stream):
        for second, states in enumerate(ticks):
            together = states if isinstance(states, tuple) else (states,)
            changes.publish(snapshot_now(together, interval_s=1, simulated_s=second if simulated else None))
    return stream.getvalue().splitlines()


def journal(folder: Path, monkeypatch: pytest.MonkeyPatch, state: GpuState) -> list[str]:
    """Lines for one snapshot of `state`, as the journal gets them."""
    with (folder / "journal").open("w+", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        with log_to(stream):
            ChangeLog().publish(snapshot_now((state,), interval_s=1))
        stream.seek(0)
        return stream.read().splitlines()


LINE = card_line(gpu_state())


def test_a_simulated_line_carries_simulated_time() -> None:
    assert log(gpu_state()) == [f"0:00:00 {LINE}"]


def test_a_real_line_carries_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = log(gpu_state(), simulated=False)
    assert re.fullmatch(rf"\d\d:\d\d:\d\d {re.escape(LINE)}", line)
    assert abs(int(line[:2]) - time.localtime().tm_hour) in (0, 1, 23)


def test_what_stays_is_written_once() -> None:
    assert len(log(*[gpu_state()] * 10)) == 1


@pytest.mark.parametrize(
    "changes",
    [{"temperature_c": 75.0}, {"power_w": 10.0}, {"group": "full"}, {"group": "curve"}, {"fans": ()}],
)
def test_what_people_cannot_hear_is_not_written(changes: dict[str, object]) -> None:
    assert len(log(gpu_state(), gpu_state(**changes))) == 1


@pytest.mark.parametrize(
    "changes", [{"duty_percent": 65}, {"control": "released"}, {"group": "fail-safe"}, {"group": "lost"}]
)
def test_a_change_of_duty_control_or_gravity_is_written(changes: dict[str, object]) -> None:
    assert len(log(gpu_state(), gpu_state(**changes))) == 2


def test_a_state_that_comes_back_is_written_again() -> None:
    lines = log(gpu_state(), gpu_state(duty_percent=65), gpu_state())
    assert [line.split()[0] for line in lines] == ["0:00:00", "0:00:01", "0:00:02"]


def test_each_card_is_written_for_itself() -> None:
    other = gpu_state(index=1, uuid="", pci="", label="1 GTX 1080 Ti")  # not opened yet
    lines = log((gpu_state(), other), (gpu_state(duty_percent=65), other))
    assert [line.split()[1] for line in lines] == ["0", "1", "0"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"duty_percent": None, "control": "driver"}, "0 GTX 1080 Ti: auto at 74 °C: because"),
        ({"control": "lost", "temperature_c": None}, "0 GTX 1080 Ti: lost: because"),
        ({"temperature_c": None}, "0 GTX 1080 Ti: 62 %: because"),
    ],
)
def test_a_line_tells_duty_temperature_and_why(changes: dict[str, object], line: str) -> None:
    assert log(gpu_state(group="fault", message="because", **changes)) == [f"0:00:00 {line}"]


@pytest.mark.parametrize(
    ("kind", "priority"),
    [("curve", 6), ("hold", 6), ("auto", 6), ("full", 6), ("fail-safe", 4), ("fault", 4), ("lost", 3), ("hang", 3)],
)
def test_the_journal_gets_a_priority_and_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, priority: int
) -> None:
    lines = journal(tmp_path, monkeypatch, gpu_state(group=kind))
    assert lines == [f"<{priority}>{card_line(gpu_state(group=kind))}"]


@pytest.mark.parametrize(
    ("fault", "priority"),
    [
        (Reason(Cause.FAN_STILL, fan=1, found_percent=100, seconds=10.0), 3),
        (Reason(Cause.FAN_SLOW, fan=1, found_percent=40, set_percent=62), 4),
        (Reason(Cause.FAN_FLOOR, fan=1, limit_percent=40), 6),
    ],
)
def test_the_journal_gets_the_priority_of_the_fault_of_a_fan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Reason, priority: int
) -> None:
    (line,) = journal(tmp_path, monkeypatch, gpu_state(fault=fault))
    assert line.startswith(f"<{priority}>0 GTX 1080 Ti: ")
    assert line.endswith(reason_sentence(fault))


def test_a_fault_that_comes_or_goes_is_written_at_once() -> None:
    still = gpu_state(fault=Reason(Cause.FAN_STILL, fan=1, found_percent=62, seconds=10.0))
    assert len(log(gpu_state(), still, still, gpu_state())) == 3


def test_targets_that_another_program_changes_all_the_time_are_not_written() -> None:
    changed = gpu_state(fault=Reason(Cause.OTHER_TARGET, fan=0, found_percent=30, set_percent=62))
    assert len(log(*[gpu_state(), changed] * 5)) == 1


def test_a_stream_that_is_not_the_journals_gets_no_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "log").open("w+", encoding="utf-8") as stream:
        with log_to(stream):
            ChangeLog().publish(snapshot_now((gpu_state(),), interval_s=1))
        stream.seek(0)
        assert not stream.read().startswith("<")


def test_cards_that_have_the_same_index_are_told_apart() -> None:
    """A card that appears may get the index that another had before."""
    cards = gpu_state(duty_percent=62), gpu_state(uuid="GPU-2", duty_percent=70)
    assert log(cards, cards, cards) == [f"0:00:00 {card_line(card)}" for card in cards]


def test_a_warning_is_written_with_the_time_of_day() -> None:
    stream = io.StringIO()
    with log_to(stream):
        logging.getLogger("gpufan.daemon").warning("the disk is %s", "full")
    assert re.fullmatch(r"\d\d:\d\d:\d\d the disk is full\n", stream.getvalue())


def test_a_reader_that_went_away_does_no_harm() -> None:
    stream = io.StringIO()
    with log_to(stream) as handler:
        stream.close()
        ChangeLog().publish(snapshot_now((gpu_state(),), interval_s=1))
        logging.getLogger("gpufan").warning("nobody reads this")
        handler.close()
        assert not handler.is_read
