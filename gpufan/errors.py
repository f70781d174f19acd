"""The errors that reach the person at the terminal: one line each, what happened, to what, and what to do."""

from pathlib import Path


class GpufanError(Exception):
    """Something failed at run time; `exit_status` is what the command ends with."""

    exit_status = 1


class InputError(GpufanError):
    """What the user gave is not usable; nothing was changed."""

    exit_status = 2


class MissingExtra(InputError):
    """What was asked for takes packages that come only with an extra of gpufan."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        """`what` takes `package`, which `extra` brings; `what` is the subject of a sentence, with its verb."""
        import sysconfig  # slow, and needed nowhere else

        pip = Path(sysconfig.get_path("scripts"), "pip")
        # The copy that a service runs has no pip: extras go where that was copied from.
        remedy = f"{pip} install" if pip.exists() else "use the gpufan of your clone, after .venv/bin/pip install"
        super().__init__(f"{what} {package}, which is not installed: {remedy} 'gpufan[{extra}]'")


class DriverError(GpufanError):
    """The driver, its library or its permission stands in the way of every card alike."""


class NoPermission(DriverError):
    """The driver refuses to set fans for this user."""


class GpuError(GpufanError):
    """A request to one card failed; the next one may not."""


class NotGivenBack(GpufanError):
    """Fans are still in manual mode although they were to be given back."""


class NoAnswer(GpufanError):
    """A call has not returned within its time limit."""


class GpuLost(GpuError, NoAnswer):
    """The card no longer answers: it fell off the bus or needs a reset."""


class FansOutOfReach(GpuLost):
    """The fans of a card are set over X, and the X server does not answer; the card itself may."""

    def __init__(self, x_error: str) -> None:
        super().__init__(f"fans out of reach: {x_error}")
        self.x_error = x_error
        """What the X server or the connection to it reports."""


class NotControllable(GpuError):
    """The card has no fan that this driver can set."""
