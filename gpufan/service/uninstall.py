"""Uninstall the service: give the fans back first, then restore everything that installs have changed."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gpufan.errors import GpufanError
from gpufan.service import config_file, manifest, root_copy
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.file_content import write_content
from gpufan.service.manifest import Manifest
from gpufan.service.units import COMPANIONS, SERVICE, XSERVER
from gpufan.system import files
from gpufan.system.systemctl import stop_and_disable, systemctl, unit_properties

Say = Callable[[str], None]


def plan_uninstall(*, purge: bool) -> list[str]:
    """A line for each step of `uninstall`, in order; nothing is changed. Raises GpufanError."""
    installed = manifest.load()
    lines = []
    if installed is not None:
        lines.append(f"stop {SERVICE}, which gives the fans back to the driver")
        lines += [f"stop {unit}" for unit in _companions(installed)]
        lines += [f"remove {path}" if before is None else f"restore {path}" for path, before in installed.files.items()]
        lines += [f"restore {name}" for name in installed.disabled]
        lines += [f"remove {root_copy.COPY}"] if installed.copied else []
    if purge:
        lines += [f"remove {path}" for path in _user_data()]
    return lines


def uninstall(say: Say, *, purge: bool) -> bool:
    """Restore everything that installs have changed; returns False if there was nothing to restore.

    Raises GpufanError for failures.
    """
    os.umask(0o022)
    installed = manifest.load()
    if installed is None:
        return _purge(say) if purge else False
    # In this order: the fans are given back before another program could set them.
    for unit in (SERVICE, XSERVER, *_companions(installed)):
        stop_and_disable(unit)
    # The unit runs `gpufan restore` when it stops. If that fails, the unit's Result is not success.
    given_back = unit_properties(SERVICE, "Result")["Result"] == "success"
    fans = "the driver controls the fans" if given_back else "check with `gpufan list` whether the fans were given back"
    say(f"stopped {SERVICE}; {fans}")
    for path, before in installed.files.items():
        write_content(Path(path), before)
        say(f"removed {path}" if before is None else f"restored {path}")
    for folder in reversed(installed.folders):
        with suppress(OSError):  # the folder has other content
            Path(folder).rmdir()
    systemctl("daemon-reload")
    for unit in (SERVICE, *_companions(installed)):
        with suppress(GpufanError):  # the unit has never failed
            systemctl("reset-failed", unit)
    failed = {name: problem for name, unit in installed.disabled.items() if (problem := _restore(unit, say))}
    if failed:
        Manifest(disabled={name: installed.disabled[name] for name in failed}).save()
    else:
        manifest.delete()
    if installed.copied:
        shutil.rmtree(root_copy.COPY, ignore_errors=True)
        say(f"removed {root_copy.COPY}")
    if purge and not failed:
        _purge(say)
    elif kept := _user_data():
        say(f"kept {', '.join(map(str, kept))}; --purge removes that too")
    if failed:
        raise GpufanError(f"not restored: {'; '.join(failed.values())}; repair that, then run this again")
    return True


def _companions(installed: Manifest) -> list[str]:
    return [companion.unit for companion in COMPANIONS if companion.path in installed.files]


def _user_data() -> list[Path]:
    """The paths of settings and state that exist: of root, and of dynamic users of systemd (systemd.exec(5))."""
    state = manifest.PATH.parent
    return [path for path in (config_file.CONFIG, state, state.parent / "private" / state.name) if path.exists()]


def _purge(say: Say) -> bool:
    """Remove settings and state; returns False if there were none."""
    found = _user_data()
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            files.remove(path)
        say(f"removed {path}")
    with suppress(OSError):  # the folder has other content
        config_file.CONFIG.parent.rmdir()
    return bool(found)


def _restore(unit: DisabledUnit, say: Say) -> str | None:
    """Enable and start `unit` again. Returns None on success, else the problem."""
    try:
        unit.enable()
        unit.start()
    except (GpufanError, OSError) as error:
        return f"{unit.unit}: {error}"
    say(f"restored {unit.unit}")
    return None
