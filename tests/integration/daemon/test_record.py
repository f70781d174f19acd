"""`gpufan run --record`: the rows come, and whatever happens to the file, control goes on."""

import signal
from collections.abc import Callable
from pathlib import Path

from gpufan.daemon import recording
from tests.doubles.nvml import NvmlDouble, wait_for
from tests.integration.harness import Program, fans

Command = Callable[..., tuple[int, str, str]]
Start = Callable[..., Program]


def rows(path: Path) -> list[recording.Row]:
    return list(recording.read_recording(path)) if path.exists() and path.stat().st_size else []


def test_there_is_a_row_for_each_card_and_tick(double: NvmlDouble, gpufan: Command, tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    status, _, err = gpufan("run", "--duration", "1", "--interval", "0.2", "--record", str(path))
    assert (status, err) == (0, "")
    found = rows(path)
    assert len({row.uuid for row in found}) == 2
    assert {row.control for row in found[-2:]} == {"ours"}
    assert None not in (found[-1].temperature_c, found[-1].power_w, found[-1].speed_percent)
    assert 4 <= len({row.time_s for row in found}) <= 7


def test_a_file_with_other_content_is_refused_before_a_fan_is_touched(
    double: NvmlDouble, gpufan: Command, tmp_path: Path
) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("dear diary\n")
    status, out, err = gpufan("run", "--duration", "1", "--record", str(path))
    assert (status, out) == (2, "")
    assert err == f"gpufan: {path} is not a recording: name a new file, or one that `--record` has begun\n"
    assert not double.log()
    assert path.read_text() == "dear diary\n"


def test_a_recording_that_vanishes_is_told_once_and_control_goes_on(
    double: NvmlDouble, start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "recording.csv"
    log = tmp_path / "log"
    with log.open("w") as stream:
        program = start("--record", str(path), stdout=stream)
    wait_for(lambda: len(rows(path)) > 1)
    path.unlink()
    wait_for(lambda: "recording.csv cannot be written" in log.read_text())
    double.cards[0].temperature = 90
    wait_for(lambda: fans(double, 0) == [100, 100])
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    told = "recording.csv cannot be written: No such file or directory; control goes on"
    assert log.read_text().count(told) == 1


def test_a_simulation_records_in_its_own_time(gpufan: Command, tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    assert gpufan("run", "--simulate", "--time-scale", "max", "--duration", "60", "--record", str(path))[0] == 0
    assert sorted({row.time_s for row in rows(path)}) == list(range(61))
