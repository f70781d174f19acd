"""The command `gpufan history`: tables, events, CSV and wrong input."""

from pathlib import Path

import pytest

from gpufan.daemon import recording
from gpufan.history.events import Event, EventKind
from tests.unit.builders import gpu_state
from tests.unit.conftest import Run
from tests.unit.history.recorded import RecordedRun


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event(5, "", EventKind.RESTART, 5, "gpufan started"), "restart: gpufan started"),
        (Event(5, "", EventKind.GAP, 65, "gpufan did not run"), "gap for 0:01:00: gpufan did not run"),
        (Event(5, "", EventKind.ERROR, 5, "refused", 2), "error 2x: refused"),
        (Event(5, "", EventKind.ERROR, 65, "refused", 7), "error 7x in 0:01:00: refused"),
    ],
)
def test_an_event_is_one_line_of_text(event: Event, text: str) -> None:
    assert event.summary == text


def test_csv_is_a_recording(run: RecordedRun, gpufan: Run, tmp_path: Path) -> None:
    run.seconds(20, message="a, reason; with °")
    status, out, err = gpufan("history", "--csv", "--state-dir", str(run.folder))
    assert (status, err) == (0, "")
    (tmp_path / "history.csv").write_text(out)
    found = list(recording.read_recording(tmp_path / "history.csv"))
    assert len(found) == 20
    assert (found[0].reason, found[0].pci) == ("a, reason; with °", gpu_state().pci)


@pytest.mark.usefixtures("in_utc")
@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_of_days_fits_the_terminal(
    run: RecordedRun, gpufan: Run, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    run.seconds(30, overrides=3)
    run.seconds(30, group="fail-safe", overrides=1000, errors=17, throttle="heat", temperature_c=91.0)
    _, out, _ = gpufan("history", "--state-dir", str(run.folder))
    assert max(map(len, out.splitlines())) <= columns
    assert "2026-11-22" in out
    assert "fail-safe 0:00:30" in out
    assert "\x1b" not in out


def test_events_are_lines_with_card_and_reason(run: RecordedRun, gpufan: Run) -> None:
    run.seconds(30)
    run.seconds(30, group="fail-safe")
    status, out, _ = gpufan("history", "--events", "--state-dir", str(run.folder))
    assert status == 0
    assert out.endswith("  0 GTX 1080 Ti: fail-safe for 0:00:29: no temperature: full speed\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--day", "soon"], ["--day", "soon", "2026-11-22"]),
        (["--day", "today", "--last", "1h"], ["--day", "--last", "leave out one"]),
        (["--csv", "--events"], ["--csv", "--events", "leave out one"]),
        (["--last", "soon"], ["--last", "soon", "30m"]),
        (["--gpu", "RTX"], ["--gpu RTX", "no such card", "0 GTX 1080 Ti (00000000:0A:00.0)"]),
    ],
)
def test_bad_input_is_one_line(run: RecordedRun, gpufan: Run, arguments: list[str], words: list[str]) -> None:
    run.seconds(20)
    status, out, err = gpufan("history", *arguments, "--state-dir", str(run.folder))
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert [word for word in words if word not in err] == []


@pytest.mark.usefixtures("in_utc")
def test_a_history_of_the_first_minutes_says_so(run: RecordedRun, gpufan: Run) -> None:
    run.seconds(200)
    young = "this history is a few minutes old: it begins at 2026-11-22 12:00:01\n"
    assert gpufan("history", "--state-dir", str(run.folder))[1].endswith(young)
    run.wall_s += 3600
    run.seconds(100)
    assert "minutes old" not in gpufan("history", "--state-dir", str(run.folder))[1]
