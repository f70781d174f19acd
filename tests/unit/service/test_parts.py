import os
import signal
import sys
import time
from pathlib import Path

import pytest

from gpufan.errors import GpuError, GpufanError, InputError, NoAnswer
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox, SimulatedGpu
from gpufan.service import conflicts, exposure, proof, root_copy
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.units import COMPANIONS, unit_files
from gpufan.system import systemctl


def test_every_way_to_run_coolgpus_is_recognised():
    for command in ("/usr/bin/coolgpus --temp 20", "/usr/bin/python3 /opt/bin/coolgpus", "python3 -u /opt/coolgpus"):
        assert conflicts.Service("x.service", tuple(command.split())).runs(conflicts.RIVALS) == "coolgpus"
    assert conflicts.Service("x.service", ("/usr/bin/coolgpus-exporter",)).runs(conflicts.RIVALS) is None


def test_nfancurve_is_recognised_by_more_than_the_name_of_its_script():
    for unit, word in (("nfancurve.service", "/usr/bin/temp.sh"), ("x.service", "/opt/nfancurve/temp.sh")):
        assert conflicts.Service(unit, ("/bin/bash", word)).runs(conflicts.RIVALS) == "nfancurve"
    assert conflicts.Service("cpu-log.service", ("/usr/local/bin/temp.sh",)).runs(conflicts.RIVALS) is None


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/usr/bin/python3", "/usr/bin/python3"),
        ("/opt/my env/bin/python3", '"/opt/my env/bin/python3"'),
        ("/opt/100%/python3", "/opt/100%%/python3"),
        ('/opt/a"b\\c/python3', '"/opt/a\\"b\\\\c/python3"'),
    ],
)
def test_an_interpreter_is_one_word_of_a_unit(path: str, word: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", path)
    assert root_copy.command(copied=False) == f"{word} -I -m gpufan"


@pytest.mark.parametrize(
    ("words", "curve", "hysteresis_c"),
    [
        ("coolgpus --temp 17 84 --speed 15 99", "17:15,84:99", None),
        ("coolgpus --kill --speed 20 99 --hyst 4 --temp 50 80", "50:20,80:99", 4.0),
        ("coolgpus --speed 40 80", "55:40,80:80", None),
        ("coolgpus --hyst=2", None, 2.0),
        ("coolgpus", None, None),
    ],
)
def test_coolgpus_options_become_a_curve(words: str, curve: str | None, hysteresis_c: float | None):
    taken, taken_hysteresis_c = conflicts.coolgpus_curve(tuple(words.split()))
    assert (str(taken) if taken else None, taken_hysteresis_c) == (curve, hysteresis_c)


@pytest.mark.parametrize("words", ["coolgpus --temp 1 2 3 --speed 1 2", "coolgpus --hyst much", "coolgpus --temp a b"])
def test_coolgpus_options_that_make_no_curve_are_refused(words: str):
    with pytest.raises(InputError):
        conflicts.coolgpus_curve(tuple(words.split()))


LOGINCTL = """#!/bin/sh
case "$*" in
*list-sessions*) printf ' 3 1000 alice seat0\\n 4 1001 bob\\n c1 111 lightdm seat0\\n' ;;
*" 3 "*) printf 'Name=alice\\nType=x11\\nClass=user\\n' ;;
*" 4 "*) printf 'Name=bob\\nType=tty\\nClass=user\\n' ;;
*" c1 "*) printf 'Name=lightdm\\nType=x11\\nClass=greeter\\n' ;;
esac
"""


def test_only_people_at_the_screen_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "loginctl").write_text(LOGINCTL)
    (tmp_path / "loginctl").chmod(0o755)
    assert conflicts.people_at_the_screen() == ["alice"]
    monkeypatch.setenv("PATH", "/nowhere")
    assert conflicts.people_at_the_screen() == []


def test_a_systemd_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(systemctl, "TIMEOUT_S", 0.02)
    monkeypatch.setattr(conflicts, "QUERY_TIMEOUT_S", 0.02)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for program in ("systemctl", "loginctl"):
        (tmp_path / program).write_text("#!/bin/sh\nexec sleep 60\n")
        (tmp_path / program).chmod(0o755)
    for call in (
        conflicts.services,
        conflicts.display_manager,
        lambda: systemctl.stop_and_disable("gpufan.service"),
        lambda: DisabledUnit.of("lightdm.service"),
        DisabledUnit("lightdm.service", active=True, links={}).enable,
        DisabledUnit("lightdm.service", active=True, links={}).start,
    ):
        with pytest.raises(GpufanError, match=r"^systemctl [^=]+ has not answered for 0\.02 s$"):
            call()
    assert conflicts.people_at_the_screen() == []


def test_a_python_that_hangs_holds_no_install_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(systemctl, "TIMEOUT_S", 0.02)
    with pytest.raises(GpufanError, match=r"^sleep 60 has not answered for 0\.02 s$"):
        root_copy._run("sleep", "60")
    with pytest.raises(GpufanError, match=r"^/nowhere/python3 cannot be run: No such file or directory$"):
        root_copy._run("/nowhere/python3")


def test_only_processes_in_containers_with_a_card_open_count(tmp_path: Path):
    for pid, group, opened in (
        ("10", "0::/system.slice/docker-0123.scope\n", "/dev/nvidia0"),
        ("11", "0::/system.slice/docker-0123.scope\n", "/dev/null"),
        ("12", "0::/user.slice/session-1.scope\n", "/dev/nvidia0"),
    ):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "cgroup").write_text(group)
        (tmp_path / pid / "fd/3").symlink_to(opened)
    (tmp_path / "13").mkdir()
    assert conflicts.containers_with_gpus(tmp_path) == 1


def test_the_cookie_of_an_x_server_reaches_the_service():
    for cookie, line in (("/run/x/:0", "XAUTHORITY=/run/x/:0"), ("/run/my x", '"XAUTHORITY=/run/my x"')):
        (text,) = unit_files("/usr/bin/gpufan", "/etc/gpufan/config.toml", xauthority=cookie).values()
        assert f"\nEnvironment={line}\n" in text


def test_links_of_a_unit_are_its_aliases_and_where_it_is_wanted(tmp_path: Path):
    (tmp_path / "graphical.target.wants").mkdir()
    (tmp_path / "display-manager.service").symlink_to("/lib/systemd/system/lightdm.service")
    (tmp_path / "graphical.target.wants/lightdm.service").symlink_to("/lib/systemd/system/lightdm.service")
    (tmp_path / "graphical.target.wants/other.service").symlink_to("/lib/systemd/system/other.service")
    (tmp_path / "lightdm.service").write_text("[Service]\n")
    assert systemctl.links_to("lightdm.service", tmp_path) == {
        str(tmp_path / "display-manager.service"): "/lib/systemd/system/lightdm.service",
        str(tmp_path / "graphical.target.wants/lightdm.service"): "/lib/systemd/system/lightdm.service",
    }


class Obedient:
    """A simulated card for which half a second passes with every reading."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        self.gpu = gpu
        self.info = gpu.info

    def read(self):
        self.gpu.advance(0.5)
        return self.gpu.read()

    def set_duty(self, duty_percent: int) -> None:
        self.gpu.set_duty(duty_percent)

    def release(self) -> None:
        self.gpu.release()


class Deaf(Obedient):
    """Takes every set and moves nothing."""

    def set_duty(self, duty_percent: int) -> None:
        pass


def card() -> SimulatedGpu:
    return SimulatedBox(PROFILES["1080ti"], WORKLOADS["idle"]).gpus[0]


@pytest.mark.parametrize(("speed", "duty"), [(23, 38), (85, 100), (100, 85)])
def test_the_proof_moves_a_fan_by_a_step_and_gives_it_back(speed: int, duty: int):
    gpu, said = card(), []
    gpu.speed_percent = gpu.driver_percent = speed
    proof.prove_control([Obedient(gpu)], said.append)
    assert said == [f"0 GTX 1080 Ti: its fan went from {speed} % to {duty} % and back to the driver"]
    assert gpu.manual_percent is None


def test_the_proof_fails_on_a_card_that_does_not_obey(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proof, "PATIENCE_S", 0.3)
    with pytest.raises(GpuError, match="fan 0 stays with the driver"):
        proof.prove_control([Deaf(card())], print)


class Slow(Obedient):
    """Takes its time for a set, during which somebody ends the program."""

    def set_duty(self, duty_percent: int) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(0.3)
        self.gpu.set_duty(duty_percent)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_proof_ends_only_when_the_fans_are_given_back(number: signal.Signals, monkeypatch: pytest.MonkeyPatch):
    gpu = card()
    slow = Slow(gpu)
    slow.number = number

    def end(received: int, _: object):
        raise SystemExit(received)

    before = signal.signal(number, end)
    try:
        with pytest.raises(SystemExit) as ended:
            proof.prove_control([slow, slow], print)
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)
    assert ended.value.code == number
    time.sleep(0.4)
    assert gpu.manual_percent is None


@pytest.mark.slow
def test_the_proof_waits_for_a_set_that_is_late(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proof, "_CALL_S", 0.1)
    gpu = card()
    slow = Slow(gpu)
    slow.number = 0  # which kills nothing
    with pytest.raises(NoAnswer):
        proof.prove_control([slow], print)
    time.sleep(0.4)
    assert gpu.manual_percent is None


def test_code_that_others_can_write_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposure, "_HIDDEN", [Path("/home")])
    assert exposure.first_exposure([Path("/usr/bin/env")]) is None
    # A file in a folder that everybody can write is exposed, whatever its own mode is.
    assert "/tmp is writable" in str(exposure.first_exposure([Path("/tmp/x")]))
    # With below=False the content of a folder does not count.
    assert exposure.first_exposure([Path("/")], below=False) is None
    assert exposure.first_exposure([tmp_path / "none"], below=False) is not None
    assert exposure.first_exposure([Path("/home/a/venv")]) == "/home/a/venv lies in /home"


@pytest.mark.parametrize("xserver", [False, True])
def test_units_are_rendered_without_leftovers(xserver: bool):
    command = "/opt/gpufan/bin/python3 -I -m gpufan"
    units = unit_files(command, "/etc/gpufan/config.toml", xserver=xserver, companions=COMPANIONS)
    assert len(units) == 1 + xserver + len(COMPANIONS)
    for text in units.values():
        assert "{" not in text
        assert text.endswith("\n")
        assert "\n\n\n" not in text


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs that are found first."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


@pytest.mark.parametrize("program", ["systemctl", "journalctl"])
def test_bytes_that_are_no_text_are_shown_as_such(programs: Path, program: str):
    (programs / program).write_text(r"#!/bin/sh" + "\n" + r'printf "Id=\377x\n"' + "\n")
    (programs / program).chmod(0o755)
    found_text = (
        systemctl.unit_properties("x", "Id")["Id"] if program == "systemctl" else systemctl.journal_lines("x", 1)[0]
    )
    assert found_text.endswith("\ufffdx")


def test_a_logind_that_hangs_is_not_waited_for(programs: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conflicts, "QUERY_TIMEOUT_S", 0.05)
    (programs / "loginctl").write_text("#!/bin/sh\nexec sleep 60\n")
    (programs / "loginctl").chmod(0o755)
    assert conflicts.people_at_the_screen() == []
