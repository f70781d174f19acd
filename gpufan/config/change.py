"""Changes a settings file: reads its text, replaces the file, and reloads the service."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gpufan.config.schema import RUN_KEYS, CardTable, RunKeys
from gpufan.config.settings import DEFAULT_PATH, RunSettings, unreadable_settings
from gpufan.config.toml_text import parse_settings_text, render_settings_text
from gpufan.errors import GpufanError, InputError, NoPermission
from gpufan.hwmon.channels import find_channels
from gpufan.system import systemctl
from gpufan.system.files import (
    create_folder,
    read_file,
    read_file_if_exists,
    remove,
    replace,
    why_root_cannot_write,
)
from gpufan.system.lock import folder_locks
from gpufan.system.unit_state import unit_state

SERVICE = "gpufan.service"
RESTART_KEYS = (frozenset(RunSettings._fields) | {"fans"}) - {"interval_s"}
"""A change of these keys has an effect only after a restart of the service."""


def text_before_change(path: Path) -> str | None:
    """Return the text of the file; None if there is no file.

    Raises NoPermission if this user cannot read the file, InputError if the file cannot be read or is not UTF-8.
    """
    try:
        content = read_file(path)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise NoPermission(f"only root can read {path}: run this with sudo") from None
    except OSError as error:
        raise unreadable_settings(path, error) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: line {line}: this is not TOML: it is not UTF-8") from error


def text_to_change(path: Path) -> str:
    """Return the text of the file. If there is no file, return the text of a new file that explains every key.

    Raises NoPermission if this user cannot change the file, GpufanError if not even root can, InputError if it cannot
    be read or is not UTF-8.
    """
    text = text_before_change(path)
    existing = next(folder for folder in path.resolve().parents if folder.exists())
    if not os.access(existing, os.W_OK):
        if os.geteuid() == 0:
            raise GpufanError(why_root_cannot_write(existing))
        raise NoPermission(f"only root can change {path}: run this with sudo")
    return render_settings_text() if text is None else text


@contextmanager
def settings_lock(path: Path) -> Iterator[None]:
    """Let no other gpufan change the file during the block, which reads the file and replaces it.

    Raises GpufanError if another gpufan goes on changing it for seconds.
    """
    with folder_locks([path.resolve().parent]):
        yield


def replace_settings(path: Path, text: str) -> str:
    """Check `text`, write it to the file `path`, and reload the service if the service reads this file.

    Returns a sentence that says when the change takes effect. Raises InputError if `text` has a mistake, GpufanError if
    the file cannot be written or the service cannot be reloaded.
    """
    try:
        parse_settings_text(text.encode(), find_channels)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    real = path.resolve()
    before = text_before_change(real)
    create_folder(real.parent)
    replace(real, text.encode(), like=None if before is None else real)
    return _apply_change(path, before or "", text)


def restore_settings(path: Path, content: bytes | None) -> str:
    """Put `content` back into the file `path`, byte for byte, and reload the service if it reads this file.

    If `content` is None, the file is removed. Returns a sentence that says when the change takes effect. Raises
    GpufanError if the file cannot be written or the service cannot be reloaded.
    """
    real = path.resolve()
    before = read_file_if_exists(real) or b""
    if content is None:
        remove(real)
    else:
        replace(real, content, like=real if real.exists() else None)
    return _apply_change(path, before.decode("utf-8-sig", "replace"), (content or b"").decode("utf-8-sig", "replace"))


def changed_keys(before: str, after: str) -> set[str]:
    """Return the keys above all tables whose values differ between the texts `before` and `after`.

    The result also has `quiet`, `fan` and `gpu` if such tables differ, and `fans` if they name other fans of the
    motherboard. Raises InputError if a text has a mistake.
    """
    (old, old_tables), (new, new_tables) = parse_settings_text(before.encode()), parse_settings_text(after.encode())
    keys = {key for key in (*RUN_KEYS, "quiet", "fan") if getattr(old, key) != getattr(new, key)}
    if _channels(old, old_tables) != _channels(new, new_tables):
        keys.add("fans")
    return keys | ({"gpu"} if old_tables != new_tables else set())


def _channels(file: RunKeys, tables: Sequence[CardTable]) -> tuple[object, ...]:
    """Return which channels of the motherboard are set, and for which cards."""
    return [(str(table.match), table.fans) for table in tables if table.fans], [fan.name for fan in file.fan or ()]


def _apply_change(path: Path, before: str, text: str) -> str:
    """Reload the service if it runs, reads the file `path`, and no changed key needs a restart.

    `before` and `text` are the old and the new text of the file. Returns a sentence that says when the change takes
    effect. Raises GpufanError if the reload fails.
    """
    if (
        path.resolve() != DEFAULT_PATH.resolve()
        or not systemctl.systemd_is_running()
        or not unit_state(SERVICE).is_active
    ):
        return "it counts from the next start of gpufan on"
    try:
        keys = sorted(changed_keys(before, text) & RESTART_KEYS)
    except InputError:  # the file before had a mistake
        keys = ["it"]
    if "fans" in keys:  # the sandbox opens only the chips of these fans
        return "to apply fans: `sudo gpufan install-service`, then `sudo systemctl restart gpufan`"
    if keys:
        return f"to apply {' and '.join(keys)}: `sudo systemctl restart gpufan`"
    try:
        systemctl.systemctl("reload", SERVICE)
    except GpufanError as error:
        raise GpufanError(f"{path}: changed, but the service does not use it yet: {error}") from error
    return "the service uses it from now on"
