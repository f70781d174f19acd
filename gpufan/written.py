"""Files that are written where the user says: whole or not at all, and never over something else unasked."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gpufan.errors import GpufanError, InputError
from gpufan.xorg import files


def write(folder: Path, wanted: Mapping[str, bytes], *, force: bool = False) -> list[str]:
    """Write `wanted`, by path below `folder`, which is made if need be; a line for each.

    Raises InputError, with nothing changed, where one is there with other content and `force` does not allow to replace
    it; GpufanError where one cannot be written.
    """
    before = {name: files.read(folder / name) for name in wanted}
    # A link that leads nowhere is somebody's as well.
    differing = [
        str(folder / name) for name, data in wanted.items() if before[name] != data and os.path.lexists(folder / name)
    ]
    if differing and not force:
        raise InputError(f"{' and '.join(differing)} would be overwritten: add --force, or choose another --output")
    lines = []
    for name, data in wanted.items():
        path = folder / name
        if before[name] == data:
            lines.append(f"{path} is up to date")
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GpufanError(f"cannot make {path.parent}: {error.strerror}") from error
        files.replace(path, data)
        lines.append(f"wrote {path}")
    return lines


def put(path: Path, data: bytes) -> None:
    """Write a file anew that may be replaced, such as a picture. Raises GpufanError; what was there is there then."""
    real = path.resolve()
    if real.exists():
        files.replace(real, data, like=real)
        return
    try:
        real.write_bytes(data)
    except OSError as error:
        with suppress(OSError):
            real.unlink()  # a part of it is of no use
        raise GpufanError(f"cannot write {path}: {error.strerror}") from error
