"""A box in which the real systemd is process 1, in namespaces of its own on a throw-away overlay of a Debian root.

Inside are gpufan as its wheel installs it, in the home of a user, and the NVML double as the system's libnvidia-ml.
Needs root and a writable cgroup2. The root is built once and kept in `CACHE`.
"""

import fcntl
import hashlib
import inspect
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path

import pytest

from tests.doubles import require
from tests.doubles.nvml import SONAME, NvmlDouble, build, wait_for

CACHE = Path(os.environ.get("GPUFAN_RIG_CACHE", "/var/cache/gpufan-rig"))
SUITE = "bookworm"
PACKAGES = "systemd-sysv,dbus,procps,python3,python3-venv,python3-apt,lightdm,lightdm-autologin-greeter,xvfb"
EXCLUDED = ("share/man/*", "share/locale/*", "share/doc/*", "lib/*/libLLVM*", "lib/*/dri/*")
"""Below /usr: texts, and what only draws."""

VENV = Path("/home/user/venv")
"""Where a user installs gpufan without asking anybody."""
GPUFAN = f"{VENV}/bin/gpufan"

ANSIBLE = Path("/srv/ansible")
"""Where Ansible is, for `run`; gpufan's wheel and all that it needs lie in `WHEELS`."""
WHEELS = Path("/srv/wheels")

_SOURCE = Path(__file__).parents[3]
_BOOT = Path(__file__).with_name("boot.sh")
_ANSIBLE = "ansible-core>=2.17"
_LIBRARY = f"usr/lib/{SONAME}"
_FILES = {
    "etc/lightdm/lightdm.conf": "[Seat:*]\nxserver-command=/usr/local/bin/x\n",
    # Xvfb knows nothing of terminals, so it cannot take the arguments that lightdm gives.
    "usr/local/bin/x": "#!/bin/sh\nexec Xvfb :0 -auth /run/lightdm/root/:0 -nolisten tcp -extension GLX\n",
    GPUFAN[1:]: f"#!{VENV}/bin/python\nfrom gpufan.cli.main import main\nmain()\n",
}
_ENVIRONMENT = [
    "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
    "PYTHONDONTWRITEBYTECODE=1",
    "GPUFAN_NVML_DOUBLE=/dev/nvml-double",
    "GPUFAN_SYS_FOLDER=/sys/firmware",
]


def _run(*command: str | Path, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def debian_root() -> Path:
    """The cached root, built if need be."""
    wheels = requirements("alerts", "metrics", "web")
    excluded = [f"--dpkgopt=path-exclude=/usr/{pattern}" for pattern in EXCLUDED]
    options = [f"--include={PACKAGES}", *excluded]
    key = (wheels, _ANSIBLE, inspect.getsource(_fill))
    return cached_root(SUITE, options, key, lambda root: _fill(root, wheels))


def cached_root(
    suite: str, options: list[str], key: object = None, fill: Callable[[Path], None] = lambda _: None
) -> Path:
    """A root of Debian, made by mmdebstrap with `options` and then by `fill`, on which `key` depends."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot systemd in namespaces: run this with sudo")
    mmdebstrap = require("mmdebstrap", "mmdebstrap")

    def make(draft: Path) -> None:
        sources = f"deb {_mirror()} {suite} main\n"
        _run(mmdebstrap, "--mode=root", "--variant=minbase", *options, suite, draft, "-", text=sources)
        fill(draft)

    return cached("root", (suite, options, key), make)


def cached(name: str, key: object, make: Callable[[Path], None]) -> Path:
    """The folder that `make` has made. It is kept in the cache as long as `key` stays the same."""
    folder = CACHE / f"{name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            draft = CACHE / "draft"
            shutil.rmtree(draft, ignore_errors=True)
            make(draft)
            draft.rename(folder)
    return folder


def requirements(*extras: str) -> list[str]:
    """What gpufan and `extras` need, for the Python of every suite.

    The page works without scipy, except that it predicts nothing; scipy is large.
    """
    found = []
    for requirement in requires("gpufan") or ():
        name, _, condition = requirement.partition(";")
        is_of_extra = any(f"extra == '{extra}'" in condition.replace('"', "'") for extra in extras)
        if not condition or (is_of_extra and not name.startswith("scipy")):
            found.append(name)
    return found


def _mirror() -> str:
    """The archive that this machine is set up with."""
    found = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    return next((uri for uri in found if "security" not in uri), "http://deb.debian.org/debian")


def _fill(root: Path, wheels: list[str]) -> None:
    """What stays from run to run: a user with an environment."""
    _run("chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", "user")
    _run("chroot", root, "python3", "-m", "venv", "--without-pip", VENV)
    version = site_packages(root).parent.name.removeprefix("python")
    folder = root / WHEELS.relative_to("/")
    download_wheels(folder, version, wheels)
    pip, options = _pip(version)
    local = ["--no-index", "--find-links", folder, "--no-compile"]
    _run(*pip, "install", *options, *local, "--target", site_packages(root), *wheels)
    _run(*pip, "install", *options, "--no-compile", "--target", root / ANSIBLE.relative_to("/"), _ANSIBLE)
    _run("chroot", root, "python3", "-m", "compileall", "-q", ANSIBLE)  # else each of its runs would
    _run("chroot", root, "chown", "-R", "user:", "/home/user")
    (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text(f"{'0123456789abcdef' * 2}\n")


def download_wheels(folder: Path, version: str, names: list[str]) -> None:
    """Download into `folder` the wheels of `names`, and of all that these need, for Python `version`."""
    pip, options = _pip(version)
    _run(*pip, "download", *options, "--dest", folder, *names)


def _pip(version: str) -> tuple[list[str], list[str]]:
    """The command, and its options to choose wheels for Python `version`."""
    return [sys.executable, "-m", "pip", "-q"], ["--only-binary=:all:", "--python-version", version]


def site_packages(root: Path) -> Path:
    """Return where the environment of the user has its packages."""
    return next((root / VENV.relative_to("/") / "lib").glob("python*")) / "site-packages"


def source_layer(folder: Path, root: Path, source: Path = _SOURCE) -> Path:
    """A layer over `root` of what is in the tree `source`: gpufan's wheel in the user's environment, and the double."""
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    layer = folder / "layer"
    home = layer / "home/user"
    built = next(folder.glob("*.whl"))
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(layer / site_packages(root).relative_to(root))
    write_files(layer, {f"{WHEELS}/{built.name}"[1:]: built.read_bytes()} | _FILES | driver_files())
    owner = (root / "home/user").stat()
    for path in (home, *home.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    return layer


def driver_files() -> dict[str, str | bytes]:
    """What stands in for the driver: its library, and where its cards are."""
    settings = "[Manager]\nDefaultEnvironment=GPUFAN_NVML_DOUBLE=/dev/nvml-double GPUFAN_SYS_FOLDER=/sys/firmware\n"
    return {"etc/systemd/system.conf.d/nvml.conf": settings, _LIBRARY: build().read_bytes()}


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files below `folder`; those in a folder `bin` are programs."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o755 if "/bin/" in name else 0o644)


class Rig:
    """One booted box with the cards of `double`."""

    def __init__(
        self, layers: list[Path], double: NvmlDouble, target: str = "multi-user.target", hwmon: Path | None = None
    ) -> None:
        """`hwmon` is the tree of the chip on the motherboard; None if it has none."""
        self.double = double
        self._layers = layers
        self._target = target
        self._disk = Path(tempfile.mkdtemp(prefix="gpufan-rig-"))
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "rig", self._disk)
        self._group = _cgroup2() / self._disk.name
        self._group.mkdir()
        lower = ":".join(map(str, layers))
        into_group = f"echo 0 > {self._group}/cgroup.procs && exec unshare --cgroup bash"
        self._command = [
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child=KILL"),
            # Process 1 moves itself, or systemd would find a process of unknown number in its group.
            *("--pid", "--mount", "--uts", "--ipc", "--net", "bash", "-c", f'{into_group} {_BOOT} "$@"', "boot"),
            *(str(self._disk), lower, str(double.path), target, *([str(hwmon)] if hwmon else [])),
        ]

    def boot(self) -> None:
        """Start, and return when systemd has done what it was to do."""
        with (self._disk / "console").open("wb") as console:
            self._outer = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            wait_for(self._has_booted, 30)
        except TimeoutError:
            pytest.fail(f"systemd does not come up: {(self._disk / 'console').read_text()}")

    def _has_booted(self) -> bool:
        if self._outer.poll() is not None:
            pytest.fail(f"systemd died: {(self._disk / 'console').read_text()}")
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        self._init = children[0] if children else ""
        if not children or Path(f"/proc/{self._init}/comm").read_text() != "systemd\n":
            return False
        return self.run("systemctl", "is-active", self._target, check=False).stdout == "active\n"

    def reboot(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Shut down in order, and boot again from the same disk."""
        self.run("systemctl", "reboot", check=False)
        self._outer.wait(30)
        meanwhile()
        self.boot()

    def without_driver(self) -> None:
        """From the next boot on, have no device nodes."""
        (self._disk / "no-driver").touch()

    def close(self) -> None:
        """Pull the plug, and leave nothing behind."""
        self._outer.kill()
        self._outer.wait()
        wait_for(lambda: "populated 0" in (self._group / "cgroup.events").read_text(), 10)
        _run("find", self._group, "-depth", "-type", "d", "-delete")
        _run("umount", self._disk)
        self._disk.rmdir()

    def run(self, *command: str, check: bool = True, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run `command` inside as root, with the double in place of the driver."""
        inside = ["nsenter", "--target", self._init, "--all", "--root", "--wd", "env", "-i", *_ENVIRONMENT]
        done = subprocess.run(
            [*inside, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def install(self, *options: str) -> str:
        """Install the service from the user's environment; what was said."""
        return self.run(GPUFAN, "install-service", "--yes", *options).stdout

    def show(self, unit: str, key: str) -> str:
        """One property of `unit`, as `systemctl show` prints it."""
        return self.run("systemctl", "show", "-P", key, unit).stdout.strip()

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Make a file inside."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && printf %s "$1" >"$0" && chmod "$2" "$0"', path, text, mode)

    def put(self, source: Path, path: str) -> None:
        """Copy the file `source` of this machine to `path` inside."""
        shutil.copyfile(source, f"/proc/{self._init}/root{path}")

    def drop_in(self, text: str) -> None:
        """Let `text` change the service, in place of what the last call did, and restart it."""
        self.write("/etc/systemd/system/gpufan.service.d/test.conf", text)
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "restart", "gpufan.service")

    def journal(self, unit: str = "gpufan.service") -> str:
        """What `unit` has logged since the boot, and systemd about it."""
        return self.run("journalctl", "--boot", "--no-pager", "-o", "cat", "-u", unit).stdout

    def host_pid(self, unit: str = "gpufan.service") -> int:
        """The main process of `unit`, as numbered outside."""
        inner = self.show(unit, "MainPID")
        for path in (self._group / "system.slice" / unit / "cgroup.procs").read_text().split():
            status = Path(f"/proc/{path}/status").read_text()
            if f"NSpid:\t{path}\t{inner}\n" in status:
                return int(path)
        raise AssertionError(f"{unit} has no process {inner}")

    def changes(self) -> dict[str, str]:
        """Every file that is not as it was before the first boot, but for logs and the like; path by path."""
        upper = self._disk / "upper"
        found = {}
        for path in upper.rglob("*"):
            name = str(path.relative_to(upper))
            lower = next((layer / name for layer in self._layers if os.path.lexists(layer / name)), None)
            now, was = _describe(path), _describe(lower)
            if now != was and not name.startswith(_VOLATILE):
                found[name] = now
        return found

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Make sure that what is done meanwhile changes no file."""
        before = self.changes()
        yield
        assert self.changes() == before


_VOLATILE = (
    "var/log/",
    "var/lib/systemd/",
    "var/lib/lightdm",
    "var/lib/private",
    "var/cache/",
    "tmp/",
    "var/tmp/",
    ".old",
)


def _describe(path: Path | None) -> str:
    if path is None:
        return "absent"
    status = path.lstat()
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        return "absent"  # as an overlay says it
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = str(path.readlink())
    elif stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{stat.filemode(status.st_mode)} {status.st_uid} {content}"


def _cgroup2() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        where, _, what = line.partition(" - ")
        if what.startswith("cgroup2 ") and "rw" in where.split()[5].split(","):
            return Path(where.split()[4])
    message = "no writable cgroup2 here: mount -t cgroup2 cgroup2 FOLDER"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
