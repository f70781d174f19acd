"""Text from outside reaches the terminal without control characters, in every command that shows it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gpufan.daemon import recording
from gpufan.daemon import snapshot_file as snapshot
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.doctor.facts import Facts, Rival
from gpufan.doctor.judge import judge
from gpufan.errors import DriverError
from gpufan.gpu import x11
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.history.reader import HistoryReader
from gpufan.xorg.client import Connection, Display
from gpufan.xorg.server_log import find_cause_in_log
from tests.doubles.nvcontrol_server import NvControlServer
from tests.unit.builders import gpu_state
from tests.unit.history.recorded import RecordedRun

EVIL = "GTX\x1b]0;owned\x07\x1b[2J\x9b1m\u202eiT 1080"
TAMED = "GTX?]0;owned??[2J?1m?iT 1080"


def a_snapshot(folder: Path) -> str:
    SnapshotFile(folder / "state.json").write(snapshot_now((gpu_state(label=EVIL),), interval_s=1))
    return snapshot.read_snapshot(folder / "state.json").gpus[0].label


def a_recording(folder: Path) -> str:
    (row,) = recording.recording_rows(snapshot_now((gpu_state(),), interval_s=1))
    text = recording.recording_csv([row]).replace(row.label, '"' + EVIL + '"')
    (folder / "r.csv").write_text(recording.HEADER + text)
    return next(recording.read_recording(folder / "r.csv")).label


def a_history(folder: Path) -> str:
    run = RecordedRun(folder)
    run.seconds(11)
    run.recorder.close()
    with closing(sqlite3.connect(run.path)) as connection, connection:
        connection.execute("UPDATE card SET label = ?", (EVIL,))
    with HistoryReader(folder) as reader:
        return reader.cards()[0].label


def the_name_of_a_card_over_x(folder: Path) -> str:
    plant = SimulatedBox(PROFILES["1080ti"], WORKLOADS["idle"])
    plant.gpus[0].info = replace(plant.gpus[0].info, name=EVIL)
    with NvControlServer(plant, folder) as server:
        return x11.open_x11_cards(lambda: Display(server.number, server.authority))[0].info.name


def what_an_x_server_says_to_strangers(folder: Path) -> str:
    with NvControlServer(SimulatedBox(PROFILES["1080ti"], WORKLOADS["idle"]), folder) as server:
        server.refusal = EVIL.encode()
        with pytest.raises(DriverError) as refused:
            Connection(Display(server.number))
    return str(refused.value).partition("(")[2].partition(")")[0]


def the_log_of_an_x_server(_: Path) -> str:
    return find_cause_in_log(f"(EE) {EVIL}") or ""


def the_name_of_a_process(_: Path) -> str:
    facts = Facts(rivals=(Rival(EVIL, None, 7, exclusive=True),))
    return next(found.text for found in judge(facts).findings if found.check == "rivals").partition(" (")[0]


def the_name_of_a_file(_: Path) -> str:
    facts = Facts(autostarts=(EVIL,))
    return next(found.text for found in judge(facts).findings if found.check == "rivals").partition(" starts")[0]


@pytest.mark.parametrize(
    "way",
    [
        *(a_snapshot, a_recording, a_history, the_name_of_a_card_over_x, what_an_x_server_says_to_strangers),
        *(the_log_of_an_x_server, the_name_of_a_process, the_name_of_a_file),
    ],
)
def test_text_from_outside_does_not_control_the_terminal(way: Callable[[Path], str], tmp_path: Path) -> None:
    assert way(tmp_path) == TAMED
