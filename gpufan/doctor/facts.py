"""What is known of a box: values only, as the probes found them. Whatever could not be found out is None or empty."""

from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from gpufan.config.settings import Settings
from gpufan.core.gpu import GpuInfo, Reading
from gpufan.core.pci import PciAddress
from gpufan.core.snapshot import Snapshot


@dataclass(frozen=True)
class PciCard:
    """An NVIDIA display device on the PCI bus, whether or not a driver has it."""

    address: PciAddress
    device_id: int
    driver: str | None
    """Name of the kernel driver; None where none has it."""


@dataclass(frozen=True)
class Card:
    """A card that NVIDIA's driver knows."""

    info: GpuInfo
    reading: Reading | None
    """None where it does not answer."""
    persistent: bool | None = None
    """Whether the driver stays loaded when nobody uses the card."""


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver: kernel module and library."""

    module_version: str | None = None
    """Of the loaded kernel module."""
    library_version: str | None = None
    """Of the library that NVML was loaded from."""
    error: str | None = None
    """Why NVML does not work; None where it does."""
    error_code: int | None = None
    """NVML's number for that."""
    cards: tuple[Card, ...] = ()


@dataclass(frozen=True)
class Proof:
    """What became of the try to move the fans of a card."""

    uuid: str
    text: str
    obeyed: bool


@dataclass(frozen=True)
class Rival:
    """A program that sets fans as well."""

    name: str
    unit: str | None
    """The service that it runs as; None for a process that somebody started."""
    pid: int | None
    exclusive: bool
    """Whether it does nothing but set the fans of NVIDIA cards."""

    @property
    def stop(self) -> str:
        """The command that ends it."""
        return f"sudo systemctl disable --now {quote(self.unit)}" if self.unit else f"sudo kill {self.pid}"


@dataclass(frozen=True)
class XServer:
    """A running X server."""

    pid: int
    display: str | None
    ours: bool
    """Whether it is one that gpufan started."""


@dataclass(frozen=True)
class XorgFile:
    """A file that the X server reads."""

    path: str
    coolbits: tuple[tuple[int, str], ...] = ()
    """Line and value of each Coolbits."""
    error: str | None = None
    """Why the server could not read it."""
    incomplete: bool = False
    """Whether `gpufan setup-xorg` would change it."""


@dataclass(frozen=True)
class Unit:
    """A unit as `systemctl show` tells of it."""

    load: str
    active: str
    sub: str = ""
    file_state: str = ""
    result: str = ""
    status: str = ""
    """What the daemon said of itself last."""
    pid: int = 0
    restarts: int = 0
    user: str = ""
    capabilities: str = ""
    """What the unit may have at most, space between; empty where that is not told."""
    command: str = ""
    drop_ins: str = ""
    needs_reload: bool = False
    log: tuple[str, ...] = ()
    """Its last lines in the journal."""


@dataclass(frozen=True)
class Systemd:
    """The service manager, as far as it answered."""

    error: str | None = None
    service: Unit | None = None
    companions: tuple[tuple[str, Unit], ...] = ()
    """The services beside it that are installed, by name of the unit."""
    display_manager: str | None = None
    """The unit of the display manager, if it is active."""


@dataclass(frozen=True)
class Published:
    """The snapshot of a gpufan, and whether to trust it."""

    path: Path
    snapshot: Snapshot | None = None
    error: str | None = None
    """Why there is none to be had although something lies there."""
    orphan: bool = False
    age_s: float = 0.0
    """Negative where it is from the future."""
    stale: bool = False

    @property
    def live(self) -> Snapshot | None:
        """The snapshot, if a gpufan keeps it up to date."""
        return None if self.orphan or self.stale else self.snapshot


@dataclass(frozen=True)
class Facts:
    """All that is known. What is built in stands for a machine with nothing at all."""

    version: str = ""
    time_s: float = 0.0
    """Seconds since the epoch."""
    command: str = "gpufan"
    """How gpufan is called here, also with sudo before it."""
    user_id: int = 0
    has_sys_admin: bool | None = None
    """Whether this process has CAP_SYS_ADMIN."""
    distribution: str = ""
    """ID in /etc/os-release."""
    has_xorg: bool = False
    """Whether the program Xorg is installed."""
    pci: tuple[PciCard, ...] = ()
    driver: Driver = field(default_factory=Driver)
    proofs: tuple[Proof, ...] = ()
    rivals: tuple[Rival, ...] = ()
    autostarts: tuple[str, ...] = ()
    """Files that start nvidia-settings with a desktop."""
    x_servers: tuple[XServer, ...] = ()
    xorg_files: tuple[XorgFile, ...] = ()
    systemd: Systemd | None = None
    """None where systemd does not run the box."""
    config: Path = Path("/etc/gpufan/config.toml")
    settings: Settings = field(default_factory=Settings)
    config_error: str | None = None
    published: Published = field(default_factory=lambda: Published(Path("/run/gpufan/state.json")))
    silent: tuple[str, ...] = ()
    """Probes that did not come back in time."""

    @property
    def has_cards(self) -> bool:
        """Whether there is an NVIDIA card at all, or a gpufan that simulates some."""
        return bool(self.pci or self.driver.cards or self.published.snapshot)

    @property
    def edit_config(self) -> str:
        """The command to edit the file of settings."""
        return f"sudoedit {quote(str(self.config))}"

    @property
    def service_has_the_fans(self) -> bool:
        """Whether the gpufan whose snapshot this is runs as the service."""
        unit = self.systemd.service if self.systemd else None
        taken = self.published.snapshot
        return unit is not None and taken is not None and unit.pid == taken.pid
