"""`gpufan status --watch`: on terminals of any size, in a pipe, and while gpufan stops and starts."""

import io
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from gpufan.core.snapshot import Snapshot
from gpufan.daemon.snapshot_file import SnapshotFile
from gpufan.terminal.service_state import ServiceState
from gpufan.terminal.watch import WatchedMoment, WatchLines, WatchTable, watch
from tests.unit.builders import put_systemctl, snapshot_at

_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def screen(*moments: WatchedMoment, width: int = 80, height: int = 24) -> list[str]:
    """The lines of the table after the last of `moments`, without colours."""
    stream = io.StringIO()
    view = WatchTable(Console(file=stream, width=width, height=height, force_terminal=True, _environ={}))
    for moment in moments[:-1]:
        if moment.snapshot is not None:
            view.readings.add(moment.snapshot)  # drawing each moment would be slow
    view.show(moments[-1])
    drawn = stream.getvalue()
    view.close()
    return [_CONTROL_SEQUENCE.sub("", line).rstrip() for line in drawn.replace("\r", "\n").splitlines()]


def seen(
    *snapshots: Snapshot, complaint: str | None = None, service: ServiceState | None = None
) -> list[WatchedMoment]:
    return [WatchedMoment(snapshot, complaint, service) for snapshot in snapshots]


def ends_after(looks: int, then: Sequence[Callable[[], object]] = ()) -> Callable[[float], None]:
    """A replacement for sleep: calls one of `then` each time, and raises Ctrl-C after `looks` times."""
    happenings = list(then)
    left = looks

    def pause(_: float) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise KeyboardInterrupt
        if happenings:
            happenings.pop(0)()

    return pause


# ---- the table ----


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("cards", [1, 2, 4])
def test_the_table_fits_into_any_terminal(width: int, cards: int) -> None:
    lines = screen(*seen(*[snapshot_at(1000 + i, cards=cards) for i in range(0, 700, 5)]), width=width, height=40)
    assert max(cell_len(line) for line in lines) <= width


@pytest.mark.parametrize(("width", "bars"), [(80, 30), (120, 60), (200, 60)])
def test_the_bars_of_ten_minutes_fill_the_line(width: int, bars: int) -> None:
    lines = screen(*seen(*[snapshot_at(1000 + i) for i in range(600)]), width=width)
    assert [line.count("▆") for line in lines if "°C ▆" in line] == [bars]


def test_a_card_shows_temperature_duty_and_power_with_their_ranges() -> None:
    snapshots = [snapshot_at(1000 + 20 * i, temperature_c=40 + i, duty_percent=30, power_w=100 + i) for i in range(10)]
    text = "\n".join(screen(*seen(*snapshots)))
    assert re.search(r"°C +\S{10} 40..49\n +% +▃{10} 30\n +W +▄{10} 100..109", text)


@pytest.mark.parametrize(("height", "units"), [(20, ["°C"]), (24, ["°C", "%", "W"])])
def test_many_cards_on_a_low_terminal_show_only_temperature(height: int, units: list[str]) -> None:
    lines = screen(*seen(snapshot_at(1000, cards=4)), height=height)
    assert len(lines) <= height
    assert [line.split()[0] for line in lines if line.split()[0] in ("°C", "%", "W")] == units * 4


@pytest.mark.parametrize(("height", "bar_lines"), [(24, 8), (12, 0)])
def test_eight_cards_fit_into_a_terminal_of_24_rows(height: int, bar_lines: int) -> None:
    service = ServiceState("gpufan.service: active (running), since Sunday", True)
    lines = screen(*seen(snapshot_at(1000, cards=8), service=service), height=height)
    assert len(lines) < height
    assert sum("62 %" in line for line in lines) == 8
    assert sum(line.split()[0] == "°C" for line in lines) == bar_lines


def test_the_bars_have_a_scale() -> None:
    assert screen(*seen(snapshot_at(1000)))[-1] == "bars: 10 minutes, 30 to 90 °C, 0 to 100 %, 0 to 250 W"
    assert screen(*seen(snapshot_at(1000, cards=8)))[-1] == "bars: 10 minutes, 30 to 90 °C"


def test_a_high_terminal_shows_the_settings_and_rpm_too() -> None:
    assert any(
        line.endswith("target 78 °C; fan at 2950 rpm")
        for line in screen(*seen(snapshot_at(1, settings="target 78 °C")))
    )


def test_the_headline_names_the_process_and_its_age() -> None:
    snapshot = msgspec.structs.replace(snapshot_at(5000), started_s=1091.0, pid=4711)
    assert "process 4711 · up 1:05:09" in screen(*seen(snapshot))[0]


def test_the_service_is_shown_above_the_cards() -> None:
    service = ServiceState("gpufan.service: active (running), since Sunday", True)
    assert screen(*seen(snapshot_at(1000), service=service))[1].startswith(service.text)


def test_a_complaint_is_shown_above_the_last_known_cards() -> None:
    lines = screen(*seen(snapshot_at(1000), complaint="nothing new since noon"))
    assert "nothing new since noon" in lines
    assert any("62 %" in line for line in lines)


def test_without_a_snapshot_only_the_complaint_is_shown() -> None:
    assert "no gpufan is running" in screen(WatchedMoment(None, "no gpufan is running"))


def test_refused_settings_are_shown() -> None:
    snapshot = msgspec.structs.replace(snapshot_at(1000), reload_refused="hold_s = x")
    assert "settings not reloaded, the old ones stay: hold_s = x" in screen(*seen(snapshot))


def test_a_lost_card_leaves_a_gap() -> None:
    lost = {"control": "lost", "temperature_c": None, "power_w": None, "duty_percent": None, "fans": ()}
    lines = screen(*seen(snapshot_at(1000), snapshot_at(1020, **lost), snapshot_at(1040)))
    assert any(line.endswith("▆ ▆ 74") for line in lines)


def test_a_card_that_has_never_answered_has_empty_lines() -> None:
    lost = {"control": "lost", "temperature_c": None, "power_w": None, "duty_percent": None, "fans": ()}
    assert [line.strip() for line in screen(*seen(snapshot_at(1000, **lost)))][-4:-1] == ["°C", "%", "W"]


# ---- in a pipe ----


def run(path: Path, pause: Callable[[float], None], capsys: pytest.CaptureFixture[str], **options: bool) -> list[str]:
    watch(path, pause=pause, **options)
    return capsys.readouterr().out.splitlines()


def test_in_a_pipe_each_change_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = SnapshotFile(tmp_path / "state.json")
    now_s = time.time()
    duties = [62, 62, 65]
    file.write(snapshot_at(now_s, cards=2))
    happenings = [lambda duty=duty: file.write(snapshot_at(now_s, cards=2, duty_percent=duty)) for duty in duties]
    lines = run(tmp_path / "state.json", ends_after(5, happenings), capsys)
    assert [line.split(" ", 1)[1].split(" at ")[0] for line in lines] == ["0 GTX 1080 Ti: 62 %"] * 2 + [
        "0 GTX 1080 Ti: 65 %"
    ] * 2


def test_an_end_and_a_new_start_are_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = SnapshotFile(tmp_path / "state.json")
    path = tmp_path / "state.json"
    happenings = [file.remove, lambda: None, lambda: file.write(snapshot_at(time.time(), duty_percent=70))]
    file.write(snapshot_at(time.time()))
    lines = run(tmp_path / "state.json", ends_after(6, happenings), capsys)
    assert [" ".join(line.split()[1:7]) for line in lines] == [
        "0 GTX 1080 Ti: 62 %",
        f"no gpufan is running (no {path}):",
        "0 GTX 1080 Ti: 70 %",
    ]


def test_an_outdated_snapshot_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SnapshotFile(tmp_path / "state.json").write(snapshot_at(time.time() - 100))
    lines = run(tmp_path / "state.json", ends_after(5), capsys)
    assert sum("nothing new since" in line for line in lines) == 1


def test_after_a_damaged_snapshot_the_next_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "state.json"
    path.write_text("{")
    happenings = [lambda: SnapshotFile(path).write(snapshot_at(time.time()))]
    lines = run(path, ends_after(3, happenings), capsys)
    assert ["is not a snapshot" in line for line in lines] == [True, False]


def test_a_change_of_the_service_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    view = WatchLines()
    active, failed = ServiceState("active", True), ServiceState("failed", False)
    for state in (None, active, active, None, active, failed):
        view.show(WatchedMoment(None, service=state))
    view.close()
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["active", "failed"]


def test_with_json_each_snapshot_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = SnapshotFile(tmp_path / "state.json")
    snapshots = [snapshot_at(time.time() + i) for i in range(2)]
    file.write(snapshots[0])
    happenings = [lambda: None, lambda: file.write(snapshots[1])]
    lines = run(tmp_path / "state.json", ends_after(4, happenings), capsys, as_json=True)
    assert [msgspec.json.decode(line, type=Snapshot) for line in lines] == snapshots


def test_with_json_the_reason_for_no_line_is_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = SnapshotFile(tmp_path / "state.json")
    happenings = [lambda: None, lambda: file.write(snapshot_at(time.time())), file.remove]
    watch(tmp_path / "state.json", as_json=True, pause=ends_after(5, happenings))
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert (
        err.splitlines()
        == [f"gpufan: no gpufan is running (no {tmp_path}/state.json): start it with `sudo gpufan run`"] * 2
    )


def test_the_service_is_shown_once_systemd_has_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_systemctl(monkeypatch, tmp_path, "echo LoadState=loaded; echo ActiveState=failed; echo SubState=failed")
    states: list[ServiceState | None] = []
    monkeypatch.setattr(WatchLines, "show", lambda _, moment: states.append(moment.service))

    def pause(_: float) -> None:
        time.sleep(0.01)
        if states[-1] is not None:
            raise KeyboardInterrupt

    watch(tmp_path / "state.json", of_service=True, pause=pause)
    assert states[0] is None
    assert states[-1] == ServiceState("gpufan.service: failed (failed)", False)
