"""`gpufan run --target` as people meet it: on a box at work, with what it learns kept from one run to the next."""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpufan.control.law import Learnt
from gpufan.daemon import learnt, recording
from gpufan.daemon import snapshot_file as snapshot
from tests.doubles.nvml import Kind, NvmlDouble, wait_for
from tests.integration.harness import CURVE, Program, fans

Command = Callable[..., tuple[int, str, str]]
Start = Callable[..., Program]

LEARNT = Learnt(91.5)


def uuid(double: NvmlDouble, card: int = 0) -> str:
    text: str = double.cards[card].uuid.decode()
    return text


def kept(double: NvmlDouble, state_directory: Path, card: int = 0) -> Path:
    """The file of `card`."""
    return state_directory / "learnt" / f"{uuid(double, card)}.json"


@pytest.mark.slow
def test_a_simulated_box_is_held_at_the_target_and_says_why(gpufan: Command, tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    status, out, err = gpufan(
        *("run", "--simulate", "--workload", "step", "--time-scale", "100000"),
        *("--duration", "25m", "--target", "78", "--record", str(path)),
    )
    assert (status, err) == (0, "")
    last = list(recording.read_recording(path))[-1]
    assert re.match(r"\d+ % holds 78 °C at \d+ W", last.reason)
    peaks_c = [float(peak) for peak in re.findall(r"^\d GTX 1080 Ti +([\d.]+)", out, re.MULTILINE)]
    assert len(peaks_c) == 2 and max(peaks_c) < 80


def test_what_was_learnt_is_written_at_the_end_and_taken_up_by_the_next_run(
    double: NvmlDouble, start: Start, state_directory: Path
) -> None:
    learnt.write_learnt(state_directory / "learnt", uuid(double), LEARNT)
    program = start("--target", "78")
    program.wait_until_it_controls(0, 1)
    program.signal(signal.SIGTERM)
    status, _, err = program.end()
    assert (status, err) == (0, "")
    again = learnt.read_learnt(state_directory / "learnt", uuid(double))
    assert again is not None and again != LEARNT
    assert again.full_power_percent == pytest.approx(LEARNT.full_power_percent, abs=0.5)
    assert learnt.read_learnt(state_directory / "learnt", uuid(double, 1)) is not None


def test_a_run_along_a_curve_leaves_what_is_kept_as_it_is(
    double: NvmlDouble, start: Start, state_directory: Path
) -> None:
    learnt.write_learnt(state_directory / "learnt", uuid(double), LEARNT)
    before = kept(double, state_directory).read_bytes()
    program = start("--curve", CURVE)
    program.wait_until_it_controls(0, 1)
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert learnt.read_learnt(state_directory / "learnt", uuid(double)) == LEARNT
    assert kept(double, state_directory).read_bytes() == before


def test_a_file_of_nonsense_starts_fresh_and_is_replaced(
    double: NvmlDouble, start: Start, state_directory: Path
) -> None:
    kept(double, state_directory).parent.mkdir()
    kept(double, state_directory).write_bytes(b'{"learnt": NaN}')
    program = start("--target", "78")
    program.wait_until_it_controls(0, 1)
    program.signal(signal.SIGTERM)
    status, _, err = program.end()
    assert (status, err) == (0, "")
    assert learnt.read_learnt(state_directory / "learnt", uuid(double)) is not None


def test_a_folder_that_cannot_be_written_disturbs_neither_control_nor_the_end(
    double: NvmlDouble, start: Start, state_directory: Path
) -> None:
    (state_directory / "learnt").write_text("a file where the folder should be")
    program = start("--target", "78")
    program.wait_until_it_controls(0, 1)
    double.cards[0].temperature = 94  # close to the threshold, which raises the fans at once
    wait_for(lambda: fans(double, 0) == [100, 100])
    sent_s = program.signal(signal.SIGTERM)
    status, _, err = program.end()
    assert (status, err) == (0, "")
    assert time.monotonic() - sent_s < 2
    assert fans(double, 0) == [None, None]


@pytest.mark.slow
def test_a_dry_run_writes_nothing(double: NvmlDouble, start: Start, state_directory: Path) -> None:
    program = start("--target", "78", "--dry-run", "--duration", "0.5")
    assert program.end()[0] == 0
    assert not (state_directory / "learnt").exists()


def test_a_reload_goes_from_curve_to_target_and_back_with_the_fans_in_hand(
    double: NvmlDouble, folder: Path, start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('curve = "50:60"\n')
    program = start("--config", str(file), start_new_session=True)
    wait_for(lambda: fans(double, 0) == [60, 60])
    wait_for((folder / "state.json").exists)

    def now_follows(settings: str) -> bool:
        return snapshot.read_snapshot(folder / "state.json").gpus[0].settings == settings

    file.write_text("target_c = 78\n")
    program.signal(signal.SIGHUP)
    wait_for(lambda: now_follows("target 78 °C"))
    taken = fans(double, 0)[0]
    assert taken is not None and taken > 45  # at 60 °C and 150 W less will do: it falls from what was set
    file.write_text('curve = "50:75"\n')
    program.signal(signal.SIGHUP)
    wait_for(lambda: fans(double, 0) == [75, 75])
    assert {call.operation for call in double.log()} == {Kind.SET_FAN}
