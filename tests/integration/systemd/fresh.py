"""Debian boxes as their installer leaves them, with nothing of gpufan."""

from pathlib import Path

from tests.integration.systemd.rig import cached_root

SUITES = ("bookworm", "trixie")


def fresh_root(suite: str) -> Path:
    """The root of a box without Python. apt has what python3 needs in its cache, so that it needs no network."""
    options = "--download-only -o APT::Install-Recommends=1"
    download = f'chroot "$1" sh -c "apt-get clean && apt-get -q -y install {options} python3"'
    options = ["--include=systemd-sysv,dbus", "--skip=cleanup/apt", f"--customize-hook={download}"]
    return cached_root(suite, options)
