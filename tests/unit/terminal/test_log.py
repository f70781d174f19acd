"""The log: a line for what is news, and none for what is not."""

import io
import logging
import os
import re
import time
from pathlib import Path

import msgspec
import pytest

from gpufan.core.news import News
from gpufan.core.reasons import Cause, Reason
from gpufan.core.sentences import end_of_news_sentence, news_sentence
from gpufan.core.snapshot import GpuState
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.terminal.log import ChangeLog, log_to, log_to_stderr
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


def journal(folder: Path, monkeypatch: pytest.MonkeyPatch, *states: GpuState) -> list[str]:
    """Lines for a snapshot of each of `states`, as the journal gets them."""
    with (folder / "journal").open("w+", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        changes = ChangeLog()
        with log_to(stream):
            for state in states:
                changes.publish(snapshot_now((state,), interval_s=1))
        stream.seek(0)
        return stream.read().splitlines()


FINE = gpu_state()
HEAT = gpu_state(throttle="heat")
LINE = news_sentence(HEAT, News.THROTTLED)
ABOVE = Reason(
    Cause.ABOVE_TARGET, power_w=300.0, needed_percent=120.0, limit_c=70.0, change_percent=0, difference_c=4.0
)
QUIET = Reason(Cause.QUIET_HOURS, limit_percent=40, needed_percent=66, until="07:00")
ABOVE_RISING = msgspec.structs.replace(ABOVE, needed_percent=90.0, change_percent=-10)
FULL_FANS = "full fans are not enough: 100 % at 74 °C: full fans cannot hold 70 °C at 300 W; the card is 4 °C above"
BEGINNINGS = {
    News.THROTTLED: (HEAT, "throttled by heat: 62 % at 74 °C: the curve gives 58 %", 4),
    News.HOT: (gpu_state(temperature_c=91.0, slowdown_c=96), "close to its slowdown temperature: 62 % at 91 °C", 4),
    News.FULL_FANS: (gpu_state(reason=ABOVE, duty_percent=100), FULL_FANS, 4),
    News.QUIET_FANS: (
        gpu_state(reason=QUIET, duty_percent=40, target_c=70.0),
        "too hot for the limit of quiet hours: 40 % at 74 °C: quiet hours until 07:00: at most 40 % instead of 66 %",
        4,
    ),
    News.GIVING_WAY: (
        gpu_state(reason=QUIET, duty_percent=40, gives_way=True, power_limit_w=180.0),
        "the clocks give way: 40 % at 74 °C: quiet hours until 07:00: at most 40 % instead of 66 %",
        6,
    ),
    News.LOST: (gpu_state(group="lost", control="lost", temperature_c=None), "lost: the card is gone", 3),
    News.FAIL_SAFE: (gpu_state(group="fail-safe", temperature_c=None), "no credible temperature: 62 %: no temp", 4),
    News.FAN_STILL: (gpu_state(fault=Reason(Cause.FAN_STILL, fan=1, found_percent=62, seconds=10.0)), "a fan sta", 3),
    News.NOT_FOLLOWING: (
        gpu_state(fault=Reason(Cause.FAN_SLOW, fan=1, found_percent=40, set_percent=62)),
        "a fan does not follow: 62 % at 74 °C: the curve gives 58 %",
        4,
    ),
    News.ANOTHER_WRITER: (gpu_state(contested=True), "another program sets the fans: 62 % at 74 °C", 4),
    News.GIVEN_BACK: (gpu_state(group="fault", control="released"), "out of control: ", 4),
    News.PAUSED: (
        gpu_state(reason=Reason(Cause.PAUSED, seconds=600), control="driver", duty_percent=None, temperature_c=None),
        "paused: paused for another 0:10:00: the driver controls its fans",
        6,
    ),
    News.UNCONTROLLABLE: (
        gpu_state(reason=Reason(Cause.UNCONTROLLABLE, message="it has no fans"), control="driver", duty_percent=None),
        "the fans cannot be set: auto at 74 °C: it has no fans",
        4,
    ),
}
"""For each kind of news a state, how its line begins after the name of the card, and its priority in the journal."""

KINDS = pytest.mark.parametrize("kind", News, ids=lambda kind: kind.value)


def kinds(lines: list[str]) -> list[str]:
    """The news in each line, between the first two colons that are followed by a space."""
    return [line.split(": ")[1] for line in lines]


def test_a_simulated_line_carries_simulated_time() -> None:
    assert log(HEAT) == [f"0:00:00 {LINE}"]


def test_a_real_line_carries_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = log(HEAT, simulated=False)
    assert re.fullmatch(rf"\d\d:\d\d:\d\d {re.escape(LINE)}", line)
    assert abs(int(line[:2]) - time.localtime().tm_hour) in (0, 1, 23)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature_c": 75.0},
        {"power_w": 10.0},
        {"duty_percent": 65},
        {"group": "full"},
        {"group": "curve"},
        {"group": "auto", "control": "driver", "duty_percent": None},
        {"fans": ()},
        {"throttle": "power-cap"},
        {"fault": Reason(Cause.FAN_FLOOR, fan=1, limit_percent=40)},
        {"reason": QUIET, "duty_percent": 40},  # a curve
        {"reason": QUIET, "duty_percent": 40, "target_c": 73.0},
        {"reason": ABOVE_RISING, "duty_percent": 80},
    ],
)
def test_normal_operation_is_not_written(changes: dict[str, object]) -> None:
    assert log(FINE, gpu_state(**changes), FINE) == []


def test_fans_at_the_highest_duty_of_their_card_are_full_fans() -> None:
    reason = msgspec.structs.replace(ABOVE, needed_percent=90.0)
    (line,) = log(gpu_state(reason=reason, duty_percent=80))
    assert "full fans are not enough: 80 % at 74 °C: 90 % holds 70 °C at 300 W" in line


def test_cards_that_are_not_read_yet_are_not_written() -> None:
    assert log(gpu_state(group="start", control="driver"), FINE) == []


@KINDS
def test_each_kind_of_news_is_a_line_when_it_begins_and_a_line_when_it_is_over(kind: News) -> None:
    state, begins, _ = BEGINNINGS[kind]
    began, over = log(FINE, *[state] * 10, *[FINE] * 10)
    assert began.startswith(f"0:00:01 0 GTX 1080 Ti: {begins}")
    assert over == "0:00:11 " + end_of_news_sentence(FINE, kind, " after 0:00:10")


@KINDS
def test_the_journal_gets_a_priority_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: News) -> None:
    state, begins, priority = BEGINNINGS[kind]
    (line,) = journal(tmp_path, monkeypatch, state)
    assert line.startswith(f"<{priority}>0 GTX 1080 Ti: {begins}")


def test_the_end_of_a_problem_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line[:3] for line in journal(tmp_path, monkeypatch, BEGINNINGS[News.LOST][0], FINE)] == ["<3>", "<6>"]


def test_a_card_that_stays_out_of_control_becomes_a_problem_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [gpu_state(group="fault", control="released", uncontrolled_s=second) for second in range(120)]
    lines = log(*states)
    assert [line.split()[0] for line in lines] == ["0:00:00", "0:01:00"]
    assert ": out of control for 0:01:00: " in lines[1]
    assert [line[:3] for line in journal(tmp_path, monkeypatch, states[60])] == ["<3>"]


def test_what_is_unknown_of_a_lost_card_is_neither_news_nor_over() -> None:
    lost = BEGINNINGS[News.LOST][0]
    assert kinds(log(HEAT, lost, HEAT)) == ["throttled by heat", "lost", "back after 0:00:01"]
    assert kinds(log(HEAT, lost, FINE))[2:] == ["no longer throttled by heat after 0:00:02", "back after 0:00:01"]


@KINDS
def test_news_that_comes_and_goes_is_a_line_a_minute_at_most_and_counted(kind: News) -> None:
    lines = log(*[FINE, BEGINNINGS[kind][0]] * 300, *[FINE] * 600)
    assert len(lines) <= 10
    over = ": " + end_of_news_sentence(FINE, kind).split(": ")[1]
    assert [over in line for line in lines] == [False, True, *[False] * (len(lines) - 3), True]
    assert 1 + sum(int(count) for line in lines for count in re.findall(r"\((\d+) more times? in ", line)) == 300


def test_a_target_that_full_fans_cannot_hold_is_one_line_until_the_fans_slow_down() -> None:
    hot = BEGINNINGS[News.FULL_FANS][0]
    pause = gpu_state(
        duty_percent=100,
        reason=Reason(
            Cause.EXPECTED_LOAD, power_w=60.0, needed_percent=11.0, limit_c=70.0, change_percent=77, difference_c=-2.0
        ),
    )
    began, over = log(*([hot] * 300 + [pause] * 30) * 10, FINE)
    assert began.endswith(FULL_FANS)
    assert over == "0:55:00 " + end_of_news_sentence(FINE, News.FULL_FANS, " after 0:55:00")


def test_heat_in_each_epoch_of_a_training_is_written_less_and_less_often() -> None:
    lines = log(*([HEAT] * 250 + [FINE] * 80) * 40)
    minutes = [60 * int(line[0]) + int(line[2:4]) for line in lines]
    first, *later = (sum(minute // 60 == hour for minute in minutes) for hour in range(3))
    assert first <= 10 and max(later) <= 2


def test_an_error_that_came_and_went_is_written_within_a_minute_once_it_stays() -> None:
    lost = BEGINNINGS[News.LOST][0]
    lines = log(*[FINE, lost] * 300, *[lost] * 61)
    assert (kinds(lines)[-1][:5], lines[-1][:7]) == ("lost ", "0:10:59")


def test_news_that_came_once_and_went_while_no_line_was_due_is_counted_later() -> None:
    lines = log(HEAT, FINE, HEAT, *[FINE] * 100)
    assert kinds(lines) == [
        "throttled by heat",
        "no longer throttled by heat after 0:00:01",
        "no longer throttled by heat (1 more time in 0:01:00)",
    ]


def test_an_end_is_written_at_once_although_the_beginning_was_just_written() -> None:
    assert [line.split()[0] for line in log(FINE, HEAT, FINE)] == ["0:00:01", "0:00:02"]


def test_each_card_and_kind_of_news_is_counted_for_itself() -> None:
    other = gpu_state(index=1, uuid="GPU-2", pci="00000000:0B:00.0", label="1 GTX 1080 Ti", throttle="heat")
    fine = gpu_state(index=1, uuid="GPU-2", pci="00000000:0B:00.0", label="1 GTX 1080 Ti")
    lines = log((HEAT, fine), (HEAT, other), (BEGINNINGS[News.FAN_STILL][0], other))
    assert [" ".join(line.split()[1:6]) for line in lines] == [
        "0 GTX 1080 Ti: throttled",
        "1 GTX 1080 Ti: throttled",
        "0 GTX 1080 Ti: no",
        "0 GTX 1080 Ti: a",
    ]


def test_a_card_is_back_although_its_uuid_became_known_only_then() -> None:
    lost = {"group": "lost", "control": "lost", "temperature_c": None}
    assert kinds(log(gpu_state(uuid="", **lost), FINE)) == ["lost", "back after 0:00:01"]


def test_a_dry_run_writes_each_duty_that_would_be_set() -> None:
    stream, changes = io.StringIO(), ChangeLog()
    states = [gpu_state(duty_percent=duty, control="driver") for duty in (62, 62, 65, 62)]
    with log_to(stream):
        for second, state in enumerate(states):
            changes.publish(snapshot_now((state,), interval_s=1, simulated_s=second, dry_run=True))
    assert [line[:27] for line in stream.getvalue().splitlines()] == [
        "0:00:00 0 GTX 1080 Ti: 62 %",
        "0:00:02 0 GTX 1080 Ti: 65 %",
        "0:00:03 0 GTX 1080 Ti: 62 %",
    ]


def test_new_settings_are_written_with_those_before() -> None:
    lines = log(gpu_state(group="start"), gpu_state(settings="curve 50:30"), *[gpu_state(settings="target 75 °C")] * 3)
    assert lines == ["0:00:02 0 GTX 1080 Ti: target 75 °C instead of curve 50:30"]


def test_a_stream_that_is_not_the_journals_gets_no_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "log").open("w+", encoding="utf-8") as stream:
        with log_to(stream):
            ChangeLog().publish(snapshot_now((HEAT,), interval_s=1))
        stream.seek(0)
        assert not stream.read().startswith("<")


def test_cards_that_have_the_same_index_are_told_apart() -> None:
    """A card that appears may get the index that another had before."""
    cards = HEAT, gpu_state(uuid="GPU-2", pci="00000000:0B:00.0", throttle="heat", duty_percent=70)
    assert log(cards, cards, cards) == [f"0:00:00 {news_sentence(card, News.THROTTLED)}" for card in cards]


def test_a_warning_is_written_with_the_time_of_day() -> None:
    stream = io.StringIO()
    with log_to(stream):
        logging.getLogger("gpufan.daemon").warning("the disk is %s", "full")
    assert re.fullmatch(r"\d\d:\d\d:\d\d the disk is full\n", stream.getvalue())


def test_a_log_line_is_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    with log_to(stream), log_to_stderr():
        logging.getLogger("gpufan.test").warning("%s: no such file", "a\nb\x1b[31m")
    assert stream.getvalue().endswith(" a b?[31m: no such file\n")
    assert capsys.readouterr().err == "gpufan: a b?[31m: no such file\n"


def test_a_reader_that_went_away_does_no_harm() -> None:
    stream = io.StringIO()
    with log_to(stream) as handler:
        stream.close()
        ChangeLog().publish(snapshot_now((HEAT,), interval_s=1))
        logging.getLogger("gpufan").warning("nobody reads this")
        handler.close()
        assert handler.write_error is not None
