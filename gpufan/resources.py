"""Where the files that are not code lie: `templates/` and `systemd/`."""

from pathlib import Path

from gpufan.errors import GpufanError

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """Path of a file such as `templates/xorg.conf.j2`, installed or in the source tree.

    Raises GpufanError where the installation lacks it.
    """
    # Beside the code once installed from a wheel; one level up where the source tree itself is run.
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).is_file():
            return root / name
    raise GpufanError(f"{name} is missing from this installation of gpufan: install it again")
