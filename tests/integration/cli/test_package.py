"""What people install: the wheel and the sdist hold what the source tree does, and the installed command runs."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from gpufan import __version__

# To build and install takes seconds, in every worker of a parallel run.
pytestmark = pytest.mark.slow

pytest.importorskip("build")
pytest.importorskip("hatchling")

ROOT = Path(__file__).parents[3]
_NOT_SHIPPED = {"__pycache__"}


def files(folder: str) -> set[str]:
    """Every file of a folder of the source tree, by its path from the top."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not _NOT_SHIPPED & set(path.parts)
    }


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist, and the wheel built from it, as an installer without a wheel would."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "--outdir", folder, ROOT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel; what it needs is borrowed from this one, without network."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    programs = folder / "bin"
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", "--ignore-installed", wheel], check=True)
    return programs


def test_the_names_carry_the_version(built: Path) -> None:
    assert sorted(path.name for path in built.iterdir()) == [
        f"gpufan-{__version__}-py3-none-any.whl",
        f"gpufan-{__version__}.tar.gz",
    ]


def test_the_wheel_holds_the_code_and_beside_it_templates_and_units(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("gpufan/")}
    beside = files("templates") | files("systemd")
    assert beside
    assert shipped == files("gpufan") | {f"gpufan/{name}" for name in beside}


def test_the_wheel_holds_nothing_else_but_its_description(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"gpufan", f"gpufan-{__version__}.dist-info"}


def test_the_sdist_holds_the_source_tree(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        shipped = {member.name.split("/", 1)[1] for member in archive if member.isfile()}
    for folder in ("gpufan", "templates", "systemd"):
        assert {name for name in shipped if name.startswith(f"{folder}/")} == files(folder)
    assert {"pyproject.toml", "README.md", "LICENSE", "tests/unit/core/test_curve.py"} <= shipped


def run(program: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of the fresh environment in another folder, with nothing of the source tree in its way."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_installed_command_runs_from_anywhere(installed: Path, tmp_path: Path) -> None:
    arguments = ("run", "--simulate", "--time-scale", "max", "--duration", "1m")
    result = run(installed / "gpufan", *arguments, folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "throttled" in result.stdout


def test_the_installed_code_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    result = run(installed / "python", "-c", "import gpufan; print(gpufan.__file__)", folder=tmp_path)
    assert Path(result.stdout.strip()).is_relative_to(installed.parent)


def test_the_installed_templates_and_units_are_found(installed: Path, tmp_path: Path) -> None:
    program = "import sys; from gpufan.system.resources import resource; print(*map(resource, sys.argv[1:]), sep='\\n')"
    names = sorted(files("templates") | files("systemd"))
    result = run(installed / "python", "-c", program, *names, folder=tmp_path)
    assert result.stderr == ""
    for name, found in zip(names, map(Path, result.stdout.splitlines()), strict=True):
        assert found.is_relative_to(installed.parent)
        assert found.read_bytes() == (ROOT / name).read_bytes()
