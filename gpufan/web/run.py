"""`gpufan web`: start the page, print how to open it, and end it."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gpufan.config.settings import Source
from gpufan.core.snapshot import Snapshot
from gpufan.web.access import KEY_BYTES, AllowedHosts, Sessions, new_login_token
from gpufan.web.assets import Assets
from gpufan.web.box import BoxOptions, WebBox
from gpufan.web.routes import make_application
from gpufan.web.server import PageServer, host_and_port, listen_socket

LISTEN = ("127.0.0.1", 10836)
_TERMINAL_TOKEN_S = 30 * 86400.0
"""A link on the terminal counts once, while the page runs."""


@dataclass(frozen=True)
class WebOptions:
    """The options of `gpufan web`."""

    listen: tuple[str, int]
    runtime_folder: Path
    source: Source
    history_folder: Path
    profile: str | None = None
    """The simulated box; None for real cards."""
    workload: str = "epochs"


def serve_page(options: WebOptions, say: Callable[[str], None]) -> None:
    """Serve the page until a signal arrives. `say` prints a line.

    Raises InputError if an option is wrong, GpufanError if the page cannot be served.
    """
    assets = Assets()
    with ExitStack() as stack:
        listener = stack.enter_context(listen_socket(options.listen))
        port = listener.getsockname()[1]
        box_options, before = _prepare(options, stack)
        key = secrets.token_bytes(KEY_BYTES)
        sessions = Sessions(key)
        for line in start_lines(options.listen[0], port, new_login_token(key, _TERMINAL_TOKEN_S)):
            say(line)
        hosts = AllowedHosts(options.listen[0])

        async def run() -> None:
            box = WebBox(box_options)
            for snapshot in before:
                box.live.recent.add(snapshot)
            server = PageServer(make_application(box, assets, sessions, hosts), box.live.end)
            ends = asyncio.ensure_future(box.live.follow())
            await server.serve([listener])
            ends.cancel()

        asyncio.run(run())


def _prepare(options: WebOptions, stack: ExitStack) -> tuple[BoxOptions, list[Snapshot]]:
    """Return where the page finds its data, and snapshots of the time before. Start the simulation if there is one."""
    if options.profile is None:
        why = "run `sudo gpufan web` to change the settings from the page"
        return BoxOptions(options.runtime_folder, options.source, options.history_folder, why_not_apply=why), []
    from gpufan.web.simulated import SimulatedDaemon

    folder = Path(tempfile.mkdtemp(prefix="gpufan-web-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    source = Source(folder / "config.toml", required=False, options=options.source.options)
    daemon = SimulatedDaemon(options.profile, options.workload, source, folder)
    daemon.start()
    stack.callback(daemon.stop)
    return BoxOptions(folder, source, None, simulated=True), daemon.before


def start_lines(host: str, port: int, token: str) -> list[str]:
    """Return the lines that say how to open the page."""
    shown = "127.0.0.1" if host in ("", "0.0.0.0", "::", "localhost") else host
    lines = [f"open http://{host_and_port((shown, port))}/?token={token}"]
    if "SSH_CONNECTION" in os.environ and shown.startswith("127."):
        lines.append(f"on your computer, first: ssh -L {port}:127.0.0.1:{port} {os.uname().nodename}")
    return [*lines, "Ctrl-C ends the page; gpufan goes on"]
