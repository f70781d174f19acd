"""The command line: what a person types, what comes back, and with which exit status."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import click
import pytest

from gpufan import __version__
from gpufan.cli import options
from gpufan.cli.main import cli
from gpufan.cli.man import commands_for_man_page
from gpufan.core.sentences import card_sentence
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import snapshot_file as snapshot
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.gpu.simulated import PROFILES, WORKLOADS
from gpufan.system.own_command import with_own_command
from tests.unit.builders import gpu_state
from tests.unit.conftest import Run

SIMULATED = ("run", "--simulate", "--time-scale", "max", "--duration")


ROOT = click.Context(cli, info_name="gpufan", **cli.context_settings)
COMMANDS = {"gpufan": cli} | {context.command_path: context.command for context in commands_for_man_page(ROOT)}
"""Every command, by what a person types."""


def sections(text: str) -> dict[str, list[str]]:
    """Names of the options and commands that a help text explains, by the title above them."""
    blocks = [block.splitlines() for block in text.split("\n\n") if re.match(r"\w[\w ]*:\n", block)]
    name = re.compile(r"  (?:-h, )?(\S+)")
    return {title[:-1]: [found[1] for row in rows if (found := name.match(row))] for title, *rows in blocks}


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_into_the_terminal(gpufan: Run, monkeypatch: pytest.MonkeyPatch, command: str, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = gpufan(*command.split()[1:], "--help")
    assert result.status == 0
    assert max(len(line) for line in result.out.splitlines()) <= columns
    assert not re.search(r"\w-$", result.out, re.MULTILINE), "a name or an option is cut at a hyphen"
    assert "..." not in re.sub(r"(T:D,|\[ARGS\]|\[KEY\]|VALUE)\.\.\.", "", result.out)


def test_help_uses_the_width_of_the_terminal_up_to_120_columns(gpufan: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    widest = {}
    for columns in (80, 100, 120, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        widest[columns] = max(len(line) for line in gpufan("run", "--help").out.splitlines())
    assert 80 < widest[100] <= 100 < widest[120] == widest[300] <= 120


def test_commands_are_listed_in_sections_from_every_day_to_rarely(gpufan: Run) -> None:
    found = sections(gpufan("--help").out)
    assert list(found) == ["Options", "Every day", "Understand", "Set up", "Rarely"]
    assert found["Every day"] == ["run", "set", "status", "list", "web", "doctor"]
    assert [*chain(*found.values())] == ["--version", "--debug", "--help", *cli.list_commands(ROOT)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_once(gpufan: Run, command: str) -> None:
    explained = [each for each in COMMANDS[command].get_params(ROOT) if isinstance(each, click.Option)]
    assert all(option.help for option in explained)
    shown = chain(*sections(gpufan(*command.split()[1:], "--help").out).values())
    wanted = sorted(max(option.opts, key=len) for option in explained)
    assert sorted(name for name in shown if name.startswith("-")) == wanted


def test_the_options_of_run_are_in_sections(gpufan: Run) -> None:
    found = sections(gpufan("run", "--help").out)
    assert list(found) == ["How to cool", "Which cards", "Try it out", "Files and output", "Other"]
    assert found["How to cool"][:2] == ["--target", "--curve"]


def test_a_group_without_a_command_shows_its_help(gpufan: Run) -> None:
    assert gpufan() == gpufan("--help") == gpufan("-h")
    assert gpufan("config") == gpufan("config", "--help")


def test_all_versions_are_shown_in_one_line(gpufan: Run) -> None:
    result = gpufan("--version")
    assert (result.status, result.err) == (0, "")
    binding, driver = r"nvidia-ml-py [\d.]+", r"(driver [\d.]+|no driver)"
    assert re.fullmatch(rf"gpufan {re.escape(__version__)} · {binding} · {driver} · Python 3\.[\d.]+\w*\n", result.out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--curve", "60:50,55:70"], ["--curve", "point 2", "55 does not come after 60"]),
        (["run", "--curve", ""], ["--curve", "write it as temperature:duty"]),
        (["run", "--curve", "0:auto"], ["--curve", "at least one point"]),
        (["run", "--unknown"], ["--unknown"]),
        (["run", "unexpected"], ["unexpected"]),
        (["unknown"], ["unknown"]),
        (["run", "--simulate", "gtx480"], ["--simulate", "gtx480", "dual-1080ti-open-air"]),
        (["run", "--simulate", "--workload", "mining"], ["--workload", "mining", "epochs"]),
        (["run", "--simulate", "--duration", "soon"], ["--duration", "soon", "90s"]),
        (["run", "--simulate", "--duration", "0"], ["--duration", "'0'", "90s"]),
        (["run", "--simulate", "--duration", "-5m"], ["--duration", "-5m", "90s"]),
        (["run", "--simulate", "--time-scale", "fast"], ["--time-scale", "fast", "max"]),
        (["run", "--simulate", "--time-scale", "0"], ["--time-scale", "max"]),
        (["run", "--simulate", "--time-scale", "nan"], ["--time-scale", "nan", "max"]),
        (["run", "--interval", "0"], ["--interval", "0.1"]),
        (["run", "--interval", "6"], ["--interval", "5"]),
        ([*SIMULATED, "1m", "--interval", "nan"], ["--interval", "nan"]),
        ([*SIMULATED, "1m", "--hold", "nan"], ["--hold", "nan"]),
        ([*SIMULATED, "1m", "--hysteresis", "nan"], ["--hysteresis", "nan"]),
        (["run", "--hysteresis", "-1"], ["--hysteresis", "0"]),
        (["run", "--hold", "-1"], ["--hold", "0"]),
        (["run", "--min-duty", "101"], ["--min-duty", "100"]),
        (["run", "--target", "75F"], ["--target", "75F: write a number from 50 to 90"]),
        (["run", "--target", "75", "--curve", "50:30"], ["--target and --curve", "leave one out"]),
        (["install-service", "--target", "75", "--curve", "50:30"], ["--target and --curve", "leave one out"]),
        (["run", "--target", "75", "--target", "80"], ["--target is given twice: leave one out"]),
        (["config", "set", "target_c", "75", "--gpu", "0", "--gpu", "1"], ["--gpu is given twice: leave one out"]),
        (["run", "--target", "5"], ["--target", "5: write a number from 50 to 90"]),
        (["run", "--target", " "], ["--target", "empty: write a number from 50 to 90"]),
        (["run", "--interval", "1_0"], ["--interval", "1_0: write a number from 0.1 to 5"]),
        (
            ["run", "--simulate", "--time-scale", "inf"],
            ["--time-scale", "'inf' is not a speed: write a number"],
        ),
        (["run", "--interval", "often"], ["--interval", "often: write a number from 0.1 to 5"]),
        (["run", "--min-duty", "50.5"], ["--min-duty", "50.5: write a whole number from 0 to 100"]),
        (["setup-xorg", "--coolbits", "many"], ["--coolbits", "many: write a whole number from 1 to 31"]),
        (["setup-xorg", "--restore", "--coolbits", "8"], ["--coolbits has no meaning with --restore"]),
        (["setup-xorg", "--output", "/none/x.conf"], ["/none does not exist", "create it first"]),
        (["simulate", "--inlet", "99"], ["--inlet", "99: write a number from 0 to 60"]),
        *[
            ([*SIMULATED, text], [f"'{text}' is not a time", "1h30m"])
            for text in ("1h30", "30m1h", "1h1h", "0h0m", "h")
        ],
        (["run", "--time-scale", "60"], ["--time-scale", "--simulate"]),
        (["run", "--workload", "step"], ["--workload", "--simulate"]),
        ([*SIMULATED, "1m", "--gpu", "7"], ["--gpu 7", "no such card", "0 GTX 1080 Ti (00000000:0A:00.0)"]),
        (["list", "--simulate", "--gpu", "RTX"], ["--gpu RTX", "no such card"]),
        (["list", "--simulate", "--gpu", " "], ["--gpu", "it is empty: name a card"]),
        (["config", "set", "target_c", "75", "--gpu", ""], ["--gpu", "it is empty: name a card"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gives_one_line_that_says_what_is_allowed(
    gpufan: Run, arguments: list[str], words: list[str]
) -> None:
    result = gpufan(*arguments)
    assert (result.status, result.out) == (2, "")
    assert re.fullmatch(r"gpufan: .+\n", result.err)
    for word in words:
        assert word in result.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_wait_that_is_longer_than_the_system_can_count(gpufan: Run, number: int) -> None:
    ended = threading.Event()

    def ask_to_stop() -> None:
        while not ended.wait(0.1):
            os.kill(os.getpid(), number)

    signal.signal(number, lambda *_: None)  # should it come before the command catches it
    asking = threading.Thread(target=ask_to_stop)
    asking.start()
    result = gpufan("run", "--simulate", "--time-scale", "1e-300")
    ended.set()
    asking.join()
    assert (result.status, result.err) == (0, "")


def test_status_without_a_daemon_fails_and_says_how_to_start_one(gpufan: Run, tmp_path: Path) -> None:
    result = gpufan("status", "--runtime-dir", str(tmp_path))
    assert (result.status, result.out) == (1, "")
    assert result.err == (f"gpufan: no gpufan is running (no {tmp_path}/state.json): start it with `sudo gpufan run`\n")


def test_status_shows_each_card_and_the_reason_for_its_duty(gpufan: Run, tmp_path: Path) -> None:
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((gpu_state(overrides=2),), interval_s=1))
    result = gpufan("status", "--runtime-dir", str(tmp_path))
    assert (result.status, result.err) == (0, "")
    assert result.out.endswith(
        f"{card_sentence(gpu_state())}\n  229.7 W, at 61 %, fan at 2950 rpm, fans set again 2 times\n"
    )


def test_status_as_json_is_the_unchanged_snapshot(gpufan: Run, tmp_path: Path) -> None:
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((gpu_state(),), interval_s=1.0))
    result = gpufan("status", "--json", "--runtime-dir", str(tmp_path))
    assert result.out == (tmp_path / "state.json").read_text() + "\n"


def test_status_of_a_daemon_that_died_is_shown_with_exit_status_1(
    gpufan: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((gpu_state(),), interval_s=1))
    monkeypatch.setattr(snapshot, "snapshot_stale_s", lambda taken: 99.0)
    result = gpufan("status", "--runtime-dir", str(tmp_path))
    assert result.status == 1
    assert "62 %" in result.out
    assert "nothing new since" in result.err
    assert "gpufan restore" in result.err


def test_the_runtime_folder_may_come_from_the_environment(
    gpufan: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUFAN_RUNTIME_DIR", str(tmp_path))
    assert f"{tmp_path}/state.json" in gpufan("status").err


def test_a_wrong_folder_in_the_environment_is_named_with_its_variable(
    gpufan: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUFAN_RUNTIME_DIR", __file__)
    result = gpufan("status")
    assert result.status == 2
    assert result.err.startswith("gpufan: environment variable GPUFAN_RUNTIME_DIR: invalid value for '--runtime-dir': ")


def test_a_variable_for_real_cards_does_not_hinder_a_simulation(gpufan: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUFAN_DISPLAY", ":7")
    assert gpufan(*SIMULATED, "1s").status == 0
    assert gpufan(*SIMULATED, "1s", "--display", ":7").status == 2


def test_a_simulated_run_prints_a_summary_and_no_change_that_is_normal(gpufan: Run) -> None:
    result = gpufan(*SIMULATED, "20m", "--target", "78")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert re.split(r" {2,}", lines[-3].strip()) == ["GPU", "peak °C", "s above 83 °C", "dB(A)", "swings", "throttled"]
    assert [line.split("  ")[0] for line in lines[-2:]] == ["0 GTX 1080 Ti", "1 GTX 1080 Ti"]
    assert len(lines) <= 40


def test_an_idle_hour_writes_no_line(gpufan: Run) -> None:
    result = gpufan(*SIMULATED, "1h", "--target", "78", "--workload", "idle", "--interval", "5")
    assert result.out.splitlines()[0].split()[0] == "GPU"


def test_a_simulated_run_prints_what_is_news(gpufan: Run) -> None:
    lines = gpufan(*SIMULATED, "10m", "--curve", "0:30").out.splitlines()
    assert re.match(r"0:0\d:\d\d [01] GTX 1080 Ti: throttled by heat: 30 % at 84 °C: the curve gives 30 %$", lines[0])


def test_a_simulated_run_is_the_same_every_time(gpufan: Run) -> None:
    assert gpufan(*SIMULATED, "3m") == gpufan(*SIMULATED, "3m")


@pytest.mark.parametrize("duration", ["60", "60s", "1m", "1.0m", "1 m", "0h1m", "0m60s", "0d 0.5m 30s"])
def test_a_duration_may_be_written_in_any_unit(gpufan: Run, duration: str) -> None:
    assert gpufan(*SIMULATED, duration) == gpufan(*SIMULATED, "1m")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_shows_what_a_duration_without_a_unit_means(
    gpufan: Run, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    hint = "gpufan: 30 without a unit means seconds: write 30s, or 30m\n"
    assert gpufan(*SIMULATED, "30").err == (hint if is_terminal else "")
    assert gpufan(*SIMULATED, "30s").err == ""


@pytest.mark.parametrize("option", ["--target=75C", "--target=75 °C", "--min-duty=40%", "--interval=1s"])
def test_the_unit_of_an_option_may_follow_its_number(gpufan: Run, option: str) -> None:
    name, _, value = option.partition("=")
    number = re.sub(r"[^\d.]", "", value)
    assert gpufan(*SIMULATED, "1m", name, value) == gpufan(*SIMULATED, "1m", name, number)


def test_an_error_on_a_terminal_is_broken_between_words_and_no_command_is(
    gpufan: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    command = ("status", "--runtime-dir", str(tmp_path))
    lines = gpufan(*command).err.splitlines()
    assert lines[-1] == "`sudo gpufan run`"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert gpufan(*command).err == " ".join(lines) + "\n"


def test_the_help_says_ranges_in_words(gpufan: Run) -> None:
    text = " ".join(gpufan("run", "--help").out.split())
    assert "[default: 78; 50 to 90]" in text
    assert "[default: 120; 0 to 3600]" in text
    assert "<=" not in text


def test_a_simulated_dry_run_sets_nothing(gpufan: Run) -> None:
    result = gpufan(*SIMULATED, "10m", "--dry-run", "--workload", "idle")
    assert result.status == 0
    assert result.out.splitlines()[-1].split()[-3] == "0"


def test_a_simulation_can_be_limited_to_a_card(gpufan: Run) -> None:
    result = gpufan(*SIMULATED, "1m", "--gpu", "PCI:65:0:0")
    assert "1 GTX 1080 Ti" in result.out
    assert "0 GTX 1080 Ti:" not in result.out


def test_a_simulation_removes_its_snapshot(gpufan: Run, tmp_path: Path) -> None:
    assert gpufan(*SIMULATED, "1m", "--runtime-dir", str(tmp_path)).status == 0
    assert os.listdir(tmp_path) == ["lock"]


def test_the_simulated_cards_are_listed(gpufan: Run) -> None:
    result = gpufan("list", "--simulate", "quad-2080ti", "--gpu", "1")
    assert result == (
        0,
        "1  NVIDIA GeForce RTX 2080 Ti\n"
        "   UUID     GPU-00000001-0000-4000-8000-000000000001\n"
        "   PCI      00000000:41:00.0, in xorg.conf PCI:65:0:0\n"
        "   now      30 °C, 12 W\n"
        "   fans     1 fan, 30..100 %, at 30 %, controlled by the driver\n"
        "   slowdown 93 °C\n"
        "   limit    250 W, can be 125..300 W\n"
        "   control  simulated\n",
        "",
    )


def test_the_choices_are_all_profiles_and_workloads_of_the_simulator() -> None:
    assert tuple(PROFILES) == options.PROFILES
    assert tuple(WORKLOADS) == options.WORKLOADS


def test_an_error_is_one_line_without_control_characters(gpufan: Run) -> None:
    error = gpufan("tune", "/nowhere/\x1b[2J\n\x9b1m").err
    remedy = "name a file of `gpufan run --record`"
    assert error == f"gpufan: /nowhere/?[2J ?1m cannot be read: No such file or directory: {with_own_command(remedy)}\n"


def test_a_very_long_argument_gives_a_short_message_with_its_remedy(gpufan: Run) -> None:
    error = gpufan("run", "--target", "7" * 100_000).err
    assert len(error) < 2100
    assert error.startswith("gpufan: invalid value for '--target': 777")
    assert error.endswith("777: write a number from 50 to 90\n")


def test_the_reader_of_a_recording_says_why_it_cannot_be_read(
    gpufan: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # click would ask this, and answer without a remedy
    (tmp_path / "rows.csv").touch()
    result = gpufan("tune", str(tmp_path / "rows.csv"))
    assert result.status == 2
    assert "rows.csv is empty: " in result.err


def test_a_missing_argument_gives_one_line_with_the_choices(gpufan: Run) -> None:
    assert gpufan("completion").err == "gpufan: missing argument '{bash|fish|zsh}'. Choose from: bash, fish, zsh\n"


def test_a_simulation_reports_tables_and_neighbours_that_match_no_card(gpufan: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('neighbours = ["9"]\n[[gpu]]\nmatch = "0b:00.0"\n')
    out = gpufan(*SIMULATED, "1s", "--config", str(tmp_path / "c.toml")).out
    assert 'match = "0b:00.0" matches no card here' in out and 'neighbours: "9" matches no card here' in out


def test_the_check_of_a_file_warns_of_indices(gpufan: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('gpus = [0, "GTX"]\n')
    checked = gpufan("config", "check", "--config", str(tmp_path / "c.toml"))
    assert checked.status == 0
    assert "warning: " in checked.err and "gpus: 0 may be the index of another card after a reboot" in checked.err
    assert "GTX" not in checked.err


def test_debug_shows_a_traceback_of_a_failure(gpufan: Run, tmp_path: Path) -> None:
    result = gpufan("status", "--runtime-dir", str(tmp_path), "--debug")
    assert result.status == 1
    assert result.err.startswith("Traceback (most recent call last):\n")
    assert result.err.splitlines()[-1].startswith("gpufan: no gpufan is running")


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["plain", "debug"])
def test_a_bug_gives_one_line_and_a_traceback_only_with_debug(
    gpufan: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, debug: list[str]
) -> None:
    def fail(path: Path) -> Snapshot:
        raise RuntimeError("impossible")

    monkeypatch.setattr(snapshot, "read_snapshot", fail)
    result = gpufan("status", "--runtime-dir", str(tmp_path), *debug)
    assert result.status == 1
    assert result.err.splitlines()[-1] == "gpufan: RuntimeError: impossible (this is a bug: --debug shows where)"
    assert ("Traceback" in result.err) is bool(debug)


PATH_OPTIONS = [
    (command, option)
    for command, found in COMMANDS.items()
    for option in found.params
    if isinstance(option.type, options.FilePath)
]


@pytest.mark.parametrize(
    ("command", "option"), PATH_OPTIONS, ids=[f"{command} {option.name}" for command, option in PATH_OPTIONS]
)
def test_a_path_at_which_nothing_can_be_is_bad_input(
    gpufan: Run, tmp_path: Path, command: str, option: click.Parameter
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    is_folder = isinstance(option.type, options.FolderPath)
    wrong_kind = (tmp_path / "file", "no folder: name a folder") if is_folder else (tmp_path, "a folder: name a file")
    for path, words in (
        ("", "it is empty: name a f"),
        (tmp_path / ("a" * 300), "...: the name is too long: use a shorter one"),
        (tmp_path / "file/x", "/file/x: a file in this path is used as a folder: correct the path"),
        (tmp_path / "loop", "/loop: its symbolic links form a circle: name another path"),
        wrong_kind,
    ):
        name = [option.opts[0]] if isinstance(option, click.Option) else []
        result = gpufan(*command.split()[1:], *name, str(path))
        assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
        assert words in result.err


@pytest.mark.parametrize(
    ("user", "remedy"), [(1000, "run this with sudo"), (0, "not even root may use it here: name another path")]
)
def test_a_folder_that_may_not_be_searched_is_no_bug(
    gpufan: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, remedy: str
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    monkeypatch.setattr("os.geteuid", lambda: user)
    result = gpufan("doctor", "--bundle", str(tmp_path / "x.tar.gz"))
    assert (result.status, result.err) == (1, f"gpufan: {tmp_path}: permission denied: {remedy}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "no such command 'nonsense': --help shows what is possible"),
        (["config", "zzz"], "no such command 'zzz': --help shows what is possible"),
        (["run", "--zzz"], "no such option '--zzz': --help shows what is possible"),
        (["run", "--target"], "option '--target' requires an argument: --help shows what is possible"),
        (["config", "set"], "missing argument 'KEY': --help shows what is possible"),
        (["run", "--targt", "80"], "no such option '--targt'. Did you mean '--target'?"),
    ],
    ids=str,
)
def test_a_wrong_command_line_names_the_remedy(gpufan: Run, arguments: list[str], message: str) -> None:
    assert gpufan(*arguments) == (2, "", f"gpufan: {message}\n")


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["plain", "debug"])
def test_an_interrupt_while_a_command_is_loaded_is_one_line(debug: list[str]) -> None:
    command = [sys.executable, "-c", "import gpufan.cli; raise KeyboardInterrupt", *debug]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert ("Traceback" in done.stderr) is bool(debug)
    assert debug or done.stderr == "gpufan: interrupted\n"


@contextmanager
def stream(
    name: str, target: str | int, monkeypatch: pytest.MonkeyPatch, *, is_buffered: bool = True
) -> Iterator[None]:
    """Make `target` the standard stream `name`. It is closed at the end, as the interpreter closes its streams."""
    with (
        open(target, "wb", -1 if is_buffered else 0) as file,
        io.TextIOWrapper(file, write_through=not is_buffered) as text,
        monkeypatch.context() as patch,
    ):
        patch.setattr(sys, name, text)
        yield


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--simulate"],
        ["--help"],
        ["simulate", "--duration", "1s"],
        ["status", "--watch", "--runtime-dir", "/nowhere"],
    ],
    ids=str,
)
@pytest.mark.parametrize("is_buffered", [True, False])
def test_output_that_cannot_be_written_gives_one_line(
    gpufan: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], is_buffered: bool
) -> None:
    with stream("stdout", "/dev/full", monkeypatch, is_buffered=is_buffered):
        result = gpufan(*arguments)
    assert result == (1, "", "gpufan: the output cannot be written: No space left on device\n")


def test_a_message_that_cannot_be_written_does_not_change_the_exit_status(
    gpufan: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stream("stderr", "/dev/full", monkeypatch):
        assert gpufan("nonsense").status == 2


def test_a_closed_pipe_is_no_error(gpufan: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with stream("stdout", writer, monkeypatch):
        assert gpufan("list", "--simulate") == (1, "", "")


def test_output_without_unicode_gets_replacement_characters(gpufan: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    with io.TextIOWrapper(written, encoding="ascii") as text, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", text)
        assert gpufan(*SIMULATED, "10m", "--curve", "0:30") == (0, "", "")
        out = written.getvalue().decode("ascii")
    assert "GTX 1080 Ti: throttled by heat: 30 % at 84 ?C" in out
    assert "throttled" in out
