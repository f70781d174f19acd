"""A recording: a CSV file with a row for each card and tick. `gpufan run --record` writes, `gpufan tune` reads it."""

import csv
import errno
import io
import math
import os
import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from gpufan.core.pci import PciAddress
from gpufan.core.sentences import state_sentence
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.errors import InputError
from gpufan.system.files import path_behind_links
from gpufan.system.printable import printable

_LONGEST_LINE = 4096
"""Longest line of a recording, bytes. A longer line, which is then no part of a recording, must not fill the memory."""

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
"""Flags to open a recording. A pipe must not wait for its reader. A link that appears after the check is an error."""


class Row(NamedTuple):
    """The state of one card after one tick. An unknown value is None."""

    time_s: float
    """Seconds since the epoch; in a simulation, since its start."""
    uuid: str
    """UUID of the card, or `GpuState.key` while it is unknown."""
    label: str
    temperature_c: float | None
    power_w: float | None
    duty_percent: float | None
    """The duty set, percent; None while the driver controls the fans."""
    speed_percent: float | None
    """Speed of the first fan that reports it."""
    speed_rpm: float | None
    control: str
    kind: str
    reason: str
    pci: str = ""
    """PCI address as NVML prints it; empty if unknown."""


_NUMBERS = Row._fields[3:8]

HEADER = ",".join(Row._fields) + "\n"
_HEADERS = (HEADER, ",".join(Row._fields[:-1]) + "\n")
"""The second is the header of older recordings, without the column `pci`."""


def recording_rows(snapshot: Snapshot) -> list[Row]:
    """Return a row for each card of `snapshot`. Case fans have no rows, since nothing can be learnt of them."""
    return rows_of_states(snapshot, snapshot.gpus)


def rows_of_states(snapshot: Snapshot, states: Iterable[GpuState]) -> list[Row]:
    """Return a row for each of `states`, which are in `snapshot`."""
    time_s = snapshot.time_s if snapshot.simulated_s is None else snapshot.simulated_s
    return [
        Row(
            time_s,
            gpu.key,
            gpu.label,
            gpu.temperature_c,
            gpu.power_w,
            gpu.duty_percent,
            next((fan.speed_percent for fan in gpu.fans if fan.speed_percent is not None), None),
            next((fan.speed_rpm for fan in gpu.fans if fan.speed_rpm is not None), None),
            gpu.control.value,
            gpu.reason.cause.group.value,
            state_sentence(gpu),
            gpu.pci,
        )
        for gpu in states
    ]


def recording_csv(rows: Iterable[Row]) -> str:
    """Return a line of CSV for each of `rows`, without the header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(map(_recording_cell, row) for row in rows)
    return text.getvalue()


def _recording_cell(value: float | str | None) -> str:
    """Return the text of a value in the CSV file, on one line; empty for None."""
    if value is None:
        return ""
    # `read_recording` expects a row on one line.
    return " ".join(value.split()) if isinstance(value, str) else repr(round(float(value), 3)).removesuffix(".0")


class RecordingFile:
    """Writes a new recording, or appends to one. After an error the next write tries again."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises InputError if it cannot be written, or if it is not a recording."""
        self.path = path
        try:
            self._file = os.open(path_behind_links(path), _APPEND, 0o644)
            try:
                self._find_end()
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}; choose another --record") from error

    def _find_end(self) -> None:
        """Cut the file after its last complete row. If it has no header, write the header.

        Raises OSError. Raises InputError if the file is not a recording.
        """
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{self.path} is not a file: name a file to write")
        start = os.pread(self._file, len(HEADER), 0)
        header = next((known for known in _HEADERS if start.startswith(known.encode())), None)
        if header is None and not HEADER.encode().startswith(start):
            raise InputError(f"{self.path} is not a recording: name a new file, or one that `--record` has begun")
        end = 0
        if header is not None:
            tail_from = max(status.st_size - _LONGEST_LINE, 0)
            # A killed process, or a full disk, may have left a part of a row.
            end = tail_from + os.pread(self._file, _LONGEST_LINE, tail_from).rfind(b"\n") + 1
        os.ftruncate(self._file, end)
        if header != HEADER:
            self._append(HEADER)

    def write(self, snapshot: Snapshot) -> None:
        """Append a row for each card. If OSError is raised, no row was written."""
        if not os.fstat(self._file).st_nlink:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._append(recording_csv(recording_rows(snapshot)))

    def _append(self, text: str) -> None:
        """Append the complete text to the file, or nothing. Raises OSError."""
        data = text.encode(errors="replace")
        size = os.fstat(self._file).st_size
        if os.write(self._file, data) != len(data):
            os.ftruncate(self._file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> "RecordingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_recording(path: Path) -> Iterator[Row]:
    """Yield the rows of a recording while the file is read. An incomplete last line is skipped.

    Raises InputError, whose text says file, line and cause.
    """
    number = 0
    try:
        with open(path, "rb", opener=_open_recording) as file:  # Path.open has no opener
            while (line := file.readline(_LONGEST_LINE)).endswith(b"\n") or len(line) == _LONGEST_LINE:
                number += 1
                if line.decode(errors="replace").replace("\r\n", "\n") in _HEADERS:
                    continue  # joined recordings have headers in the middle too
                if number == 1:
                    raise InputError(f"{path} is not a recording: its first line must be {HEADER.strip()}")
                yield _parse_recording_line(line, f"{path}: line {number}")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}: name a file of `gpufan run --record`") from error
    if not number:
        fault = "is not a recording" if line else "is empty"
        raise InputError(f"{path} {fault}: `gpufan run --record FILE` makes one")


def _open_recording(path: str, flags: int) -> int:
    """Open a file, or a pipe. A pipe that no program writes to is empty; a usual open would wait for ever."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def _parse_recording_line(line: bytes, where: str) -> Row:
    """Convert a line of a recording to a row. Raises InputError, whose text begins with `where`."""
    try:
        cells = [printable(cell) for cell in next(csv.reader([line.decode()], strict=True))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{where} is not a row of a recording: {error}") from error
    if len(cells) == len(Row._fields) - 1:
        cells.append("")
    if len(cells) != len(Row._fields):
        raise InputError(f"{where} has {len(cells)} values, a row of a recording has {len(Row._fields)}")
    row: dict[str, Any] = dict(zip(Row._fields, cells, strict=True))
    for key in ("time_s", "uuid"):
        if not row[key]:
            raise InputError(f"{where}: {key} is missing")
    for key in ("time_s", *_NUMBERS):
        row[key] = _recorded_number(row[key], f"{where}: {key}") if row[key] else None
    try:
        row["pci"] = _recorded_address(row["pci"])
    except InputError as error:
        raise InputError(f"{where}: pci: {error}") from error
    return Row(**row)


@lru_cache(maxsize=64)  # many rows, few cards
def _recorded_address(cell: str) -> str:
    """Convert the PCI address in `cell` to the form that NVML prints. An empty cell gives an empty text.

    Raises InputError if `cell` is not a PCI address.
    """
    return PciAddress.parse(cell).nvml if cell else ""


def _recorded_number(cell: str, where: str) -> float:
    """Convert `cell` to a finite number. Raises InputError, whose text begins with `where`."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: '{cell[:40]}' is not a number; leave the value empty if it is unknown")
    return value
