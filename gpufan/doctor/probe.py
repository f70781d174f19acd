"""Looking at the box: what lies below one root folder, and what systemd says. Changes nothing, and waits for nobody."""

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from gpufan import __version__
from gpufan.config.settings import DEFAULT_PATH, Settings, Source
from gpufan.core.pci import PciAddress
from gpufan.daemon import snapshot_file as snapshot
from gpufan.doctor import driver
from gpufan.doctor.facts import Driver, Facts, PciCard, Proof, Published, Rival, Systemd, Unit, XorgFile, XServer
from gpufan.errors import GpufanError, NoAnswer, NoPermission
from gpufan.gpu import addresses
from gpufan.service import rivals as found
from gpufan.service.units import COMPANIONS, SERVICE
from gpufan.system import files
from gpufan.system import systemctl as systemd
from gpufan.system import versions as version
from gpufan.system.background import BackgroundCall
from gpufan.system.files import read_file
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT
from gpufan.xorg import setup
from gpufan.xorg.config import Config, readable

T = TypeVar("T")

ROOT = Path("/")
LIMIT_S = 10.0
"""For all probes together, s; one that takes longer is left behind."""

LOG_LINES = 5
XORG_CONF = Path("/etc/X11/xorg.conf")

_SUDO_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where sudo looks for a program on Debian (secure_path in sudoers(5))."""

_INTERPRETERS = re.compile(r"(?:python|perl|bash|dash|sh)[\d.]*")
_PROGRAMS = {*found.RIVALS, *found.OTHERS}
_SERVICE_OF = re.compile(r"/system\.slice/(?:.*/)?([^/\n]+\.service)$", re.MULTILINE)
_CAP_SYS_ADMIN = 21
_FAN_SETTING = re.compile(r"GPUFanControlState=1|GPUTargetFanSpeed", re.IGNORECASE)

_UNIT_KEYS = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "StatusText", "MainPID", "NRestarts"),
    *("User", "CapabilityBoundingSet", "ExecStart", "DropInPaths", "NeedDaemonReload"),
)


def below(root: Path, path: Path) -> Path:
    """Where `path` lies on a system whose root folder is `root`."""
    return root / path.relative_to("/")


def gather(
    runtime_folder: Path | None = None,
    config: Path | None = None,
    proofs: tuple[Proof, ...] = (),
    root: Path | None = None,
) -> Facts:
    """Everything that can be found out in `LIMIT_S` seconds. Raises nothing that a box can be blamed for."""
    root = root or ROOT
    folder = runtime_folder or below(root, RUNTIME_FOLDER)
    source = Source(config or below(root, DEFAULT_PATH), required=config is not None)
    end_s = time.monotonic() + LIMIT_S
    silent: list[str] = []

    # All are asked at once, so that one that hangs does not use up the time of the others.
    the_driver = BackgroundCall(partial(driver.look, below(root, version.KERNEL_MODULE), LIMIT_S - 2))
    the_processes = BackgroundCall(partial(_processes, root, folder))
    the_systemd = BackgroundCall(partial(_systemd, root))
    the_published = BackgroundCall(partial(_published, folder / SNAPSHOT))
    the_settings = BackgroundCall(source.read)
    the_pci = BackgroundCall(partial(pci_cards, root))
    the_xorg = BackgroundCall(partial(_xorg, root))
    the_autostarts = BackgroundCall(partial(_autostarts, root))

    def answer(what: str, pending: BackgroundCall[T], otherwise: T) -> T:
        try:
            return pending.result(max(end_s - time.monotonic(), 0))
        except NoAnswer:
            silent.append(what)
        except (OSError, ValueError, GpufanError):  # what cannot be read tells nothing
            pass
        return otherwise

    settings, config_error = Settings(), None
    try:
        settings = the_settings.result(max(end_s - time.monotonic(), 0))
    except NoAnswer:
        config_error = f"{source.path} cannot be read in time"
    except GpufanError as error:
        config_error = str(error)
    rivals, x_servers = answer("the processes", the_processes, ((), ()))
    late = Driver(error=f"the NVIDIA driver has not answered for {LIMIT_S:g} s")
    return Facts(
        version=__version__,
        time_s=time.time(),
        command=command(),
        user_id=os.geteuid(),
        has_sys_admin=_has_sys_admin(root),
        distribution=_distribution(root),
        has_xorg=shutil.which("Xorg") is not None,
        pci=answer("the PCI bus", the_pci, ()),
        driver=answer("the driver", the_driver, late),
        proofs=proofs,
        rivals=rivals,
        autostarts=answer("the autostart files", the_autostarts, ()),
        x_servers=x_servers,
        xorg_files=answer("the files of X", the_xorg, ()),
        systemd=answer("systemd", the_systemd, Systemd(error=f"it has not answered for {LIMIT_S:g} s")),
        config=source.path or DEFAULT_PATH,
        settings=settings,
        config_error=config_error,
        published=answer("the snapshot", the_published, Published(folder / SNAPSHOT)),
        silent=tuple(silent),
    )


def try_the_fans(runtime_folder: Path | None, config: Path | None, root: Path | None = None) -> tuple[Proof, ...]:
    """Move the fans of every card that gpufan would control here, and give them back.

    Raises InputError, DriverError, NoPermission without root, and GpufanError while another gpufan has the fans.
    """
    if os.geteuid() != 0:
        raise NoPermission("only root can move fans: run this with sudo")
    root = root or ROOT
    source = Source(config or below(root, DEFAULT_PATH), required=config is not None)
    return driver.prove_fans(source.read(), runtime_folder or below(root, RUNTIME_FOLDER))


def command() -> str:
    """What to type to run this gpufan, also after `sudo`, which finds only what lies in the system's folders."""
    program = Path(sys.argv[0])
    if program.name != "gpufan":
        return f"{sys.executable} -m gpufan"
    known = shutil.which("gpufan", path=_SUDO_PATH)
    if known is not None and Path(known).resolve() == program.resolve():
        return "gpufan"
    return str(program.absolute())


def pci_cards(root: Path) -> tuple[PciCard, ...]:
    """The NVIDIA display devices, and the kernel driver that each has."""
    folder = below(root, addresses.PCI_FOLDER)
    return tuple(_pci_card(folder, address) for address in addresses.bus_addresses(folder))


def _pci_card(folder: Path, address: PciAddress) -> PciCard:
    device = folder / address.lspci
    link = device / "driver"
    name = link.readlink().name if link.is_symlink() else None
    return PciCard(address, int((device / "device").read_text(), 16), name)


def _has_sys_admin(root: Path) -> bool | None:
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", _text(below(root, Path("/proc/self/status"))), re.MULTILINE)
    return bool(int(match[1], 16) >> _CAP_SYS_ADMIN & 1) if match else None


def _distribution(root: Path) -> str:
    match = re.search(r'^ID="?([\w.-]+)', _text(below(root, Path("/etc/os-release"))), re.MULTILINE)
    return match[1] if match else ""


def _processes(root: Path, runtime_folder: Path) -> tuple[tuple[Rival, ...], tuple[XServer, ...]]:
    """Programs that set fans too, and X servers, among the running processes."""
    rivals, servers = [], []
    for folder in sorted(root.glob("proc/[0-9]*"), key=lambda folder: int(folder.name)):
        words = tuple(word for word in _text(folder / "cmdline").split("\0") if word)
        if not words:
            continue
        pid = int(folder.name)
        if Path(words[0]).name in ("Xorg", "X"):
            display = next((word for word in words[1:] if re.fullmatch(r":\d+", word)), None)
            servers.append(XServer(pid, display, any(word.startswith(str(runtime_folder)) for word in words)))
        elif program := _program(words):
            unit = _SERVICE_OF.search(_text(folder / "cgroup"))
            name, exclusive = found.OTHERS.get(program, program), program in found.RIVALS
            rivals.append(Rival(name, unit[1] if unit else None, pid, exclusive))
    return tuple(rivals), tuple(servers)


def _program(words: tuple[str, ...]) -> str | None:
    """Which program that sets fans this is; none for an editor or a pager that has such a name among its arguments."""
    if not _INTERPRETERS.fullmatch(Path(words[0]).name):
        words = words[:1]
    return found.Service("", words).runs(sorted(_PROGRAMS))


def _autostarts(root: Path) -> tuple[str, ...]:
    """Files that make a desktop start nvidia-settings with a word on fans."""
    homes = [*root.glob("home/*"), root / "root"]
    loads_fans = any(_FAN_SETTING.search(_text(home / ".nvidia-settings-rc")) for home in homes)
    places = [root / "etc/xdg/autostart", *(home / ".config/autostart" for home in homes)]
    return tuple(str(path) for place in places for path in _autostarts_in(place, loads_fans))


def _autostarts_in(folder: Path, loads_fans: bool) -> Iterator[Path]:
    try:
        paths = sorted(folder.glob("*.desktop"))
    except OSError:  # somebody else's home
        return
    for path in paths:
        text = _text(path)
        match = re.search(r"^Exec=(.*nvidia-settings.*)$", text, re.MULTILINE)
        switched_off = re.search(r"^(Hidden=true|X-GNOME-Autostart-enabled=false)$", text, re.MULTILINE)
        if match and not switched_off and (loads_fans or _FAN_SETTING.search(match[1])):
            yield path


def _xorg(root: Path) -> tuple[XorgFile, ...]:
    """Every file that X reads."""
    folders = [below(root, folder) for folder in setup.SNIPPET_FOLDERS]
    paths = [path for folder in folders for path in sorted(folder.glob("*.conf"))]
    found_files = [_xorg_file(root, path, incomplete=False) for path in paths]
    main = below(root, XORG_CONF)
    if main.exists():
        incomplete = False
        with suppress(GpufanError):  # _xorg_file says why
            incomplete = setup.plan_setup(main, [card.address for card in pci_cards(root)]).is_needed
        found_files.append(_xorg_file(root, main, incomplete=incomplete))
    return tuple(found_files)


def _xorg_file(root: Path, path: Path, *, incomplete: bool) -> XorgFile:
    shown = f"/{path.relative_to(root)}"
    try:
        config = Config(files.read_if_exists(path) or b"", shown)
        coolbits = tuple(
            (config.line(name.start), readable(value.text) if value else "")
            for section in config.sections
            for name, value in config.options(section, "coolbits")
        )
    except GpufanError as error:
        return XorgFile(shown, error=str(error))
    return XorgFile(shown, coolbits, incomplete=incomplete)


def _published(path: Path) -> Published:
    if not path.exists():
        return Published(path)
    try:
        taken = snapshot.read(path)
    except GpufanError as error:
        return Published(path, error=str(error))
    return Published(
        path,
        taken,
        orphan=snapshot.is_orphan(taken),
        age_s=time.time() - taken.time_s,
        stale=snapshot.stale_s(taken) is not None,
    )


def _systemd(root: Path) -> Systemd | None:
    """What systemd says of the service; None where it does not run the box."""
    if not below(root, systemd.BOOTED).is_dir() or shutil.which("systemctl") is None:
        return None
    try:
        manager = found.display_manager()
        if (
            manager
            and systemd.unit_properties(manager, "ActiveState", limit_s=systemd.QUERY_TIMEOUT_S)["ActiveState"]
            != "active"
        ):
            manager = None
        beside = [(companion.unit, unit(companion.unit)) for companion in COMPANIONS]
        installed = tuple((name, state) for name, state in beside if state.load != "not-found")
        return Systemd(service=unit(SERVICE), companions=installed, display_manager=manager)
    except GpufanError as error:
        return Systemd(error=str(error))


def unit(name: str) -> Unit:
    """What systemd says of one unit. Raises GpufanError."""
    state = systemd.unit_properties(name, *_UNIT_KEYS, limit_s=systemd.QUERY_TIMEOUT_S)
    argv = re.search(r"argv\[\]=(.*?) ;", state["ExecStart"])
    return Unit(
        load=state["LoadState"],
        active=state["ActiveState"],
        sub=state["SubState"],
        file_state=state["UnitFileState"],
        result=state["Result"],
        status=state["StatusText"],
        pid=_number(state["MainPID"]),
        restarts=_number(state["NRestarts"]),
        user=state["User"],
        capabilities=state["CapabilityBoundingSet"],
        command=argv[1] if argv else "",
        drop_ins=state["DropInPaths"],
        needs_reload=state["NeedDaemonReload"] == "yes",
        log=tuple(systemd.journal_lines(name, LOG_LINES)),
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _text(path: Path) -> str:
    """What a file holds; empty where it cannot be read."""
    try:
        return read_file(path).decode("utf-8", "replace")
    except OSError:
        return ""
