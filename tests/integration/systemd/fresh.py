"""Debian boxes as their installer leaves them, with nothing of gpufan."""

from pathlib import Path

from tests.integration.systemd.rig import WHEELS, cached, cached_root, download_wheels, requirements

SUITES = {"bookworm": "3.11", "trixie": "3.13"}
"""The suites, each with the version of its Python."""
TEST_WHEELS = Path("/srv/test-wheels")
"""Where the wheels for `.ci/test` are in a box."""


def fresh_root(suite: str) -> Path:
    """The root of a box without Python. apt and pip find on it what they need to install gpufan without a network."""
    options = "--download-only -o APT::Install-Recommends=1"
    download = f'chroot "$1" sh -c "apt-get clean && apt-get -q -y install {options} python3 python3-venv"'
    options = ["--include=systemd-sysv,dbus", "--skip=cleanup/apt", f"--customize-hook={download}"]
    wheels = ["hatchling", *requirements()]
    return cached_root(suite, options, wheels, lambda root: _fill(root, SUITES[suite], wheels))


def _fill(root: Path, version: str, wheels: list[str]) -> None:
    """Put wheels for Python `version` where `WHEELS` says."""
    download_wheels(root / WHEELS.relative_to("/"), version, wheels)


def wheels_for_tests() -> Path:
    """A layer with the wheels that `.ci/test` installs, for the Python of every suite."""
    names = ["hatchling", "editables", "scipy", *requirements("test")]

    def make(draft: Path) -> None:
        for version in SUITES.values():
            download_wheels(draft / TEST_WHEELS.relative_to("/"), version, names)

    return cached("wheels", (names, SUITES), make)
