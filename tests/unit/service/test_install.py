"""Install the service on a box of the test."""

import errno
import itertools
import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pynvml import NVML_ERROR_DRIVER_NOT_LOADED

from gpufan.errors import GpufanError
from gpufan.gpu import nvml_box
from gpufan.gpu.cards import XSERVER_FOLDER
from gpufan.service import conflicts, plan, proof, root_copy
from gpufan.service.steps import undone_on_failure
from gpufan.system import lock, systemctl
from gpufan.system.lock import folder_locks
from tests.doubles import xorg
from tests.doubles.nvml import AUTO, IGNORES, Kind, NvmlDouble
from tests.unit.service.conftest import Box

COOLGPUS = """Id=fans.service
ExecStart={ path=/usr/bin/coolgpus ; argv[]=/usr/bin/coolgpus --temp 20 80 --speed 20 99 --hyst 4 ; ignore_errors=no }

Id=lactd.service
ExecStart={ path=/usr/bin/lactd ; argv[]=/usr/bin/lactd daemon ; ignore_errors=no }
"""


def test_cards_that_need_x_are_proven_over_x_and_get_its_unit_until_a_driver_needs_none(
    box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (box.root / "old").mkdir()
    old = NvmlDouble(box.root / "old", box.double.box, "470.256")
    for name, value in xorg.install(box.root / "bin").items():
        monkeypatch.setenv(name, value)
    with old.install(), old.live(20):
        box.call("install-service", "--yes")
        assert capsys.readouterr().out.count("went from 23 % to 38 % and back to the driver") == 2
        assert [card.fans[0].policy for card in old.cards[:2]] == [AUTO, AUTO]
        assert "units/gpufan-xserver.service" in box.state()
        assert xorg.running(box.root / "run" / XSERVER_FOLDER) == []
    box.call("install-service", "--yes", "--skip-check")
    assert "units/gpufan-xserver.service" in box.state()
    box.call("install-service", "--yes")
    assert "stop and remove gpufan-xserver.service" in capsys.readouterr().out
    assert "units/gpufan-xserver.service" not in box.state()
    assert "units/gpufan.service.d/box.conf" not in box.state()


def test_a_configured_display_adds_its_cookie_file_to_the_drop_in(box: Box, monkeypatch: pytest.MonkeyPatch):
    (box.root / "etc").mkdir()
    (box.root / "etc/config.toml").write_text('display = ":0"\n')
    monkeypatch.setenv("XAUTHORITY", "/run/my x/:0")
    box.call("install-service", "--yes")
    assert '\nEnvironment="XAUTHORITY=/run/my x/:0"\n' in (box.root / "units/gpufan.service.d/box.conf").read_text()
    monkeypatch.delenv("XAUTHORITY")
    box.systemctl.properties["Environment"] = 'A=b "XAUTHORITY=/run/my x/:0" C=d'
    box.call("install-service", "--yes")
    assert '\nEnvironment="XAUTHORITY=/run/my x/:0"\n' in (box.root / "units/gpufan.service.d/box.conf").read_text()


def test_a_second_install_finds_nothing_to_do(box: Box, capsys: pytest.CaptureFixture[str]):
    box.call("install-service", "--yes")
    capsys.readouterr()
    (box.root / "calls").unlink()
    box.call("install-service", "--yes")
    assert "nothing: all is as it should be" in capsys.readouterr().out
    assert not (box.root / "calls").exists()
    (box.root / "units/multi-user.target.wants/gpufan.service").unlink()
    box.call("install-service", "--yes")
    assert "  enable gpufan.service\n" in capsys.readouterr().out
    assert "units/multi-user.target.wants/gpufan.service" in box.state()


def test_a_second_install_restarts_the_services_if_the_code_has_changed(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.call("install-service", "--yes")
    monkeypatch.setattr(root_copy, "copied_files_digest", lambda: "other")
    (box.root / "calls").unlink()
    box.call("install-service", "--yes")
    calls = (box.root / "calls").read_text()
    assert "restart --no-block gpufan.service\n" in calls
    assert "restart gpufan-history.service\n" in calls


def test_manual_pages_completion_and_the_command_are_where_a_shell_looks(box: Box, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(root_copy.CopyPaths, "launcher", Path("/opt/gpufan/bin/gpufan"))
    before = box.state()
    box.call("install-service", "--yes")
    assert (box.root / "usr/bin/gpufan").readlink() == Path("/opt/gpufan/bin/gpufan")
    share = box.root / "usr/share"
    assert (share / "man/man1/gpufan.1").read_text().startswith(".")
    assert (share / "man/man5/gpufan.toml.5").stat().st_mode & 0o777 == 0o644
    for place in ("bash-completion/completions/gpufan", "fish/vendor_completions.d/gpufan.fish"):
        assert "_GPUFAN_COMPLETE" in (share / place).read_text()
    assert (share / "zsh/site-functions/_gpufan").read_text().startswith("#compdef gpufan")
    box.call("uninstall-service", "--purge")
    assert box.state() == before


def test_a_read_only_usr_local_is_left_out(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != box.root / "usr" and access(path, mode))
    (box.root / "usr").mkdir()
    box.call("install-service", "--yes")
    assert "not written, since" in capsys.readouterr().err
    assert list((box.root / "usr").iterdir()) == []
    assert "active/gpufan.service" in box.state()


HISTORY = {"units/gpufan-history.service", "active/gpufan-history.service"}


def test_a_companion_service_is_installed_and_removed_with_the_service(box: Box):
    box.call("install-service", "--yes")
    assert box.state() >= HISTORY
    assert "units/multi-user.target.wants/gpufan-history.service" in box.state()
    box.call("uninstall-service")
    assert not HISTORY & box.state()
    assert (box.root / "calls").read_text().index("stop gpufan.service") < (box.root / "calls").read_text().index(
        "stop gpufan-history.service"
    )


def test_a_second_install_keeps_the_choice_of_companion_services(box: Box, capsys: pytest.CaptureFixture[str]):
    box.call("install-service", "--yes", "--no-history")
    assert not HISTORY & box.state()
    box.call("install-service", "--yes")
    assert not HISTORY & box.state()
    box.call("install-service", "--yes", "--history")
    assert box.state() >= HISTORY
    box.call("install-service", "--yes")
    assert box.state() >= HISTORY
    (box.root / "calls").unlink()
    box.call("install-service", "--yes", "--no-history")
    assert "stop and remove gpufan-history.service" in capsys.readouterr().out
    assert not HISTORY & box.state()
    assert "start gpufan.service" not in (box.root / "calls").read_text()
    box.call("uninstall-service")


def test_a_companion_service_without_its_extra_is_refused_with_the_remedy(box: Box, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "find_spec", lambda _: None)
    said = box.refused("install-service", "--yes", "--exporter")
    assert re.search(
        r"--exporter needs prometheus_client, which is not installed: .*/pip install 'gpufan\[metrics\]'", said
    )


@pytest.mark.parametrize(("status", "words"), [("1", "failed: exit status 1"), ("0", "does not stay active")])
def test_a_companion_service_that_fails_is_only_a_warning(
    status: str, words: str, box: Box, capsys: pytest.CaptureFixture[str]
):
    (box.root / "fails-gpufan-history.service").write_text(status)
    box.call("install-service", "--yes")
    said = capsys.readouterr().out
    assert re.search(f"warning: .*gpufan-history.service {words}.*; gpufan controls the fans nevertheless", said)
    assert {"active/gpufan.service", "units/gpufan-history.service"} <= box.state()
    assert "usr/share/man/man1/gpufan.1" in box.state()
    box.call("uninstall-service")
    assert not HISTORY & box.state()
    assert "reset-failed gpufan-history.service\n" in (box.root / "calls").read_text()


def test_without_the_service_no_companion_service_is_started(box: Box):
    (box.root / "broken").write_text("no card answers")
    box.refused("install-service", "--yes")
    assert not HISTORY & box.state()
    assert "enable --quiet gpufan-history" not in (box.root / "calls").read_text()


def test_the_curve_of_a_rival_is_used_and_other_fan_controllers_are_named(box: Box, capsys: pytest.CaptureFixture[str]):
    (box.root / "services").write_text(COOLGPUS)
    (box.root / "active/fans.service").touch()
    box.call("install-service", "--yes", "--keep-display-manager")
    text = (box.root / "etc/config.toml").read_text()
    assert 'curve = "20:20,80:99"' in text
    assert "hysteresis_c = 4" in text
    assert not (box.root / "active/fans.service").exists()
    assert (box.root / "active/lightdm.service").exists()
    assert "LACT leaves" in capsys.readouterr().err
    box.call("uninstall-service")
    assert (box.root / "active/fans.service").exists()


def test_no_start_starts_and_stops_nothing(box: Box):
    box.call("install-service", "--yes", "--no-start", "--skip-check")
    assert sorted(os.listdir(box.root / "active")) == ["lightdm.service"]
    assert box.double.log() == []


def test_an_install_whose_service_does_not_start_is_undone_with_the_reason(box: Box):
    (box.root / "broken").write_text("no card answers")
    assert "does not start: no card answers" in box.refused("install-service", "--yes")
    (box.root / "broken").write_text("")


def test_an_install_whose_service_never_becomes_active_is_undone(box: Box):
    box.systemctl.ignored = ("restart gpufan.service",)
    assert "is not active after" in box.refused("install-service", "--yes")


def test_an_update_waits_for_the_new_run_of_the_service(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.call("install-service", "--yes")
    monkeypatch.setattr(root_copy, "copied_files_digest", lambda: "other")
    box.systemctl.ignored = ("restart gpufan.service",)  # the old run is still active
    box.double.let_go()
    with pytest.raises(GpufanError, match="is not active after"):
        box.call("install-service", "--yes")


@pytest.mark.slow
def test_an_install_that_is_refused_says_why_and_changes_nothing(box: Box, monkeypatch: pytest.MonkeyPatch):
    assert "add --yes" in box.refused("install-service")
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdin", None)
        assert "add --yes" in box.refused("install-service")
    monkeypatch.setattr(conflicts, "people_at_the_screen", lambda: ["alice"])
    assert "alice would be logged out" in box.refused("install-service")
    assert "no such card" in box.refused("install-service", "--yes", "--gpu", "9")
    mine = box.root / "mine.toml"
    mine.write_text("curv = 1\n")
    assert "curv" in box.refused("install-service", "--yes", "--config", str(mine))
    assert "--config excludes" in box.refused(
        "install-service", "--yes", "--config", str(mine), "--curve", "40:30,80:100"
    )
    mine.write_text("dry_run = true\n")
    assert "with dry_run" in box.refused("install-service", "--yes", "--config", str(mine))
    monkeypatch.setattr(proof, "PATIENCE_S", 0.5)
    box.double.cards[0].fans[0].rpm_percent = 0
    assert "0 GTX 1080 Ti: fan 0 stands still at 0 rpm" in box.refused("install-service", "--yes")
    box.double.cards[0].fans[0].stuck = IGNORES
    assert "stays with the driver" in box.refused("install-service", "--yes")
    for card in box.double.cards[:2]:
        card.fan_count = 0
    assert "no card here has fans" in box.refused("install-service", "--yes")


def test_an_existing_settings_file_with_other_settings_is_kept(box: Box):
    box.call("install-service", "--yes", "--curve", "40:30,80:100")
    box.call("install-service", "--yes", "--curve", "40:30,80:100")
    box.double.let_go()
    other = box.root / "other.toml"
    other.write_text("hold_s = 5\n")
    assert "exists already with other settings" in box.refused("install-service", "--yes", "--config", str(other))


def test_options_change_single_keys_of_an_existing_settings_file_and_the_service_is_reloaded(
    box: Box, capsys: pytest.CaptureFixture[str]
):
    box.call("install-service", "--yes")
    path = box.root / "etc/config.toml"
    path.write_text("# mine\nhold_s = 60  # long\n")
    path.chmod(0o640)
    (box.root / "calls").unlink()
    capsys.readouterr()
    box.call("install-service", "--yes", "--target", "75")
    shown = capsys.readouterr().out
    assert ("    +target_c = 75" in shown, "  reload gpufan.service" in shown) == (True, True)
    assert path.read_text() == "# mine\nhold_s = 60  # long\ntarget_c = 75\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert "reload gpufan.service\n" in (box.root / "calls").read_text()
    box.call("install-service", "--yes", "--target", "75")
    assert "nothing: all is as it should be" in capsys.readouterr().out
    box.call("install-service", "--yes", "--curve", "50:30,83:100")
    assert path.read_text() == '# mine\nhold_s = 60  # long\n# target_c = 75\ncurve = "50:30,83:100"\n'
    with path.open("a") as file:
        file.write('[[gpu]]\nmatch = "RTX"\ntarget_c = 80\n')
    capsys.readouterr()
    box.call("install-service", "--yes", "--curve", "50:40,83:100")
    overrides = '[[gpu]] 1 overrides curve for cards that match "RTX": target_c = 80'
    assert f"note: {path}: {overrides}\n" in capsys.readouterr().err
    box.call("install-service", "--yes", "--gpu", "1")
    assert "restart --no-block gpufan.service\n" in (box.root / "calls").read_text()


def test_an_existing_settings_file_with_a_mistake_is_not_changed(box: Box):
    box.call("install-service", "--yes")
    path = box.root / "etc/config.toml"
    path.write_text("hold = 60\n")
    box.double.let_go()
    assert "unknown key" in box.refused("install-service", "--yes", "--target", "75")
    assert path.read_text() == "hold = 60\n"


@pytest.mark.parametrize("more", [(), ("--skip-check",)])
@pytest.mark.parametrize("name", ["1", "41:00.0", "GPU-00000001-0000-4000-8000-000000000001"])
def test_the_settings_file_names_cards_by_uuid(box: Box, name: str, more: tuple[str, ...]):
    box.call("install-service", "--yes", "--gpu", name, *more)
    path = box.root / "etc/config.toml"
    assert '\ngpus = ["GPU-00000001-0000-4000-8000-000000000001"]\n' in path.read_text()
    box.call("install-service", "--yes", "--gpu", name)
    # A file of an older version has the name as it was given.
    path.write_text(path.read_text().replace("GPU-00000001-0000-4000-8000-000000000001", name))
    box.call("install-service", "--yes", "--gpu", name)
    assert not more or not any(call.operation == Kind.SET_FAN for call in box.double.log())


def test_where_no_driver_runs_cards_are_named_by_uuid_only(box: Box):
    box.double.map.init_error = NVML_ERROR_DRIVER_NOT_LOADED
    said = box.refused("install-service", "--yes", "--skip-check", "--gpu", "GPU-12345678", "--gpu", "1")
    assert said.startswith("--gpu GPU-12345678, 1: give UUIDs, since they cannot be looked up here: the NVIDIA kernel")
    box.call("install-service", "--yes", "--skip-check", "--gpu", "GPU-12345678")
    assert '\ngpus = ["GPU-12345678"]\n' in (box.root / "etc/config.toml").read_text()


def test_a_card_whose_uuid_is_unknown_is_not_written_down(box: Box, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nvml_box, "OPEN_TIMEOUT_S", 0.1)
    box.double.cards[1].hang[Kind.HANDLE] = 1
    said = box.refused("install-service", "--yes", "--skip-check", "--gpu", "1")
    assert said == "1 card that does not answer, so its UUID is unknown: give the UUID with --gpu, or reboot first"


def test_a_target_is_written_instead_of_the_curve_of_a_rival(box: Box):
    (box.root / "services").write_text(COOLGPUS)
    (box.root / "active/fans.service").touch()
    box.call("install-service", "--yes", "--target", "78")
    text = (box.root / "etc/config.toml").read_text()
    assert "\ntarget_c = 78\n" in text
    assert "\ncurve = " not in text
    assert "--config excludes" in box.refused("install-service", "--yes", "--config", __file__, "--target", "78")


def test_every_step_is_undone_whatever_fails_meanwhile():
    done: list[str] = []

    def fail(error: Exception) -> None:
        raise error

    def gone(_: str) -> None:
        raise BrokenPipeError

    def end() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)

    with pytest.raises(GpufanError, match="first"), undone_on_failure(gone) as undo:
        undo(done.append, "rival")
        undo(fail, OSError("no"))
        undo(fail, ValueError("no"))
        undo(end)
        raise GpufanError("first")
    assert done == ["rival"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_of_the_file_system_is_one_line_after_all_is_undone():
    done: list[str] = []
    said = r"^cannot change /opt/gpufan: No space left on device; all changes are undone$"
    with pytest.raises(GpufanError, match=said), undone_on_failure(print) as undo:
        undo(done.append, "undone")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/opt/gpufan")
    assert done == ["undone"]


@pytest.mark.parametrize("unit", ["gpufan.service", "gpufan-history.service"])
def test_a_masked_unit_is_named_before_anything_is_changed(box: Box, unit: str):
    (box.root / "units" / unit).symlink_to("/dev/null")
    assert f"`sudo systemctl unmask {unit}`" in box.refused("install-service", "--yes")


@pytest.mark.parametrize("command", [("install-service", "--yes"), ("uninstall-service",)])
def test_only_one_install_or_uninstall_runs_at_a_time(
    box: Box, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    seconds = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(seconds), sleep=lambda _: None)
    with folder_locks([box.root / "units"]):
        monkeypatch.setattr(lock, "time", clock)
        assert f"another process has locked {box.root}/units: run this again later" in box.refused(*command)
    box.call(*command)


def test_only_root_can_write_installed_files_whatever_the_umask_is(box: Box):
    before = os.umask(0)
    try:
        box.call("install-service", "--yes")
        assert os.umask(0) == 0o022
    finally:
        os.umask(before)


def test_without_root_or_systemd_there_is_no_service(box: Box, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(systemctl, "BOOTED", box.root / "no")
    assert "systemd does not run this box" in box.refused("install-service", "--yes")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "sudo" in box.refused("uninstall-service")
