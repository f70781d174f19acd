"""`gpufan tune` and `gpufan simulate` at the command line: tables, pictures, and errors for bad input."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpufan.core.card_settings import DEFAULT_CURVE
from gpufan.daemon import snapshot_file as snapshot
from gpufan.daemon.recording import HEADER, recording_csv
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.history import plot
from gpufan.tune import row_sources
from tests.unit.builders import gpu_state
from tests.unit.tune.recorded import record

Command = Callable[..., tuple[int, str, str]]

SHORT = 4
"""Minutes; enough for a fit."""

NOTHING = (
    "0 GTX 1080 Ti: the recording has no full minute with temperature, power and fan speed at least every 10 s: record"
    " for longer"
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cards, the second as the first."""
    path = tmp_path_factory.mktemp("recording") / "recording.csv"
    names = {"uuid": "GPU-22222222-2222", "label": "1 GTX 1080 Ti", "pci": "00000000:41:00.0"}
    other = [row._replace(**names) for row in record(minutes=SHORT)]
    path.write_text(HEADER + recording_csv([*record(minutes=SHORT), *other]))
    return path


def simulated(command: str, *options: str) -> tuple[str, ...]:
    """The arguments of a quick run, if `options` say no other duration."""
    duration = () if "--duration" in options else ("--duration", "60s")
    return (command, "--profile", "1080ti", *duration, *options)


def refused(result: tuple[int, str, str]) -> str:
    """The single line of the error."""
    status, out, err = result
    assert (status, out) == (2, "")
    assert re.fullmatch(r"gpufan: .+\n", err), err
    return err


# ---- simulate ----


def test_settings_are_compared_with_the_default_and_the_stock_driver(gpufan: Command) -> None:
    status, out, err = gpufan(*simulated("simulate", "--curve", "50:30,80:100", "--target", "75", "--target", "78"))
    assert (status, err) == (0, "")
    heading, *rows = out.splitlines()
    assert re.split(r" {2,}", heading.strip()) == ["setting", "peak °C", "s > 83 °C", "dB(A)", "swings", "throttled"]
    assert [re.split(r" {2,}", row)[0] for row in rows] == [
        "curve 50:30,80:100",
        "target 75 °C",
        "default: target 78 °C",
        "stock driver",
    ]


def test_a_comparison_is_the_same_every_time(gpufan: Command) -> None:
    assert gpufan(*simulated("simulate")) == gpufan(*simulated("simulate"))


def test_warmer_air_makes_a_warmer_card(gpufan: Command) -> None:
    cool, warm = (
        float(re.split(r" {2,}", gpufan(*simulated("simulate", "--inlet", inlet))[1].splitlines()[1])[1])
        for inlet in ("20", "30")
    )
    assert warm - cool == pytest.approx(10, abs=2)


@pytest.mark.slow
def test_recorded_cards_replace_the_simulated_box(gpufan: Command, recording: Path) -> None:
    status, out, err = gpufan("simulate", "--fitted", str(recording), "--gpu", "1", "--duration", "60")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["picture.svg", "picture.png"])
def test_a_comparison_is_drawn(gpufan: Command, tmp_path: Path, name: str) -> None:
    assert gpufan(*simulated("simulate", "--output", str(tmp_path / name)))[0] == 0
    data = (tmp_path / name).read_bytes()
    assert data.startswith(b"<?xml" if name.endswith("svg") else b"\x89PNG")
    assert name.endswith("png") or "stock driver" in data.decode()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--curve", "60:50,55:70"], ["--curve", "55 does not come after 60"]),
        (["--curve", "50:30", "--curve", "hot"], ["--curve", "'hot'", "60:50"]),
        (["--target", "120"], ["--target", "120"]),
        (["--target", "nan"], ["--target", "nan"]),
        (["--inlet", "-300"], ["--inlet", "-300"]),
        (["--duration", "2d"], ["--duration", "a day"]),
        (["--workload", "mining"], ["--workload", "epochs"]),
        (["--gpu", "0"], ["--gpu", "--fitted"]),
        (["--fitted", "none.csv"], ["--fitted", "--profile"]),
        (["--output", "a.pdf"], ["a.pdf", ".svg or .png"]),
        (["--output", "nowhere/a.svg"], ["nowhere/a.svg", "no such folder"]),
    ],
    ids=" ".join,
)
def test_simulate_refuses_bad_input_and_says_what_is_right(
    gpufan: Command, options: list[str], words: list[str]
) -> None:
    line = refused(gpufan(*simulated("simulate", *options)))
    for word in words:
        assert word in line


# ---- tune ----


def test_a_recording_gives_a_fit_and_a_proposal(gpufan: Command, recording: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    settings = tmp_path / "config.toml"
    settings.write_text('[[gpu]]\nmatch = "41:00.0"\ncurve = "0:90"\n')
    options = ("--gpu", "1", "--output", str(picture), "--config", str(settings))
    status, out, err = gpufan("tune", str(recording), *options)
    assert (status, err) == (0, "")
    for words in (
        "learnt from 241 readings in 4 min, 30..",
        "the last third was predicted from the first two with an error of 0.",
        "note: the recording has only 4 min: record 10 min or more",
        "as recorded",
        "present: curve 0:90",
        "dB quieter than the present setting",
        '[[gpu]] match = "GPU-22222222-2222" target_c = ',
    ):
        assert words in " ".join(out.split())
    assert "0 GTX 1080 Ti" not in out
    assert "heat capacity" not in out
    for words in ("as recorded", "present", "temperature, °C", "80 °C"):
        assert words in picture.read_text()


def test_tune_works_on_a_simulated_box(gpufan: Command) -> None:
    status, out, err = gpufan("tune", "--simulate", "1080ti", "--minutes", "3")
    assert (status, err) == (0, "")
    assert "learnt from 181 readings in 3 min" in out


def test_all_cards_are_in_one_table_that_says_what_to_write(gpufan: Command, recording: Path, tmp_path: Path) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text(f'curve = "{DEFAULT_CURVE}"\n')
    status, out, err = gpufan("tune", str(recording), "--config", str(settings))
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    table, *others = out.split("\n\n")
    assert re.findall(r"[01] GTX 1080 Ti|as recorded|present|proposed", table) == [
        *("0 GTX 1080 Ti", "as recorded", "present", "proposed"),
        *("1 GTX 1080 Ti", "as recorded", "present", "proposed"),
    ]
    assert out.count("peak °C") == 1
    assert [text[:15] for text in others[:2]] == ["0 GTX 1080 Ti: ", "1 GTX 1080 Ti: "]
    assert out.count("[[gpu]]") == 2


@pytest.mark.slow
def test_verbose_shows_what_was_learnt_and_all_settings_that_were_tried(gpufan: Command, recording: Path) -> None:
    status, out, err = gpufan("tune", str(recording), "--gpu", "0", "--verbose")
    assert (status, err) == (0, "")
    for words in ("inlet air", "heat capacity C", "fans that stand still", "air warmed by the card", "s > 83 °C"):
        assert words in out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: `gpufan run --record FILE` makes one"),
        (b"\x7fELF\x02\x01\x01" + bytes(5000), "is not a recording"),
        (b"timestamp, name, temperature.gpu\n2026/01/01, GTX, 60\n", "is not a recording"),
        (HEADER.encode(), "has no rows"),
        (
            HEADER.encode() + recording_csv(record(minutes=SHORT)).replace(",30,", ",nan,", 1).encode(),
            "'nan' is not a number",
        ),
    ],
    ids=["empty", "binary", "another tool's", "no rows", "not a number"],
)
def test_tune_refuses_a_file_that_is_no_recording(gpufan: Command, tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "recording.csv"
    path.write_bytes(content)
    line = refused(gpufan("tune", str(path)))
    assert words in line
    assert str(path) in line


def test_one_row_is_too_little(gpufan: Command, tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(HEADER + recording_csv(record(minutes=SHORT)[:1]))
    assert gpufan("tune", str(path)) == (
        1,
        "",
        f"gpufan: {NOTHING}\n",
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["missing.csv"], ["missing.csv", "No such file"]),
        (["--minutes", "5"], ["--minutes", "recording"]),
        (["--simulate"], ["--simulate", "recording"]),
        (["--gpu", "7"], ["--gpu 7", "no such card", "0 GTX 1080 Ti (GPU-"]),
        (["--limit", "95"], ["--limit", "85"]),
        (["--config", "missing.toml"], ["missing.toml", "no such file"]),
        (["--output", "a.jpg"], ["a.jpg", ".svg or .png"]),
    ],
    ids=" ".join,
)
def test_tune_refuses_bad_input_and_says_what_is_right(
    gpufan: Command, recording: Path, options: list[str], words: list[str]
) -> None:
    given = options if options[0].endswith("csv") else [str(recording), *options]
    line = refused(gpufan("tune", *given))
    for word in words:
        assert word in line


def test_without_matplotlib_a_picture_is_refused_before_the_fit(
    gpufan: Command, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    assert "pip install 'gpufan[plot]'" in refused(gpufan("tune", str(recording), "--output", "a.svg"))


# ---- the running gpufan ----


@pytest.fixture
def running(folder: Path) -> Iterator[SnapshotFile]:
    """The folder of a running gpufan, with its first snapshot."""
    folder.mkdir()
    file = SnapshotFile(folder / "state.json")
    file.write(snapshot_now((gpu_state(),), interval_s=1))
    yield file


class Time:
    """A clock that moves only in `sleep`; each second it writes a snapshot."""

    def __init__(self, file: SnapshotFile, until_s: float = 1e9) -> None:
        self.now_s = 0.0
        self._file = file
        self._until_s = until_s

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        if self.now_s >= self._until_s:
            self._file.remove()
        elif self.now_s == round(self.now_s):
            self._file.write(snapshot_now((gpu_state(),), interval_s=1))


def watched(folder: Path, given: Time, seconds: float) -> list[float]:
    rows = row_sources.rows_of_running_gpufan(folder / "state.json", seconds, lambda _: None, given.clock, given.sleep)
    return [row.time_s for row in rows]


def test_each_snapshot_gives_its_rows_once(running: SnapshotFile, folder: Path) -> None:
    times_s = watched(folder, Time(running), 60)
    assert len(set(times_s)) == len(times_s) == 60


def test_if_gpufan_ends_the_rows_so_far_count(running: SnapshotFile, folder: Path) -> None:
    assert len(watched(folder, Time(running, until_s=20), 60)) == 20


def test_if_gpufan_is_killed_the_rows_so_far_count(
    running: SnapshotFile, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Time(running)
    monkeypatch.setattr(snapshot, "snapshot_writer_has_ended", lambda taken: given.now_s >= 20)
    assert len(watched(folder, given, 60)) == 20


def test_ctrl_c_ends_the_watching_and_the_rows_so_far_count(running: SnapshotFile, folder: Path) -> None:
    given = Time(running)

    def sleep(seconds: float) -> None:
        given.sleep(seconds)
        if given.now_s > 20:
            raise KeyboardInterrupt

    assert len(row_sources.rows_of_running_gpufan(folder / "state.json", 60, lambda _: None, given.clock, sleep)) == 21


def test_a_gpufan_that_is_not_running_cannot_be_watched(
    running: SnapshotFile, gpufan: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "snapshot_writer_has_ended", lambda taken: True)
    status, _, err = gpufan("tune")
    assert (status, err) == (
        1,
        f"gpufan: the gpufan that wrote {folder}/state.json is not running any more: see `gpufan status`\n",
    )
    running.remove()
    assert "no gpufan is running" in gpufan("tune")[2]


def test_too_few_snapshots_of_the_running_gpufan_are_refused(
    running: SnapshotFile, gpufan: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = row_sources.recording_rows(snapshot.read_snapshot(folder / "state.json"))
    monkeypatch.setattr(row_sources, "rows_of_running_gpufan", lambda path, duration_s, elapsed: few)
    status, out, err = gpufan("tune")
    assert (status, err) == (1, f"gpufan: {NOTHING}\n")
    assert out == ""
