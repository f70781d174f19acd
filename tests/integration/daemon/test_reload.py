"""New settings for a running `gpufan run`, a process of its own on the NVML double."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpufan.cli.main import cli
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import last_good
from gpufan.daemon import snapshot_file as snapshot
from tests.doubles.nvml import AUTO, MANUAL, Kind, NvmlDouble, SetCall, wait_for


def curve(duty: int) -> str:
    return f'curve = "50:{duty}"\n'


@pytest.fixture
def double(tmp_path: Path) -> Iterator[NvmlDouble]:
    double = NvmlDouble(tmp_path)
    for card in double.cards[:2]:
        card.by_hand, card.temperature = 1, 60
    yield double
    double.let_go()


class Daemon:
    """A `gpufan run` without a terminal, as a service manager starts it."""

    def __init__(self, double: NvmlDouble, folder: Path) -> None:
        self.double = double
        self.file = folder / "config.toml"
        self.runtime = folder / "run"
        self.log = folder / "log"
        self.arguments = ["-m", "gpufan", "run", "--interval", "0.1"]
        self.arguments += ["--config", str(self.file), "--runtime-dir", str(self.runtime)]
        self.environment = os.environ | double.environment()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, text: str | None, duty: int | None = 60) -> None:
        """Start with `text` as the file, and wait for `duty`; for any duty if that is None."""
        if text is not None:
            self.file.write_text(text)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.arguments],
                env=self.environment,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: AUTO not in self.targets)
        if duty is not None:
            self.wait_for_targets(duty, duty)
        wait_for((self.runtime / "state.json").exists)

    def reload(self, text: str) -> None:
        assert self.process is not None
        self.file.write_text(text)
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(5)

    @property
    def targets(self) -> list[int]:
        return [card.fans[0].target if card.fans[0].policy == MANUAL else AUTO for card in self.double.cards[:2]]

    def wait_for_targets(self, *targets: int) -> None:
        wait_for(lambda: self.targets == list(targets))

    @property
    def snapshot(self) -> Snapshot:
        return snapshot.read_snapshot(self.runtime / "state.json")

    def wait_for_refusal(self) -> str:
        wait_for(lambda: self.snapshot.reload_refused)
        return self.snapshot.reload_refused or ""

    def given_back(self) -> list[SetCall]:
        return [call for call in self.double.log() if call.operation != Kind.SET_FAN]


@pytest.fixture
def daemon(double: NvmlDouble, tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(double, tmp_path)
    yield daemon
    if daemon.process is not None:
        double.let_go()
        daemon.process.terminate()
        daemon.process.wait(5)


def test_a_new_file_is_followed_and_no_fan_is_let_go_meanwhile(daemon: Daemon) -> None:
    daemon.start(curve(60))
    daemon.reload(curve(75))
    daemon.wait_for_targets(75, 75)
    assert daemon.given_back() == []
    assert daemon.stop() == 0
    assert daemon.targets == [AUTO, AUTO]
    assert f"settings reloaded from {daemon.file}" in daemon.log.read_text()


def test_a_new_table_is_followed_by_its_card_alone(daemon: Daemon) -> None:
    daemon.start(curve(60))
    daemon.reload(curve(60) + '[[gpu]]\nmatch = "41:00.0"\n' + curve(80))
    daemon.wait_for_targets(60, 80)


def test_a_new_interval_holds_from_the_reload_on(daemon: Daemon) -> None:
    del daemon.arguments[3:5]
    daemon.start("interval_s = 0.1\n" + curve(60))
    daemon.reload("interval_s = 0.2\n" + curve(75))
    wait_for(lambda: daemon.snapshot.interval_s == 0.2)


def test_an_option_counts_more_than_a_new_file(daemon: Daemon) -> None:
    daemon.start("interval_s = 5\n" + curve(60))
    daemon.reload("interval_s = 4\n" + curve(75))
    daemon.wait_for_targets(75, 75)
    assert daemon.snapshot.interval_s == 0.1


def test_a_bad_file_is_refused_in_log_and_status_until_it_is_put_right(daemon: Daemon) -> None:
    daemon.start(curve(60))
    daemon.reload(curve(75) + "hold = 3")
    mistake = f'{daemon.file}: line 2: unknown key "hold": did you mean hold_s?'
    assert daemon.wait_for_refusal() == mistake
    status = CliRunner().invoke(cli, ["status", "--runtime-dir", str(daemon.runtime)])
    assert f"settings not reloaded, the old ones stay: {mistake}\n" in status.output
    wait_for(lambda: f"settings not reloaded, the old ones stay: {mistake}\n" in daemon.log.read_text())
    assert daemon.targets == [60, 60]
    assert daemon.given_back() == []
    daemon.reload(curve(75))
    daemon.wait_for_targets(75, 75)
    wait_for(lambda: daemon.snapshot.reload_refused is None)
    daemon.file.unlink()
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.wait_for_refusal() == f"{daemon.file}: no such file: create it, or name another with --config"
    assert daemon.targets == [75, 75]


def test_what_only_a_restart_can_change_is_refused(daemon: Daemon) -> None:
    daemon.start(curve(60))
    for line in ("gpus = [1]", 'backend = "x11"', 'display = ":7"', "dry_run = true", "duration_s = 3600"):
        daemon.reload(f"{line}\n{curve(75)}")
        refusal = f"{daemon.file}: a new {line.split()[0]} needs a restart"
        wait_for(lambda refusal=refusal: daemon.snapshot.reload_refused == refusal)
        assert daemon.targets == [60, 60]


def test_a_table_that_fits_no_card_is_warned_of_at_the_start_and_at_a_reload(daemon: Daemon) -> None:
    daemon.start(curve(60) + '[[gpu]]\nmatch = "RTX"\n')
    daemon.reload(curve(60) + '[[gpu]]\nmatch = "Titan"\n')
    for name in ("RTX", "Titan"):
        wait_for(lambda name=name: f'[[gpu]] 1: match = "{name}" matches no card here' in daemon.log.read_text())


@pytest.mark.slow
def test_a_card_that_hangs_holds_up_no_other_and_follows_once_it_is_back(daemon: Daemon) -> None:
    daemon.start(curve(60))
    daemon.double.cards[0].hang[Kind.TEMPERATURE] = 1
    calls = daemon.double.calls(0)[Kind.TEMPERATURE]
    wait_for(lambda: daemon.double.calls(0)[Kind.TEMPERATURE] > calls)
    daemon.reload(curve(75))
    daemon.wait_for_targets(60, 75)
    daemon.double.let_go()
    daemon.wait_for_targets(75, 75)


@pytest.mark.slow
def test_a_storm_of_reloads_lets_no_fan_go(daemon: Daemon) -> None:
    daemon.start(curve(60))
    for number in range(300):
        daemon.reload(curve(60 + number % 2 * 10) if number % 3 else "hold = 3")
    daemon.reload(curve(80))
    daemon.wait_for_targets(80, 80)
    assert daemon.given_back() == []


# ---- a service whose file has a mistake at the start ----

BUILT_IN = "target 78 °C"
"""What cards follow under the built-in settings."""


@pytest.fixture
def service(daemon: Daemon, tmp_path: Path) -> Iterator[Daemon]:
    """The same as a service manager starts it that waits for a message."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        daemon.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        yield daemon


def kept() -> Path:
    return last_good.last_good_path()


def test_a_mistake_at_the_start_leaves_the_last_good_settings_in_use(service: Daemon) -> None:
    service.start(curve(60))
    assert service.stop() == 0
    assert kept().stat().st_mode & 0o777 == 0o600
    before = kept().read_bytes()
    service.start("hold = 3")
    mistake = f'{service.file}: line 1: unknown key "hold": did you mean hold_s?'
    wait_for(lambda: service.snapshot.settings_in_use == "last-good")
    assert service.snapshot.settings_refused == mistake
    status = CliRunner().invoke(cli, ["status", "--runtime-dir", str(service.runtime)])
    assert f"settings not used, but the last good ones: {mistake}\n" in status.output
    assert f"{mistake}; the last good settings are used instead" in service.log.read_text()
    assert kept().read_bytes() == before
    service.reload(curve(75))
    service.wait_for_targets(75, 75)
    wait_for(lambda: service.snapshot.settings_in_use == "chosen")
    assert service.snapshot.settings_refused is None
    wait_for(lambda: kept().read_bytes() != before)


@pytest.mark.parametrize(
    "content",
    [
        None,
        pytest.param(b"{", marks=pytest.mark.slow),
        pytest.param(b'{"format": 0, "text": ""}', marks=pytest.mark.slow),
        b'{"format": 1, "text": "hold = 1"}',
    ],
)
def test_without_last_good_settings_the_built_in_ones_are_used(service: Daemon, content: bytes | None) -> None:
    if content is not None:
        kept().parent.mkdir(parents=True, exist_ok=True)
        kept().write_bytes(content)
    service.start("curve = 60", None)
    wait_for(lambda: service.snapshot.settings_in_use == "built-in")
    assert [card.settings for card in service.snapshot.gpus] == [BUILT_IN, BUILT_IN]
    assert service.stop() == 0


def test_a_file_that_is_gone_stops_no_service(service: Daemon) -> None:
    service.start(None, None)
    refused = f"{service.file}: no such file: create it, or name another with --config"
    wait_for(lambda: service.snapshot.settings_refused == refused)
    assert [card.settings for card in service.snapshot.gpus] == [BUILT_IN, BUILT_IN]
    assert service.stop() == 0


def test_a_wrong_name_of_a_card_at_the_start_leaves_the_last_good_settings_in_use(service: Daemon) -> None:
    service.start(curve(60))
    assert service.stop() == 0
    service.start('gpus = ["GTX 1081"]')
    wait_for(lambda: service.snapshot.settings_in_use == "last-good")
    assert "GTX 1081: no such card; this box has" in (service.snapshot.settings_refused or "")
    assert service.stop() == 0


def test_a_choice_of_cards_that_are_all_away_is_not_replaced_by_all_cards(service: Daemon) -> None:
    service.file.write_text('gpus = ["RTX 4090"]')
    service.process = subprocess.Popen(
        [sys.executable, *service.arguments], env=service.environment, stdout=subprocess.PIPE, text=True
    )
    assert service.process.stdout is not None
    assert "RTX 4090: no such card" in service.process.stdout.readline()
    assert service.stop() == 0
    service.process.stdout.close()
    assert service.double.log() == []


def test_a_run_by_hand_ends_at_a_mistake(daemon: Daemon) -> None:
    daemon.file.write_text("hold = 3")
    done = subprocess.run(
        [sys.executable, *daemon.arguments], env=daemon.environment, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert 'line 1: unknown key "hold"' in done.stderr
    assert not kept().exists()


def test_quiet_hours_count_by_the_clock_of_the_machine_and_end_with_a_reload(daemon: Daemon) -> None:
    """On a machine where it is noon: the offset of the time zone is that of this moment."""
    minutes = int(time.time()) // 60 % 1440 - 720
    daemon.environment["TZ"] = f"XYZ{'+' if minutes > 0 else '-'}{abs(minutes) // 60}:{abs(minutes) % 60:02}"
    night = '[[quiet]]\nfrom = "00:00"\nto = "{}"\nmax_duty_percent = 40\n'
    daemon.start(curve(60) + night.format("24:00"), 40)

    def says_quiet() -> bool:
        status = CliRunner().invoke(cli, ["status", "--runtime-dir", str(daemon.runtime)])
        return "quiet hours until 24:00: at most 40 % instead of 60 %" in status.output

    assert says_quiet()
    daemon.reload(curve(60) + night.format("00:01"))
    daemon.wait_for_targets(60, 60)
    wait_for(lambda: not says_quiet())
    daemon.reload(curve(75))
    daemon.wait_for_targets(75, 75)
    assert daemon.given_back() == []
