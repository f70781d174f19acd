"""The packages that `.ci/package` builds of this source tree, for the tests."""

import os
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests.doubles import require

SOURCE = Path(__file__).parents[3]


@cache
def packages() -> Path:
    """The folder with the packages. GPUFAN_PACKAGES is a folder with packages that are built already."""
    if built := os.environ.get("GPUFAN_PACKAGES"):
        return Path(built).resolve()
    return build(Path(mkdtemp(prefix="gpufan-packages-")))


def build(folder: Path, source: Path = SOURCE, **environment: str) -> Path:
    """Build the packages of the tree `source` into `folder`."""
    require("go", "golang-go")
    command, variables = [source / ".ci/package", folder], os.environ | environment
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def deb() -> Path:
    """The .deb of this source tree."""
    (path,) = packages().glob("*.deb")
    return path


def changed_deb(folder: Path, version: str, change: Callable[[Path], None] = lambda _: None) -> Path:
    """The .deb as a later `version`. `change` gets the folder of its files."""
    tree = folder / version
    subprocess.run(["dpkg-deb", "-R", deb(), tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.MULTILINE))
    site = tree / "usr/lib/gpufan/lib/python3/site-packages"
    (site / "gpufan/__init__.py").write_text(f'__version__ = "{version}"\n')
    change(site / "gpufan")
    path = folder / f"gpufan_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", tree, path], check=True)
    return path
