"""The history on the page: lines, gaps, events, totals and density, from a history that the real recorder wrote."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gpufan.core.reasons import Cause, Reason
from gpufan.core.thermal import sound_db
from gpufan.errors import InputError
from gpufan.history.events import EventKind
from gpufan.web import history_charts
from gpufan.web.history_charts import density_chart, history_chart
from tests.unit.builders import gpu_state
from tests.unit.history.recorded import NOON_S, RecordedRun

KEY = "GPU-11111111-2222-3333-4444-555555555555"


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    return RecordedRun(tmp_path)


def test_a_short_range_has_a_point_for_each_reading(run: RecordedRun) -> None:
    run.seconds(30, temperature_c=60.0)
    run.recorder.write()
    card = history_chart(run.folder, NOON_S, NOON_S + 60)["cards"][KEY]
    assert len(card["time_s"]) == 30
    assert set(card["temperature_c"]["mean"]) == {60.0}
    assert (card["name"], card["rpm"][0], card["duty_percent"]["mean"][0]) == ("0 GTX 1080 Ti", 2950, 62)
    assert card["sound_db"] == pytest.approx([sound_db(2950)] * 30, abs=0.01)


@pytest.mark.parametrize(("hours", "points"), [(0.05, 20), (1, 100), (3, 50), (24, 800), (168, 30)])
def test_a_line_has_at_most_as_many_points_as_were_asked_for(run: RecordedRun, hours: float, points: int) -> None:
    run.seconds(600)
    run.recorder.write()
    answer = history_chart(run.folder, NOON_S + 600 - hours * 3600, NOON_S + 600, points)
    assert 1 <= len(answer["cards"][KEY]["time_s"]) <= points + 1
    # The lowest and the highest value stay, however long a step is.
    assert max(answer["cards"][KEY]["temperature_c"]["high"]) == 74.0


def test_a_time_without_readings_is_a_gap(run: RecordedRun) -> None:
    run.seconds(60)
    run.wall_s += 300
    run.monotonic_s += 300
    run.seconds(60)
    run.recorder.write()
    answer = history_chart(run.folder, NOON_S, NOON_S + 600)
    card = answer["cards"][KEY]
    (gap,) = [number for number, value in enumerate(card["temperature_c"]["mean"]) if value is None]
    assert card["time_s"][gap - 1] < card["time_s"][gap] < card["time_s"][gap + 1]
    assert card["rpm"][gap] is None
    assert card["sound_db"][gap] is None
    (event,) = answer["events"]
    assert (event["kind"], event["severity"], event["key"]) == ("gap", "warning", "")
    assert event["text"] == "no readings for 0:05:01: no history was recorded"


def test_cards_are_on_one_time_axis(run: RecordedRun) -> None:
    for second in range(60):
        run.second(gpu_state(), *([gpu_state(uuid="GPU-2", index=1)] if second >= 20 else []))
    run.recorder.write()
    cards = history_chart(run.folder, NOON_S, NOON_S + 120)["cards"]
    assert cards["GPU-2"]["time_s"] == cards[KEY]["time_s"][20:]


def test_the_totals_are_those_of_the_readings(run: RecordedRun) -> None:
    for duty, temperature_c in ((30, 70.0), (60, 85.0), (58, 70.0), (30, 70.0)):
        run.seconds(60, duty_percent=duty, temperature_c=temperature_c, power_w=200.0)
    run.recorder.write()
    for hours in (1, 24):  # from single readings, and from minutes
        answer = history_chart(run.folder, NOON_S + 240 - hours * 3600, NOON_S + 240)
        totals = answer["cards"][KEY]["totals"]
        assert totals["seconds"] == pytest.approx(240, abs=1)
        assert totals["hot_s"] == pytest.approx(60, abs=1)
        assert totals["energy_kwh"] == pytest.approx(200 * 240 / 3.6e6, rel=0.01)
        assert totals["sound_db"] == pytest.approx(sound_db(2950), abs=0.01)
        assert (totals["peak_c"], totals["swings"]) == (85.0, 2)


@pytest.mark.parametrize("hours", [1, 24])  # from single readings, and from minutes
def test_the_energy_of_a_fan_without_power_is_unknown(run: RecordedRun, hours: int) -> None:
    run.seconds(60, power_w=None)
    run.recorder.write()
    answer = history_chart(run.folder, NOON_S + 60 - hours * 3600, NOON_S + 60)
    assert answer["cards"][KEY]["totals"]["energy_kwh"] is None


def test_the_sound_of_all_cards_is_louder_than_that_of_one(run: RecordedRun) -> None:
    for _ in range(20):
        run.second(gpu_state(), gpu_state(uuid="GPU-2", index=1))
    run.recorder.write()
    answer = history_chart(run.folder, NOON_S, NOON_S + 60)
    assert answer["total_sound_db"] == pytest.approx(answer["cards"]["GPU-2"]["totals"]["sound_db"] + 3.01, abs=0.01)


def test_throttled_time_counts_in_a_long_range(run: RecordedRun) -> None:
    run.seconds(30, throttle="heat")
    run.seconds(30)
    run.recorder.write()
    answer = history_chart(run.folder, NOON_S - 86400, NOON_S + 60)
    assert answer["cards"][KEY]["totals"]["throttled_s"] == pytest.approx(30, abs=1)
    assert [event["text"] for event in answer["events"]] == [
        "0 GTX 1080 Ti: throttled for 0:00:29: heat has lowered the clocks"
    ]


def test_an_event_names_the_card_and_says_how_serious_it_is(run: RecordedRun) -> None:
    run.seconds(10)
    run.seconds(30, fault=Reason(Cause.FAN_STILL, fan=0, seconds=10, found_percent=62))
    run.recorder.write()
    (event,) = history_chart(run.folder, NOON_S, NOON_S + 60)["events"]
    assert (event["severity"], event["key"]) == ("problem", KEY)
    assert event["text"].startswith("0 GTX 1080 Ti: a fan stood still for 0:00:29: fan 0 has stood still")


def test_a_case_fan_is_called_one(run: RecordedRun) -> None:
    for _ in range(10):
        run.second(gpu_state(uuid="fan:rear", label="rear", name="rear", power_w=None))
    run.recorder.write()
    assert history_chart(run.folder, NOON_S, NOON_S + 60)["cards"]["fan:rear"]["name"] == "case fan rear"


def test_every_kind_of_event_has_a_severity_and_a_name() -> None:
    assert set(history_charts._EVENTS) == set(EventKind)
    assert {severity for severity, _ in history_charts._EVENTS.values()} == {"note", "warning", "problem"}


def test_without_times_the_last_day_is_shown(run: RecordedRun) -> None:
    run.seconds(120)
    run.recorder.write()
    answer = history_chart(run.folder)
    assert answer["have"]["end_s"] - 86400 <= answer["begin_s"] <= NOON_S
    assert answer["end_s"] == answer["have"]["end_s"]
    assert history_chart(run.folder, begin_s=NOON_S)["end_s"] == NOON_S + 86400


@pytest.mark.parametrize(
    "arguments",
    [
        (NOON_S, NOON_S - 1),
        (NOON_S, NOON_S + 1),
        (NOON_S, NOON_S + 9 * 86400),
        (math.nan, NOON_S),
        (NOON_S, math.inf),
        (-1.0, NOON_S),
        (None, None, 1),
        (None, None, 100_000),
    ],
)
def test_senseless_arguments_are_refused(run: RecordedRun, arguments: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"ask for"):
        history_chart(run.folder, *arguments)  # type: ignore[arg-type]  # points is the last


def test_a_history_that_cannot_be_used_is_one_sentence(tmp_path: Path, run: RecordedRun) -> None:
    def sentences(folder: Path) -> list[str]:
        return [chart(folder)["error"] for chart in (history_chart, density_chart)]

    assert all("there is no history" in text for text in sentences(tmp_path / "missing"))
    assert all("is still empty" in text for text in sentences(run.folder))
    run.seconds(300)
    run.recorder.close()
    with closing(sqlite3.connect(run.path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    assert all("from another version of gpufan (format 7)" in text for text in sentences(run.folder))
    with closing(sqlite3.connect(run.path)) as connection:
        connection.execute("PRAGMA user_version = 1")
    with run.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (run.path.stat().st_size - 4096))
    assert all(text and "\n" not in text for text in sentences(run.folder))


@pytest.mark.parametrize("value", ["1e300", "9e999", "'hot'", "x'00ff'", "-5"])
def test_absurd_values_in_the_file_are_no_exception(run: RecordedRun, value: str) -> None:
    run.seconds(120)
    run.recorder.close()
    with closing(sqlite3.connect(run.path)) as connection, connection:
        for table, ending in (("minute", "_max"), ("second", "")):
            connection.execute(f"UPDATE {table} SET temperature_c{ending} = {value}, speed_rpm = {value}")
            connection.execute(f"UPDATE {table} SET seconds = {value} WHERE time_s % 7 < 1")
    for hours in (1, 24):
        for chart in (history_chart, density_chart):
            answer = chart(run.folder, NOON_S + 200 - hours * 3600, NOON_S + 200)
            assert isinstance(answer["error"], str)


def test_the_density_has_the_time_at_each_temperature_and_duty(run: RecordedRun) -> None:
    run.seconds(60, temperature_c=60.0, duty_percent=40)
    run.seconds(30, temperature_c=63.0, duty_percent=45)
    run.recorder.write()
    answer = density_chart(run.folder, NOON_S, NOON_S + 120)["cards"][KEY]
    assert answer["temperature_c"] == [60, 61, 62, 63, 64]
    assert answer["duty_percent"] == [40, 42, 44, 46]
    assert answer["seconds"] == [[60, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 30]]
