"""Install and uninstall with a systemctl of ours, a folder in place of /, and the NVML double."""

import os
import re
import signal
import sys
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, PathDistribution, distribution
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpufan.cli import main as cli
from gpufan.errors import GpufanError
from gpufan.gpu.cards import XSERVER_FOLDER
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.service import config_file, conflicts, exposure, install, manifest, plan, proof, root_copy, units
from gpufan.system import paths, systemctl
from tests.doubles import xorg
from tests.doubles.nvml import AUTO, IGNORES, NvmlDouble

SYSTEMCTL = """#!/bin/sh
# State: a file ACTIVE/unit for each active unit. What is said of units is what install asks for, hundreds of times: so
# it calls no program where the shell will do.
cd "${0%/*}"
while case "$1" in --*) ;; *) false ;; esac; do shift; done
verb=$1 unit=$2
[ "$unit" != --quiet ] || unit=$3
[ "$unit" != --no-block ] || unit=$3
echo "$*" >>calls
case $verb in
show)
    case $* in *--type=service*) cat services; exit ;; esac
    [ ! -e "active/$unit" ] && echo ActiveState=inactive || echo ActiveState=active
    [ -e "units/$unit" ] || [ -L "units/$unit" ] && echo LoadState=loaded || echo LoadState=not-found
    [ ! -L "units/multi-user.target.wants/$unit" ] && echo UnitFileState=disabled || echo UnitFileState=enabled
    [ "$unit" != display-manager.service ] || echo Id=lightdm.service
    echo Result=success
    [ ! -e broken ] || printf "StatusErrno=125\\nStatusText=%s\\n" "$(cat broken)" ;;
start | restart)
    [ ! -e "fails-$unit" ] || exit "$(cat "fails-$unit")"
    [ ! -e broken ] || [ "$unit" != gpufan.service ] || exit 0
    : >"active/$unit" ;;
stop) rm -f "active/$unit" ;;
enable) ln -s "units/$unit" "units/multi-user.target.wants/$unit" ;;
disable) rm -f "units/multi-user.target.wants/$unit" ;;
reset-failed) echo "Unit $unit not loaded." >&2; exit 1 ;;
esac
"""
COOLGPUS = """Id=fans.service
ExecStart={ path=/usr/bin/coolgpus ; argv[]=/usr/bin/coolgpus --temp 20 80 --speed 20 99 --hyst 4 ; ignore_errors=no }

Id=lactd.service
ExecStart={ path=/usr/bin/lactd ; argv[]=/usr/bin/lactd daemon ; ignore_errors=no }
"""


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder in place of the root of a box with two cards and lightdm."""
    (tmp_path / "active").mkdir()
    (tmp_path / "units/multi-user.target.wants").mkdir(parents=True)
    (tmp_path / "active/lightdm.service").touch()
    (tmp_path / "units/display-manager.service").symlink_to("/lib/systemd/system/lightdm.service")
    (tmp_path / "services").write_text("")
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(systemctl, "BOOTED", tmp_path)
    monkeypatch.setattr(manifest, "PATH", tmp_path / "var/install.json")
    monkeypatch.setattr(config_file, "CONFIG", tmp_path / "etc/config.toml")
    for module in (systemctl, units):
        monkeypatch.setattr(module, "UNIT_FOLDER", tmp_path / "units")
    monkeypatch.setattr(systemctl.links_to, "__defaults__", (tmp_path / "units",))
    for module in (plan, install):
        monkeypatch.setattr(module, "RUNTIME_FOLDER", tmp_path / "run")
    monkeypatch.setattr(paths, "PREFIX", tmp_path / "usr")
    monkeypatch.setattr(install, "START_S", 0.3)
    monkeypatch.setattr(install, "COMPANION_S", 0.0)
    monkeypatch.setattr(proof, "_POLL_S", 0.02)
    monkeypatch.setattr(install, "_exit_at_signals", lambda: None)
    monkeypatch.setattr(exposure, "installation_exposure", lambda: None)
    monkeypatch.setattr(root_copy, "sources_digest", lambda: "same")  # which would read every file of Python
    monkeypatch.setattr(root_copy, "COPY", tmp_path / "opt/gpufan")
    monkeypatch.setattr(config_file, "check_owner", lambda _: None)
    double = NvmlDouble(tmp_path, SimulatedBox(PROFILES["dual-1080ti"], WORKLOADS["idle"]))
    with double.install(), double.live(20):
        yield Box(tmp_path, double)


class Box:
    def __init__(self, root: Path, double: NvmlDouble) -> None:
        self.root, self.double = root, double

    def call(self, *arguments: str) -> None:
        cli.cli.main(arguments, standalone_mode=False)

    def refused(self, *arguments: str) -> str:
        before = self.state()
        with pytest.raises(Exception) as error:
            self.call(*arguments)
        assert self.state() == before
        assert [card.fans[0].policy for card in self.double.cards[:2]] == [AUTO, AUTO]
        return str(error.value)

    def state(self) -> set[str]:
        files = {str(path.relative_to(self.root)) for path in self.root.rglob("*")}
        return {name for name in files if not name.startswith(("calls", "nvml", "run"))}


def test_what_is_installed_is_taken_back(box: Box, capsys: pytest.CaptureFixture[str]):
    before = box.state()
    box.call("install-service", "--yes", "--curve", "40:30,80:100")
    changed = {"active/gpufan.service", "units/gpufan.service", "etc/config.toml", "var/install.json"}
    assert changed <= box.state()
    assert not {"active/lightdm.service", "units/display-manager.service"} & box.state()
    said = capsys.readouterr().out
    assert "stop and disable lightdm.service" in said
    assert "went from 23 % to 38 %" in said
    box.call("uninstall-service")
    assert box.state() - before == {"etc", "etc/config.toml"}
    assert before <= box.state()
    box.call("uninstall-service", "--purge")
    assert box.state() == before
    box.call("uninstall-service")
    assert "nothing to put back" in capsys.readouterr().out


def test_cards_that_need_x_are_proven_over_x_and_get_a_unit_for_it(
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


def test_a_display_that_is_configured_takes_its_cookie_along(box: Box, monkeypatch: pytest.MonkeyPatch):
    (box.root / "etc").mkdir()
    (box.root / "etc/config.toml").write_text('display = ":0"\n')
    monkeypatch.setenv("XAUTHORITY", "/run/x/:0")
    box.call("install-service", "--yes")
    assert "\nEnvironment=XAUTHORITY=/run/x/:0\n" in (box.root / "units/gpufan.service").read_text()
    monkeypatch.delenv("XAUTHORITY")
    script = box.root / "systemctl"
    script.write_text(
        SYSTEMCTL.replace("echo Result=success", "echo Environment=A=b XAUTHORITY=/run/x/:0; echo Result=success")
    )
    box.call("install-service", "--yes")
    assert "\nEnvironment=XAUTHORITY=/run/x/:0\n" in (box.root / "units/gpufan.service").read_text()


def test_a_foreign_unit_of_the_same_name_comes_back(box: Box, capsys: pytest.CaptureFixture[str]):
    (box.root / "units/gpufan.service").write_text("[Service]\n# mine\n")
    box.call("install-service", "--yes")
    assert "-# mine" in capsys.readouterr().out
    box.call("uninstall-service")
    assert "# mine" in (box.root / "units/gpufan.service").read_text()


def test_a_second_install_finds_nothing_to_do(box: Box, capsys: pytest.CaptureFixture[str]):
    box.call("install-service", "--yes")
    capsys.readouterr()
    (box.root / "calls").unlink()
    box.call("install-service", "--yes")
    assert "nothing: all is as it should be" in capsys.readouterr().out
    assert not re.search("^(re)?(start|load)|^daemon", (box.root / "calls").read_text(), re.MULTILINE)
    (box.root / "units/multi-user.target.wants/gpufan.service").unlink()
    box.call("install-service", "--yes")
    assert "  enable gpufan.service\n" in capsys.readouterr().out
    assert "units/multi-user.target.wants/gpufan.service" in box.state()


def test_other_code_is_what_a_second_install_starts(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.call("install-service", "--yes")
    monkeypatch.setattr(root_copy, "sources_digest", lambda: "other")
    (box.root / "calls").unlink()
    box.call("install-service", "--yes")
    calls = (box.root / "calls").read_text()
    assert "restart --no-block gpufan.service\n" in calls
    assert "restart gpufan-history.service\n" in calls


def test_pages_completion_and_the_program_are_where_a_shell_looks(box: Box, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(root_copy, "launcher", lambda *, copied: Path("/opt/gpufan/bin/gpufan"))
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


def test_a_program_of_the_same_name_stays(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(root_copy, "launcher", lambda *, copied: Path("/opt/gpufan/bin/gpufan"))
    program = box.root / "usr/bin/gpufan"
    program.parent.mkdir(parents=True)
    program.write_text("mine")
    box.call("install-service", "--yes")
    assert program.read_text() == "mine"
    assert f"{program} is not of this installation and stays" in capsys.readouterr().err
    box.call("uninstall-service")
    assert program.read_text() == "mine"


def test_a_page_of_somebody_else_comes_back(box: Box):
    page = box.root / "usr/share/man/man1/gpufan.1"
    page.parent.mkdir(parents=True)
    page.write_text("mine")
    box.call("install-service", "--yes")
    assert page.read_text() != "mine"
    box.call("uninstall-service")
    assert page.read_text() == "mine"


def test_where_usr_local_is_read_only_the_service_does_without_it(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != box.root / "usr" and access(path, mode))
    (box.root / "usr").mkdir()
    box.call("install-service", "--yes")
    assert "left out, since" in capsys.readouterr().err
    assert list((box.root / "usr").iterdir()) == []
    assert "active/gpufan.service" in box.state()


HISTORY = {"units/gpufan-history.service", "active/gpufan-history.service"}


def test_a_companion_comes_with_the_service_and_goes_with_it(box: Box):
    box.call("install-service", "--yes")
    assert box.state() >= HISTORY
    assert "units/multi-user.target.wants/gpufan-history.service" in box.state()
    box.call("uninstall-service")
    assert not HISTORY & box.state()
    assert (box.root / "calls").read_text().index("stop gpufan.service") < (box.root / "calls").read_text().index(
        "stop gpufan-history.service"
    )


def test_a_companion_that_is_not_wanted_stays_away_until_it_is(box: Box, capsys: pytest.CaptureFixture[str]):
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


def test_a_companion_that_lacks_its_extra_is_refused_with_the_remedy(box: Box, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "find_spec", lambda _: None)
    said = box.refused("install-service", "--yes", "--exporter")
    assert re.search(
        r"--exporter needs prometheus_client, which is not installed: .*/pip install 'gpufan\[metrics\]'", said
    )


def test_the_copy_takes_an_extra_along_where_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    def names() -> set[str]:
        return {found.metadata["Name"].lower().replace("-", "_") for found in root_copy._distributions()}

    def without_extras(name: str) -> Distribution:
        if name.startswith("prometheus"):
            raise PackageNotFoundError
        return distribution(name)

    assert {"click", "prometheus_client"} <= names()
    monkeypatch.setattr(root_copy, "distribution", without_extras)
    assert "click" in names()
    assert not {"prometheus_client", "pytest"} & names()


@pytest.mark.parametrize(("status", "words"), [("1", "failed: exit status 1"), ("0", "does not stay active")])
def test_a_companion_that_fails_is_a_warning_and_harms_nothing(
    status: str, words: str, box: Box, capsys: pytest.CaptureFixture[str]
):
    (box.root / "fails-gpufan-history.service").write_text(status)
    box.call("install-service", "--yes")
    said = capsys.readouterr().out
    assert re.search(f"warning: .*gpufan-history.service {words}.*; the fans are under control all the same", said)
    assert {"active/gpufan.service", "units/gpufan-history.service"} <= box.state()
    assert "usr/share/man/man1/gpufan.1" in box.state()
    box.call("uninstall-service")
    assert not HISTORY & box.state()


def test_a_service_that_does_not_start_takes_its_companions_with_it(box: Box):
    (box.root / "broken").write_text("no card answers")
    box.refused("install-service", "--yes")
    assert not HISTORY & box.state()
    assert "enable --quiet gpufan-history" not in (box.root / "calls").read_text()


def test_uninstall_says_first_what_it_would_do(box: Box, capsys: pytest.CaptureFixture[str]):
    box.call("uninstall-service", "--dry-run")
    assert "nothing: gpufan is not installed" in capsys.readouterr().out
    box.call("install-service", "--yes")
    before = box.state()
    capsys.readouterr()
    box.call("uninstall-service", "--dry-run", "--purge")
    assert box.state() == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        "  stop gpufan.service, which gives the fans back to the driver",
        "  stop gpufan-history.service",
    ]
    for what in (f"remove {box.root}/units/gpufan.service", "restore lightdm.service", f"remove {config_file.CONFIG}"):
        assert any(line.startswith(f"  {what}") for line in lines)


def test_state_stays_unless_purged(box: Box, capsys: pytest.CaptureFixture[str]):
    before = box.state()
    for arguments in ((), ("--purge",)):
        box.call("install-service", "--yes")
        for name in ("var/learnt/GPU-1.json", "private/var/history/history.sqlite"):
            (box.root / name).parent.mkdir(parents=True, exist_ok=True)
            (box.root / name).touch()
        box.call("uninstall-service", *arguments)
        assert ("var/learnt/GPU-1.json" in box.state()) is not bool(arguments)
    assert "--purge removes that too" in capsys.readouterr().out
    assert box.state() == before | {"private"}


@pytest.mark.parametrize("fails", [False, True])
def test_a_unit_that_is_a_link_or_no_text_comes_back_as_such(box: Box, fails: bool):
    unit = box.root / "units/gpufan.service"
    for target, data in ((box.root / "mine.service", b"[Service]\n# mine\n"), (None, b"[Service]\n# caf\xe9\n")):
        unit.unlink(missing_ok=True)
        if target is None:
            unit.write_bytes(data)
        else:
            target.write_bytes(data)
            unit.symlink_to(target)
        if fails:
            (box.root / "broken").write_text("no card answers")
            assert "no card answers" in box.refused("install-service", "--yes")
        else:
            box.call("install-service", "--yes")
            assert "ExecStart" in unit.read_text()
            assert not unit.is_symlink()
            box.call("uninstall-service")
            box.double.let_go()
        assert unit.read_bytes() == data
        assert unit.is_symlink() == (target is not None)


def test_a_rival_leaves_its_curve_and_others_are_named(box: Box, capsys: pytest.CaptureFixture[str]):
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


def test_a_service_that_does_not_start_is_undone_with_its_reason(box: Box):
    (box.root / "broken").write_text("no card answers")
    assert "does not start: no card answers" in box.refused("install-service", "--yes")
    (box.root / "broken").write_text("")


def test_a_service_that_stays_silent_is_undone(box: Box, monkeypatch: pytest.MonkeyPatch):
    script = box.root / "systemctl"
    script.write_text(SYSTEMCTL.replace(': >"active/$unit" ;;', '[ "$unit" = gpufan.service ] || : >"active/$unit" ;;'))
    assert "is not active after" in box.refused("install-service", "--yes")


@pytest.mark.slow
def test_what_stands_in_the_way_is_said_and_changes_nothing(box: Box, monkeypatch: pytest.MonkeyPatch):
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
    box.double.cards[0].fans[0].stuck = IGNORES
    monkeypatch.setattr(proof, "PATIENCE_S", 0.3)
    assert "stays with the driver" in box.refused("install-service", "--yes")
    for card in box.double.cards[:2]:
        card.fan_count = 0
    assert "no card here has fans" in box.refused("install-service", "--yes")


def test_a_configuration_that_says_something_else_is_kept(box: Box):
    box.call("install-service", "--yes", "--curve", "40:30,80:100")
    box.call("install-service", "--yes", "--curve", "40:30,80:100")
    box.double.let_go()
    with pytest.raises(Exception, match="exists already with other settings"):
        box.call("install-service", "--yes", "--curve", "50:30,80:100")


def test_a_service_can_be_given_a_target_which_a_rival_s_curve_does_not_replace(box: Box):
    (box.root / "services").write_text(COOLGPUS)
    (box.root / "active/fans.service").touch()
    box.call("install-service", "--yes", "--target", "78")
    text = (box.root / "etc/config.toml").read_text()
    assert "\ntarget_c = 78\n" in text
    assert "\ncurve = " not in text
    assert "--config excludes" in box.refused("install-service", "--yes", "--config", __file__, "--target", "78")


def test_nothing_keeps_the_steps_before_from_being_taken_back():
    done: list[str] = []

    def fail(error: Exception) -> None:
        raise error

    def gone(_: str) -> None:
        raise BrokenPipeError

    def end() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)

    with pytest.raises(GpufanError, match="first"), install.undone_on_failure(gone) as undo:
        undo(done.append, "rival")
        undo(fail, OSError("no"))
        undo(fail, ValueError("no"))
        undo(end)
        raise GpufanError("first")
    assert done == ["rival"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("failing", [None, 0, 1])
def test_the_copy_in_use_outlives_an_upgrade_that_fails(
    failing: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(root_copy, "COPY", tmp_path / "gpufan")
    monkeypatch.setattr(root_copy, "make_copy", lambda: (root_copy.draft_folder().mkdir(), root_copy.draft_folder())[1])
    root_copy.COPY.mkdir()
    (root_copy.COPY / "good").touch()
    calls: list[Path] = []
    rename = Path.rename

    def rename_or_fail(path: Path, to: Path) -> Path:
        calls.append(path)
        if len(calls) - 1 == failing:
            raise OSError(18, "Invalid cross-device link")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", rename_or_fail)
    with suppress(OSError, GpufanError), install.undone_on_failure(print) as undo:
        install._copy_code(undo)
        if failing is None:
            raise GpufanError("later")
    assert (root_copy.COPY / "good").exists()
    assert sorted(os.listdir(tmp_path)) == ["gpufan"]


def test_a_copy_put_aside_by_an_install_that_was_killed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(root_copy, "COPY", tmp_path / "gpufan")
    monkeypatch.setattr(root_copy, "make_copy", lambda: (root_copy.draft_folder().mkdir(), root_copy.draft_folder())[1])
    (tmp_path / "gpufan.old").mkdir()
    (tmp_path / "gpufan.old/good").touch()
    with suppress(GpufanError), install.undone_on_failure(print) as undo:
        install._copy_code(undo)
        raise GpufanError("later")
    assert (root_copy.COPY / "good").exists()


def test_what_is_installed_is_roots_alone_to_write_whatever_the_umask(box: Box):
    before = os.umask(0)
    try:
        box.call("install-service", "--yes")
        assert os.umask(0) == 0o022
    finally:
        os.umask(before)


def test_a_unit_that_cannot_be_put_back_is_not_forgotten(box: Box):
    box.call("install-service", "--yes")
    script = box.root / "systemctl"
    text = script.read_text()
    script.write_text(text.replace("start | restart)", '"start") echo no >&2; exit 1 ;;\nrestart)'))
    with pytest.raises(GpufanError, match=r"not restored: lightdm.service: .* run this again"):
        box.call("uninstall-service")
    assert "units/gpufan.service" not in box.state()
    assert list(manifest.load().disabled) == ["lightdm.service"]
    script.write_text(text)
    box.call("uninstall-service")
    assert "active/lightdm.service" in box.state()
    assert manifest.load() is None


def test_a_damaged_manifest_is_not_believed(box: Box):
    manifest.PATH.parent.mkdir()
    manifest.PATH.write_text("{")
    assert "is damaged" in box.refused("uninstall-service")
    manifest.PATH.write_text('{"format": 99}')
    assert "newer gpufan" in box.refused("uninstall-service")


def test_without_root_or_systemd_there_is_no_service(box: Box, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(systemctl, "BOOTED", box.root / "no")
    assert "systemd does not run this box" in box.refused("install-service", "--yes")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "sudo" in box.refused("uninstall-service")


@pytest.mark.slow
def test_the_copy_runs_and_is_made_anew_only_when_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(root_copy, "COPY", tmp_path / "gpufan")
    monkeypatch.setattr(root_copy, "_root_python", lambda: Path(getattr(sys, "_base_executable", sys.executable)))
    exposed: list[Path] = []
    monkeypatch.setattr(
        root_copy,
        "first_exposure",
        lambda paths, **_: next((f"{path} is bad" for path in paths if path in exposed), None),
    )
    root_copy.check_copy()
    assert not root_copy.copy_is_current(root_copy.sources_digest())
    root_copy.make_copy().rename(root_copy.COPY)
    assert root_copy.copy_is_current(root_copy.sources_digest())
    exposed.append(root_copy.COPY)
    assert not root_copy.copy_is_current(root_copy.sources_digest())
    exposed[:] = [tmp_path]
    with pytest.raises(GpufanError, match=f"no copy can be safe in {tmp_path}: {tmp_path} is bad"):
        root_copy.check_copy()
    exposed.clear()
    assert (root_copy.COPY / "bin/gpufan").read_text().startswith(f"#!{root_copy.COPY}/bin/python3 -I\n")
    (root_copy.COPY / root_copy._MARK).write_text("older")
    assert not root_copy.copy_is_current(root_copy.sources_digest())
    (root_copy.COPY / root_copy._MARK).unlink()
    with pytest.raises(Exception, match="exists already"):
        root_copy.check_copy()


def test_the_copy_takes_nothing_along_that_leads_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/_editable_impl_gpufan.pth").write_text("/home/a/gpufan\n")
    (tmp_path / "site/needed.py").write_text("")

    files = [PackagePath("_editable_impl_gpufan.pth"), PackagePath("needed.py")]
    for file in files:
        file.dist = PathDistribution(tmp_path / "site/gpufan.dist-info")
    monkeypatch.setattr(root_copy, "_distributions", lambda: [SimpleNamespace(files=files)])
    assert not [name for name in root_copy._sources() if name.endswith(".pth")]
    assert "needed.py" in root_copy._sources()


@pytest.mark.parametrize("exposed", ["draft", "path"])
def test_a_copy_that_would_run_the_code_of_others_is_refused_unrun(
    exposed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    folder = tmp_path / "gpufan.new" if exposed == "draft" else theirs
    monkeypatch.setattr(root_copy, "COPY", tmp_path / "gpufan")
    monkeypatch.setattr(root_copy, "_root_python", lambda: Path(getattr(sys, "_base_executable", sys.executable)))
    monkeypatch.setattr(
        root_copy, "first_exposure", lambda paths: next((f"{p} is bad" for p in paths if p == folder), None)
    )
    ran: list[tuple[str, ...]] = []
    run = root_copy._run
    monkeypatch.setattr(root_copy, "_run", lambda *words: (ran.append(words), f"{theirs}\n" + run(*words))[1])
    with pytest.raises(GpufanError, match=f"not root's: {folder} is bad"):
        root_copy.make_copy()
    assert not [words for words in ran if "-m" in words or "-S" not in words]


def test_no_interpreter_of_roots_own_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposure, "_is_writable_by_others", lambda _: True)
    assert exposure.installation_exposure() is not None
    with pytest.raises(Exception, match="no python3"):
        root_copy.check_copy()
