"""Lets the process that speaks HTTP read the history of the service, although only root can look into its folder.

systemd stores the data of a service with a dynamic user below /var/lib/private, which only root can enter. So this
process gets its own view of the file system. In this view, the folder has only the history, which can only be read. The
unit of the page does the same with `TemporaryFileSystem` and `BindReadOnlyPaths`.
"""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_PRIVATE = Path("/var/lib/private")
_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_SAFE = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC


def open_history_folder(folder: Path) -> None:
    """Make the history in `folder` readable for this process, if only root can enter its folder.

    Call this as root, before the rights are given up. If it is not possible, as in some containers, the page will say
    that the history cannot be read.
    """
    real = folder.resolve()
    if not real.is_relative_to(_PRIVATE) or not real.is_dir():
        return
    with suppress(OSError):
        _call("unshare", ctypes.c_int(_CLONE_NEWNS))
        _mount("none", Path("/"), "", _MS_REC | _MS_PRIVATE)
        source = os.open(real, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _mount("tmpfs", _PRIVATE, "tmpfs", _SAFE, "mode=0755,size=64k")
        real.mkdir(parents=True)
        _mount(f"/proc/self/fd/{source}", real, "", _MS_BIND)
        _mount("none", real, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _SAFE)
        _mount("none", _PRIVATE, "", _MS_REMOUNT | _MS_RDONLY | _SAFE)
        os.close(source)


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    """Call mount(2). Raises OSError."""
    _call("mount", source.encode(), bytes(target), kind.encode(), ctypes.c_ulong(flags), options.encode())


def _call(name: str, *arguments: object) -> None:
    """Call the function `name` of the C library. Raises OSError if it fails."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
