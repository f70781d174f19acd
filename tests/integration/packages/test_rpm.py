"""The .rpm, installed and removed by the real rpm. The root is one of Debian, since no Fedora is to be had here."""

import subprocess
from pathlib import Path

import pytest

from gpufan import __version__
from tests.doubles import require
from tests.integration.packages import SOURCE, deb, packages

pytestmark = pytest.mark.slow

SITE = "usr/lib/gpufan/lib/python3/site-packages"
SETTINGS = "etc/gpufan/config.toml"


def rpm(root: Path, *words: str | Path) -> str:
    """What rpm says, which works on `root` and runs the scripts of the package there."""
    command = [require("rpm", "rpm"), "--root", root, "--nodeps", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def newer_rpm(folder: Path) -> Path:
    """An rpm of version 99, with the same scripts, the files of the .deb, and one file less."""
    (nfpm,) = (SOURCE / ".envs/package").glob("nfpm-*")
    scripts = SOURCE / ".ci/packaging"
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-x", deb(), tree], check=True)
    (tree / SITE / "gpufan/__init__.py").write_text('__version__ = "99"\n')
    (tree / SITE / "gpufan/service/ansible.py").unlink()
    (tree / SETTINGS).unlink()
    (folder / "nfpm.yaml").write_text(f"""
name: gpufan
arch: all
version: "99"
maintainer: nobody
contents:
  - {{src: {tree}/, dst: /, type: tree}}
  - {{src: {scripts}/config.toml, dst: /{SETTINGS}, type: config|noreplace}}
scripts: {{postinstall: {scripts}/postinst.sh, preremove: {scripts}/prerm.sh, postremove: {scripts}/postrm.sh}}
rpm: {{compression: "gzip:1"}}
""")
    made = folder / "newer.rpm"
    command = [nfpm, "package", "--config", folder / "nfpm.yaml", "--packager", "rpm", "--target", made]
    subprocess.run(command, check=True, capture_output=True)
    return made


def test_an_rpm_installs_and_leaves_only_settings_that_were_changed(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (path,) = packages().glob("*.rpm")
    said = rpm(root, "-i", path)
    assert "nothing is started yet. To control the fans: sudo gpufan install-service" in said
    version = subprocess.run(["chroot", root, "gpufan", "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith(f"gpufan {__version__} ")
    site = root / SITE / "gpufan"
    assert [*site.glob("__pycache__/*.pyc")]
    settings = root / SETTINGS
    settings.write_text("target_c = 71\n")

    rpm(root, "-U", "--replacepkgs", "--replacefiles", path)
    assert settings.read_text() == "target_c = 71\n"
    # rpm runs the scripts of the old version after those of the new one, whose compiled code must stay.
    rpm(root, "-U", newer_rpm(tmp_path_factory.mktemp("newer")))
    assert settings.read_text() == "target_c = 71\n"
    assert [*site.glob("__pycache__/*.pyc")]
    assert not (site / "service/ansible.py").exists()
    rpm(root, "-e", "gpufan")
    left = {str(path.relative_to(root)) for folder in ("usr", "etc") for path in (root / folder).rglob("*gpufan*")}
    assert left == {"etc/gpufan"}
    assert (root / "etc/gpufan/config.toml.rpmsave").read_text() == "target_c = 71\n"


@pytest.mark.parametrize("text", ["target_c = 71\n", None])
def test_a_removed_rpm_leaves_the_settings_that_the_service_of_a_clone_uses(root: Path, text: str | None) -> None:
    (path,) = packages().glob("*.rpm")
    rpm(root, "-i", "--noscripts", path)
    settings = root / SETTINGS
    if text is not None:
        settings.write_text(text)
    before = settings.read_text()
    (root / "etc/systemd/system/gpufan.service").write_text("[Service]\nExecStart=/opt/gpufan/bin/python3\n")
    assert f"/{SETTINGS} stays, since" in rpm(root, "-e", "gpufan")
    assert settings.read_text() == before
    assert not (root / f"{SETTINGS}.kept").exists()
