"""The live table, as a terminal of 80 columns gets it."""

import io
import logging
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from gpufan.config.settings import Settings
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import FanReading
from gpufan.core.reasons import Cause, Reason
from gpufan.core.snapshot import GpuState
from gpufan.daemon.case_fans import make_case_fan_workers
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.daemon.worker import Worker
from gpufan.daemon.workers import make_workers
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.terminal.drawing import card_style
from gpufan.terminal.live_table import LiveTable
from gpufan.terminal.log import log_to
from tests.unit.builders import gpu_state, snapshot_at

_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def screen(*ticks: tuple[GpuState, ...], warn: str | None = None, simulated_s: float | None = None) -> list[str]:
    """Every line that was drawn, without colours and cursor movements."""
    stream = io.StringIO()
    with log_to(io.StringIO()) as handler:
        table = LiveTable(Console(file=stream, width=80, force_terminal=True), "gpufan · a title", handler)
        for states in ticks:
            table.publish(snapshot_now(states, interval_s=1, simulated_s=simulated_s))
        if warn:
            logging.getLogger("gpufan").warning(warn)
        table._frames.close(10)  # a busy machine may take longer than a person would wait
        table.close()
    return [_CONTROL_SEQUENCE.sub("", line) for line in stream.getvalue().replace("\r", "\n").splitlines()]


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_fits_into_80_columns_with_all_its_numbers(name: str) -> None:
    box = SimulatedBox(PROFILES[name], WORKLOADS["epochs"])
    workers = [Worker(gpu, lambda _: CardSettings()) for gpu in box.cards]
    for second in range(90):
        for worker in workers:
            worker.tick(second)
        box.advance(1)
    lines = screen(tuple(worker.state for worker in workers), simulated_s=90)
    assert max(cell_len(line) for line in lines) <= 80
    assert "…" not in "".join(lines)
    for worker in workers:
        state = worker.state
        numbers = (
            rf"{state.temperature_c:.0f} +{state.power_w:.0f} +{state.duty_percent} % +{state.fans[0].speed_percent}"
        )
        assert re.search(rf"^{state.label} +{numbers} ", "\n".join(lines), re.MULTILINE)


@pytest.mark.parametrize(
    "changes",
    [
        {"control": "lost", "group": "lost", "temperature_c": None, "power_w": None, "duty_percent": None, "fans": ()},
        {"duty_percent": None, "control": "driver", "group": "auto"},
        {"fans": (FanReading(100, 100, True),) * 3, "overrides": 12345, "errors": 12345},
        {"fans": (FanReading(None, None, None),)},
        {"label": "12 RTX 6000 Ada Generation", "temperature_c": 104.0, "power_w": 1000.0, "duty_percent": 100},
        {"message": "out of control: " + "the driver refused, and giving back failed; " * 5, "group": "fault"},
    ],
)
def test_any_state_fits_into_80_columns(changes: dict[str, object]) -> None:
    lines = screen((gpu_state(**changes),))
    assert max(cell_len(line) for line in lines) <= 80
    assert "…" not in "".join(lines)


def test_the_table_tells_what_is_set_what_is_read_and_why() -> None:
    text = "\n".join(screen((gpu_state(),)))
    assert re.search(r"0 GTX 1080 Ti +74 +230 +62 % +61 +the curve gives 58 %; the fans", text)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"overrides": 3}, "fans set again 3 times"),
        ({"errors": 4}, "errors 4"),
        ({"throttled_s": 65.0, "throttle": "none"}, "throttled by heat 0:01:05"),
        ({"throttle": "heat"}, "throttled by heat now, 0:00:00"),
        ({"uncontrolled_s": 65.0}, "without control for 0:01:05"),
    ],
)
def test_the_table_tells_what_has_not_gone_smoothly(changes: dict[str, object], note: str) -> None:
    assert note not in " ".join(screen((gpu_state(),)))
    assert note in " ".join(screen((gpu_state(message="because", **changes),)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"group": "full"}, "yellow"),
        ({"group": "fail-safe"}, "bold red"),
        ({"group": "lost"}, "bold red"),
        ({"fault": Reason(Cause.FAN_STILL, fan=1, found_percent=100, seconds=10.0)}, "bold red"),
        ({"fault": Reason(Cause.FAN_SLOW, fan=1, found_percent=40, set_percent=62)}, "yellow"),
        ({"fault": Reason(Cause.FAN_FLOOR, fan=1, limit_percent=40)}, ""),
        ({"uncontrolled_s": 65.0}, "bold red"),
    ],
)
def test_a_problem_is_red_and_a_lesser_fault_yellow(changes: dict[str, object], expected: str) -> None:
    assert card_style(gpu_state(**changes)) == expected


def test_the_headline_tells_simulated_time() -> None:
    assert any("gpufan · a title · 1:05:09" in line for line in screen((gpu_state(),), simulated_s=3909))


def test_the_headline_of_real_cards_is_the_title() -> None:
    assert "gpufan · a title" in screen((gpu_state(),))


def test_the_temperatures_of_ten_minutes_are_below_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.terminal.live_table._FRAME_S", 0.0)
    stream = io.StringIO()
    with log_to(io.StringIO()) as handler:
        table = LiveTable(Console(file=stream, width=100, force_terminal=True), "gpufan · a title", handler)
        for second, temperature_c in enumerate((-10, 30, 60, None, 89, 120)):
            table.publish(snapshot_at(1200 + 20 * second, temperature_c=temperature_c))
        table._frames.close(10)
        table.close()
    assert "▁▁▃ ▆█ -10..120" in _CONTROL_SEQUENCE.sub("", stream.getvalue())


def test_cards_that_have_the_same_index_have_their_own_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that appears may get the index that another had before."""
    monkeypatch.setattr("gpufan.terminal.live_table._FRAME_S", 0.0)
    cards = gpu_state(temperature_c=30.0), gpu_state(uuid="GPU-2", temperature_c=89.0)
    lines = [line.rstrip() for line in screen(cards, cards)]
    assert any(line.endswith("▁ 30") for line in lines) and any(line.endswith("█ 89") for line in lines)


def test_frames_come_no_faster_than_eyes_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.terminal.live_table._FRAME_S", 1e9)
    lines = screen(*[(gpu_state(duty_percent=duty, group="full"),) for duty in range(30, 60)])
    assert {text for line in lines for text in re.findall(r"\d+ %", line)} == {"30 %"}


def test_eight_cards_fit_into_24_rows() -> None:
    stream = io.StringIO()
    cards = tuple(gpu_state(index=i, uuid=f"GPU-{i}", label=f"{i} GTX 1080 Ti") for i in range(8))
    with log_to(io.StringIO()) as handler:
        console = Console(file=stream, width=80, height=24, force_terminal=True, _environ={})
        table = LiveTable(console, "gpufan · a title", handler)
        table.publish(snapshot_now(cards, interval_s=1))
        table._frames.close(10)
        lines = _CONTROL_SEQUENCE.sub("", stream.getvalue()).splitlines()
        table.close()
    assert len(lines) < 24
    assert all(any(line.startswith(card.label) for line in lines) for card in cards)
    assert lines[-1].rstrip() == "bars: 10 minutes, 30 to 90 °C"


def test_a_warning_stands_above_the_table() -> None:
    lines = screen((gpu_state(),), warn="the snapshot cannot be written")
    assert any(line.endswith(" the snapshot cannot be written") for line in lines)


def test_what_is_news_stands_above_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.terminal.live_table._FRAME_S", 1e9)  # a tick that is not drawn is logged too
    lines = screen((gpu_state(),), (gpu_state(throttle="heat"),), (gpu_state(),))
    text = " ".join(" ".join(lines).split())
    assert "0 GTX 1080 Ti: throttled by heat: 62 % at 74 °C: the curve gives 58 %" in text
    assert "0 GTX 1080 Ti: no longer throttled by heat after" in text


def test_the_duties_of_a_dry_run_are_in_the_table_only() -> None:
    log = io.StringIO()
    with log_to(log) as handler:
        table = LiveTable(Console(file=io.StringIO(), width=80, force_terminal=True), "dry run", handler)
        handler.write_line = lambda line: log.write(f"{line}\n")
        table.publish(snapshot_now((gpu_state(),), interval_s=1, dry_run=True))
        table.close()
    assert log.getvalue() == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r"])
def test_a_console_that_does_not_speak_unicode_stops_nothing(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with log_to(io.StringIO()) as handler:
        table = LiveTable(Console(file=stream, width=80, force_terminal=True), "gpufan · a title", handler)
        table.publish(snapshot_now((gpu_state(),), interval_s=1))
        logging.getLogger("gpufan").warning("°C · ▇")
        table.close()


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    stream = io.StringIO()
    with log_to(io.StringIO()) as handler:
        table = LiveTable(Console(file=stream, width=80, force_terminal=True), "gpufan · a title", handler)
        stream.close()
        table.publish(snapshot_now((gpu_state(),), interval_s=1))
        table.close()


def test_after_the_table_is_closed_log_lines_go_to_the_log_again() -> None:
    stream, log = io.StringIO(), io.StringIO()
    with log_to(log) as handler:
        LiveTable(Console(file=stream, width=80, force_terminal=True), "gpufan · a title", handler).close()
        logging.getLogger("gpufan").info("fans given back")
    assert log.getvalue().endswith(" fans given back\n")


def test_a_case_fan_has_a_row_below_the_cards() -> None:
    box = SimulatedBox(PROFILES["dual-1080ti-case"], WORKLOADS["epochs"])
    cards = make_workers(box.cards, lambda _: CardSettings())
    fans = make_case_fan_workers(Settings().with_case_fans(box.case_fans), box.chip.open_fan, cards)
    for second in range(60):
        for worker in (*cards, *fans):
            worker.tick(second)
        box.advance(1)
    stream = io.StringIO()
    with log_to(io.StringIO()) as handler:
        table = LiveTable(Console(file=stream, width=80, force_terminal=True), "gpufan", handler)
        states, of_fans = (tuple(worker.state for worker in each) for each in (cards, fans))
        table.publish(snapshot_now(states, case_fans=of_fans, interval_s=1, simulated_s=60))
        table._frames.close(10)
        table.close()
    text = _CONTROL_SEQUENCE.sub("", stream.getvalue())
    assert re.search(rf"^nct6798/pwm2 +\d+ +- +{fans[0].state.duty_percent} % .*the cards need", text, re.MULTILINE)
