"""`gpufan run` on real cards: open the cards, connect all parts, and release everything at the end."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from gpufan import __version__
from gpufan.config.schema import LIMIT_KEYS
from gpufan.config.settings import COMMAND_LINE, RunSettings, Settings, Source
from gpufan.core.gpu import Gpu
from gpufan.core.selection import NoSuchCard, card_matches, select_cards, select_present_cards
from gpufan.core.sentences import refused_settings_sentence
from gpufan.daemon import learnt
from gpufan.daemon.case_fans import make_case_fan_workers, split_cards_to_control
from gpufan.daemon.guardian import guardian
from gpufan.daemon.instructions import SettingsFor
from gpufan.daemon.last_good import (
    StartSettings,
    last_good_saver,
    last_good_with_other_cards,
    read_settings_or_last_good,
)
from gpufan.daemon.loop import ControlLoop
from gpufan.daemon.orders import Orders
from gpufan.daemon.publish import publish_in_background, publish_to_recording, publish_to_snapshot_file
from gpufan.daemon.sd_notify import SdNotifier
from gpufan.daemon.taken import Taken
from gpufan.daemon.view import OpenView
from gpufan.daemon.worker import Worker
from gpufan.daemon.workers import make_workers
from gpufan.errors import GpufanError, InputError, NotControllable, NotGivenBack
from gpufan.system.lock import controller_lock
from gpufan.system.paths import ORDERS, TAKEN
from gpufan.system.signals import StopInbox

_log = logging.getLogger(__name__)


def run_cards(source: Source, runtime_folder: Path, record: Path | None, open_view: OpenView) -> None:
    """Control real cards until a signal or the end of the duration. At SIGHUP the settings of `source` are read again.

    Lock and snapshot are in `runtime_folder`. A row for each card and tick is appended to the file `record`; None for
    no recording. `open_view` opens the view of the run. Raises InputError, DriverError, NotControllable, or the error
    that ended the run.
    """
    inbox = StopInbox()
    inbox.catch_signals()
    inbox.reload_on_hang_up()
    notifier = SdNotifier.from_environment()
    try:
        start = StartSettings(source.read()) if notifier is None else read_settings_or_last_good(source)
        try:
            _run_with_settings(source, start, runtime_folder, record, open_view, inbox, notifier)
        except NoSuchCard as error:
            # As a mistake in the file, a wrong name must not leave the fans to the driver.
            gpus = start.settings.run_settings().gpus
            other = None if notifier is None or start.refused else last_good_with_other_cards(source, error, gpus)
            if other is None:
                raise
            _run_with_settings(source, other, runtime_folder, record, open_view, inbox, notifier)
    except GpufanError as error:
        if notifier is not None and not notifier.ready and not isinstance(error, NotGivenBack):
            notifier.hold_back(error, inbox)
        raise


def _run_with_settings(
    source: Source,
    start: StartSettings,
    runtime_folder: Path,
    record: Path | None,
    open_view: OpenView,
    inbox: StopInbox,
    notifier: SdNotifier | None,
) -> None:
    """Control the cards with the settings `start`. After a reload, use the settings of `source`.

    `record` is the file of the recording; None for no recording. `inbox` receives the reasons to stop. `notifier` sends
    messages to the service manager; None without a service manager.
    """
    # They load the driver's library, which a simulation does not need.
    from gpufan.daemon.headers import use_header_fans
    from gpufan.gpu.cards import open_cards
    from gpufan.gpu.header import Headers

    with ExitStack() as stack:
        rows = stack.enter_context(publish_to_recording(record))
        settings = start.settings
        run = settings.run_settings()
        folder = None if run.dry_run else runtime_folder
        lock = stack.enter_context(controller_lock(folder))
        taken = None
        orders = stack.enter_context(Orders(None if run.dry_run else runtime_folder / ORDERS))
        if not run.dry_run:
            record_of_taken = (runtime_folder / TAKEN).absolute()
            if notifier is None:  # else the service manager gives the fans back
                stack.enter_context(guardian(record_of_taken))
            taken = stack.enter_context(Taken(record_of_taken, run.display))
        cards = stack.enter_context(closing(open_cards(run.backend, run.display, runtime_folder, run.gpus)))
        headers = Headers(
            () if taken is None else taken.channels_left_over(),
            start_again=(lambda _: None) if notifier is None else inbox.fail,
        )
        use_header_fans(cards, settings, headers)
        chosen = _select_cards_to_run(cards.gpus, settings)
        if not run.dry_run:
            cards.start_x_server(chosen)
        usable, uncontrollable = split_cards_to_control(chosen, settings)
        if not usable:
            raise NotControllable(f"no card here has fans that can be set: {'; '.join(uncontrollable)}")
        for line in uncontrollable:
            _log.warning("not controlled: %s", line)
        log_run_settings_warnings(settings, cards.gpus)

        folder_of_learnt = learnt.learnt_folder()
        workers: list[Worker] = []

        def add_workers_to_run(gpus: Sequence[Gpu]) -> list[Worker]:
            known = learnt.read_all_learnt(folder_of_learnt, [gpu.info.uuid for gpu in gpus])
            return make_workers(gpus, settings.for_card, box=workers, dry_run=run.dry_run, learnt=known, taken=taken)

        case_fans = make_case_fan_workers(settings, headers.open_fan, workers, dry_run=run.dry_run, taken=taken)
        for worker in (*add_workers_to_run(usable), *case_fans):
            info = worker.gpu.info
            _log.info("%s: %s, %s", info.label, "dry run" if run.dry_run else "controlled", settings.for_card(info))
        title = "dry run: nothing is set" if run.dry_run else "ctrl-c gives the fans back to the driver"
        view = stack.enter_context(closing(open_view(f"gpufan {__version__} · {title}")))
        sinks = [view.publish, *stack.enter_context(publish_to_snapshot_file(folder, lock))]
        if taken is not None:
            sinks.append(lambda _: taken.renew())
        sinks.extend(stack.enter_context(publish_in_background(rows)))
        if not run.dry_run:
            sinks.append(stack.enter_context(closing(learnt.LearntSaver(folder_of_learnt, workers))).publish)
        if notifier is not None:
            sinks.append(notifier.publish)
        keep = stack.enter_context(last_good_saver()) if notifier is not None else lambda _: None
        keep(settings)
        daemon = ControlLoop(
            workers,
            sinks,
            case_fans=case_fans,
            interval_s=run.interval_s,
            dry_run=run.dry_run,
            every_tick=bool(rows) or view.every_tick,
            reload=lambda: _reload_settings_of_run(source, settings, cards.gpus, keep),
            reload_driver=None if run.dry_run else cards.reload_driver,
            find_new=lambda: add_workers_to_run(split_cards_to_control(cards.find_new(), settings)[0]),
            orders=orders,
            settings_in_use=start.in_use,
            settings_refused=start.refused,
            stopping=notifier.stopping if notifier else lambda: None,
        )
        daemon.run(inbox, run.duration_s)
    if not run.dry_run:
        labels = ", ".join(worker.gpu.info.label for worker in (*workers, *case_fans))
        _log.info("fans given back to the driver: %s", labels)


def _reload_settings_of_run(
    source: Source, started: Settings, gpus: Sequence[Gpu], keep: Callable[[Settings], None]
) -> tuple[float, SettingsFor]:
    """Read the settings again. Returns the interval of ticks, s, and a function that returns the settings of a card.

    `started` are the settings at the start. `gpus` are all cards of the box. `keep` saves the new settings as the last
    good settings. Any error is logged and raised.
    """
    try:
        settings = source.read()
        run = settings.run_settings()
        for key in RunSettings._fields:
            if key != "interval_s" and getattr(run, key) != getattr(started.run_settings(), key):
                raise InputError(f"{source.path}: a new {key} needs a restart")
        if (settings.header_fans, settings.channel_names) != (started.header_fans, started.channel_names):
            raise InputError(f"{source.path}: new fans need a restart")
    except Exception as error:
        _log.warning("%s", refused_settings_sentence(str(error)))
        raise
    keep(settings)
    log_run_settings_warnings(settings, gpus)
    _log.info("settings reloaded from %s", settings.path or "the command line alone")
    return run.interval_s, settings.for_card


def _select_cards_to_run(gpus: Sequence[Gpu], settings: Settings) -> list[Gpu]:
    """Return the cards of `gpus` that `settings` name. Raises NoSuchCard if a name matches no card.

    Exception: a UUID or a PCI address in the settings file that matches no card is ignored, as long as another name in
    the file matches a card.
    """
    names = settings.run_settings().gpus
    if settings.resolve("gpus").origin == COMMAND_LINE:
        return select_cards(gpus, names, run_cards_named_by(settings))
    chosen, absent = select_present_cards(gpus, names, run_cards_named_by(settings))
    for name in absent:
        _log.warning("%s %s: no such card at present; the others are controlled", run_cards_named_by(settings), name)
    return chosen


def run_cards_named_by(settings: Settings) -> str:
    """Return the name of the option or the key in which `settings` name the cards to control, for error messages."""
    return "--gpu" if settings.resolve("gpus").origin == COMMAND_LINE else f"{settings.path}: gpus:"


def log_run_settings_warnings(settings: Settings, gpus: Sequence[Gpu]) -> None:
    """Log a warning for each key of `settings` without effect, and for each table and neighbour that matches no card.

    Also log a warning for each card whose limits are not set, since its fans cannot be set. `gpus` are all cards of the
    box.
    """
    for line in (*settings.keys_without_effect().values(), *settings.unmatched_tables([gpu.info for gpu in gpus])):
        _log.warning("%s", line)
    names = settings.run_settings().gpus
    for info in (gpu.info for gpu in gpus if gpu.info.uncontrollable_reason is not None):
        own = settings.for_card(info)
        keys = [key for key in LIMIT_KEYS if getattr(own, key) not in (None, "off")]
        if keys and (not names or any(card_matches(info, name) for name in names)):
            _log.warning("%s: without effect, since its fans cannot be set: %s", info.label, ", ".join(keys))
