"""Plan an install: find out each step that the install would make. Nothing here changes the box."""

import difflib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from gpufan.config.settings import RunSettings, Settings
from gpufan.core.fan_programs import RIVALS
from gpufan.core.gpu import Gpu
from gpufan.core.selection import select_cards, split_controllable_cards
from gpufan.daemon.case_fans import make_case_fans
from gpufan.daemon.headers import hwmon_folders, use_header_fans
from gpufan.errors import DriverError, GpufanError, InputError, MissingExtra, NotControllable
from gpufan.gpu.cards import Cards, open_cards
from gpufan.gpu.header import Headers
from gpufan.service import config_file, conflicts, exposure, manifest, root_copy
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.file_content import Content, Special, read_content
from gpufan.service.install_options import InstallOptions
from gpufan.service.manifest import Manifest, is_unit
from gpufan.service.package import is_package, is_packaged_unit
from gpufan.service.rights import check_rights, no_other_install
from gpufan.service.units import COMPANIONS, DROP_IN, SERVICE, XSERVER, CompanionUnit, unit_files
from gpufan.system import files, systemctl
from gpufan.system.paths import RUNTIME_FOLDER, command_link_path


@dataclass(frozen=True)
class PlannedUnit:
    """A unit that the install enables, and may start."""

    unit: str
    is_active: bool
    """Whether the unit runs already."""
    is_enabled: bool
    """Whether the unit starts at boot already."""
    starts: bool
    """Whether the install starts or restarts the unit."""
    reloads: bool = False
    """Whether the running unit reloads its settings. If not, it is restarted."""

    @classmethod
    def of(cls, unit: str) -> "PlannedUnit":
        """Read whether the unit `unit` is active and enabled. In the result, `starts` is False.

        Raises GpufanError, also if the unit is masked: then nothing can start it.
        """
        state = systemctl.systemctl_show(unit, "ActiveState", "UnitFileState")
        if state["UnitFileState"].startswith("masked"):
            raise GpufanError(f"{unit} is masked, so it cannot be started: `sudo systemctl unmask {unit}`")
        return cls(unit, state["ActiveState"] == "active", state["UnitFileState"] == "enabled", starts=False)

    def lines(self) -> list[str]:
        """Return a list with one line of text: what the install does with the unit.

        The list is empty if the install does nothing with the unit.
        """
        if self.starts:
            return [f"enable {self.unit} and {'restart' if self.is_active else 'start'} it"]
        if self.reloads:
            return [f"reload {self.unit}"]
        return [] if self.is_enabled else [f"enable {self.unit}"]


@dataclass(frozen=True)
class InstallPlan:
    """Everything that an install will do."""

    options: InstallOptions
    cards: Cards | None
    """The open cards; None if the install needs no card. The cards are closed after the block of `make_plan`."""
    gpus_to_prove: Sequence[Gpu]
    """The install moves the fans of these cards, and checks that the fans obey.

    Empty if the service is active already, or if the user skips this check.
    """
    config_text: str | None
    """New text of the config file; None if the existing config file stays unchanged."""
    copy_reason: str | None
    """Why the install copies gpufan; None if the install makes no copy."""
    digest: str | None
    """Digest of the code that the service will run; None if the code cannot be read."""
    units: dict[str, str | None]
    """Maps the path of each unit file and of the drop-in to the text of the file.

    To None if the unit file of the package is used, or if the drop-in is not needed any more.
    """
    service: PlannedUnit
    companions: list[PlannedUnit]
    removed_units: list[str]
    """Names of units that an earlier install wrote, and that this install removes."""
    command_files: dict[Path, Content]
    """Manual pages, shell completion, and the link to the command. Maps the path of each file to its content.

    Files that are up to date are left out.
    """
    restored_files: list[Path]
    """Files that an earlier install wrote, and that this installation does not need."""
    removes_copy: bool
    """Whether the service ran a copy before, and does not any more."""
    rivals: list[DisabledUnit]
    display_managers: list[DisabledUnit]
    """The display manager to disable; empty if there is none."""
    people: list[str]
    """Users whose graphical session ends when the display manager stops."""
    notes: list[str]

    @property
    def disabled(self) -> list[DisabledUnit]:
        """All units that the install disables."""
        return [*self.rivals, *self.display_managers]

    def lines(self) -> list[str]:
        """Return lines of text that describe all steps of the install, in order."""
        stops = "stop and disable" if self.options.start else "disable"
        lines = [f"{stops} {rival.unit}, which sets the same fans" for rival in self.rivals]
        lines += [
            f"move the fans of {gpu.info.label} by a step, check that they obey, and give them back"
            for gpu in self.gpus_to_prove
        ]
        if self.copy_reason:
            lines.append(f"copy gpufan to {root_copy.COPY}, writable by root only, because {self.copy_reason}")
        if self.config_text is not None:
            lines += _planned_change_lines(str(config_file.CONFIG), self.config_text)
        if self.options.alerts_text is not None:
            lines.append(f"write {config_file.ALERTS}, which only root can read")
        lines += [line for path, text in self.units.items() for line in _planned_change_lines(path, text)]
        lines += [f"{stops} {manager.unit}, the display manager" for manager in self.display_managers]
        lines += [line for start in (self.service, *self.companions) for line in start.lines()]
        lines += [f"stop and remove {unit}" for unit in self.removed_units]
        lines += [
            f"link {path} to {content.link}" if isinstance(content, Special) else f"write {path}"
            for path, content in self.command_files.items()
        ]
        lines += [f"put back {path} as it was before gpufan" for path in self.restored_files]
        if self.removes_copy:
            lines.append(f"remove {root_copy.COPY}, which the service does not need any more")
        return lines


@contextmanager
def make_plan(options: InstallOptions) -> Iterator[InstallPlan]:
    """Examine the box, and give the plan of the install to the block.

    The cards that the plan needs are open during the block, and no other process can install or uninstall. Raises
    GpufanError or InputError if the service cannot be installed.
    """
    check_rights()
    with ExitStack() as stack:
        stack.enter_context(no_other_install())
        settings = config_file.settings_of_service(options)
        run = settings.run_settings()
        names = options.gpus or run.gpus
        cards = stack.enter_context(_open_cards_for_plan(options, run, names))
        gpus: list[Gpu] = []
        if cards is not None:
            headers = Headers()
            use_header_fans(cards, settings, headers)
            if options.check:
                gpus = [*_cards_for_plan(cards, names, settings), *make_case_fans(settings, headers.open_fan)]
        yield _plan_install(options, settings, cards, gpus)


def _plan_install(options: InstallOptions, settings: Settings, cards: Cards | None, gpus: Sequence[Gpu]) -> InstallPlan:
    """Examine the box, and return the plan of the install. Raises GpufanError or InputError.

    `settings` are the present settings of the service. `cards` are the open cards; None if the install needs no card.
    `gpus` are the cards whose fans the service will set; empty if --skip-check is given.
    """
    run = settings.run_settings()
    service_commands = conflicts.commands_of_services()
    rivals = [command for command in service_commands if command.runs(RIVALS) and command.unit != SERVICE]
    before = manifest.load_manifest()
    companions = _planned_companions(options, before)
    digest = root_copy.copied_files_digest()
    copy_reason = exposure.installation_exposure()
    is_copied, copies = copy_reason is not None, False
    programs = root_copy.CopyPaths(is_copied)
    if is_copied:
        root_copy.check_copy()
        copies = not root_copy.copy_is_current(digest)
    if config_file.CONFIG.exists():
        config_file.check_config_owner(config_file.CONFIG)
    wanted_files, command_notes = _planned_command_files(options, programs.launcher, before)
    manager = None if options.keep_display_manager else conflicts.display_manager()
    installed_units = before.units if before else []
    needs_x = any(gpu.info.backend == "x11" for gpu in gpus) if options.check else XSERVER in installed_units
    texts = unit_files(
        programs.interpreter,
        programs.release_script,
        str(config_file.CONFIG),
        xserver=needs_x and run.display is None,
        xauthority=None if run.display is None else _planned_xauthority(),
        companions=companions,
        hwmon_folders=hwmon_folders(settings),
    )
    units = {path: None if is_packaged_unit(Path(path).name, text) else text for path, text in texts.items()}
    drop_in = systemctl.UNIT_FOLDER / DROP_IN
    if before is not None and str(drop_in) in before.files:
        units.setdefault(str(drop_in), None)
    has_same_code = before is not None and digest is not None and digest == before.digest and not copies

    def planned_start(name: str, *other_units: str) -> PlannedUnit:
        """Return the plan for the unit `name`.

        With --no-start the unit is not started. Otherwise the unit is started if it does not run, if its code changes,
        or if the unit file of `name` or of one of `other_units` changes.
        """
        unit = PlannedUnit.of(name)
        same_files = all(
            _text_before_plan(path) == text for path, text in units.items() if Path(path).name in (name, *other_units)
        )
        return replace(unit, starts=options.start and not (unit.is_active and has_same_code and same_files))

    service = planned_start(SERVICE, XSERVER, drop_in.name)
    config_text = config_file.config_text_to_write(options, rivals, cards)
    if config_text is not None and service.is_active and options.start and not service.starts:
        service = replace(service, starts=bool(options.gpus), reloads=not options.gpus)
    return InstallPlan(
        options=options,
        cards=cards,
        gpus_to_prove=[] if service.is_active else gpus,
        config_text=config_text,
        copy_reason=copy_reason if copies else None,
        digest=digest,
        units=units,
        service=service,
        companions=[planned_start(companion.unit_name) for companion in companions],
        removed_units=[unit for unit in installed_units if str(systemctl.UNIT_FOLDER / unit) not in units],
        command_files={path: content for path, content in wanted_files.items() if read_content(path) != content},
        restored_files=[
            path
            for path in map(Path, before.files if before else ())
            if path not in wanted_files and str(path) not in units and not is_unit(path)
        ],
        removes_copy=before is not None and before.copied and not is_copied and Path(sys.prefix) != root_copy.COPY,
        rivals=DisabledUnit.in_use([rival.unit for rival in rivals]),
        display_managers=DisabledUnit.in_use([manager] if manager else []),
        people=conflicts.people_at_the_screen() if manager else [],
        notes=[
            *conflicts.conflict_notes(service_commands, settings.channel_names),
            *command_notes,
            *config_file.override_lines(options, config_text),
        ],
    )


def _planned_xauthority() -> str | None:
    """Return the path of the cookie file of the X server; None if the path is unknown.

    The path is the value of XAUTHORITY in the environment of this process, else in the unit of the last install. Raises
    GpufanError.
    """
    words = shlex.split(systemctl.systemctl_show(SERVICE, "Environment")["Environment"])
    installed = dict(word.split("=", 1) for word in words if "=" in word)
    return os.environ.get("XAUTHORITY") or installed.get("XAUTHORITY")


def _planned_companions(options: InstallOptions, before: Manifest | None) -> list[CompanionUnit]:
    """Return the companion services to install.

    `before` is the manifest of the last install; None for a first install. Raises InputError if a companion service
    needs a Python package that is not installed.
    """
    wanted = []
    for companion in COMPANIONS:
        is_installed = before is not None and companion.unit_path in before.files
        default = companion.is_default if before is None else is_installed
        if options.companions.get(companion.name, default):
            if companion.module and find_spec(companion.module) is None:
                raise MissingExtra(f"--{companion.name} needs", companion.module, companion.extra)
            wanted.append(companion)
    return wanted


def _planned_command_files(
    options: InstallOptions, launcher: Path | None, before: Manifest | None
) -> tuple[dict[Path, Content], list[str]]:
    """Return the files that an install needs, and a note for each file that cannot be written.

    The files are manual pages, shell completion, and a link to the command. A package contains them already. The first
    value of the result maps the path of each file to its content. `launcher` is the destination of the link; None for
    no link. `before` is the manifest of the last install.
    """
    wanted: dict[Path, Content] = {} if is_package() else dict(options.shell_files)
    notes = []
    link = command_link_path()
    if launcher is not None and launcher != link:
        is_ours = before is not None and str(link) in before.files
        if is_ours or not os.path.lexists(link):
            wanted[link] = Special(link=str(launcher))
        else:
            notes.append(f"{link} does not belong to this installation and stays; use {launcher}")
    for path in list(wanted):
        if not os.access(existing := files.existing_parent(path.parent), os.W_OK):
            del wanted[path]
            notes.append(f"{path} is not written, since {existing} is read-only")
    return wanted, notes


def _open_cards_for_plan(
    options: InstallOptions, settings: RunSettings, names: Sequence[str]
) -> AbstractContextManager[Cards | None]:
    """Return a context manager that gives the open cards to its block, and closes the cards after the block.

    If the install neither moves fans nor looks up UUIDs, the block gets None. `names` are the cards that the service
    will control; empty for all cards. Raises InputError, DriverError or GpufanError.
    """
    if not options.check and all(name.lower().startswith("gpu-") for name in options.gpus):
        return nullcontext()
    try:
        return closing(open_cards(settings.backend, settings.display, RUNTIME_FOLDER, names))
    except DriverError as error:
        if options.check:
            raise
        named = ", ".join(options.gpus)
        raise InputError(f"--gpu {named}: give UUIDs, since they cannot be looked up here: {error}") from error


def _cards_for_plan(cards: Cards, wanted: Sequence[str], settings: Settings) -> Sequence[Gpu]:
    """Return the cards that match `wanted` and whose fans can be set.

    If `wanted` is empty, all cards match. Raises InputError if a name matches no card, NotControllable if no card
    remains, unless `settings` have a case fan that follows a card.
    """
    controllable, reasons = split_controllable_cards(select_cards(cards.gpus, wanted))
    if not controllable and not settings.case_fans:
        raise NotControllable(f"no card here has fans that can be set: {'; '.join(reasons)}")
    return controllable


def _planned_change_lines(path: str, text: str | None) -> list[str]:
    """Return lines of text that show how the file `path` changes when `text` is written to it.

    With None, the file is removed. The list is empty if nothing changes. Raises GpufanError.
    """
    before = _text_before_plan(path)
    if text is None:
        is_of_package = is_unit(Path(path))
        reason = "since the package contains this unit" if is_of_package else f"which {SERVICE} does not need any more"
        return [] if before is None else [f"remove {path}, {reason}"]
    if before is None:
        return [f"write {path}"]
    if before == text:
        return []
    difference = difflib.unified_diff(before.splitlines(), text.splitlines(), "as it is", "as it will be", lineterm="")
    return [f"change {path}:", *(f"    {line}" for line in difference)]


def _text_before_plan(path: str) -> str | None:
    """Return the present text of the file `path`; None if the file does not exist. Raises GpufanError."""
    data = files.read_file_if_exists(Path(path))
    return None if data is None else data.decode("utf-8", "replace")
