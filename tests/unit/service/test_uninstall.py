"""Uninstall reverts what installs have changed."""

import os
import shutil
from pathlib import Path

import pytest

from gpufan.errors import GpufanError
from gpufan.service import config_file, manifest, root_copy
from tests.unit.service.conftest import Box


def test_uninstall_reverts_an_install(box: Box, capsys: pytest.CaptureFixture[str]):
    before = box.state()
    box.call("install-service", "--yes", "--curve", "40:30,80:100")
    changed = {"active/gpufan.service", "units/gpufan.service", "etc/config.toml", "var-install/install.json"}
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


def test_a_foreign_unit_of_the_same_name_is_restored(box: Box, capsys: pytest.CaptureFixture[str]):
    (box.root / "units/gpufan.service").write_text("[Service]\n# mine\n")
    box.call("install-service", "--yes")
    assert "-# mine" in capsys.readouterr().out
    box.call("uninstall-service")
    assert "# mine" in (box.root / "units/gpufan.service").read_text()


def test_a_foreign_command_of_the_same_name_stays(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(root_copy.CopyPaths, "launcher", Path("/opt/gpufan/bin/gpufan"))
    program = box.root / "usr/bin/gpufan"
    program.parent.mkdir(parents=True)
    program.write_text("mine")
    box.call("install-service", "--yes")
    assert program.read_text() == "mine"
    assert f"{program} does not belong to this installation and stays" in capsys.readouterr().err
    box.call("uninstall-service")
    assert program.read_text() == "mine"


def test_a_foreign_manual_page_is_restored(box: Box):
    page = box.root / "usr/share/man/man1/gpufan.1"
    page.parent.mkdir(parents=True)
    page.write_text("mine")
    box.call("install-service", "--yes")
    assert page.read_text() != "mine"
    box.call("uninstall-service")
    assert page.read_text() == "mine"


def test_a_dry_run_of_uninstall_lists_its_steps_and_changes_nothing(box: Box, capsys: pytest.CaptureFixture[str]):
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


def test_only_purge_removes_the_state(box: Box, capsys: pytest.CaptureFixture[str]):
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


def test_a_purge_removes_a_state_folder_that_is_a_link_and_names_what_it_cannot_remove(
    box: Box, monkeypatch: pytest.MonkeyPatch
):
    def busy(*_: object, **__: object) -> None:
        raise OSError(16, "Device or resource busy", "x")

    before = box.state()
    (box.root / "private/var").mkdir(parents=True)
    (box.root / "var").symlink_to("private/var")
    with monkeypatch.context() as broken:
        broken.setattr(os, "rmdir", busy)
        with pytest.raises(GpufanError, match=r"^cannot change .*: Device or resource busy: remove .*/var by hand$"):
            box.call("uninstall-service", "--purge")
    box.call("uninstall-service", "--purge")
    assert box.state() == before | {"private"}


@pytest.mark.parametrize("fails", [False, True])
def test_a_unit_that_is_a_link_or_no_text_is_restored_exactly(box: Box, fails: bool):
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


def test_a_unit_that_cannot_be_restored_is_tried_again_by_the_next_uninstall(box: Box):
    box.call("install-service", "--yes")
    box.systemctl.refused = ("start lightdm.service",)
    with pytest.raises(
        GpufanError,
        match=r"not restored: systemctl start lightdm.service failed: no; .* `sudo .*gpufan uninstall-service` again",
    ):
        box.call("uninstall-service")
    assert "units/gpufan.service" not in box.state()
    assert list(manifest.load_manifest().disabled) == ["lightdm.service"]
    box.systemctl.refused = ()
    box.call("uninstall-service")
    assert "active/lightdm.service" in box.state()
    assert manifest.load_manifest() is None


def test_a_file_that_cannot_be_restored_does_not_prevent_the_rest(box: Box, capsys: pytest.CaptureFixture[str]):
    before = box.state()
    box.call("install-service", "--yes")
    page = box.root / "usr/share/man/man1/gpufan.1"
    page.unlink()
    page.mkdir()
    (page / "other").touch()
    with pytest.raises(
        GpufanError,
        match=r"not restored: cannot remove .*/man1/gpufan\.1: .* `sudo .* uninstall-service` again",
    ):
        box.call("uninstall-service")
    assert "active/lightdm.service" in box.state()
    assert "units/gpufan.service" not in box.state()
    assert list(manifest.load_manifest().files) == [str(page)]
    (page / "other").unlink()
    page.rmdir()
    box.call("uninstall-service", "--purge")
    assert box.state() == before


def test_a_folder_of_manual_pages_that_is_gone_does_not_prevent_an_uninstall(box: Box):
    before = box.state()
    box.call("install-service", "--yes")
    shutil.rmtree(box.root / "usr/share/man")
    box.call("uninstall-service", "--purge")
    assert box.state() == before


def test_a_display_manager_that_was_removed_meanwhile_does_not_prevent_an_uninstall(
    box: Box, capsys: pytest.CaptureFixture[str]
):
    box.call("install-service", "--yes")
    (box.root / "gone-lightdm.service").touch()
    box.call("uninstall-service")
    assert "lightdm.service is no longer installed" in capsys.readouterr().out
    assert manifest.load_manifest() is None


def test_copies_of_a_killed_install_are_removed(box: Box):
    box.call("install-service", "--yes")
    installed = manifest.load_manifest()
    installed.copied = True
    installed.save()
    for name in ("gpufan", "gpufan.new", "gpufan.old"):
        (box.root / "opt" / name / "bin").mkdir(parents=True)
        (box.root / "opt" / name / root_copy._MARK).touch()
    box.call("uninstall-service")
    assert list((box.root / "opt").iterdir()) == []


def test_folders_of_the_user_beside_the_copy_stay(box: Box):
    mine = box.root / "opt/gpufan.old/mine"
    mine.parent.mkdir(parents=True)
    mine.touch()
    box.call("install-service", "--yes")
    installed = manifest.load_manifest()
    installed.copied = True
    installed.save()
    with pytest.raises(GpufanError, match=r"gpufan\.old exists already and is not from gpufan: move it away"):
        root_copy.check_copy()
    root_copy.COPY.write_text("mine")
    root_copy.draft_copy_folder().symlink_to(mine.parent)
    with pytest.raises(GpufanError, match=r"gpufan exists already and is not from gpufan: move it away"):
        root_copy.check_copy()
    box.call("uninstall-service")
    assert mine.exists()
    assert root_copy.COPY.exists()
    assert root_copy.draft_copy_folder().is_symlink()


def test_a_manifest_of_an_older_version_is_found_and_moved(box: Box):
    before = box.state()
    box.call("install-service", "--yes")
    for _ in range(2):
        manifest.OLD_PATH.parent.mkdir()
        manifest.PATH.rename(manifest.OLD_PATH)
        (box.root / "units/gpufan.service").write_text("changed")
        box.call("install-service", "--yes")
        assert manifest.PATH.exists()
        assert not manifest.OLD_PATH.exists()
        manifest.OLD_PATH.parent.rmdir()
    manifest.OLD_PATH.parent.mkdir()
    manifest.PATH.rename(manifest.OLD_PATH)
    box.call("uninstall-service", "--purge")
    assert box.state() == before


def test_a_service_is_installed_also_after_systemctl_clean(box: Box):
    box.call("install-service", "--yes")
    shutil.rmtree(manifest.OLD_PATH.parent, ignore_errors=True)  # the StateDirectory
    assert manifest.load_manifest() is not None


def test_a_damaged_or_newer_manifest_is_refused(box: Box):
    manifest.PATH.parent.mkdir()
    manifest.PATH.write_text("{")
    assert "is damaged" in box.refused("uninstall-service")
    manifest.PATH.write_text('{"format": 99}')
    assert "newer gpufan" in box.refused("uninstall-service")
