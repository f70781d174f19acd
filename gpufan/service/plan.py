"""Plan an install: find out what it would do. Nothing here changes the box."""

import difflib
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from gpufan.config.settings import RunSettings
from gpufan.core.fan_programs import OTHERS, RIVALS
from gpufan.core.gpu import Gpu
from gpufan.core.selection import select, split_controllable
from gpufan.errors import DriverError, GpufanError, InputError, MissingExtra, NoPermission, NotControllable
from gpufan.gpu.cards import Cards, open_cards
from gpufan.service import config_file, conflicts, exposure, manifest, root_copy
from gpufan.service.conflicts import ServiceCommand
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.file_content import Content, Special, read_content
from gpufan.service.install_options import InstallOptions
from gpufan.service.manifest import Manifest
from gpufan.service.units import COMPANIONS, SERVICE, XSERVER, CompanionUnit, unit_files
from gpufan.system import files, systemctl
from gpufan.system.paths import RUNTIME_FOLDER, command_link_path


@dataclass(frozen=True)
class UnitStart:
    """A unit that the install enables, and may start."""

    unit: str
    is_active: bool
    """Whether the unit runs already."""
    is_enabled: bool
    """Whether the unit starts at boot already."""
    starts: bool
    """Whether the install starts or restarts the unit."""
    reloads: bool = False
    """Whether the unit reads changed settings without a restart."""

    def lines(self) -> list[str]:
        """A line that says what the install does with the unit; none if it does nothing."""
        if self.starts:
            return [f"enable {self.unit} and {'restart' if self.is_active else 'start'} it"]
        if self.reloads:
            return [f"reload {self.unit}"]
        return [] if self.is_enabled else [f"enable {self.unit}"]


@dataclass(frozen=True)
class Plan:
    """Everything that an install will do."""

    options: InstallOptions
    cards: Cards | None
    """Open as long as the block of `make_plan`; None if the install needs no card."""
    gpus_to_prove: Sequence[Gpu]
    """Cards whose fans are moved to prove that they obey; empty if the service controls them already."""
    config_text: str | None
    """Text of the settings file to write; None if a file exists, which stays unchanged."""
    copy_reason: str | None
    """Why gpufan is copied; None if it is not."""
    digest: str | None
    """Digest of the code that the service would run; None if the code cannot be read."""
    units: dict[str, str]
    """Text of every unit file, by path."""
    service: UnitStart
    companions: list[UnitStart]
    removed_units: list[str]
    """Units of an earlier install that are not needed any more, by name."""
    command_files: dict[Path, Content]
    """Manual pages, completion and the link to the command, without those that are already up to date."""
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
        """A line for each step, in order."""
        stops = "stop and disable" if self.options.start else "disable"
        lines = [f"{stops} {rival.unit}, which sets the same fans" for rival in self.rivals]
        lines += [
            f"move the fans of {gpu.info.label} by a step, check that they obey, and give them back"
            for gpu in self.gpus_to_prove
        ]
        if self.copy_reason:
            lines.append(f"copy gpufan to {root_copy.COPY}, writable by root only, because {self.copy_reason}")
        if self.config_text is not None:
            lines += _change_lines(str(config_file.CONFIG), self.config_text)
        if self.options.alerts_text is not None:
            lines.append(f"write {config_file.ALERTS}, which only root can read")
        lines += [line for path, text in self.units.items() for line in _change_lines(path, text)]
        lines += [f"{stops} {manager.unit}, the display manager" for manager in self.display_managers]
        lines += [line for start in (self.service, *self.companions) for line in start.lines()]
        lines += [f"stop and remove {unit}" for unit in self.removed_units]
        lines += [
            f"link {path} to {content.link}" if isinstance(content, Special) else f"write {path}"
            for path, content in self.command_files.items()
        ]
        return lines


@contextmanager
def make_plan(options: InstallOptions) -> Iterator[Plan]:
    """Examine the box and plan the install. The cards that the plan needs are open during the block.

    Raises GpufanError or InputError if the service cannot be installed.
    """
    check_rights()
    settings = config_file.settings_for(options)
    names = options.gpus or settings.gpus
    with _open_cards(options, settings, names) as cards:
        yield _examine_box(options, settings, cards, _cards_to_control(cards, names) if cards and options.check else [])


def _examine_box(options: InstallOptions, settings: RunSettings, cards: Cards | None, gpus: Sequence[Gpu]) -> Plan:
    service_commands = conflicts.service_commands()
    rivals = [command for command in service_commands if command.runs(RIVALS) and command.unit != SERVICE]
    before = manifest.load_manifest()
    companions = _companions(options, before)
    digest = root_copy.sources_digest()
    copy_reason = exposure.installation_exposure()
    is_copied, copies = copy_reason is not None, False
    if is_copied:
        root_copy.check_copy()
        copies = not root_copy.copy_is_current(digest)
    if config_file.CONFIG.exists():
        config_file.check_owner(config_file.CONFIG)
    command_files, command_notes = _command_files(options, root_copy.launcher(copied=is_copied), before)
    manager = None if options.keep_display_manager else conflicts.display_manager()
    installed_units = _installed_units(before)
    needs_x = any(gpu.info.backend == "x11" for gpu in gpus) if options.check else XSERVER in installed_units
    units = unit_files(
        root_copy.interpreter(copied=is_copied),
        root_copy.release_script(copied=is_copied),
        str(config_file.CONFIG),
        xserver=needs_x and settings.display is None,
        xauthority=None if settings.display is None else _xauthority(),
        companions=companions,
    )
    has_same_code = before is not None and digest is not None and digest == before.digest and not copies

    def start(unit: str, *other_units: str) -> UnitStart:
        """Plan a start of `unit`, if it does not run, or if its code, its file or that of `other_units` changes."""
        is_active, is_enabled = _is_active_and_enabled(unit)
        same_files = all(
            _present_text(path) == text for path, text in units.items() if Path(path).name in (unit, *other_units)
        )
        starts = options.start and not (is_active and has_same_code and same_files)
        return UnitStart(unit, is_active, is_enabled, starts)

    service = start(SERVICE, XSERVER)
    config_text = config_file.text_to_write(options, rivals, cards)
    if config_text is not None and service.is_active and options.start and not service.starts:
        service = replace(service, starts=bool(options.gpus), reloads=not options.gpus)
    return Plan(
        options=options,
        cards=cards,
        gpus_to_prove=[] if service.is_active else gpus,
        config_text=config_text,
        copy_reason=copy_reason if copies else None,
        digest=digest,
        units=units,
        service=service,
        companions=[start(companion.unit_name) for companion in companions],
        removed_units=[unit for unit in installed_units if str(systemctl.UNIT_FOLDER / unit) not in units],
        command_files=command_files,
        rivals=_units_in_use([rival.unit for rival in rivals]),
        display_managers=_units_in_use([manager] if manager else []),
        people=conflicts.people_at_the_screen() if manager else [],
        notes=[*_notes(service_commands), *command_notes],
    )


def _units_in_use(names: Sequence[str]) -> list[DisabledUnit]:
    return [unit for name in names if (unit := DisabledUnit.of(name)).is_in_use]


def check_rights() -> None:
    """Raise GpufanError if no service can be installed or removed here."""
    if os.geteuid() != 0:
        raise NoPermission("only root can install or remove a service: run this with sudo")
    if not systemctl.systemd_is_running():
        raise GpufanError(
            "systemd does not run this box, so gpufan cannot be a service: start it with `sudo gpufan run`"
        )
    for folder in (systemctl.UNIT_FOLDER, config_file.CONFIG.parent, manifest.PATH.parent):
        existing = files.existing_parent(folder)
        if not os.access(existing, os.W_OK):
            raise GpufanError(f"{existing} is read-only: mount it writable, and try again")


def _is_active_and_enabled(unit: str) -> tuple[bool, bool]:
    """Whether `unit` is active, and whether it is enabled."""
    state = systemctl.systemctl_show(unit, "ActiveState", "UnitFileState")
    return state["ActiveState"] == "active", state["UnitFileState"] == "enabled"


def _xauthority() -> str | None:
    """Path of the cookie file of a running X server: from the environment, or from the unit of the last install."""
    words = shlex.split(systemctl.systemctl_show(SERVICE, "Environment")["Environment"])
    installed = dict(word.split("=", 1) for word in words if "=" in word)
    return os.environ.get("XAUTHORITY") or installed.get("XAUTHORITY")


def _installed_units(before: Manifest | None) -> list[str]:
    """Names of the units of an earlier install."""
    paths = map(Path, before.files if before else ())
    return [path.name for path in paths if path.parent == systemctl.UNIT_FOLDER]


def _companions(options: InstallOptions, before: Manifest | None) -> list[CompanionUnit]:
    """Companion services to install. Raises InputError."""
    wanted = []
    for companion in COMPANIONS:
        is_installed = before is not None and companion.unit_path in before.files
        default = companion.is_default if before is None else is_installed
        if options.companions.get(companion.name, default):
            if companion.module and find_spec(companion.module) is None:
                raise MissingExtra(f"--{companion.name} needs", companion.module, companion.extra)
            wanted.append(companion)
    return wanted


def _command_files(
    options: InstallOptions, launcher: Path | None, before: Manifest | None
) -> tuple[dict[Path, Content], list[str]]:
    """Manual pages, completion and command link to write, and notes on those that are left out."""
    wanted: dict[Path, Content] = dict(options.shell_files)
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
    return {path: content for path, content in wanted.items() if read_content(path) != content}, notes


def _open_cards(
    options: InstallOptions, settings: RunSettings, names: Sequence[str]
) -> AbstractContextManager[Cards | None]:
    """Open the cards, if their fans are to be moved or their UUIDs are needed; else there are no cards.

    Raises InputError, DriverError or GpufanError.
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


def _cards_to_control(cards: Cards, wanted: Sequence[str]) -> Sequence[Gpu]:
    """The cards that match `wanted` and whose fans can be set. Raises InputError or NotControllable."""
    controllable, reasons = split_controllable(select(cards.gpus, wanted))
    if not controllable:
        raise NotControllable(f"no card here has fans that can be set: {'; '.join(reasons)}")
    return controllable


def _notes(service_commands: Sequence[ServiceCommand]) -> list[str]:
    notes = []
    for command in service_commands:
        if program := command.runs(OTHERS):
            notes.append(f"{command.unit} runs: make sure that {OTHERS[program]} leaves the cards' fans alone")
    if count := conflicts.containers_with_gpus():
        processes = "1 process in a container uses" if count == 1 else f"{count} processes in containers use"
        notes.append(
            f"{processes} a card: the install runs `systemctl daemon-reload`, which on some set-ups takes cards"
            " away from running containers"
        )
    return notes


def _change_lines(path: str, text: str) -> list[str]:
    before = _present_text(path)
    if before is None:
        return [f"write {path}"]
    if before == text:
        return []
    difference = difflib.unified_diff(before.splitlines(), text.splitlines(), "as it is", "as it will be", lineterm="")
    return [f"change {path}:", *(f"    {line}" for line in difference)]


def _present_text(path: str) -> str | None:
    data = files.read_file_if_exists(Path(path))
    return None if data is None else data.decode("utf-8", "replace")
