"""The .rpm, installed and removed by the real rpm. The root is one of Debian, since no Fedora is to be had here."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpufan import __version__
from tests.doubles import require
from tests.integration.packages import packages
from tests.integration.systemd.rig import debian_root

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A root with Python, as a layer that goes away."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a layer over a root")
    base = debian_root()
    subprocess.run(["mount", "-t", "tmpfs", "layer", tmp_path], check=True)
    try:
        for name in ("upper", "work", "root"):
            (tmp_path / name).mkdir()
        options = f"lowerdir={base},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
        subprocess.run(["mount", "-t", "overlay", "layer", "-o", options, tmp_path / "root"], check=True)
        yield tmp_path / "root"
    finally:
        subprocess.run(["umount", "--recursive", tmp_path], check=True)


def rpm(root: Path, *words: str | Path) -> str:
    """What rpm says, which works on `root` and runs the scripts of the package there."""
    command = [require("rpm", "rpm"), "--root", root, "--nodeps", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_rpm_installs_and_leaves_only_settings_that_were_changed(root: Path) -> None:
    (path,) = packages().glob("*.rpm")
    said = rpm(root, "-i", path)
    assert "nothing is started yet. To control the fans: sudo gpufan install-service" in said
    version = subprocess.run(["chroot", root, "gpufan", "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith(f"gpufan {__version__} ")
    site = root / "usr/lib/gpufan/lib/python3/site-packages/gpufan"
    assert [*site.glob("__pycache__/*.pyc")]
    settings = root / "etc/gpufan/config.toml"
    settings.write_text("target_c = 71\n")

    rpm(root, "-U", "--replacepkgs", "--replacefiles", path)
    assert settings.read_text() == "target_c = 71\n"
    rpm(root, "-e", "gpufan")
    left = {str(path.relative_to(root)) for folder in ("usr", "etc") for path in (root / folder).rglob("*gpufan*")}
    assert left == {"etc/gpufan"}
    assert (root / "etc/gpufan/config.toml.rpmsave").read_text() == "target_c = 71\n"
