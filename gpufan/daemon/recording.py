"""A recording: a CSV file with a row for each card and tick, made by `gpufan run --record`, read by `gpufan tune`."""

import csv
import errno
import io
import math
import os
import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from gpufan.core.pci import PciAddress
from gpufan.core.sentences import state_sentence
from gpufan.core.snapshot import Snapshot
from gpufan.errors import InputError
from gpufan.system.printable import printable

_LONGEST_LINE = 4096
"""Bytes; what has longer lines is no recording, and must not be read into memory to find out."""


class Row(NamedTuple):
    """One card after one tick; None where a value is not known."""

    time_s: float
    """Seconds since the epoch; of a simulation, since its start."""
    uuid: str
    label: str
    temperature_c: float | None
    power_w: float | None
    duty_percent: float | None
    """The duty set, percent; None while the driver decides."""
    speed_percent: float | None
    """What the first fan that tells its speed reports."""
    speed_rpm: float | None
    control: str
    kind: str
    reason: str
    pci: str = ""
    """Address as NVML prints it; empty where it is not known."""


HEADER = ",".join(Row._fields) + "\n"
_HEADERS = (HEADER, ",".join(Row._fields[:-1]) + "\n")
"""The latter begins what an earlier gpufan has recorded, which went without `pci`."""


def rows(snapshot: Snapshot) -> list[Row]:
    """A row for each card of `snapshot`."""
    time_s = snapshot.time_s if snapshot.simulated_s is None else snapshot.simulated_s
    return [
        Row(
            time_s,
            gpu.uuid,
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
        for gpu in snapshot.gpus
    ]


def to_csv(rows: Iterable[Row]) -> str:
    """A line for each row, without the header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    # A row is a line: `read` relies on it.
    return " ".join(value.split()) if isinstance(value, str) else repr(round(float(value), 3)).removesuffix(".0")


class RecordingFile:
    """Appends to a recording, or begins one. A failure is for the caller to report; the next write tries anew."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises InputError where that cannot be, or where something else than a recording is in it."""
        self.path = path
        try:
            # A pipe must not make us wait for its reader.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from error
        try:
            self._take_up()
        except BaseException:
            self.close()
            raise

    def _take_up(self) -> None:
        """Begin with the header, or after the last whole row."""
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{self.path} is not a file: name one to be written")
        begin = os.pread(self._file, len(HEADER), 0)
        header = next((known for known in _HEADERS if begin.startswith(known.encode())), None)
        if header is None and not HEADER.encode().startswith(begin):
            raise InputError(f"{self.path} is not a recording: name a new file, or one that `--record` has begun")
        end = 0
        if header is not None:
            tail_from = max(status.st_size - _LONGEST_LINE, 0)
            # Whoever was killed amid a row, or found the disk full, has left a part of it.
            end = tail_from + os.pread(self._file, _LONGEST_LINE, tail_from).rfind(b"\n") + 1
        os.ftruncate(self._file, end)
        if header == HEADER:
            return
        try:
            self._append(HEADER)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}") from error

    def write(self, snapshot: Snapshot) -> None:
        """Append a row for each card. Raises OSError, with nothing written."""
        if not os.fstat(self._file).st_nlink:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._append(to_csv(rows(snapshot)))

    def _append(self, text: str) -> None:
        data = text.encode(errors="replace")
        size = os.fstat(self._file).st_size
        written = os.write(self._file, data)
        if written != len(data):
            os.ftruncate(self._file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> "RecordingFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path) -> Iterator[Row]:
    """Rows of a recording, one by one as the file is read; a last line that is not whole is left out.

    Raises InputError: file, line, and what is right.
    """
    number = 0
    try:
        with path.open("rb") as file:
            while (line := file.readline(_LONGEST_LINE)).endswith(b"\n") or len(line) == _LONGEST_LINE:
                number += 1
                if (
                    line.decode(errors="replace").replace("\r\n", "\n") in _HEADERS
                ):  # at the beginning, and again where some were joined
                    continue
                if number > 1:
                    yield _parse(line, f"{path}: line {number}")
                else:
                    raise InputError(f"{path} is not a recording: its first line would be {HEADER.strip()}")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not number:
        what = "is not a recording" if line else "is empty"
        raise InputError(f"{path} {what}: `gpufan run --record FILE` makes one")


def _parse(line: bytes, where: str) -> Row:
    try:
        cells = [printable(cell) for cell in next(csv.reader([line.decode()], strict=True))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{where} is not a row of a recording: {error}") from error
    if len(cells) == len(Row._fields) - 1:
        cells.append("")
    if len(cells) != len(Row._fields):
        raise InputError(f"{where} has {len(cells)} values, a row of a recording has {len(Row._fields)}")
    time_s, uuid, label, *values, control, kind, reason, pci = cells
    if not (time_s and uuid):
        raise InputError(f"{where}: {'uuid' if time_s else 'time_s'} is missing")
    temperature_c, power_w, duty_percent, speed_percent, speed_rpm = (
        _number(value, f"{where}: {key}") if value else None
        for key, value in zip(Row._fields[3:], values, strict=False)
    )
    try:
        address = _address(pci)
    except InputError as error:
        raise InputError(f"{where}: pci: {error}") from error
    return Row(
        _number(time_s, f"{where}: time_s"),
        uuid,
        label,
        temperature_c,
        power_w,
        duty_percent,
        speed_percent,
        speed_rpm,
        control,
        kind,
        reason,
        address,
    )


@lru_cache(maxsize=64)  # of few cards there are many rows
def _address(cell: str) -> str:
    return PciAddress.parse(cell).nvml if cell else ""


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: '{cell[:40]}' is not a number; what is not known stays empty")
    return value
