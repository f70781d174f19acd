"""Uninstall: the fans are given back first, then all that installs have changed is put back."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gpufan.errors import GpufanError
from gpufan.service import install_settings as settings
from gpufan.service import manifest
from gpufan.service import root_copy as code
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.units import COMPANIONS, SERVICE, XSERVER
from gpufan.system import files
from gpufan.system.systemctl import stop_and_disable, systemctl, unit_properties

Say = Callable[[str], None]


def plan_uninstall(*, purge: bool) -> list[str]:
    """What `uninstall` would do, in words and in order; nothing here changes anything. Raises GpufanError."""
    was = manifest.load()
    lines = []
    if was is not None:
        lines.append(f"stop {SERVICE}, which gives the fans back to the driver")
        lines += [f"stop {unit}" for unit in _others(was)]
        lines += [f"remove {path}" if before is None else f"put {path} back" for path, before in was.files.items()]
        lines += [f"put {name} back as it was" for name in was.taken]
        lines += [f"remove {code.COPY}"] if was.copied else []
    if purge:
        lines += [f"remove {path}" for path in (settings.CONFIG, *_state()) if path.exists()]
    return lines


def uninstall(say: Say, *, purge: bool) -> bool:
    """Put back all that an install has changed; False if there was nothing. Raises GpufanError for what failed."""
    os.umask(0o022)
    was = manifest.load()
    if was is None:
        return _purge(say) if purge else False
    # In this order: the fans are given back before anything else could want them.
    for unit in (SERVICE, XSERVER, *_others(was)):
        stop_and_disable(unit)
    result = unit_properties(SERVICE, "Result")["Result"]
    # `restore` reads back what it has given back, and its failure is the unit's.
    given_back = result == "success"
    say(f"stopped {SERVICE}; " + ("the fans are the driver's" if given_back else "see `gpufan list` for the fans"))
    for path, before in was.files.items():
        manifest.put_back(Path(path), before)
        say(f"removed {path}" if before is None else f"put {path} back as it was")
    for folder in reversed(was.folders):
        with suppress(OSError):  # something else lies there
            Path(folder).rmdir()
    systemctl("daemon-reload")
    for unit in (SERVICE, *_others(was)):
        with suppress(GpufanError):  # of what never failed there is nothing to forget
            systemctl("reset-failed", unit)
    failed = {name: problem for name, taken in was.taken.items() if (problem := _put_back(taken, say))}
    if failed:
        manifest.Manifest(taken={name: was.taken[name] for name in failed}).save()
    else:
        manifest.forget()
    if was.copied:
        shutil.rmtree(code.COPY, ignore_errors=True)
        say(f"removed {code.COPY}")
    if purge and not failed:
        _purge(say)
    elif kept := [str(path) for path in (settings.CONFIG, *_state()) if path.exists()]:
        say(f"kept {', '.join(kept)}; --purge removes what is kept")
    if failed:
        raise GpufanError(
            f"all is put back, but {'; '.join(failed.values())}: see to that, then run this again for the rest"
        )
    return True


def _others(was: manifest.Manifest) -> list[str]:
    return [companion.unit for companion in COMPANIONS if companion.path in was.files]


def _state() -> list[Path]:
    """Where state may lie: that of root, and that of the users whom systemd makes up (systemd.exec(5))."""
    folder = manifest.PATH.parent
    return [folder, folder.parent / "private" / folder.name]


def _purge(say: Say) -> bool:
    """Remove configuration and state; False if there was none."""
    found = [path for path in (settings.CONFIG, *_state()) if path.exists()]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            files.remove(path)
        say(f"removed {path}")
    with suppress(OSError):  # something else lies there
        settings.CONFIG.parent.rmdir()
    return bool(found)


def _put_back(taken: DisabledUnit, say: Say) -> str | None:
    try:
        taken.enable()
        taken.start()
    except (GpufanError, OSError) as error:
        return f"{taken.unit} could not be: {error}"
    say(f"put {taken.unit} back as it was")
    return None
