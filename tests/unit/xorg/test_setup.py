import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from gpufan.cli.setup_xorg import setup_xorg
from gpufan.errors import GpufanError, InputError
from gpufan.gpu.simulated import PROFILES
from gpufan.system import resources
from gpufan.xorg import search
from gpufan.xorg.edid import PRETENDED_EDID
from tests.doubles import require
from tests.doubles.xorg_files import SAMPLES

ORIGINAL = SAMPLES["nvidia-xconfig"]


@pytest.fixture
def output(tmp_path) -> Path:
    folder = tmp_path / "X11"
    folder.mkdir()
    return folder / "xorg.conf"


@pytest.fixture(autouse=True)
def snippets(monkeypatch, tmp_path) -> Path:
    """The folder of snippets, instead of those of this machine."""
    folder = tmp_path / "xorg.conf.d"
    folder.mkdir()
    monkeypatch.setattr(search, "SYSTEM_FOLDERS", ())
    monkeypatch.setattr(search, "LOCAL_FOLDERS", (folder,))
    return folder


def command(output: Path, *arguments: str, simulate: str = "dual-1080ti"):
    """Run it as the shell would; an error comes out as it was raised."""
    line = ["--output", str(output), "--simulate", simulate, *arguments]
    return CliRunner().invoke(setup_xorg, line, catch_exceptions=False)


def names(output: Path) -> list[str]:
    return sorted(path.name for path in output.parent.iterdir())


def test_missing_file_is_written_and_shown(output):
    result = command(output)
    assert 'BusID "PCI:65:0:0"' in output.read_text()
    assert result.stdout.startswith(f"--- /dev/null\n+++ {output}\n@@ ")
    assert output.stat().st_mode & 0o777 == 0o644
    assert f"`gpufan setup-xorg --restore --output {output}` reverts it" in result.stdout


def test_second_run_changes_nothing_and_says_so(output):
    command(output)
    before = output.stat().st_mtime_ns, names(output)
    assert command(output).stdout == f"{output} needs no change\n"
    assert (output.stat().st_mtime_ns, names(output)) == before


def test_dry_run_shows_the_difference_and_writes_nothing(output):
    output.write_bytes(ORIGINAL)
    result = command(output, "--dry-run")
    assert '+    Option         "Coolbits" "12"\n' in result.stdout
    assert output.read_bytes() == ORIGINAL
    assert names(output) == ["xorg.conf"]


def test_difference_marks_a_missing_last_newline(output):
    output.write_bytes(SAMPLES["no end of line"])
    assert "EndSection\n\\ No newline at end of file\n" in command(output, "--dry-run").stdout


def test_backup_keeps_content_mode_and_owner(output):
    output.write_bytes(ORIGINAL)
    output.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(output, 1234, 1235)
    was = output.stat()
    command(output)
    backup = output.with_name("xorg.conf.gpufan-original")
    assert backup.read_bytes() == ORIGINAL
    for now in (backup.stat(), output.stat()):
        assert (now.st_mode, now.st_uid, now.st_gid) == (was.st_mode, was.st_uid, was.st_gid)


@pytest.mark.parametrize("sample", SAMPLES)
def test_restore_gives_back_the_original_byte_for_byte(output, sample):
    output.write_bytes(SAMPLES[sample])
    output.chmod(0o600)
    command(output, simulate="quad-2080ti")
    command(output, "--restore")
    assert output.read_bytes() == SAMPLES[sample]
    assert output.stat().st_mode & 0o777 == 0o600


def test_restore_removes_the_file_where_there_was_none(output):
    command(output)
    result = command(output, "--restore")
    assert result.stdout.splitlines()[-1].startswith(f"removed {output}, which gpufan had created")
    assert not output.exists()


def test_second_restore_changes_nothing(output):
    output.write_bytes(ORIGINAL)
    command(output)
    command(output, "--restore")
    before = names(output)
    assert "has nothing to restore" in command(output, "--restore").stdout
    assert names(output) == before


def test_dry_restore_shows_the_difference_and_writes_nothing(output):
    output.write_bytes(ORIGINAL)
    command(output)
    before = output.read_bytes(), names(output)
    assert '+    Option         "Coolbits" "8"\n' in command(output, "--restore", "--dry-run").stdout
    assert (output.read_bytes(), names(output)) == before


def test_after_a_restore_the_next_run_backs_up_a_new_original(output):
    output.write_bytes(ORIGINAL)
    command(output)
    command(output, "--restore")
    newer = ORIGINAL + b"# newer\n"
    output.write_bytes(newer)
    command(output)
    command(output, "--restore")
    assert output.read_bytes() == newer


def test_edid_file_is_written_beside_xorg_conf_and_removed_by_restore(output):
    command(output, "--edid")
    edid = output.with_name("gpufan-edid.bin")
    assert edid.read_bytes() == PRETENDED_EDID
    assert f'Option "CustomEDID" "DFP-0:{edid}"' in output.read_text()
    command(output, "--restore")
    assert not edid.exists()


def test_missing_edid_file_is_written_again(output):
    command(output, "--edid")
    output.with_name("gpufan-edid.bin").unlink()
    command(output, "--edid")
    assert output.with_name("gpufan-edid.bin").exists()


def test_edid_decode_accepts_the_edid_and_reads_its_resolution(tmp_path):
    decoder = require("edid-decode", "edid-decode")
    (tmp_path / "edid").write_bytes(PRETENDED_EDID)
    decoded = subprocess.run([decoder, "--check", tmp_path / "edid"], capture_output=True, text=True, check=True).stdout
    assert "EDID conformity: PASS" in decoded
    assert re.search(r"DTD 1: +1024x768 +60\.003840 Hz", decoded)


def test_symbolic_link_stays_and_its_target_changes(output, tmp_path):
    target = tmp_path / "real.conf"
    target.write_bytes(ORIGINAL)
    output.symlink_to(target)
    command(output)
    assert output.is_symlink()
    assert b'"Coolbits" "12"' in target.read_bytes()
    assert (tmp_path / "real.conf.gpufan-original").read_bytes() == ORIGINAL


@pytest.mark.parametrize(
    "names", [("X11/xorg.conf", "xorg.conf.d/1.conf"), ("xorg.conf.d/1.conf", "xorg.conf.d/2.conf")]
)
def test_a_file_that_x_reads_under_several_names_changes_once(output, snippets, tmp_path, names):
    real = tmp_path / "real.conf"
    before = (
        b'Section "ServerLayout"\nIdentifier "l"\nScreen "s"\nEndSection\n'
        b'Section "Screen"\nIdentifier "s"\nDevice "d"\nEndSection\n'
        b'Section "Device"\nIdentifier "d"\nDriver "nvidia"\nBusID "PCI:10:0:0"\nEndSection\n'
    )
    real.write_bytes(before)
    for name in names:
        (tmp_path / name).symlink_to(real)
    assert f"{real} and {real}" not in command(output).stdout
    assert real.read_bytes().count(b'Screen "Screen 0000:41:00.0" RightOf "s"') == 1
    assert command(output).stdout == f"{output} needs no change\n"
    command(output, "--restore")
    assert real.read_bytes() == before


def test_an_output_that_x_does_not_read_by_itself_needs_an_option_of_x(output, snippets):
    assert f"it applies from the next start of X with `-config {output}`; " in command(output).stdout
    assert "it applies from the next start of X; " in command(snippets / "90-gpufan.conf").stdout


def test_restore_names_the_output_of_another_run(output, snippets):
    other = snippets / "90-gpufan.conf"
    command(other)
    with pytest.raises(GpufanError, match=f"gpufan setup-xorg --restore --output {other}`$"):
        command(output, "--restore")
    command(other, "--restore")
    assert "has nothing to restore" in command(output, "--restore").stdout


@pytest.mark.parametrize("target", ["moved", "sub/moved"])
def test_restore_names_a_file_that_has_become_a_link_since(output, target):
    output.write_bytes(SAMPLES["windows"])
    command(output)
    (output.parent / "sub").mkdir(exist_ok=True)
    output.rename(output.parent / target)
    output.symlink_to(target)
    with pytest.raises(GpufanError, match=f"{output} has become a link since gpufan wrote it: restore it by hand"):
        command(output, "--restore")


def test_a_file_name_controls_no_terminal(output, snippets):
    (snippets / "a\n\x1b[2J.conf").write_bytes(SAMPLES["windows"])
    assert f"wrote {output} and {snippets}/a ?[2J.conf\n" in command(output).stdout


@pytest.mark.parametrize(
    ("path", "installed", "is_wrong"),
    [
        ("{}/none", "", True),
        ("none", "", True),
        ("", "", True),
        ("{}/none,{}/usual", "", False),
        ("{}/none,{}/usual", "nvidia", True),
        ("{}/own,{}/usual", "nvidia", False),
    ],
)
def test_a_module_path_without_the_driver_is_named_and_nothing_is_written(
    output, tmp_path, monkeypatch, path, installed, is_wrong
):
    monkeypatch.setattr(search, "MODULE_FOLDERS", [tmp_path / installed] if installed else [])
    for name in ("usual/drivers/modesetting_drv.so", "nvidia/nvidia_drv.so", "own/drivers/nvidia_drv.so"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    old = b'Section "Files"\n ModulePath "/nowhere"\nEndSection\n'
    before = old + b'Section "Files"\n ModulePath "%b"\nEndSection\n' % path.replace("{}", str(tmp_path)).encode()
    output.write_bytes(before)
    result = command(output)
    line = f"gpufan: X cannot set the fans of 0000:0a:00.0: {output}:5: X looks for drivers only in this ModulePath"
    assert (line in result.stderr) == is_wrong
    assert result.exit_code == is_wrong
    assert (output.read_bytes() == before) == is_wrong


def test_syntax_error_is_named_and_nothing_is_written(output):
    output.write_bytes(b'Section "Device"\n  Drivr "nvidia"\nEndSection\n')
    with pytest.raises(InputError, match=rf"^{output}:2:3: X knows no keyword Drivr"):
        command(output)
    assert names(output) == ["xorg.conf"]


@pytest.mark.parametrize("kind", ["folder", "circle", "nowhere"])
def test_output_that_cannot_be_a_file_is_an_input_error(output, kind):
    if kind == "folder":
        output.mkdir()
    elif kind == "circle":
        output.symlink_to(output)
    with pytest.raises(InputError):
        search.real_config_file(output / "missing" / "xorg.conf" if kind == "nowhere" else output)


def test_missing_permission_is_reported_before_the_file_is_read(output, monkeypatch):
    output.write_bytes(b"not even legal")
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    else:
        output.parent.chmod(0o555)
    with pytest.raises(GpufanError, match=f"no permission to write {output}: run this with sudo"):
        command(output)


def test_a_read_only_file_system_is_named(output, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(GpufanError, match=f"cannot write {output}: its file system is read-only"):
        command(output)


def test_dry_run_needs_no_permission_to_write(output, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert command(output, "--dry-run").exit_code == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_every_simulated_box_can_be_written_for(output, profile):
    command(output, simulate=profile)
    assert output.read_text().count('Section "Device"') == len(PROFILES[profile].plants)


@pytest.mark.parametrize("coolbits", ["0", "32", "four"])
def test_unknown_coolbits_are_a_usage_error(output, coolbits):
    assert command(output, "--coolbits", coolbits).exit_code == 2


def test_file_that_an_installation_lacks_is_named():
    with pytest.raises(GpufanError, match="templates/none is missing from this installation"):
        resources.resource("templates/none")


def test_installed_files_come_before_those_of_a_source_tree(tmp_path, monkeypatch):
    package = tmp_path / "gpufan"
    for folder in (package, tmp_path):
        (folder / "templates").mkdir(parents=True)
        (folder / "templates" / "x").touch()
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert resources.resource("templates/x") == package / "templates" / "x"
