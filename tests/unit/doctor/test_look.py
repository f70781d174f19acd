"""What the doctor finds in files below a root folder of the test."""

import errno
import os
from pathlib import Path

import pytest

from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.doctor import look, root_folder
from gpufan.doctor.facts import Rival, XServer
from gpufan.doctor.look_processes import (
    look_for_autostarts,
    look_for_other_setter,
    look_for_rivals,
    look_for_x_servers,
)
from gpufan.doctor.look_xorg import look_at_xorg_files


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(root_folder, "ROOT", tmp_path)
    return tmp_path


def process(root: Path, pid: int, *words: str, cgroup: str = "0::/user.slice/x.scope\n") -> None:
    (root / f"proc/{pid}").mkdir(parents=True)
    (root / f"proc/{pid}/cmdline").write_text("\0".join(words) + "\0")
    (root / f"proc/{pid}/cgroup").write_text(cgroup)


def test_rivals_are_found_with_their_units(tmp_path: Path) -> None:
    process(tmp_path, 5, "python3", "/usr/bin/coolgpus", cgroup="0::/system.slice/fans.service\n")
    process(tmp_path, 40, "/usr/bin/lactd", "daemon", cgroup="1:name=systemd:/\n0::/system.slice/lactd.service\n")
    process(tmp_path, 300, "/usr/bin/python3", "/usr/bin/gwe")
    process(tmp_path, 301, "bash", "/home/a/nfancurve/temp.sh")
    assert look_for_rivals() == (
        Rival("coolgpus", "fans.service", 5, True),
        Rival("LACT", "lactd.service", 40, False),
        Rival("GreenWithEnvy", None, 300, False),
        Rival("nfancurve", None, 301, True),
    )


def test_a_program_with_a_rival_among_its_arguments_is_no_rival(tmp_path: Path) -> None:
    process(tmp_path, 5, "vim", "coolgpus")
    process(tmp_path, 6, "grep", "-r", "lactd")
    (tmp_path / "proc/7").mkdir()  # a thread of the kernel, or gone
    assert look_for_rivals() == ()


def test_another_program_that_may_set_fans_is_neither_this_process_nor_the_gpufan_that_runs(tmp_path: Path) -> None:
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((), interval_s=1))
    process(tmp_path, os.getpid(), "python3", "/usr/bin/coolgpus")
    assert look_for_other_setter(tmp_path / "state.json") == ""
    process(tmp_path, 4711, "python3", "/usr/bin/coolgpus")
    assert look_for_other_setter(tmp_path / "state.json") == "probably coolgpus (process 4711)"


@pytest.mark.parametrize(
    ("mode", "found"), [(0o640, None), (0o600, None), (0o644, "can read it"), (0o604, "can read"), (0o642, "can write")]
)
def test_a_file_of_secrets_that_everybody_can_use_is_found(tmp_path: Path, mode: int, found: str | None) -> None:
    file = tmp_path / "etc/gpufan/alerts.toml"
    file.parent.mkdir(parents=True)
    file.write_text("")
    file.chmod(mode)
    exposure = look.gather_facts(tmp_path, None).alerts_exposure
    assert exposure is None if found is None else found in str(exposure)


def test_x_servers_of_gpufan_differ_from_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process(tmp_path, 5, "/usr/lib/xorg/Xorg", ":0", "-seat", "seat0")
    process(tmp_path, 6, "/usr/bin/Xorg", ":90", "-config", f"{run}/own-xserver/xorg.conf")
    assert look_for_x_servers(run) == (XServer(5, ":0", False), XServer(6, ":90", True))


@pytest.mark.parametrize(
    ("entry", "rc", "counts"),
    [
        ("Exec=nvidia-settings -l", "0/GPUFanControlState=1\n", True),
        ("Exec=nvidia-settings -l", "0/XVideoSyncToDisplay=1\n", False),
        ("Exec=nvidia-settings -a [fan:0]/GPUTargetFanSpeed=60", "", True),
        ("Exec=nvidia-settings -l\nHidden=true", "0/GPUFanControlState=1\n", False),
        ("Exec=firefox", "0/GPUFanControlState=1\n", False),
    ],
)
def test_an_autostart_of_nvidia_settings_is_found_if_it_sets_fans(
    tmp_path: Path, entry: str, rc: str, counts: bool
) -> None:
    folder = tmp_path / "home/alice/.config/autostart"
    folder.mkdir(parents=True)
    (folder / "x.desktop").write_text(f"[Desktop Entry]\n{entry}\n")
    (tmp_path / "home/alice/.nvidia-settings-rc").write_text(rc)
    assert bool(look_for_autostarts()) is counts


def test_coolbits_are_found_in_every_file_of_x(tmp_path: Path) -> None:
    for path, text in (
        (
            "etc/X11/xorg.conf",
            'Section "Device"\nIdentifier "a"\nDriver "nvidia"\nOption "Cool Bits" "8"\nEndSection\n',
        ),
        ("etc/X11/xorg.conf.d/20.conf", 'Section "OutputClass"\nIdentifier "b"\nOption "Coolbits" "28"\nEndSection\n'),
        ("usr/share/X11/xorg.conf.d/10.conf", 'Section "Device"'),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    files = {file.path: file for file in look_at_xorg_files([])}
    assert files["/etc/X11/xorg.conf"].coolbits == ((4, "8"),)
    assert files["/etc/X11/xorg.conf.d/20.conf"].coolbits == ((3, "28"),)
    assert "this Section is not closed" in (files["/usr/share/X11/xorg.conf.d/10.conf"].error or "")


def test_a_folder_of_x_that_only_root_may_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    (file,) = look_at_xorg_files([])
    assert file.error == f"cannot read {tmp_path}/usr/share/X11/xorg.conf.d: Permission denied"
