"""Plan an install: find out what it would do. Nothing here changes the box."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from gpufan.config.settings import RunSettings, Settings
from gpufan.core.curve import Curve
from gpufan.core.fan_programs import OTHERS, RIVALS
from gpufan.core.gpu import Gpu
from gpufan.core.selection import select, split_controllable
from gpufan.errors import GpufanError, InputError, MissingExtra, NoPermission, NotControllable
from gpufan.gpu.cards import Cards, open_cards
from gpufan.service import config_file, conflicts, exposure, manifest, root_copy
from gpufan.service.conflicts import Service
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.file_content import Content, Special, read_content
from gpufan.service.manifest import Manifest
from gpufan.service.units import COMPANIONS, SERVICE, XSERVER, CompanionService, unit_files
from gpufan.system import files, systemctl
from gpufan.system.paths import RUNTIME_FOLDER, command_link


@dataclass(frozen=True)
class InstallOptions:
    """Options of `gpufan install-service`."""

    curve: Curve | None = None
    target_c: float | None = None
    config: Path | None = None
    gpus: tuple[str, ...] = ()
    keep_display_manager: bool = False
    start: bool = True
    check: bool = True
    companions: Mapping[str, bool] = field(default_factory=dict)
    """Whether to install (True) or remove (False) a companion service, by its name. The others stay unchanged."""
    shell_files: Mapping[Path, str] = field(default_factory=dict)
    """Manual pages and shell completion: the text of each file, by path."""


@dataclass(frozen=True)
class Plan:
    """Everything that an install will do."""

    options: InstallOptions
    cards: Cards | None
    """Open until `close`; None with `--skip-check`."""
    gpus_to_prove: Sequence[Gpu]
    """Cards whose fans are moved to prove that they obey; empty if the service controls them already."""
    config_text: str | None
    """Text of the settings file to write; None if a file exists, which stays unchanged."""
    copy_reason: str | None
    """Why gpufan is copied; None if it is not."""
    is_active: bool
    """Whether the service runs already."""
    is_enabled: bool
    """Whether the service starts at boot already."""
    has_same_code: bool
    """Whether the service would run the same code as before."""
    digest: str | None
    """Digest of the code that the service would run; None if the code cannot be read."""
    units: dict[str, str]
    """Text of every unit file, by path."""
    companions: dict[CompanionService, bool]
    """Companion services to install, and whether each is active and enabled."""
    removed_companions: list[CompanionService]
    command_files: dict[Path, Content]
    """Manual pages, completion and the link to the command, without those that are already up to date."""
    rivals: list[DisabledUnit]
    display_managers: list[DisabledUnit]
    """The display manager to disable; empty if there is none."""
    people: list[str]
    """Users whose graphical session ends when the display manager stops."""
    notes: list[str]

    @property
    def restarts(self) -> bool:
        """Whether the service is started or restarted."""
        return self._starts(self.is_active, (SERVICE, XSERVER))

    @property
    def started_companions(self) -> list[CompanionService]:
        """Companion services that are started or restarted."""
        return [companion for companion, active in self.companions.items() if self._starts(active, [companion.unit])]

    def _starts(self, is_active: bool, units: Sequence[str]) -> bool:
        same_units = all(_text(path) == text for path, text in self.units.items() if Path(path).name in units)
        return self.options.start and not (is_active and self.has_same_code and same_units)

    def close(self) -> None:
        """Close the cards."""
        if self.cards is not None:
            self.cards.close()

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
            lines.append(f"write {config_file.CONFIG}")
        lines += [line for path, text in self.units.items() for line in _unit_lines(path, text)]
        lines += [f"{stops} {manager.unit}, the display manager" for manager in self.display_managers]
        lines += _start_lines(SERVICE, self.is_active, self.is_active and self.is_enabled, self.restarts)
        for companion, is_active in self.companions.items():
            lines += _start_lines(companion.unit, is_active, is_active, companion in self.started_companions)
        lines += [f"stop and remove {companion.unit}" for companion in self.removed_companions]
        lines += [
            f"link {path} to {content.link}" if isinstance(content, Special) else f"write {path}"
            for path, content in self.command_files.items()
        ]
        return lines


def make_plan(options: InstallOptions) -> Plan:
    """Examine the box and plan the install. Raises GpufanError or InputError if the service cannot be installed."""
    check_rights()
    is_active, is_enabled = _state(SERVICE)
    services = conflicts.services()
    rivals = [service for service in services if service.runs(RIVALS) and service.unit != SERVICE]
    before = manifest.load()
    companions, removed_companions = _companions(options, before)
    present = _present_settings(options)
    names = options.gpus or present.gpus
    cards = open_cards(present.backend, present.display, RUNTIME_FOLDER, names) if options.check else None
    gpus = _cards_to_control(cards, names) if cards else []
    config_text, wanted = _configuration(options, rivals, cards)
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
    return Plan(
        options=options,
        cards=cards,
        gpus_to_prove=[] if is_active else gpus,
        config_text=config_text,
        copy_reason=copy_reason if copies else None,
        is_active=is_active,
        is_enabled=is_enabled,
        has_same_code=before is not None and digest is not None and digest == before.digest and not copies,
        digest=digest,
        units=unit_files(
            root_copy.interpreter(copied=is_copied),
            root_copy.release_script(copied=is_copied),
            str(config_file.CONFIG),
            xserver=wanted.display is None and any(gpu.info.backend == "x11" for gpu in gpus),
            xauthority=None if wanted.display is None else _xauthority(),
            companions=companions,
        ),
        companions=companions,
        removed_companions=removed_companions,
        command_files=command_files,
        rivals=_units_in_use([rival.unit for rival in rivals]),
        display_managers=_units_in_use([manager] if manager else []),
        people=conflicts.people_at_the_screen() if manager else [],
        notes=[*_notes(services), *command_notes],
    )


def _units_in_use(names: Sequence[str]) -> list[DisabledUnit]:
    return [unit for name in names if (unit := DisabledUnit.of(name)).is_in_use]


def check_rights() -> None:
    """Raise GpufanError if no service can be installed or removed here."""
    if os.geteuid() != 0:
        raise NoPermission("only root can install a service: run this with sudo")
    if not systemctl.is_running():
        raise GpufanError(
            "systemd does not run this box, so gpufan cannot be a service: start it with `sudo gpufan run`"
        )
    for folder in (systemctl.UNIT_FOLDER, config_file.CONFIG.parent, manifest.PATH.parent):
        existing = _existing_parent(folder)
        if not os.access(existing, os.W_OK):
            raise GpufanError(f"{existing} is read-only: mount it writable, and try again")


def _existing_parent(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _state(unit: str) -> tuple[bool, bool]:
    """Whether `unit` is active, and whether it is enabled."""
    state = systemctl.unit_properties(unit, "ActiveState", "UnitFileState")
    return state["ActiveState"] == "active", state["UnitFileState"] == "enabled"


def _xauthority() -> str | None:
    """Path of the cookie file of a running X server: from the environment, or from the unit of the last install."""
    environment = systemctl.unit_properties(SERVICE, "Environment")["Environment"]
    installed = re.search(r"(?:^|\s)XAUTHORITY=(\S+)", environment)
    return os.environ.get("XAUTHORITY") or (installed[1] if installed else None)


def _companions(
    options: InstallOptions, before: Manifest | None
) -> tuple[dict[CompanionService, bool], list[CompanionService]]:
    """Companion services to install (with True for each that is active and enabled), and those to remove.

    Raises InputError.
    """
    wanted, removed = {}, []
    for companion in COMPANIONS:
        is_installed = before is not None and companion.path in before.files
        default = companion.is_default if before is None else is_installed
        if options.companions.get(companion.name, default):
            if companion.module and find_spec(companion.module) is None:
                raise MissingExtra(f"--{companion.name} needs", companion.module, companion.extra)
            wanted[companion] = all(_state(companion.unit))
        elif is_installed:
            removed.append(companion)
    return wanted, removed


def _command_files(
    options: InstallOptions, launcher: Path | None, before: Manifest | None
) -> tuple[dict[Path, Content], list[str]]:
    """Files to write for the shell, and notes on those that are left out."""
    wanted: dict[Path, Content] = dict(options.shell_files)
    notes = []
    link = command_link()
    if launcher is not None and launcher != link:
        is_ours = before is not None and str(link) in before.files
        if is_ours or not os.path.lexists(link):
            wanted[link] = Special(link=str(launcher))
        else:
            notes.append(f"{link} does not belong to this installation and stays; use {launcher}")
    for path in list(wanted):
        if not os.access(existing := _existing_parent(path.parent), os.W_OK):
            del wanted[path]
            notes.append(f"{path} is not written, since {existing} is read-only")
    return {path: content for path, content in wanted.items() if read_content(path) != content}, notes


def _present_settings(options: InstallOptions) -> RunSettings:
    """Settings of the given file, or of the file that exists, or the built-in ones. Raises InputError."""
    if options.config is not None and _has_settings(options):
        raise InputError("--config excludes --curve, --target and --gpu: write those settings into the file")
    file = options.config or (config_file.CONFIG if config_file.CONFIG.exists() else None)
    return Settings().run_settings() if file is None else config_file.check_config(file)


def _has_settings(options: InstallOptions) -> bool:
    return options.curve is not None or options.target_c is not None or bool(options.gpus)


def _configuration(
    options: InstallOptions, rivals: Sequence[Service], cards: Cards | None
) -> tuple[str | None, RunSettings]:
    """Text of the settings file (None if a file exists), and the settings for the run. Raises InputError.

    The cards that the options name are written as UUIDs, unless they are not open.
    """
    if options.config is not None:
        wanted = config_file.check_config(options.config)
        texts = [options.config.read_text("utf-8")]
    else:
        curve, hysteresis_c = options.curve, None
        coolgpus = next((rival for rival in rivals if rival.runs(["coolgpus"])), None)
        if curve is None and options.target_c is None and coolgpus is not None:
            curve, hysteresis_c = conflicts.coolgpus_curve(coolgpus.words)
        uuids = [gpu.info.uuid for gpu in select(cards.gpus, options.gpus)] if cards and options.gpus else options.gpus
        text, wanted = config_file.new_config(curve, hysteresis_c, options.target_c, uuids)
        # An older gpufan wrote the names as they were given.
        texts = [text, config_file.new_config(curve, hysteresis_c, options.target_c, options.gpus)[0]]
    config = config_file.CONFIG
    if not config.exists():
        return texts[0], wanted
    if (options.config is not None or _has_settings(options)) and config.read_text("utf-8") not in texts:
        raise InputError(f"{config} exists already with other settings: edit it, or move it away")
    return None, config_file.check_config(config)


def _cards_to_control(cards: Cards, wanted: Sequence[str]) -> Sequence[Gpu]:
    """The cards that match `wanted` and whose fans can be set. Raises InputError or NotControllable."""
    controllable, reasons = split_controllable(select(cards.gpus, wanted))
    if not controllable:
        raise NotControllable(f"no card here has fans that can be set: {'; '.join(reasons)}")
    return controllable


def _notes(services: Sequence[Service]) -> list[str]:
    notes = []
    for service in services:
        if program := service.runs(OTHERS):
            notes.append(f"{service.unit} runs: make sure that {OTHERS[program]} leaves the cards' fans alone")
    if count := conflicts.containers_with_gpus():
        processes = "1 process in a container uses" if count == 1 else f"{count} processes in containers use"
        notes.append(
            f"{processes} a card: the install runs `systemctl daemon-reload`, which on some set-ups takes cards"
            " away from running containers"
        )
    return notes


def _start_lines(unit: str, is_active: bool, is_complete: bool, starts: bool) -> list[str]:
    if starts:
        return [f"enable {unit} and {'restart' if is_active else 'start'} it"]
    return [] if is_complete else [f"enable {unit}"]


def _unit_lines(path: str, text: str) -> list[str]:
    before = _text(path)
    if before is None:
        return [f"write {path}"]
    if before == text:
        return []
    difference = difflib.unified_diff(before.splitlines(), text.splitlines(), "as it is", "as it will be", lineterm="")
    return [f"change {path}:", *(f"    {line}" for line in difference)]


def _text(path: str) -> str | None:
    data = files.read_if_exists(Path(path))
    return None if data is None else data.decode("utf-8", "replace")
