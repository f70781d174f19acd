"""What `.ci/package` builds: the same bytes each time, without a complaint of the judges of each kind of package."""

import filecmp
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from gpufan import __version__
from tests.doubles import require
from tests.integration.packages import SOURCE, build, deb, packages

# To build takes a minute.
pytestmark = pytest.mark.slow

PYTHONS = ("310", "311", "312", "313", "314")
MACHINES = ("x86_64", "aarch64")
SITE = "usr/lib/gpufan/lib/python3/site-packages"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the .deb."""
    folder = tmp_path_factory.mktemp("deb")
    subprocess.run(["dpkg-deb", "-x", deb(), folder], check=True)
    return folder


def output(*command: str | Path) -> str:
    """What a program prints, also if it complains."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


COPY = """umask 077
git clone -q "$0" "$1"
cd "$0"
git ls-files -coz --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x --no-same-permissions -C "$1"
mkdir "$1/.envs"
ln -s "$0/.envs/package" "$1/.envs"
"""
"""Shell commands: copy the source tree to a folder, with the file modes of a user who shares nothing."""


def test_the_same_commit_gives_the_same_bytes_on_another_box(tmp_path: Path) -> None:
    names = sorted(path.name for path in packages().iterdir())
    assert names == sorted(
        [
            "SHA256SUMS",
            f"gpufan-{__version__}-py3-none-any.whl",
            f"gpufan-{__version__}.cdx.json",
            f"gpufan-{__version__}.noarch.rpm",
            f"gpufan-{__version__}.tar.gz",
            f"gpufan_{__version__}_all.deb",
        ]
    )
    source = tmp_path / "elsewhere" / "source"
    subprocess.run(["sh", "-ec", COPY, SOURCE, source], check=True)
    again = build(tmp_path / "again", source, TZ="Pacific/Kiritimati", LC_ALL="C")
    assert filecmp.cmpfiles(packages(), again, names, shallow=False) == (names, [], [])


def test_the_sums_are_those_of_the_files() -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=packages(), check=True)


def test_lintian_finds_no_error_and_no_override_without_use() -> None:
    said = output(require("lintian", "lintian"), "--profile", "debian", "--allow-root", deb())
    assert "E: " not in said, said
    assert "unused-override" not in said, said
    assert "mismatched-override" not in said, said


def test_rpmlint_finds_no_error(tmp_path: Path) -> None:
    # rpmlint unpacks the files where they belong on a box: here, on a layer over the root that goes away.
    if os.geteuid() != 0:
        pytest.skip("only root can mount a layer over the root")
    require("rpmlint", "rpmlint")
    (rpm,) = packages().glob("*.rpm")
    shutil.copy(rpm, tmp_path / "x.rpm")
    shutil.copy(SOURCE / ".ci/packaging/rpmlint.toml", tmp_path)
    script = """set -e
        mount -t tmpfs layer /mnt && mkdir /mnt/upper /mnt/work /mnt/root
        mount -t overlay layer -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
        mount -t proc proc /mnt/root/proc && mkdir /mnt/root/rpm && cp * /mnt/root/rpm
        exec chroot /mnt/root rpmlint -c /rpm/rpmlint.toml /rpm/x.rpm"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert " 0 errors" in done.stdout, done.stdout + done.stderr
    assert not Path("/usr/lib/gpufan").exists()


def test_the_index_of_python_accepts_wheel_and_sdist() -> None:
    pytest.importorskip("twine")
    said = output(
        sys.executable, "-m", "twine", "check", "--strict", *packages().glob("*.whl"), *packages().glob("*.gz")
    )
    assert said.count("PASSED") == 2, said


def test_the_list_of_contents_is_valid_and_names_every_package_with_its_licence(unpacked: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    (path,) = packages().glob("*.cdx.json")
    found = json.loads(path.read_text())
    assert (
        validation.JsonStrictValidator(SchemaVersion[f"V{found['specVersion'].replace('.', '_')}"]).validate_str(
            path.read_text()
        )
        is None
    )
    named = {f"{part['name'].lower().replace('-', '_')}-{part['version']}" for part in found["components"]}
    assert named == {folder.stem.lower() for folder in (unpacked / SITE).glob("*.dist-info")}
    assert all(part.get("licenses") for part in found["components"])


def test_every_python_on_every_machine_has_what_it_needs(unpacked: Path) -> None:
    names = {path.name for path in (unpacked / SITE / "msgspec").glob("_core*.so")}
    assert names == {f"_core.cpython-{python}-{machine}-linux-gnu.so" for python in PYTHONS for machine in MACHINES}
    for python in PYTHONS:
        assert (unpacked / f"usr/lib/gpufan/lib/python3.{python[1:]}").readlink() == Path("python3")


def test_the_package_runs_with_this_python_and_nothing_else(unpacked: Path, tmp_path: Path) -> None:
    program = "import sys; sys.path[:0] = [sys.argv.pop(1)]; from gpufan.cli.main import main; main()"
    base = Path(sysconfig.get_config_var("BINDIR"), "python3")
    command = [base, "-I", "-S", "-c", program, unpacked / SITE]
    done = subprocess.run(
        [*command, "run", "--simulate", "--time-scale", "max", "--duration", "1m"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for extra in ("prometheus_client", "apprise", "starlette", "uvicorn", "tomlkit", "yaml"):
        subprocess.run(
            [base, "-I", "-S", "-c", f"import sys; sys.path[:0] = [sys.argv[1]]; import {extra}", unpacked / SITE],
            check=True,
        )


def test_wheel_and_package_have_the_same_code(unpacked: Path) -> None:
    (wheel,) = packages().glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("gpufan/"):
                assert (unpacked / SITE / name).read_bytes() == archive.read(name), name
