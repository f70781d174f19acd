"""Uninstall the service: give the fans back, reverse all changes of installs, and remove user data on request."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gpufan.errors import GpufanError
from gpufan.service import config_file, manifest, root_copy
from gpufan.service.file_content import Content, write_content
from gpufan.service.manifest import Manifest
from gpufan.service.rights import no_other_install
from gpufan.service.steps import Say, why_step_failed
from gpufan.service.units import COMPANIONS, SERVICE, XSERVER
from gpufan.system import files
from gpufan.system.systemctl import systemctl, systemctl_show, systemctl_stop_and_disable


def plan_uninstall(*, purge: bool) -> list[str]:
    """Return a line of text for each step that `uninstall` would make, in order. Nothing is changed.

    If `purge` is True, the steps include the removal of settings and state. Raises GpufanError.
    """
    installed = manifest.load_manifest()
    lines = []
    if installed is not None:
        lines.append(f"stop {SERVICE}, which gives the fans back to the driver")
        lines += [f"stop {unit}" for unit in _companions_to_stop(installed)]
        lines += [
            f"remove {path}" if before is None else f"restore {path}"
            for path, before in installed.files.items()
            if before is not None or os.path.lexists(path)
        ]
        lines += [f"restore {name}" for name in installed.disabled]
        lines += [f"remove {folder}" for folder in root_copy.copy_folders() if installed.copied]
    if purge:
        lines += [f"remove {path}" for path in _data_to_purge()]
    return lines


@no_other_install()
def uninstall(say: Say, *, purge: bool) -> bool:
    """Stop the service, and reverse all changes of installs. If `purge` is True, also remove settings and state.

    `say` gets a line of text about each step. Returns False if there was nothing to do. If a step fails, the other
    steps still follow. Then GpufanError is raised.
    """
    os.umask(0o022)
    installed = manifest.load_manifest()
    if installed is None:
        manifest.delete_manifest()  # a killed install or uninstall may have left its folder
        return _purge_data(say) if purge else False
    failures: list[str] = []

    def attempt(step: Callable[..., object], *arguments: object) -> bool:
        """Call `step` with `arguments`, and return whether the step succeeded.

        The error of a failed step is added to `failures`, and the other steps still follow.
        """
        try:
            step(*arguments)
        except (GpufanError, OSError) as error:
            failures.append(why_step_failed(error))
            return False
        return True

    units = (SERVICE, XSERVER, *_companions_to_stop(installed))
    # In this order: the fans are given back before another program could set them.
    for unit in units:
        attempt(systemctl_stop_and_disable, unit)
    # The unit runs `gpufan restore` when it stops. If that fails, the unit's Result is not success.
    given_back = not failures and systemctl_show(SERVICE, "Result")["Result"] == "success"
    fans = "the driver controls the fans" if given_back else "check with `gpufan list` whether the fans were given back"
    say(f"stopped {SERVICE}; {fans}")
    for path, before in list(installed.files.items()):
        was_written = before is not None or os.path.lexists(path)  # else the unit is one of the package
        if attempt(_uninstall_file, Path(path), before):
            del installed.files[path]
            if was_written:
                say(f"removed {path}" if before is None else f"restored {path}")
    for file in (config_file.CONFIG, config_file.ALERTS):
        attempt(files.remove_temporaries, file)
    installed.remove_empty_folders()
    attempt(systemctl, "daemon-reload")
    for unit in units:
        with suppress(GpufanError):  # the unit has never failed
            systemctl("reset-failed", unit)
    for name, disabled in list(installed.disabled.items()):
        if attempt(disabled.restore, say):
            del installed.disabled[name]
    for folder in root_copy.copy_folders() if installed.copied else ():
        # After a failure the copy stays, so that its command can be run again.
        if not (failures and folder == root_copy.COPY) and attempt(root_copy.remove_copy_folder, folder):
            say(f"removed {folder}")
    if failures:
        attempt(installed.save)
        command = root_copy.CopyPaths(installed.copied).launcher or "gpufan"
        again = f"repair that, then run `sudo {command} uninstall-service` again"
        raise GpufanError(f"not restored: {'; '.join(failures)}; {again}")
    manifest.delete_manifest()
    if purge:
        _purge_data(say)
    elif kept := _data_to_purge():
        say(f"kept {', '.join(map(str, kept))}; --purge removes that too")
    return True


def _companions_to_stop(installed: Manifest) -> list[str]:
    """Return the unit names of the companion services that are in the manifest `installed`."""
    return [companion.unit_name for companion in COMPANIONS if companion.unit_path in installed.files]


def _data_to_purge() -> list[Path]:
    """Return the paths of settings and state that exist.

    The state of a service with a dynamic user is in the folder `private` (see DynamicUser= in systemd.exec(5)).
    """
    state = manifest.OLD_PATH.parent
    paths = (config_file.CONFIG, config_file.ALERTS, state, state.parent / "private" / state.name)
    return [path for path in paths if path.exists()]


def _purge_data(say: Say) -> bool:
    """Remove settings and state. Return False if neither settings nor state existed.

    `say` gets a line of text about each removed path. Raises GpufanError.
    """
    found = _data_to_purge()
    for path in found:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                files.remove(path)
        except OSError as error:
            raise GpufanError(f"{why_step_failed(error)}: remove {path} by hand") from error
        say(f"removed {path}")
    with suppress(OSError):  # the folder has other content
        config_file.CONFIG.parent.rmdir()
    return bool(found)


def _uninstall_file(path: Path, before: Content) -> None:
    """Restore the file `path` to `before`, its content before the install.

    If `before` is None, the file is removed. Raises GpufanError.
    """
    files.remove_temporaries(path)
    write_content(path, before)
