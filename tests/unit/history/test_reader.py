"""The history as people read it: days, events, readings, and what they are told where there is nothing to read."""

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gpufan.cli.main import main
from gpufan.core.thermal import sound_db
from gpufan.daemon import recording
from gpufan.errors import GpufanError, InputError
from gpufan.history import FILE
from gpufan.history.daily import Day, day_span, days, event_text, load_from_w, read_day
from gpufan.history.events import Event
from gpufan.history.reader import Mean, Minute, Past, Span
from tests.unit.builders import gpu_state
from tests.unit.history.kept import NOON_S, Kept

NOTHING = Mean(None, None, None)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def gpufan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process: exit status, what it printed, and what it complained of."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gpufan", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


def same(value: float | None) -> Mean:
    return Mean(value, value, value)


def minute(**changes: object) -> Minute:
    return Minute(NOON_S, "ours", "hold", 60.0, 0.0, 0.0, *(NOTHING,) * 5)._replace(**changes)


def day_of(*minutes: Minute) -> Day:
    day = Day(load_from_w=100)
    for one in minutes:
        day.add(one)
    return day


def test_a_day_has_mean_and_highest_weighed_by_time() -> None:
    day = day_of(
        minute(temperature_c=Mean(60, 50, 70), duty_percent=same(40)),
        minute(temperature_c=Mean(80, 75, 88), duty_percent=same(100), seconds=20.0),
    )
    assert (day.mean_c, day.highest_c, day.mean_percent, day.highest_percent) == (65, 88, 55, 100)


def test_what_was_never_known_is_not_made_up() -> None:
    day = day_of(minute())
    assert [day.mean_c, day.highest_c, day.mean_percent, day.highest_percent, day.sound_db] == [None] * 5
    assert (day.energy_kwh, day.load_s, day.trouble) == (0, 0, [])


def test_energy_is_power_over_time_and_load_is_power_above_a_limit() -> None:
    day = day_of(*[minute(power_w=same(power_w)) for power_w in (250.0, 50.0)] * 30)
    assert day.energy_kwh == pytest.approx(0.150)
    assert (day.load_s, day.seen_s) == (1800, 3600)


@pytest.mark.parametrize(("highest_w", "limit_w"), [(300, 100), (250, 250 / 3), (75, 50), (0, 50)])
def test_a_card_is_under_load_above_a_third_of_what_it_has_drawn(highest_w: float, limit_w: float) -> None:
    assert load_from_w(highest_w) == pytest.approx(limit_w)


def test_sound_is_the_energy_mean_and_taken_from_percent_where_no_turns_are_told() -> None:
    assert day_of(minute(speed_rpm=same(2400))).sound_db == pytest.approx(sound_db(2400))
    assert day_of(minute(speed_percent=same(50))).sound_db == pytest.approx(sound_db(2400))
    half = day_of(minute(speed_rpm=same(2400)), minute(speed_rpm=same(0)))
    assert half.sound_db == pytest.approx(sound_db(2400) - 3.01, abs=0.01)


def test_trouble_is_told_only_where_there_was_some() -> None:
    day = day_of(minute(hot_s=5.0, throttled_s=65.0), minute(kind="fail-safe", seconds=3.0))
    for event in (
        Event(NOON_S, "a", "override", NOON_S, "", 4),
        Event(NOON_S, "a", "error", NOON_S, "", 2),
        Event(NOON_S - 100, "", "gap", NOON_S + 20, ""),
        Event(NOON_S + 30, "", "gap", NOON_S + 40, ""),
        Event(NOON_S - 1, "a", "override", NOON_S, "", 4),
    ):
        day.add_event(event, Span(NOON_S, NOON_S + 100))
    assert day.trouble == [
        *("over 83 °C 0:00:05", "throttled 0:01:05", "fail-safe 0:00:03", "overrides 4", "errors 2"),
        "gaps 1 (0:00:30)",
    ]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event(5, "", "restart", 5, "gpufan started"), "restart: gpufan started"),
        (Event(5, "", "gap", 65, "no gpufan ran"), "gap for 0:01:00: no gpufan ran"),
        (Event(5, "", "error", 5, "refused", 2), "error 2x: refused"),
        (Event(5, "", "error", 65, "refused", 7), "error 7x in 0:01:00: refused"),
    ],
)
def test_an_event_is_told_in_a_line(event: Event, text: str) -> None:
    assert event_text(event) == text


@pytest.mark.usefixtures("in_utc")
def test_each_day_is_told_by_its_date(kept: Kept) -> None:
    kept.seconds(10)
    kept.wall_s += 86400
    kept.seconds(10)
    with Past(kept.folder) as past:
        (card,) = past.cards()
        found = days(past, card, past.span())
    assert {date: day.seen_s for date, day in found.items()} == {"2026-11-22": 10, "2026-11-23": 10}


def test_a_day_on_which_the_clocks_change_is_as_long_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        spans = [day_span(date) for date in ("2026-03-29", "2026-10-25", "2026-12-31")]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [(end_s - begin_s) / 3600 for begin_s, end_s in spans] == [23, 25, 24]


def test_today_and_yesterday_touch() -> None:
    today, yesterday = read_day("today"), read_day("yesterday")
    assert yesterday.end_s == today.begin_s <= time.time() < today.end_s


@pytest.mark.parametrize("text", ["", "31", "2026-02-30", "tomorrow", "2026-11-22 10:00", "99999-01-01"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--day .* 2026-11-22, today or yesterday"):
        read_day(text)


def test_an_event_belongs_to_every_time_that_it_touches(kept: Kept) -> None:
    kept.seconds(10)
    kept.seconds(30, group="fail-safe")  # from second 11 to second 40
    kept.seconds(10)
    with Past(kept.folder) as past:
        for begin_s, end_s, touches in ((0, 11, False), (0, 12, True), (20, 30, True), (40, 50, True), (41, 50, False)):
            found = past.events(past.cards(), Span(NOON_S + begin_s, NOON_S + end_s))
            assert bool(found) == touches, (begin_s, end_s)


def test_readings_are_by_the_second_while_kept_and_by_the_minute_before(kept: Kept) -> None:
    kept.seconds(120, temperature_c=60.0)
    kept.seconds(60, temperature_c=70.0)
    kept.keeper._file.thin(NOON_S + 86400 + 120)
    with Past(kept.folder) as past:
        found = list(past.readings(past.cards(), past.span()))
    assert [row.time_s - NOON_S for row in found] == [0.0, 60.0, *map(float, range(120, 181))]
    assert [found[0].temperature_c, found[-1].temperature_c] == [60.0, 70.0]


def test_csv_is_a_recording(kept: Kept, gpufan: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    kept.seconds(20, message="a, reason; with °")
    status, out, err = gpufan("history", "--csv", "--state-dir", str(kept.folder))
    assert (status, err) == (0, "")
    (tmp_path / "history.csv").write_text(out)
    found = list(recording.read(tmp_path / "history.csv"))
    assert len(found) == 20
    assert (found[0].reason, found[0].pci) == ("a, reason; with °", gpu_state().pci)


@pytest.mark.usefixtures("in_utc")
@pytest.mark.parametrize("columns", [80, 120])
def test_a_week_fits_the_terminal(
    kept: Kept, gpufan: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    kept.seconds(30, overrides=3)
    kept.seconds(30, group="fail-safe", overrides=1000, errors=17, throttle="heat", temperature_c=91.0)
    _, out, _ = gpufan("history", "--state-dir", str(kept.folder))
    assert max(map(len, out.splitlines())) <= columns
    assert "2026-11-22" in out
    assert "fail-safe 0:00:30" in out
    assert "\x1b" not in out


def test_events_are_lines_with_card_and_reason(kept: Kept, gpufan: Callable[..., tuple[int, str, str]]) -> None:
    kept.seconds(30)
    kept.seconds(30, group="fail-safe")
    status, out, _ = gpufan("history", "--events", "--state-dir", str(kept.folder))
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
def test_bad_input_is_one_line(
    kept: Kept, gpufan: Callable[..., tuple[int, str, str]], arguments: list[str], words: list[str]
) -> None:
    kept.seconds(20)
    status, out, err = gpufan("history", *arguments, "--state-dir", str(kept.folder))
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert [word for word in words if word not in err] == []


def test_without_a_history_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(GpufanError, match=r"no history .*install-service.* keep-history"):
        Past(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(200)])
def test_what_is_no_history_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(GpufanError, match=r"history\.sqlite"):
        Past(tmp_path)


def test_a_pipe_in_place_of_the_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(GpufanError, match=r"history\.sqlite is not a file"):
        Past(tmp_path)


def test_another_programs_database_is_not_read(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / FILE).execute("CREATE TABLE card (x)").connection.close()
    with pytest.raises(GpufanError, match="is not a history of gpufan"):
        Past(tmp_path)


def test_a_history_that_is_empty_says_so(kept: Kept) -> None:
    with Past(kept.folder) as past, pytest.raises(GpufanError, match="is empty as yet"):
        past.cards()


def test_a_history_broken_in_the_middle_is_one_line(kept: Kept) -> None:
    kept.seconds(300)
    kept.keeper.close()
    with kept.path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (kept.path.stat().st_size - 8192))
    with Past(kept.folder) as past, pytest.raises(GpufanError, match=r"cannot be read further"):
        list(past.readings(past.cards(), past.span()))


def test_the_history_is_read_while_it_is_written(kept: Kept) -> None:
    kept.seconds(20)
    with Past(kept.folder) as past:
        rows = past.readings(past.cards(), Span(0, NOON_S + 1e6))
        next(rows)
        kept.seconds(20)
        assert len(list(rows)) == 19  # what was there when it began to read
    with Past(kept.folder) as past:
        assert len(list(past.readings(past.cards(), past.span()))) == 40


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to become somebody else")
@pytest.mark.parametrize("ended", ["runs", "closed", "killed"])
def test_anyone_who_may_read_the_file_reads_the_history(ended: str) -> None:
    with TemporaryDirectory() as folder:
        kept = Kept(Path(folder))
        kept.seconds(20)
        if ended == "closed":
            kept.keeper.close()
        if ended == "killed":
            kept.folder = Path(folder) / "copy"
            kept.folder.mkdir()
            for suffix in ("", "-wal", "-shm"):
                shutil.copy(f"{kept.path}{suffix}", kept.folder)
        Path(folder).chmod(0o755)  # not private to root, as pytest's are
        os.seteuid(65534)
        try:
            with Past(kept.folder) as past:
                found = len(list(past.readings(past.cards(), past.span())))
        finally:
            os.seteuid(0)
    assert found == 20


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to read as root")
def test_root_reads_and_leaves_nothing_that_the_keepers_user_could_not_write(kept: Kept) -> None:
    kept.seconds(20)
    kept.keeper.close()
    for path in (kept.folder, *kept.folder.iterdir()):
        os.chown(path, 65534, 65534)
    with Past(kept.folder) as past:
        assert past.cards()
        assert {path.stat().st_uid for path in kept.folder.iterdir()} == {65534}


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to become somebody else")
def test_whoever_may_not_read_the_file_is_told_to_use_sudo(kept: Kept) -> None:
    kept.seconds(20)
    os.seteuid(65534)
    try:
        with pytest.raises(GpufanError, match=r"cannot read .*history\.sqlite: Permission denied: run this with sudo"):
            Past(kept.folder)
    finally:
        os.seteuid(0)


def test_cards_are_chosen_as_everywhere(kept: Kept) -> None:
    other = gpu_state(uuid="GPU-22222222-0000", index=1, label="1 RTX 2080 Ti", name="NVIDIA GeForce RTX 2080 Ti")
    for _ in range(20):
        kept.second(gpu_state(), other)
    with Past(kept.folder) as past:
        for names, indices in (((), [0, 1]), (("1",), [1]), (("rtx",), [1]), (("0a:00.0", "GPU-2222"), [0, 1])):
            assert [card.info.index for card in past.cards(names)] == indices, names


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE minute SET time_s = 'x'",
        "UPDATE minute SET time_s = 1e308",
        "UPDATE minute SET seconds = 1e999",
        "UPDATE minute SET power_w = 1e300",
        "UPDATE minute SET temperature_c_max = x'ff'",
        "UPDATE card SET number = 'x'",
    ],
)
def test_what_cannot_be_in_a_sound_file_is_told_and_not_reckoned_with(kept: Kept, harm: str) -> None:
    kept.seconds(11)
    kept.keeper.close()
    with closing(sqlite3.connect(kept.path)) as connection, connection:
        connection.execute(harm)
    with Past(kept.folder) as past, pytest.raises(GpufanError, match=r"history.sqlite is damaged: Expected .*; move"):
        list(past.minutes(past.cards()[0], past.span()))


def test_a_damaged_schema_is_told(kept: Kept) -> None:
    kept.seconds(11)
    kept.keeper.close()
    kept.path.write_bytes(kept.path.read_bytes().replace(b"TABLE card", b"\xebABLE card"))
    with Past(kept.folder) as past, pytest.raises(GpufanError, match="cannot be read further: it is damaged"):
        past.cards()
