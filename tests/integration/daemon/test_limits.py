"""The power limit of a card: set at the start, recorded before, and given back at every end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from gpufan.daemon import taken
from gpufan.gpu import release_fans
from tests.doubles.nvml import Kind, NvmlDouble, wait_for
from tests.integration.harness import Program

Start = Callable[..., Program]
Command = Callable[..., tuple[int, str, str]]

BEFORE_MW = 240_000
"""The limit of every card before gpufan: not the default, which would come back by itself."""


@pytest.fixture
def config(double: NvmlDouble, tmp_path: Path) -> Path:
    """Settings that limit the first card to 200 W."""
    for card in double.cards[:2]:
        card.power_limit_mw = BEFORE_MW
    path = tmp_path / "config.toml"
    path.write_text('backend = "nvml"\n[[gpu]]\nmatch = "0"\npower_limit_w = 200\n')
    return path


def limits_mw(double: NvmlDouble) -> list[int]:
    return [card.power_limit_mw for card in double.cards[:2]]


def sets_mw(double: NvmlDouble) -> list[int]:
    """Every power limit that was set on the first card."""
    return [call.value for call in double.log() if (call.card, call.operation) == (0, Kind.SET_POWER)]


def start_limited(start: Start, double: NvmlDouble, config: Path, **options: object) -> Program:
    program = start("--config", str(config), **options)
    program.wait_until_it_controls(0, 1)
    wait_for(lambda: double.cards[0].power_limit_mw == 200_000)
    return program


def kill(program: Program) -> None:
    """Kill the run in such a way that nobody gives anything back."""
    program.kill_with_guardian()


# ---- set, and given back at every end ----


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_limit_is_set_and_given_back_at_the_end_and_another_card_is_left_alone(
    double: NvmlDouble, start: Start, config: Path, folder: Path, number: int
) -> None:
    program = start_limited(start, double, config)
    assert limits_mw(double) == [200_000, BEFORE_MW]
    program.signal(number)
    assert program.end()[::2] == (0, "")
    assert sets_mw(double) == [200_000, BEFORE_MW]
    assert {call.card for call in double.log() if call.operation == Kind.SET_POWER} == {0}
    assert not (folder / "taken.json").exists()


def test_a_limit_is_given_back_after_a_run_that_ends_by_itself(
    double: NvmlDouble, gpufan: Command, config: Path
) -> None:
    assert gpufan("run", "--config", str(config), "--duration", "1s")[0] == 0
    assert sets_mw(double) == [200_000, BEFORE_MW]


def test_without_power_settings_no_limit_is_read_set_or_recorded(
    double: NvmlDouble, start: Start, folder: Path
) -> None:
    start().wait_until_it_controls(0, 1)
    assert [card.limits for card in taken.read_taken(folder / "taken.json")] == [(), ()]
    assert not sets_mw(double)
    before = double.calls(0)[Kind.GET_LIMIT]
    ticks = double.calls(0)[Kind.TEMPERATURE]
    wait_for(lambda: double.calls(0)[Kind.TEMPERATURE] > ticks + 5)
    assert double.calls(0)[Kind.GET_LIMIT] == before


def test_a_dry_run_sets_no_limit(double: NvmlDouble, gpufan: Command, config: Path) -> None:
    assert gpufan("run", "--dry-run", "--config", str(config), "--duration", "1s")[0] == 0
    assert not sets_mw(double)


def test_the_limit_before_is_recorded_before_the_first_write(
    double: NvmlDouble, start: Start, config: Path, folder: Path
) -> None:
    double.cards[0].hang[Kind.SET_POWER] = 1
    program = start("--config", str(config))
    wait_for(lambda: double.calls(0)[Kind.SET_POWER])
    assert double.cards[0].power_limit_mw == BEFORE_MW
    (limit,) = taken.read_taken(folder / "taken.json")[0].limits
    assert (limit.name, limit.before, limit.set) == ("power_w", 240, (240, 200))
    program.process.kill()


def test_a_limit_outside_the_range_of_the_card_becomes_the_nearest(
    double: NvmlDouble, start: Start, config: Path
) -> None:
    config.write_text('backend = "nvml"\npower_limit_w = 50\n')
    start("--config", str(config))
    wait_for(lambda: limits_mw(double) == [125_000, 125_000])


def test_a_reload_changes_the_limit_and_gives_back_the_one_before_all(
    double: NvmlDouble, start: Start, config: Path, tmp_path: Path
) -> None:
    program = start_limited(start, double, config, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    config.write_text('backend = "nvml"\npower_limit_w = 180\n')
    program.signal(signal.SIGHUP)
    wait_for(lambda: limits_mw(double) == [180_000, 180_000])
    config.write_text('backend = "nvml"\n')
    program.signal(signal.SIGHUP)
    wait_for(lambda: limits_mw(double) == [BEFORE_MW, BEFORE_MW])
    program.signal(signal.SIGTERM)
    program.end()
    assert sets_mw(double) == [200_000, 180_000, BEFORE_MW]


def test_a_pause_gives_the_limit_back_and_a_resume_sets_it_again(
    double: NvmlDouble, start: Start, gpufan: Command, config: Path, folder: Path
) -> None:
    start_limited(start, double, config)
    wait_for((folder / "state.json").exists)
    assert gpufan("pause", "--gpu", "0")[0] == 0
    wait_for(lambda: double.cards[0].power_limit_mw == BEFORE_MW)
    assert gpufan("resume")[0] == 0
    wait_for(lambda: double.cards[0].power_limit_mw == 200_000)


def test_fans_given_back_after_a_fault_take_the_limit_with_them(double: NvmlDouble, start: Start, config: Path) -> None:
    start_limited(start, double, config)
    double.cards[0].error[Kind.SET_FAN] = pynvml.NVML_ERROR_UNKNOWN
    double.cards[0].temperature = 90
    wait_for(lambda: double.cards[0].power_limit_mw == BEFORE_MW)


# ---- after SIGKILL ----


def test_after_kill_9_the_guardian_gives_the_limit_back(
    double: NvmlDouble, start: Start, config: Path, folder: Path
) -> None:
    program = start_limited(start, double, config)
    program.signal(signal.SIGKILL)
    wait_for(lambda: double.cards[0].power_limit_mw == BEFORE_MW)
    line = "gpufan: 0 GTX 1080 Ti: power limit 240 W given back\n"
    assert program.end()[2] == line + program.guardians_line()
    assert not (folder / "taken.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["restore"],
        *(pytest.param(["restore", *more], marks=pytest.mark.slow) for more in (["--taken"], ["--gpu", "0"])),
    ],
    ids=" ".join,
)
def test_restore_after_kill_9_gives_the_limit_back_and_says_so(
    double: NvmlDouble, start: Start, gpufan: Command, config: Path, arguments: list[str]
) -> None:
    kill(start_limited(start, double, config))
    status, out, err = gpufan(*arguments)
    assert (status, err) == (0, "")
    assert "0 GTX 1080 Ti: power limit 240 W given back\n" in out
    assert limits_mw(double) == [BEFORE_MW, BEFORE_MW]
    status, out, err = gpufan(*arguments)
    assert (status, err, "power limit" in out) == (0, "", False)


def test_the_systems_python_gives_the_limit_back_without_gpufan(
    double: NvmlDouble, start: Start, config: Path, folder: Path
) -> None:
    kill(start_limited(start, double, config))
    command = [sys.executable, "-I", "-S", release_fans.__file__, str(folder / "taken.json"), str(double.library)]
    done = subprocess.run(
        command, env={**os.environ, **double.environment()}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "gpufan: 0 GTX 1080 Ti: power limit 240 W given back\n")
    assert limits_mw(double) == [BEFORE_MW, BEFORE_MW]


def test_a_kill_between_record_and_write_leaves_nothing_to_give_back(
    double: NvmlDouble, start: Start, gpufan: Command, config: Path, folder: Path
) -> None:
    kill(start_limited(start, double, config))
    record = json.loads((folder / "taken.json").read_text())
    record["cards"][0]["limits"][0]["set"] = [200, 150]  # 150 W was recorded, and not set any more
    (folder / "taken.json").write_text(json.dumps(record))
    assert gpufan("restore", "--taken")[0] == 0
    assert limits_mw(double) == [BEFORE_MW, BEFORE_MW]


def test_a_limit_that_somebody_set_after_the_kill_stays_and_that_is_said(
    double: NvmlDouble, start: Start, gpufan: Command, config: Path
) -> None:
    kill(start_limited(start, double, config))
    double.cards[0].power_limit_mw = 170_000
    status, out, err = gpufan("restore", "--taken")
    assert (status, err) == (0, "")
    assert "0 GTX 1080 Ti: another program has set the power limit of 170 W: it stays\n" in out
    assert double.cards[0].power_limit_mw == 170_000


@pytest.mark.parametrize("kind", [Kind.SET_POWER, pytest.param(Kind.GET_LIMIT, marks=pytest.mark.slow)])
def test_restore_names_a_card_whose_limit_cannot_be_given_back_and_leaves_the_record(
    double: NvmlDouble, start: Start, gpufan: Command, config: Path, folder: Path, kind: Kind
) -> None:
    kill(start_limited(start, double, config))
    double.cards[0].error[kind] = pynvml.NVML_ERROR_UNKNOWN
    for arguments in (["restore", "--taken"], ["restore"]):
        status, _, err = gpufan(*arguments)
        assert (status, err.count("\n")) == (1, 1)
        assert "0 GTX 1080 Ti: power limit not given back: Unknown Error" in err
    double.cards[0].error[kind] = 0
    assert gpufan("restore", "--taken")[0] == 0
    assert double.cards[0].power_limit_mw == BEFORE_MW
    assert not (folder / "taken.json").exists()


def test_a_damaged_record_is_said_where_the_limit_before_is_lost_with_it(
    double: NvmlDouble, start: Start, gpufan: Command, config: Path, folder: Path
) -> None:
    kill(start_limited(start, double, config))
    (folder / "taken.json").write_text('{"cards": [{"uu')
    out = gpufan("run", "--duration", "1s")[1]
    assert out.count(" cannot be read, so fans and limits that an earlier run has set are not known\n") == 1
    (folder / "taken.json").write_text('{"cards": [{"uu')
    status, _, err = gpufan("restore")
    assert (status, err.count("\n")) == (0, 1)
    assert "taken.json cannot be read, so limits that gpufan has set may still be set: look at them with" in err


def test_the_run_after_a_kill_gives_back_the_limit_before_the_first_run(
    double: NvmlDouble, start: Start, gpufan: Command, config: Path
) -> None:
    kill(start_limited(start, double, config))
    assert gpufan("run", "--config", str(config), "--duration", "1s")[0] == 0
    assert limits_mw(double) == [BEFORE_MW, BEFORE_MW]


def test_a_run_without_power_settings_gives_back_what_a_killed_run_has_left(
    double: NvmlDouble, start: Start, config: Path
) -> None:
    kill(start_limited(start, double, config))
    start().wait_until_it_controls(0, 1)
    wait_for(lambda: limits_mw(double) == [BEFORE_MW, BEFORE_MW])


# ---- trouble with a limit never reaches the fans ----


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        (Kind.SET_POWER, pynvml.NVML_ERROR_NO_PERMISSION, "the driver refuses to let even root set the limits"),
        (Kind.GET_LIMIT, pynvml.NVML_ERROR_NOT_SUPPORTED, "the card does not report it"),
        *(
            pytest.param(Kind.SET_POWER, error, f"the driver refused: {text}", marks=pytest.mark.slow)
            for error, text in (
                (pynvml.NVML_ERROR_NOT_SUPPORTED, "Not Supported"),
                (pynvml.NVML_ERROR_INVALID_ARGUMENT, "Invalid Argument"),
                (pynvml.NVML_ERROR_UNKNOWN, "Unknown Error"),
            )
        ),
    ],
)
def test_a_refused_limit_is_one_line_of_log_and_the_fans_are_controlled(
    double: NvmlDouble, start: Start, config: Path, kind: Kind, error: int, text: str
) -> None:
    if os.geteuid() != 0:
        text = text.replace("refuses to let even root set", "lets only root set")
    double.cards[0].error[kind] = error
    program = start("--config", str(config))
    program.wait_until_it_controls(0, 1)
    double.cards[0].temperature = 90
    wait_for(lambda: double.cards[0].fans[0].target == 100)
    program.signal(signal.SIGTERM)
    status, out, err = program.end()
    assert (status, err) == (0, "")
    (line,) = [line for line in out.splitlines() if "power limit: " in line]
    assert f"0 GTX 1080 Ti: power limit: {text}" in line
    assert line.endswith("; the fans are controlled all the same")
    assert limits_mw(double) == [BEFORE_MW, BEFORE_MW]


@pytest.mark.parametrize("kind", [Kind.SET_POWER, pytest.param(Kind.GET_LIMIT, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "error",
    [pynvml.NVML_ERROR_GPU_IS_LOST, pytest.param(pynvml.NVML_ERROR_UNINITIALIZED, marks=pytest.mark.slow)],
)
def test_a_card_that_is_lost_for_its_limits_only_stays_under_control(
    double: NvmlDouble, start: Start, config: Path, kind: Kind, error: int
) -> None:
    double.cards[0].error[kind] = error
    program = start("--config", str(config))
    program.wait_until_it_controls(0, 1)
    double.cards[0].temperature = 90
    wait_for(lambda: double.cards[0].fans[0].target == 100)
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0


def test_a_limit_of_a_card_whose_fans_are_set_over_x_is_given_back_over_nvml(
    double: NvmlDouble, start: Start, config: Path, folder: Path
) -> None:
    kill(start_limited(start, double, config))
    record = json.loads((folder / "taken.json").read_text())
    record["cards"][0]["backend"] = "x11"
    (folder / "taken.json").write_text(json.dumps(record))
    command = [sys.executable, "-I", "-S", release_fans.__file__, str(folder / "taken.json"), str(double.library)]
    done = subprocess.run(
        command, env={**os.environ, **double.environment()}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, double.cards[0].power_limit_mw) == (1, BEFORE_MW)
    assert "its fans were set over X: run `sudo gpufan restore`" in done.stderr


def test_a_pause_that_cannot_give_the_limit_back_says_so_and_leaves_that_to_the_end(
    double: NvmlDouble, start: Start, gpufan: Command, config: Path, folder: Path
) -> None:
    program = start_limited(start, double, config)
    wait_for((folder / "state.json").exists)
    double.cards[0].error[Kind.SET_POWER] = pynvml.NVML_ERROR_UNKNOWN
    status, _, err = gpufan("pause", "--gpu", "0")
    assert status == 1
    assert "power limit: the driver refused: Unknown Error; gpufan goes on trying" in err
    assert double.cards[0].power_limit_mw == 200_000
    double.cards[0].error[Kind.SET_POWER] = 0
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert double.cards[0].power_limit_mw == BEFORE_MW


def test_a_pause_tries_again_to_give_a_limit_back(
    double: NvmlDouble, start: Start, gpufan: Command, config: Path, folder: Path
) -> None:
    start_limited(start, double, config)
    wait_for((folder / "state.json").exists)
    double.odd(0, Kind.SET_POWER, pynvml.NVML_ERROR_UNKNOWN)
    assert gpufan("pause", "--gpu", "0")[0] == 0
    wait_for(lambda: double.cards[0].power_limit_mw == BEFORE_MW)


def test_a_limit_that_the_card_ignores_is_found_by_reading_back(double: NvmlDouble, start: Start, config: Path) -> None:
    double.cards[0].ignores_limits = 1
    program = start("--config", str(config))
    program.wait_until_it_controls(0, 1)
    program.signal(signal.SIGTERM)
    status, out, err = program.end()
    assert (status, err) == (0, "")
    assert "power limit: 240 is read back after 200 was set; the fans are controlled all the same" in out


def test_a_limit_that_cannot_be_given_back_is_an_error_and_is_tried_by_the_guardian(
    double: NvmlDouble, start: Start, config: Path, folder: Path
) -> None:
    program = start_limited(start, double, config)
    double.odd(0, Kind.SET_POWER, pynvml.NVML_ERROR_UNKNOWN)
    program.signal(signal.SIGTERM)
    status, _, err = program.end()
    assert status == 1
    assert err.startswith(
        "gpufan: fans not given back to the driver: 0 GTX 1080 Ti: limits not given back: power limit: "
    )
    wait_for(lambda: double.cards[0].power_limit_mw == BEFORE_MW)
    wait_for(lambda: not (folder / "taken.json").exists())


def test_without_a_record_no_limit_is_set(double: NvmlDouble, start: Start, config: Path, folder: Path) -> None:
    (folder / "taken.json.new").mkdir(parents=True)
    program = start("--config", str(config))
    program.wait_until_it_controls(0, 1)
    program.signal(signal.SIGTERM)
    assert "power limit: it is not set, since the limit before it cannot be recorded" in program.end()[1]
    assert not sets_mw(double)


# ---- clocks that give way ----


@pytest.fixture
def quiet(double: NvmlDouble, config: Path) -> Path:
    """Quiet hours in which clocks give way, and a card that is too hot for quiet fans."""
    config.write_text(
        'backend = "nvml"\ntarget_c = 78\n[[quiet]]\nfrom = "00:00"\nto = "24:00"\n'
        'max_duty_percent = 50\ngive_way = "power"\n'
    )
    double.cards[0].temperature, double.cards[0].power_mw = 83, 230_000
    return config


def accept_temperature_limits(double: NvmlDouble) -> None:
    double.cards[0].acoustic, double.cards[0].least_acoustic, double.cards[0].most_acoustic = 84, 60, 90


def test_a_hot_card_with_quiet_fans_gets_a_lower_power_limit_which_a_kill_gives_back(
    double: NvmlDouble, start: Start, quiet: Path, folder: Path
) -> None:
    program = start("--config", str(quiet))
    wait_for(lambda: double.cards[0].power_limit_mw <= 225_000)
    assert max(fan.target for fan in double.cards[0].fans) <= 50
    assert double.cards[1].power_limit_mw == BEFORE_MW
    assert all(value % 5_000 == 0 for value in sets_mw(double))
    program.signal(signal.SIGKILL)
    wait_for(lambda: not (folder / "taken.json").exists())
    assert double.cards[0].power_limit_mw == BEFORE_MW


@pytest.mark.parametrize("ending", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_card_that_accepts_a_temperature_limit_gets_one_and_gives_it_back(
    double: NvmlDouble, start: Start, quiet: Path, folder: Path, ending: int
) -> None:
    accept_temperature_limits(double)
    program = start("--config", str(quiet))
    wait_for(lambda: double.cards[0].acoustic == 79)
    assert double.cards[0].power_limit_mw == BEFORE_MW
    program.signal(ending)
    wait_for(lambda: double.cards[0].acoustic == 84)
    wait_for(lambda: not (folder / "taken.json").exists())


@pytest.mark.slow
@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION])
def test_a_card_that_refuses_its_temperature_limit_gets_a_power_limit(
    double: NvmlDouble, start: Start, quiet: Path, error: int
) -> None:
    accept_temperature_limits(double)
    double.cards[0].error[Kind.SET_ACOUSTIC] = error
    program = start("--config", str(quiet))
    wait_for(lambda: double.cards[0].power_limit_mw <= 225_000)
    program.signal(signal.SIGTERM)
    status, out, err = program.end()
    assert (status, err, out.count("temperature limit: the driver refuse")) == (0, "", 1)
    assert (double.cards[0].power_limit_mw, double.cards[0].acoustic) == (BEFORE_MW, 84)


def test_a_card_that_hangs_in_a_limit_leaves_the_others_under_control(
    double: NvmlDouble, start: Start, quiet: Path
) -> None:
    double.cards[0].hang[Kind.SET_POWER] = 1
    start("--config", str(quiet))
    wait_for(lambda: double.calls(0)[Kind.SET_POWER])
    double.cards[1].temperature = 90
    wait_for(lambda: max(fan.target for fan in double.cards[1].fans) == 100)
