"""The support bundle: what it contains, and that it contains no private data."""

import errno
import gzip
import json
import os
import pwd
import re
import socket
import stat
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpufan.core.gpu import GpuInfo, Reading
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.doctor import bundle, root_folder
from gpufan.doctor.facts import Card, Driver, Facts, Published, Systemd, XorgFile
from gpufan.doctor.judge import judge
from gpufan.doctor.mask import Mask
from gpufan.errors import GpufanError, InputError
from gpufan.system import systemctl
from gpufan.system.unit_state import UnitState
from tests.unit.builders import FakeGpu, gpu_state
from tests.unit.core.test_snapshot import disk_with_room_for

UUID = "GPU-0a1b2c3d-1111-2222-3333-444455556666"
OTHER_UUID = "GPU-ffffeeee-1111-2222-3333-444455556666"
HOST, USER = "tardigrade", "waldemar"
MACHINE_ID = "0123456789abcdef0123456789abcdef"
SECRETS = [
    *("0a1b2c3d", "ffffeeee", "444455556666", HOST, USER, "hunter2", MACHINE_ID, "0324518001234", "de:ad:be:ef:00:01"),
    *("192.168.7.9", "fe80::dead:beef", "olga", "mail.example"),
]
DIRTY = f"""{HOST}.lan {HOST} says: {USER} in /home/{USER}/x and /home/olga/y, cards {UUID} and {OTHER_UUID.lower()}
match = "GPU-0a1b2c3d" token=hunter2 "password": "hunter2" Option "Serial" "0324518001234" Serial No: 0324518001234
de:ad:be:ef:00:01 and DE-AD-BE-EF-00-01 at 192.168.7.9 or fe80::dead:beef, machine {MACHINE_ID}, {USER}@mail.example
"""


@pytest.fixture
def mask() -> Mask:
    return Mask(f"{HOST}.lan", [USER, "root"], [UUID])


def test_a_masked_text_contains_no_secret(mask: Mask) -> None:
    clean = mask(DIRTY).lower()
    assert [secret for secret in SECRETS if secret in clean] == []


def test_the_same_word_has_the_same_stand_in_everywhere(mask: Mask) -> None:
    assert mask(UUID) == mask(UUID.upper()) == mask("GPU-0a1b2c3d") == "GPU-1"
    assert mask(OTHER_UUID) == "GPU-2"
    assert mask(f"{HOST} and {HOST}.lan") == "host and host"
    assert mask(f"/home/{USER}/a by {USER}") == "/home/user-1/a by user-1"


@pytest.mark.parametrize(
    "text",
    [
        "0000:0a:00.0 and 00000000:0A:00.0 and PCI:10:0:0",
        "12:34:56 process 26861 drew 229.7 W at 74 °C",
        "driver 580.95.05, nvidia-ml-py 13.615.71, 50:30,75:50,80:64,83:100",
        "0 GTX 1080 Ti: 62 %: the curve gives 58 %, holding for hysteresis",
        "/usr/share/X11/xorg.conf.d/10-quirks.conf: 1 root nvidia",
        "NVIDIA-SMI, GPU-Util, GPU 0",
    ],
)
def test_texts_without_secrets_stay_unchanged(mask: Mask, text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Environment=API_KEY=hunter2 A=b", "Environment=API_KEY=secret-1 A=b"),
        ('Environment="FOO_PASS=hunter2, and more" A=b', 'Environment="FOO_PASS=secret-1" A=b'),
        ("Environment='MY_SECRET_ID=a b'", "Environment='MY_SECRET_ID=secret-1'"),
        ('GITHUB_TOKEN="a b"', "GITHUB_TOKEN=secret-1"),
        ("db_pwd=a;b", "db_pwd=secret-1"),
        ("ExecStart=/bin/x --db-pass hunter2 --key=y z", "ExecStart=/bin/x --db-pass secret-1 --key=secret-2 z"),
        ("SetCredential=name:hunter2", "SetCredential=secret-1"),
        (
            "KeyringMode=private PassEnvironment=A XAUTHORITY=/run/x",
            "KeyringMode=private PassEnvironment=A XAUTHORITY=/run/x",
        ),
    ],
)
def test_secrets_in_variables_and_options_are_masked(mask: Mask, text: str, clean: str) -> None:
    assert mask(text) == clean


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Facts:
    """A box on which every file is full of private data."""
    monkeypatch.setattr(root_folder, "ROOT", tmp_path)
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    person = SimpleNamespace(pw_name=USER, pw_uid=1000, pw_dir=f"/home/{USER}")
    monkeypatch.setattr(pwd, "getpwall", lambda: [person])
    monkeypatch.setattr(systemctl, "journal_lines", lambda *_: [DIRTY])
    monkeypatch.setenv("SUDO_USER", "olga")
    monkeypatch.delenv("SUDO_UID", raising=False)
    dirty = "".join(f"# {line}\n" for line in DIRTY.splitlines())
    for path in (
        *(
            "etc/gpufan/config.toml",
            "etc/X11/xorg.conf",
            f"etc/X11/xorg.conf.d/{USER}.conf",
            "run/own-xserver/Xorg.log",
            "run-xserver/xserver/Xorg.log",  # of gpufan-xserver.service
        ),
        *(
            "etc/systemd/system/gpufan.service",
            "etc/systemd/system/gpufan.service.d/a.conf",
            "usr/lib/systemd/system/gpufan.service",
            "proc/driver/nvidia/version",
        ),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(dirty)
    info: GpuInfo = replace(FakeGpu().info, uuid=UUID)
    state = gpu_state(uuid=UUID, message=DIRTY)
    snapshot = snapshot_now((state, gpu_state(uuid=OTHER_UUID, index=1)), interval_s=1.0)
    SnapshotFile(tmp_path / "run/state.json").write(snapshot)
    return Facts(
        command=f"/home/{USER}/bin/gpufan",
        driver=Driver("580.95", "580.95", cards=(Card(info, Reading(40.0, 100.0, ())),)),
        systemd=Systemd(UnitState("gpufan.service", "loaded", "failed", status=DIRTY)),
        config=tmp_path / "etc/gpufan/config.toml",
        errors={"settings": f"{tmp_path}: {DIRTY}"},
        runtime_folder=tmp_path / "run",
        xorg_files=(XorgFile("/etc/X11/xorg.conf"), XorgFile(f"/etc/X11/xorg.conf.d/{USER}.conf")),
        published=Published(snapshot),
    )


def write(facts: Facts, tmp_path: Path, name: str = "x.tar.gz") -> Path:
    bundle.write_bundle(tmp_path / name, facts, judge(facts))
    return tmp_path / name


def test_no_secret_is_in_any_file_of_the_bundle_nor_in_its_name(facts: Facts, tmp_path: Path) -> None:
    path = write(facts, tmp_path)
    everything = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").lower()
    assert [secret for secret in SECRETS if secret in everything] == []
    header = path.read_bytes()[:40]
    assert b"x.tar" not in header


def test_the_bundle_contains_findings_files_and_log(facts: Facts, tmp_path: Path) -> None:
    with tarfile.open(write(facts, tmp_path)) as archive:
        files = {member.name.removeprefix("gpufan-bundle/"): member for member in archive}
        assert set(files) == {
            *("doctor.json", "doctor.txt", "versions.txt", "log.txt", "config.toml", "state.json", "driver/version"),
            *("run/own-xserver/Xorg.log", "run-xserver/xserver/Xorg.log"),
            *("units/etc/systemd/system/gpufan.service", "units/etc/systemd/system/gpufan.service.d/a.conf"),
            "units/usr/lib/systemd/system/gpufan.service",
            *("xorg/etc/X11/xorg.conf", "xorg/etc/X11/xorg.conf.d/user-1.conf"),
        }
        report = json.load(archive.extractfile(files["doctor.json"]))
        state = json.load(archive.extractfile(files["state.json"]))
        assert {(member.uname, member.gname, member.uid) for member in files.values()} == {("", "", 0)}
    assert report["level"] == "problem"
    cards = [gpu["uuid"] for gpu in state["gpus"]]
    assert cards[0] == next(found["uuid"] for found in report["findings"] if found["card"] == 0)
    assert all(re.fullmatch(r"GPU-\d", uuid) for uuid in cards)


def test_only_its_owner_can_read_the_bundle(facts: Facts, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert stat.S_IMODE(write(facts, tmp_path).stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_bundle_made_with_sudo_belongs_to_the_user_of_sudo(
    facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "1234")
    assert write(facts, tmp_path).stat().st_uid == 1234


@pytest.mark.parametrize("link", [False, True])
def test_an_existing_file_is_not_overwritten(facts: Facts, tmp_path: Path, link: bool) -> None:
    if link:
        (tmp_path / "x.tar.gz").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "x.tar.gz").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        bundle.check_bundle_path(tmp_path / "x.tar.gz")
    with pytest.raises(InputError, match="exists already"):
        write(facts, tmp_path)
    assert not (tmp_path / "elsewhere").exists()
    assert link or (tmp_path / "x.tar.gz").read_text() == "mine"


@pytest.mark.parametrize("room", [0, 100])
def test_on_a_full_disk_no_incomplete_bundle_remains(facts: Facts, tmp_path: Path, room: int) -> None:
    before = sorted(tmp_path.iterdir())
    with disk_with_room_for(room), pytest.raises(GpufanError, match="File too large; choose another --bundle"):
        write(facts, tmp_path)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_bundle_can_be_written_where_files_have_no_owners(
    facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setattr(os, "fchown", refuse)
    write(facts, tmp_path)
    assert tarfile.is_tarfile(tmp_path / "x.tar.gz")


def test_the_folder_of_a_bundle_must_exist(facts: Facts, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        bundle.check_bundle_path(tmp_path / "none/x.tar.gz")
    with pytest.raises(GpufanError, match="cannot write"):
        write(facts, tmp_path, "none/x.tar.gz")


def test_the_bundle_contains_the_end_of_a_long_log(facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "run/own-xserver/Xorg.log").write_text("begin\n" + "x" * bundle._SIZE_LIMIT + "\nend\n")
    with tarfile.open(write(facts, tmp_path)) as archive:
        text = archive.extractfile("gpufan-bundle/run/own-xserver/Xorg.log").read()
    assert text.endswith(b"end\n") and b"begin" not in text


@pytest.mark.parametrize(
    "odd", ["x", "a.", "token ", "0:", "a-", "@", "serial", ' "', "GPU-aaaa", "key_", "a-key", '"pass=', "--token "]
)
def test_masking_is_fast_for_any_text(mask: Mask, odd: str) -> None:
    begin_s = time.process_time()
    mask(odd * (60_000 // len(odd)))
    assert time.process_time() - begin_s < 0.5


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.gz", "x.txt", "x.tar.xz", "x.tar.gz.zip"])
def test_a_name_that_promises_another_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: a bundle is a .tar.gz file"):
        bundle.check_bundle_path(tmp_path / name)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "X.TAR.GZ", "x"])
def test_a_name_that_promises_this_format_or_none_is_accepted(tmp_path: Path, name: str) -> None:
    bundle.check_bundle_path(tmp_path / name)
