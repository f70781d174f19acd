"""An install of the service by the gpufan of a package, which contains units, manual pages and completion."""

import hashlib
import sys
from pathlib import Path

import msgspec
import pytest

from gpufan.errors import InputError
from gpufan.service import config_file, package, root_copy
from gpufan.service.units import COMPANIONS, SERVICE, XSERVER
from tests.unit.service.conftest import Box

ROOT = Path(__file__).parents[3]
COMMENTS = (ROOT / ".ci/packaging/config.toml").read_text()


@pytest.fixture
def packaged(box: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """The box with a package."""
    folder = box.root / "packaged-units"
    folder.mkdir()
    monkeypatch.setattr(package, "DEFAULT_PATH", config_file.CONFIG)
    for name, text in package.packaged_units().items():
        (folder / name).write_text(text)
    monkeypatch.setattr(package, "PACKAGED_UNIT_FOLDER", folder)
    monkeypatch.setattr(sys, "prefix", str(package.PACKAGE))
    monkeypatch.setattr(sys, "executable", package.INTERPRETER)
    config_file.CONFIG.parent.mkdir()
    config_file.CONFIG.write_text(COMMENTS)
    return box


def test_the_settings_file_of_the_package_never_changes():
    # Else dpkg asks every user who has changed it, and an upgrade fails where it cannot ask.
    digest = "1953371e6849936e0c1e066ab888b1f6dc7bea8958d991b383a8e2068a653120"
    assert hashlib.sha256(COMMENTS.encode()).hexdigest() == digest


def test_a_package_contains_every_unit():
    names = {SERVICE, XSERVER, *(companion.unit_name for companion in COMPANIONS)}
    assert package.packaged_units().keys() == names


def test_units_and_files_of_the_package_are_used_and_not_written_again(
    packaged: Box, capsys: pytest.CaptureFixture[str]
):
    before = packaged.state()
    packaged.call("install-service", "--yes")
    assert not (packaged.root / "units/gpufan.service").exists()
    assert not (packaged.root / "usr").exists()
    assert (packaged.root / "units/multi-user.target.wants/gpufan.service").is_symlink()
    assert (packaged.root / "active/gpufan-history.service").exists()
    assert config_file.CONFIG.read_text() == COMMENTS
    capsys.readouterr()
    packaged.call("install-service", "--yes")
    assert "nothing: all is as it should be" in capsys.readouterr().out
    packaged.call("uninstall-service")
    assert "removed" not in capsys.readouterr().out
    assert packaged.state() == before


def test_what_only_this_box_needs_is_in_a_drop_in_beside_the_unit_of_the_package(
    packaged: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    drop_in = packaged.root / "units/gpufan.service.d/box.conf"
    before = packaged.state()
    config_file.CONFIG.write_text('display = ":0"\n')
    monkeypatch.setenv("XAUTHORITY", "/run/x/:0")
    packaged.call("install-service", "--yes")
    assert "XAUTHORITY=/run/x/:0" in drop_in.read_text()
    assert not (packaged.root / "units/gpufan.service").exists()
    capsys.readouterr()
    packaged.call("install-service", "--yes")
    assert "nothing: all is as it should be" in capsys.readouterr().out
    config_file.CONFIG.write_text("")
    packaged.call("install-service", "--yes")
    assert f"remove {drop_in}, which gpufan.service does not need any more" in capsys.readouterr().out
    assert not drop_in.exists()
    packaged.call("install-service", "--yes")
    assert "nothing: all is as it should be" in capsys.readouterr().out
    packaged.call("uninstall-service")
    assert packaged.state() == before


def test_an_install_from_a_clone_moves_to_the_package_with_its_copy_and_files_removed(
    box: Box, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(root_copy.CopyPaths, "launcher", root_copy.COPY / "bin/gpufan")
    box.call("install-service", "--yes", "--target", "75")
    assert (box.root / "usr/bin/gpufan").is_symlink()
    # As an install with a copy leaves it; to make one takes seconds.
    root_copy.COPY.mkdir(parents=True)
    (root_copy.COPY / ".copied-by-gpufan").touch()
    record = box.root / "var-install/install.json"
    record.write_bytes(msgspec.json.encode(msgspec.json.decode(record.read_bytes()) | {"copied": True}))
    settings = config_file.CONFIG.read_text()
    config_file.CONFIG.unlink()
    config_file.CONFIG.parent.rmdir()
    packaged = request.getfixturevalue("packaged")
    config_file.CONFIG.write_text(settings)
    monkeypatch.setattr(root_copy.CopyPaths, "launcher", None)

    capsys.readouterr()
    packaged.call("install-service", "--yes")
    said = capsys.readouterr().out
    assert f"remove {root_copy.COPY}, which the service does not need any more" in said
    assert f"remove {box.root}/units/gpufan.service, since the package contains this unit" in said
    left = packaged.state()
    assert not {name for name in left if name.startswith(("usr/", "opt/gpufan", "units/gpufan"))}
    assert "active/gpufan.service" in left
    assert config_file.CONFIG.read_text() == settings
    packaged.call("uninstall-service", "--purge")
    assert "lightdm.service" in (box.root / "calls").read_text()


@pytest.mark.parametrize("words", [(), ("--target", "75")])
def test_settings_in_options_get_into_the_file_of_the_package(words: tuple[str, ...], packaged: Box):
    packaged.call("install-service", "--yes", *words)
    text = config_file.CONFIG.read_text()
    assert COMMENTS in text
    assert ("target_c = 75" in text) == bool(words)


def test_the_curve_of_coolgpus_gets_into_a_file_without_settings_only(packaged: Box):
    coolgpus = "{ path=/x ; argv[]=/usr/bin/coolgpus --temp 17 84 --speed 15 99 ; }"
    (packaged.root / "services").write_text(f"Id=fans.service\nActiveState=active\nExecStart={coolgpus}\n")
    packaged.call("install-service", "--yes")
    assert 'curve = "17:15,84:99"' in config_file.CONFIG.read_text()
    config_file.CONFIG.write_text("interval_s = 2\n")
    packaged.call("install-service", "--yes")
    assert config_file.CONFIG.read_text() == "interval_s = 2\n"


def test_a_settings_file_replaces_that_of_the_package_but_no_settings_of_the_user(packaged: Box, tmp_path: Path):
    mine = tmp_path / "mine.toml"
    mine.write_text("target_c = 70\n")
    packaged.call("install-service", "--yes", "--config", str(mine))
    assert config_file.CONFIG.read_text() == "target_c = 70\n"
    mine.write_text("target_c = 60\n")
    with pytest.raises(InputError, match="exists already with other settings"):
        packaged.call("install-service", "--yes", "--config", str(mine))
