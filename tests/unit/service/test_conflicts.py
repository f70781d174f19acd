"""What an install affects on a box: other fan controllers, users at the screen, containers."""

from pathlib import Path

import pytest

from gpufan.core.fan_programs import RIVALS
from gpufan.errors import GpufanError, InputError
from gpufan.service import conflicts, disabled_unit
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.system import systemctl


def test_every_way_to_run_coolgpus_is_recognised():
    for command in ("/usr/bin/coolgpus --temp 20", "/usr/bin/python3 /opt/bin/coolgpus", "python3 -u /opt/coolgpus"):
        assert conflicts.ServiceCommand("x.service", tuple(command.split())).runs(RIVALS) == "coolgpus"
    assert conflicts.ServiceCommand("x.service", ("/usr/bin/coolgpus-exporter",)).runs(RIVALS) is None


def test_nfancurve_is_recognised_only_with_its_own_name_in_the_command():
    for unit, word in (("nfancurve.service", "/usr/bin/temp.sh"), ("x.service", "/opt/nfancurve/temp.sh")):
        assert conflicts.ServiceCommand(unit, ("/bin/bash", word)).runs(RIVALS) == "nfancurve"
    assert conflicts.ServiceCommand("cpu-log.service", ("/usr/local/bin/temp.sh",)).runs(RIVALS) is None


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


def test_only_users_with_a_graphical_session_are_at_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "loginctl").write_text(LOGINCTL)
    (tmp_path / "loginctl").chmod(0o755)
    assert conflicts.people_at_the_screen() == ["alice"]
    monkeypatch.setenv("PATH", "/nowhere")
    assert conflicts.people_at_the_screen() == []


def test_a_systemd_that_hangs_is_an_error_after_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(systemctl, "TIMEOUT_S", 0.02)
    monkeypatch.setattr(conflicts, "QUERY_TIMEOUT_S", 0.02)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for program in ("systemctl", "loginctl"):
        (tmp_path / program).write_text("#!/bin/sh\nexec sleep 60\n")
        (tmp_path / program).chmod(0o755)
    for call in (
        conflicts.commands_of_services,
        conflicts.display_manager,
        lambda: systemctl.systemctl_stop_and_disable("gpufan.service"),
        lambda: DisabledUnit.of("lightdm.service"),
        DisabledUnit("lightdm.service", active=True, links={}).enable,
        DisabledUnit("lightdm.service", active=True, links={}).start,
    ):
        with pytest.raises(GpufanError, match=r"^systemctl [^=]+ has not answered for 0\.02 s$"):
            call()
    assert conflicts.people_at_the_screen() == []


def test_only_container_processes_that_use_a_card_are_counted(tmp_path: Path):
    for pid, group, opened in (
        ("10", "0::/system.slice/docker-0123.scope\n", "/dev/nvidia0"),
        ("11", "0::/system.slice/docker-0123.scope\n", "/dev/null"),
        ("12", "0::/user.slice/session-1.scope\n", "/dev/nvidia0"),
    ):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "cmdline").write_text("python\0train.py\0")
        (tmp_path / pid / "cgroup").write_text(group)
        (tmp_path / pid / "fd/3").symlink_to(opened)
    (tmp_path / "13").mkdir()
    assert conflicts.containers_with_gpus(tmp_path) == 1


def test_links_of_a_unit_are_its_aliases_and_where_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disabled_unit, "UNIT_FOLDER", tmp_path)
    (tmp_path / "graphical.target.wants").mkdir()
    (tmp_path / "display-manager.service").symlink_to("/lib/systemd/system/lightdm.service")
    (tmp_path / "graphical.target.wants/lightdm.service").symlink_to("/lib/systemd/system/lightdm.service")
    (tmp_path / "graphical.target.wants/other.service").symlink_to("/lib/systemd/system/other.service")
    (tmp_path / "lightdm.service").write_text("[Service]\n")
    assert disabled_unit._links_to_unit("lightdm.service") == {
        str(tmp_path / "display-manager.service"): "/lib/systemd/system/lightdm.service",
        str(tmp_path / "graphical.target.wants/lightdm.service"): "/lib/systemd/system/lightdm.service",
    }


def test_a_program_for_fans_of_the_motherboard_is_noted_if_the_service_sets_such_fans():
    commands = [conflicts.ServiceCommand("fancontrol.service", ("/bin/sh", "/usr/sbin/fancontrol"))]
    assert conflicts.conflict_notes(commands) == []
    (note,) = conflicts.conflict_notes(commands, ["nct6798/pwm2"])
    assert note == "fancontrol.service is installed: make sure that fancontrol leaves nct6798/pwm2 alone"
