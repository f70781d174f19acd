"""The facts about a box as values: driver, cards, rivals, X servers, units, files. An unknown fact is None or empty."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from gpufan.config.settings import DEFAULT_PATH, Settings
from gpufan.core.gpu import GpuInfo, Reading
from gpufan.core.pci import PciAddress
from gpufan.core.snapshot import Snapshot
from gpufan.hwmon.channels import Channel
from gpufan.service.installation import Installation
from gpufan.system.paths import RUNTIME_FOLDER
from gpufan.system.unit_state import UnitState


@dataclass(frozen=True)
class PciCard:
    """An NVIDIA display device on the PCI bus, with or without a driver."""

    address: PciAddress
    device_id: int
    driver: str | None
    """Name of the kernel driver of the card. None if the card has no driver."""


@dataclass(frozen=True)
class Card:
    """A card that the NVIDIA driver lists."""

    info: GpuInfo
    reading: Reading | None
    """The reading of the card. None if the card does not answer."""
    needs_reset: bool = False


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver (a kernel module and a library), and the cards that it lists."""

    module_version: str | None = None
    library_version: str | None = None
    """Version of the NVML library in this process."""
    error: str | None = None
    """Why NVML does not work. None if NVML works."""
    error_code: int | None = None
    """The error code of NVML for `error`. None if there is no error code."""
    cards: tuple[Card, ...] = ()


@dataclass(frozen=True)
class Proof:
    """The result of the attempt to move the fans of a card."""

    uuid: str
    text: str
    obeyed: bool


@dataclass(frozen=True)
class Rival:
    """Another program that sets fans."""

    name: str
    unit: str | None
    """The systemd unit that runs the program. None if no system unit runs the program."""
    pid: int | None
    exclusive: bool
    """Whether the only task of the program is to set the fans of NVIDIA cards."""
    of_board: bool = False
    """Whether the program sets fans of the motherboard."""

    @property
    def stop_command(self) -> str:
        """The shell command that stops the program."""
        return f"sudo systemctl disable --now {quote(self.unit)}" if self.unit else f"sudo kill {self.pid}"


@dataclass(frozen=True)
class XServer:
    """A running X server."""

    pid: int
    display: str | None
    ours: bool
    """Whether gpufan started this X server."""


@dataclass(frozen=True)
class XorgFile:
    """A configuration file of the X server."""

    path: str
    coolbits: tuple[tuple[int, str], ...] = ()
    """Line number and value of each Coolbits option in the file."""
    error: str | None = None
    """Why the X server cannot read the file."""
    incomplete: bool = False
    """Whether `gpufan setup-xorg` would change the file."""


@dataclass(frozen=True)
class Systemd:
    """The states of the systemd units that concern gpufan."""

    service: UnitState
    companions: tuple[UnitState, ...] = ()
    """The companion services that are installed, such as the exporter."""
    display_manager: str | None = None
    """The systemd unit of the display manager. None if no display manager is active."""


@dataclass(frozen=True)
class Published:
    """The snapshot that a gpufan has published, and whether the snapshot is up to date."""

    snapshot: Snapshot
    orphan: bool = False
    """Whether the process that wrote the snapshot has ended without giving the fans back."""
    stale: bool = False
    """Whether the snapshot is too old to come from a gpufan that works, or has a time in the future."""


@dataclass(frozen=True)
class Facts:
    """All facts about a box. The defaults are those of a box on which nothing is installed."""

    version: str = ""
    time_s: float = 0.0
    """Seconds since the epoch."""
    command: str = "gpufan"
    """The command that runs this gpufan (`own_command`). It also works after `sudo`."""
    installation: Installation | None = None
    """How this gpufan was installed. None if this is unknown."""
    copy: Installation | None = None
    """The copy of gpufan that an install has made for the service. None if there is no copy."""
    copy_is_current: bool | None = None
    """Whether the copy has the code of this gpufan. None if they cannot be compared."""
    container: str = ""
    """The program that runs this container, such as `docker`. Empty if the box is no container."""
    user_id: int = 0
    has_sys_admin: bool | None = None
    """Whether this process has the capability CAP_SYS_ADMIN. None if this is unknown."""
    distribution: str = ""
    """ID of the distribution in /etc/os-release, such as `debian`. Empty if it is unknown."""
    has_xorg: bool = False
    """Whether the program Xorg is installed."""
    pci: tuple[PciCard, ...] = ()
    driver: Driver = field(default_factory=Driver)
    proofs: tuple[Proof, ...] = ()
    rivals: tuple[Rival, ...] = ()
    other_setter: str = ""
    """The program that may set fans besides gpufan: `probably coolgpus (process 4711)`. Empty if none is found."""
    channels: tuple[Channel, ...] = ()
    """The fans on headers of the motherboard that the kernel shows."""
    writable_paths: str = ""
    """The paths that the sandbox of the service opens for writing, as systemd shows them."""
    autostarts: tuple[str, ...] = ()
    """Files that start nvidia-settings at the login to a desktop, so that nvidia-settings sets fans."""
    x_servers: tuple[XServer, ...] = ()
    xorg_files: tuple[XorgFile, ...] = ()
    systemd: Systemd | None = None
    """The states of the systemd units. None if systemd does not run the box, or if systemd has not answered."""
    config: Path = DEFAULT_PATH
    settings: Settings = field(default_factory=Settings)
    alerts_exposure: str | None = None
    """A text that says so if every user can read or write the file with the settings of messages.

    This file contains secrets. None if other users can neither read nor write the file.
    """
    runtime_folder: Path = RUNTIME_FOLDER
    published: Published | None = None
    """The published snapshot. None if there is no snapshot."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """For each fact that is unknown because of an error: the name of its field, and the error."""

    @property
    def has_cards(self) -> bool:
        """Whether the box has an NVIDIA card or a snapshot. The cards of a snapshot may be simulated."""
        return bool(self.pci or self.driver.cards or self.published)

    @property
    def live(self) -> Snapshot | None:
        """The snapshot of the running gpufan. None if no gpufan is running, or if gpufan hangs."""
        published = self.published
        return None if published is None or published.orphan or published.stale else published.snapshot

    @property
    def live_is_unknown(self) -> bool:
        """Whether the snapshot cannot be read, for example because a gpufan of another version runs."""
        return "published" in self.errors

    @property
    def service_runs_copy(self) -> bool:
        """Whether the service runs the copy of gpufan that an install has made."""
        service, copy = self.service, self.copy
        if service is None or copy is None or not service.exists:
            return False
        return service.command.startswith(f"{copy.folder}/")

    @property
    def edit_config(self) -> str:
        """The shell command that edits the config file."""
        return f"sudoedit {quote(str(self.config))}"

    @property
    def service(self) -> UnitState | None:
        """The state of the systemd unit of gpufan. None if `systemd` is None."""
        return self.systemd.service if self.systemd else None

    @property
    def display_manager(self) -> str | None:
        """The systemd unit of the display manager. None if no display manager is active."""
        return self.systemd.display_manager if self.systemd else None

    @property
    def service_controls_fans(self) -> bool:
        """Whether the service of gpufan wrote the snapshot. If so, the service controls the fans."""
        return bool(self.service and self.published and self.service.pid == self.published.snapshot.pid)
