"""A box without systemd, for packages."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.systemd.rig import debian_root


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
