"""What an install will do, found out by looking only: nothing here changes anything."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpufan.config.settings import RunSettings
from gpufan.core.curve import Curve
from gpufan.core.gpu import Gpu
from gpufan.core.selection import select, split_controllable
from gpufan.errors import GpufanError, InputError, NoPermission, NotControllable
from gpufan.gpu.cards import Cards, open_cards
from gpufan.service import install_settings as settings
from gpufan.service import manifest
from gpufan.service import rivals as found
from gpufan.service import root_copy as code
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.units import COMPANIONS, SERVICE, XSERVER, CompanionService, unit_files
from gpufan.system import files
from gpufan.system import systemctl as systemd
from gpufan.system.paths import RUNTIME_FOLDER, command_link


@dataclass(frozen=True)
class InstallOptions:
    """What `gpufan install-service` was asked for."""

    curve: Curve | None = None
    target_c: float | None = None
    config: Path | None = None
    gpus: tuple[str, ...] = ()
    keep_display_manager: bool = False
    start: bool = True
    check: bool = True
    companions: Mapping[str, bool] = field(default_factory=dict)
    """Companions to have or not, by name; the others stay as they are."""
    shell_files: Mapping[Path, str] = field(default_factory=dict)
    """Texts for where shells look for them."""


@dataclass(frozen=True)
class Plan:
    """Everything that is about to be done."""

    options: InstallOptions
    cards: Cards | None
    """The driver, held open until `close`; None where it is not to be looked at."""
    to_prove: Sequence[Gpu]
    """Cards whose fans are to be moved; none where the service has them in hand already."""
    config_text: str | None
    """What to write as configuration; None where the file there stays."""
    copy_because: str | None
    """Why a copy of the code has to be made; None where none has."""
    is_active: bool
    """Whether the service runs already."""
    is_enabled: bool
    """Whether it is started at boot already."""
    keeps_code: bool
    """Whether what would run is what was installed before."""
    digest: str | None
    """Of that, where it can be told."""
    units: dict[str, str]
    companions: dict[CompanionService, bool]
    """Those to have, and whether each is active and enabled."""
    dropped: list[CompanionService]
    """Those to be taken away."""
    at_hand: dict[Path, manifest.Before]
    """Manual pages, completion and the link to the program, as far as they are to be written."""
    rivals: list[DisabledUnit]
    display_manager: DisabledUnit | None
    people: list[str]
    notes: list[str]

    @property
    def restarts(self) -> bool:
        """Whether the service is to be started, or started anew since something about it changes."""
        return self._starts(self.is_active, (SERVICE, XSERVER))

    @property
    def starting(self) -> list[CompanionService]:
        """The companions to be started, or started anew."""
        return [companion for companion, active in self.companions.items() if self._starts(active, [companion.unit])]

    def _starts(self, is_active: bool, units: Sequence[str]) -> bool:
        same_units = all(_text(path) == text for path, text in self.units.items() if Path(path).name in units)
        return self.options.start and not (is_active and self.keeps_code and same_units)

    def close(self) -> None:
        """Let go of the driver."""
        if self.cards is not None:
            self.cards.close()

    @property
    def taken(self) -> list[DisabledUnit]:
        """All units that are put aside."""
        return [*self.rivals, *([self.display_manager] if self.display_manager else [])]

    def lines(self) -> list[str]:
        """What will be done, in words and in order."""
        stops = "stop and disable" if self.options.start else "disable"
        lines = [f"{stops} {rival.unit}, which sets the same fans" for rival in self.rivals]
        lines += [
            f"move the fans of {gpu.info.label} by a step, read back, and give them back" for gpu in self.to_prove
        ]
        if self.copy_because:
            lines.append(f"copy gpufan to {code.COPY}, for root alone to write, since {self.copy_because}")
        if self.config_text is not None:
            lines.append(f"write {settings.CONFIG}")
        lines += [line for path, text in self.units.items() for line in _writing(path, text)]
        if self.display_manager:
            lines.append(f"{stops} {self.display_manager.unit}, the display manager")
        if self.restarts:
            lines.append(f"enable {SERVICE} and {'restart' if self.is_active else 'start'} it")
        elif not (self.is_active and self.is_enabled):
            lines.append(f"enable {SERVICE}")
        starting = self.starting
        for companion, is_active in self.companions.items():
            if companion in starting:
                lines.append(f"enable {companion.unit} and {'restart' if is_active else 'start'} it")
            elif not is_active:
                lines.append(f"enable {companion.unit}")
        lines += [f"stop and remove {companion.unit}" for companion in self.dropped]
        lines += [_placing(path, wanted) for path, wanted in self.at_hand.items()]
        return lines


def make_plan(options: InstallOptions) -> Plan:
    """Look at the box. Raises GpufanError or InputError with what stands in the way of a service."""
    check_rights()
    is_active, is_enabled = _state(SERVICE)
    services = found.services()
    rivals = [service for service in services if service.runs(found.RIVALS) and service.unit != SERVICE]
    config_text, wanted = _configuration(options, rivals)
    was = manifest.load()
    companions, dropped = _companions(options, was)
    cards = open_cards(wanted.backend, wanted.display, RUNTIME_FOLDER) if options.check else None
    gpus = _usable(cards, wanted.gpus) if cards else []
    copy_because = code.exposure()
    if copy_because:
        code.check_copy()
    current = copy_because is not None and code.copy_is_current()
    if settings.CONFIG.exists():
        settings.check_owner(settings.CONFIG)
    command = code.copied_command() if copy_because else code.command()
    digest = code.digest()
    at_hand, at_hand_notes = _at_hand(options, code.launcher(copied=bool(copy_because)), was)
    manager = None if options.keep_display_manager else found.display_manager()
    taken_manager = DisabledUnit.of(manager) if manager else None
    return Plan(
        options=options,
        cards=cards,
        to_prove=[] if is_active else gpus,
        config_text=config_text,
        copy_because=None if current else copy_because,
        is_active=is_active,
        is_enabled=is_enabled,
        keeps_code=was is not None and digest is not None and digest == was.digest and (current or not copy_because),
        digest=digest,
        units=unit_files(
            command,
            str(settings.CONFIG),
            xserver=wanted.display is None and any(gpu.info.backend == "x11" for gpu in gpus),
            xauthority=None if wanted.display is None else _xauthority(),
            companions=companions,
        ),
        companions=companions,
        dropped=dropped,
        at_hand=at_hand,
        rivals=[taken for rival in rivals if (taken := DisabledUnit.of(rival.unit)).is_in_use],
        display_manager=taken_manager if taken_manager and taken_manager.is_in_use else None,
        people=found.people_at_the_screen() if taken_manager else [],
        notes=[*_notes(services), *at_hand_notes],
    )


def check_rights() -> None:
    """Raise GpufanError where a service can be neither installed nor removed."""
    if os.geteuid() != 0:
        raise NoPermission("only root can install a service: run this with sudo")
    if not systemd.is_running():
        raise GpufanError("systemd does not run this box, so gpufan can be no service: `sudo gpufan run` works")
    for folder in (systemd.UNIT_FOLDER, settings.CONFIG.parent, manifest.PATH.parent):
        there = _first_that_exists(folder)
        if not os.access(there, os.W_OK):
            raise GpufanError(f"{there} is read-only: mount it writable, and try again")


def _first_that_exists(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _state(unit: str) -> tuple[bool, bool]:
    """Whether `unit` is active, and whether it is enabled."""
    state = systemd.unit_properties(unit, "ActiveState", "UnitFileState")
    return state["ActiveState"] == "active", state["UnitFileState"] == "enabled"


def _xauthority() -> str | None:
    """The cookie file for an X server that runs already: of this install, or of the one before."""
    kept = re.search(r"(?:^|\s)XAUTHORITY=(\S+)", systemd.unit_properties(SERVICE, "Environment")["Environment"])
    return os.environ.get("XAUTHORITY") or (kept[1] if kept else None)


def _companions(
    options: InstallOptions, was: manifest.Manifest | None
) -> tuple[dict[CompanionService, bool], list[CompanionService]]:
    """Companions to have, each with whether it is active, and those to be taken away. Raises InputError."""
    wanted, dropped = {}, []
    for companion in COMPANIONS:
        is_there = was is not None and companion.path in was.files
        stays = is_there if was is not None else companion.is_usual
        if options.companions.get(companion.name, stays):
            if companion.extra:
                code.check_extra(companion.extra, f"--{companion.name}")
            wanted[companion] = all(_state(companion.unit))
        elif is_there:
            dropped.append(companion)
    return wanted, dropped


def _at_hand(
    options: InstallOptions, launcher: Path | None, was: manifest.Manifest | None
) -> tuple[dict[Path, manifest.Before], list[str]]:
    """What to write of it, and notes on what is left out."""
    wanted: dict[Path, manifest.Before] = dict(options.shell_files)
    notes = []
    if launcher is not None and launcher != command_link():
        is_ours = was is not None and str(command_link()) in was.files
        if is_ours or not os.path.lexists(command_link()):
            wanted[command_link()] = manifest.Special(link=str(launcher))
        else:
            notes.append(f"{command_link()} is not of this installation and stays: the service's own is {launcher}")
    for path in list(wanted):
        if not os.access(there := _first_that_exists(path.parent), os.W_OK):
            del wanted[path]
            notes.append(f"{path} is left out, since {there} is read-only")
    return {path: what for path, what in wanted.items() if manifest.look(path) != what}, notes


def _placing(path: Path, wanted: manifest.Before) -> str:
    if isinstance(wanted, manifest.Special):
        return f"link {path} to {wanted.link}"
    return f"write {path}"


def _configuration(options: InstallOptions, rivals: Sequence[found.Service]) -> tuple[str | None, RunSettings]:
    """Text to write, or None, and what it says for all cards together."""
    says_something = options.curve is not None or options.target_c is not None or bool(options.gpus)
    if options.config is not None:
        if says_something:
            raise InputError("--config says all that --curve, --target and --gpu say: give one or the others")
        wanted = settings.check_config(options.config)
        text = options.config.read_text("utf-8")
    else:
        curve, hysteresis_c = options.curve, None
        coolgpus = next((rival for rival in rivals if rival.runs(["coolgpus"])), None)
        if curve is None and options.target_c is None and coolgpus is not None:
            curve, hysteresis_c = found.coolgpus_curve(coolgpus.words)
        text, wanted = settings.new_config(curve, hysteresis_c, options.target_c, options.gpus)
    if not settings.CONFIG.exists():
        return text, wanted
    asked = options.config is not None or says_something
    if asked and settings.CONFIG.read_text("utf-8") != text:
        raise InputError(f"{settings.CONFIG} is there already and says something else: edit it, or move it away")
    return None, settings.check_config(settings.CONFIG)


def _usable(cards: Cards, wanted: Sequence[str]) -> Sequence[Gpu]:
    """The cards to control. Raises InputError or NotControllable."""
    usable, obstacles = split_controllable(select(cards.gpus, wanted))
    if not usable:
        raise NotControllable(f"no card here has fans that can be set: {'; '.join(obstacles)}")
    return usable


def _notes(services: Sequence[found.Service]) -> list[str]:
    notes = []
    for service in services:
        if program := service.runs(found.OTHERS):
            notes.append(f"{service.unit} runs: see to it that {found.OTHERS[program]} leaves the cards' fans alone")
    if count := found.containers_with_gpus():
        processes = "1 process" if count == 1 else f"{count} processes"
        notes.append(
            f"{processes} in containers have a card open: on some set-ups `systemctl daemon-reload`, which is"
            " about to run, takes cards away from running containers"
        )
    return notes


def _writing(path: str, text: str) -> list[str]:
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
