"""`gpufan xserver`: a headless X server that can set fans, as a process of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path

from gpufan.daemon.sd_notify import SdNotifier
from gpufan.system.lock import controller_lock
from gpufan.system.signals import StopInbox

ENVIRONMENT_FILE = "environment"
"""Name of a file in the folder of the X server. It has the environment variables for processes that use the server."""


def run_xserver(folder: Path, gpus: Sequence[str], announce: Callable[[str], None]) -> None:
    """Run the X server for the cards named in `gpus`, or for all, until a signal. Its files are in `folder`.

    `announce` is called with a line that says how to use the server. Raises DriverError if it cannot be started,
    GpufanError if there is no card or another process uses `folder`.
    """
    from gpufan.gpu.x_server import addresses_for_x_server
    from gpufan.xorg.headless_config import headless_config
    from gpufan.xorg.headless_server import HeadlessServer

    inbox = StopInbox()
    inbox.catch_signals()
    with controller_lock(folder), HeadlessServer(headless_config(addresses_for_x_server(names=gpus)), folder) as server:
        display = server.display()
        (folder / ENVIRONMENT_FILE).write_text(f"GPUFAN_DISPLAY={display}\nXAUTHORITY={display.authority}\n")
        if notifier := SdNotifier.from_environment():
            notifier.send("READY=1", f"STATUS=X server on {display}")
        announce(f"X server on {display}; use it with: XAUTHORITY={display.authority} gpufan run --display {display}")
        inbox.wait(None)
