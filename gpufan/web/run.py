"""`gpufan web`: start the page, print how to open it, and end it."""

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gpufan.config.settings import Source
from gpufan.config.toml_text import render_settings_text
from gpufan.core.snapshot import Snapshot
from gpufan.errors import GpufanError, InputError
from gpufan.system.own_command import with_own_command
from gpufan.system.paths import SNAPSHOT, WEB_KEY
from gpufan.system.signals import ignored, interrupt_at_signals
from gpufan.web.access import KEY_BYTES, AllowedHosts, Sessions, new_login_token
from gpufan.web.apply import Applier
from gpufan.web.assets import Assets
from gpufan.web.box import BoxOptions, WebBox
from gpufan.web.helper import Appliers, DirectApplier
from gpufan.web.history_view import open_history_folder
from gpufan.web.links import is_any_address, page_link, remove_key_file, tunnel_command, write_key_file
from gpufan.web.model import Models
from gpufan.web.predict import Predictor
from gpufan.web.rights import close_ways_back
from gpufan.web.routes import make_application
from gpufan.web.server import PageServer, ServerThreads, listen_socket
from gpufan.web.supervisor import open_terminal, serve_without_rights
from gpufan.web.temporary_folder import temporary_folder
from gpufan.web.worker import Worker

_PREDICTORS = 3
"""At most this many processes predict; no more than there are processors."""
_TERMINAL_TOKEN_S = 30 * 86400.0
"""A link on the terminal works once. It is valid while the page runs, but at most for this time, s."""


@dataclass(frozen=True)
class WebOptions:
    """The options of `gpufan web`."""

    listen: tuple[str, int]
    runtime_folder: Path
    source: Source
    history_folder: Path
    key_file: Path | None = None
    """The file for the key of links; None prints a link instead."""
    profile: str | None = None
    """The simulated box; None for real cards."""
    workload: str = "epochs"


def serve_page(options: WebOptions, say: Callable[[str], None]) -> None:
    """Serve the page until a signal arrives. `say` prints a line.

    Raises InputError if an option is wrong, GpufanError if the page cannot be served.
    """
    if options.profile is None and options.source.required:
        options.source.read()
    assets = Assets()
    with listen_socket(options.listen) as listener:
        prepare = partial(open_history_folder, options.history_folder)
        page = _Page(options, assets, listener, say)
        if os.geteuid() != 0:
            close_ways_back()
            page.serve(None)
        elif options.profile is not None or (terminal := open_terminal()) is None:
            serve_without_rights(lambda _: page.serve(None), prepare, None, None, say)
        else:
            applier = Applier(_settings_path(options.source), options.runtime_folder)
            serve_without_rights(page.serve, prepare, applier, terminal, say)


def _settings_path(source: Source) -> Path:
    """Return the path of the settings file."""
    assert source.path is not None  # only a simulation has none
    return source.path


class _Page:
    """The page, and what it needs while it is served."""

    def __init__(
        self, options: WebOptions, assets: Assets, listener: socket.socket, say: Callable[[str], None]
    ) -> None:
        self._options = options
        self._assets = assets
        self._listener = listener
        self._say = say
        self._host, self._port = options.listen[0], listener.getsockname()[1]
        self._key = secrets.token_bytes(KEY_BYTES)

    def serve(self, applier: Appliers | None) -> None:
        """Serve the page until a signal arrives. `applier` changes the settings; None for a page that only shows.

        Raises GpufanError if the page cannot be served.
        """
        interrupt_at_signals()
        threads = ServerThreads()
        stack = ExitStack()
        try:
            self._serve_until_signal(applier, stack, threads)
        except KeyboardInterrupt:
            pass
        finally:
            with ignored():  # a second Ctrl-C must not interrupt this
                stack.close()
        threads.end_process_if_busy()

    def _serve_until_signal(self, applier: Appliers | None, stack: ExitStack, threads: ServerThreads) -> None:
        """Serve the page like `serve`. What must be ended afterwards is put on `stack`. Raises KeyboardInterrupt."""
        # Workers must be made before there are threads.
        fitting, *predicting = (
            stack.enter_context(closing(Worker())) for _ in range(1 + min(len(os.sched_getaffinity(0)), _PREDICTORS))
        )
        if self._options.profile is None:
            why = "" if applier else _why_not_apply(self._options)
            box = BoxOptions(
                self._options.runtime_folder, self._options.source, self._options.history_folder, why_not_apply=why
            )
            before: list[Snapshot] = []
        else:
            box, applier, before = self._simulate(stack)
        self._announce(stack)
        if self._options.profile is None:
            self._warn_of_settings()
        predictor = Predictor(predicting)
        models = Models(fitting, box.history_folder, is_simulated=box.simulated, on_fitted=predictor.prepare)
        asyncio.run(self._serve(WebBox(box, applier, models, predictor, before), threads))

    def _simulate(self, stack: ExitStack) -> tuple[BoxOptions, Appliers, list[Snapshot]]:
        """Start a simulated box in a temporary folder. Return where its data is, and its last ten minutes."""
        from gpufan.web.simulated import SimulatedDaemon
        from gpufan.web.simulated_day import record_simulated_day

        folder = stack.enter_context(temporary_folder())
        settings = folder / "settings/config.toml"  # a change of the settings locks their folder
        settings.parent.mkdir()
        settings.write_text(render_settings_text())
        source = Source(settings, required=False)
        daemon = SimulatedDaemon(str(self._options.profile), self._options.workload, source, folder)
        recorder = stack.enter_context(closing(Worker()))
        history = folder / "history"
        arguments = history, self._options.profile, source.read().for_card, daemon.before, folder / SNAPSHOT
        threading.Thread(
            target=_record, args=(recorder, record_simulated_day, *arguments), name="history", daemon=True
        ).start()
        daemon.start()
        stack.callback(daemon.stop)
        applier = DirectApplier(Applier(settings, folder))
        return BoxOptions(folder, source, history, simulated=True), applier, daemon.before

    def _announce(self, stack: ExitStack) -> None:
        """Print how to open the page."""
        key_file = self._options.key_file
        if key_file is not None:
            write_key_file(key_file, self._key, (self._host, self._port))
            stack.callback(remove_key_file, key_file)
            option = "" if key_file == WEB_KEY else f" --key-file {key_file}"
            self._say(f"the page is ready: `sudo gpufan web --url{option}` prints a link")
            return
        self._say(f"open {self._new_link()}")
        if tunnel := tunnel_command(self._host, self._port):
            self._say(f"from another computer, first: {tunnel}")
        if is_any_address(self._host):
            self._say(f"from another computer, write {os.uname().nodename} or an address of it for 127.0.0.1")
        ends = "the page; gpufan itself goes on" if self._options.profile is None else "the page and the simulation"
        self._say(f"Ctrl-C ends {ends}")

    def _warn_of_settings(self) -> None:
        """Print why the settings file cannot be used, if that is so. gpufan may run with its former settings."""
        try:
            self._options.source.read()
        except InputError as error:
            self._say(f"{error}; until this is corrected, the page shows no settings")

    def _new_link(self) -> str:
        """Return a link that opens the page once."""
        return page_link(self._host, self._port, new_login_token(self._key, _TERMINAL_TOKEN_S))

    def _say_login(self) -> None:
        """Print that a browser has logged in, and the link for another one."""
        with suppress(OSError):  # the terminal may be gone
            self._say("a browser has opened the page; the link cannot be used again")
            if self._options.key_file is None:
                self._say(f"next link: {self._new_link()}")

    async def _serve(self, box: WebBox, threads: ServerThreads) -> None:
        """Serve the page until a signal arrives. Answers are computed in `threads`."""
        asyncio.get_running_loop().set_default_executor(threads)
        hosts = AllowedHosts(self._host, os.uname().nodename)
        application = make_application(box, self._assets, Sessions(self._key, self._say_login), hosts)
        server = PageServer(application, box.live.end)
        server.end_at_signals()
        follower = asyncio.ensure_future(box.live.follow())
        follower.add_done_callback(lambda _: server.end())  # only a bug ends it early
        await server.serve([self._listener])
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower


def _record(recorder: Worker, record: Callable[..., None], *arguments: object) -> None:
    """Call `record` in the worker `recorder`, until the page ends."""
    with suppress(GpufanError):
        recorder.call(record, *arguments)


def _why_not_apply(options: WebOptions) -> str:
    """Return why the page cannot change the settings."""
    if options.key_file is not None:
        return "the page of the service only shows: run `sudo gpufan web` in a terminal to change settings"
    return with_own_command("run `sudo gpufan web` in a terminal to change settings from the page")
