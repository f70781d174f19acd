"""The errors of gpufan. The user sees the text of an error: one line that says what happened and what to do."""

import sys
from pathlib import Path


class GpufanError(Exception):
    """An error at run time. A gpufan command that fails with this error has the exit status `exit_status`."""

    exit_status = 1


class InputError(GpufanError):
    """The input of the user is not usable. The command has changed nothing."""

    exit_status = 2


class MissingExtra(InputError):
    """A Python package is not installed. The package belongs to an extra of gpufan."""

    def __init__(self, who_needs: str, package: str, extra: str) -> None:
        """Make the message of the error.

        `who_needs` is the beginning of the message, such as `pictures need`. `package` is the missing Python package.
        `extra` is the extra of gpufan that installs this package.
        """
        super().__init__(f"{who_needs} {package}, which is not installed: {_how_to_install(package, extra)}")


def _how_to_install(package: str, extra: str) -> str:
    """Return how this gpufan gets the Python package `package`, which belongs to its extra `extra`."""
    import sysconfig  # slow, and needed nowhere else

    # Only in a package of the distribution (.ci/packaging), which finds other packages of it.
    if Path(sysconfig.get_path("purelib"), "distribution.pth").exists():
        return f"install the package python3-{package.split()[0]} of your distribution"
    if Path(sys.prefix, "pipx_metadata.json").exists():
        return f"pipx install --force 'gpufan[{extra}]'"
    if Path(sys.prefix, "uv-receipt.toml").exists():
        return f"uv tool install --force 'gpufan[{extra}]'"
    pip = Path(sysconfig.get_path("scripts"), "pip")
    # The copy that a service runs has no pip: an extra is installed where the copy was made from.
    remedy = f"{pip} install" if pip.exists() else "use the gpufan of your clone, after .venv/bin/pip install"
    return f"{remedy} 'gpufan[{extra}]'"


class DriverError(GpufanError):
    """The driver, its library or a missing permission prevents access to all cards."""


class NoPermission(DriverError):
    """This user is not allowed to set fans, or to make another change that needs root."""


class GpuError(GpufanError):
    """A request to one card failed; the next request may succeed."""


class NotGivenBack(GpufanError):
    """Fans are still in manual mode after an attempt to give them back to the driver."""


class NoAnswer(GpufanError):
    """A call has not returned within its time limit."""


class GpuLost(GpuError, NoAnswer):
    """The card no longer answers: it fell off the bus or needs a reset."""


class ResetRequired(GpuLost):
    """The card does not answer until somebody resets it."""


class FansOutOfReach(GpuLost):
    """The X server that sets the fans of a card does not answer. The card itself may still answer."""

    def __init__(self, x_error: str) -> None:
        super().__init__(f"fans out of reach: {x_error}")
        self.x_error = x_error
        """The error of the X server, or of the connection to this server."""


class NotControllable(GpuError):
    """The card has no fan that this driver can set."""
