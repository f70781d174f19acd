"""NVML without a card: compiles a C library in place of libnvidia-ml.so.1, and controls it through shared memory.

Above it the real pynvml runs, in this process (`install`) or in any other (`environment`).
"""

import ctypes
import hashlib
import math
import mmap
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pynvml

from gpufan.core.gpu import Limits
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from tests.doubles import require

DRIVER = "580.95"
SOURCES = [Path(__file__).with_name(name) for name in ("nvml.c", "call.h")]
SONAME = "libnvidia-ml.so.1"
FLAGS = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", f"-Wl,-soname,{SONAME}")

MAGIC = 0x314D564E
CARDS, FANS, LOG = 16, 4, 65536


class Kind(IntEnum):
    """Kinds of calls that share a counter, an error, a delay and a hang; index into a card's arrays."""

    HANDLE = 0
    """By index, UUID or PCI address."""
    DESCRIBE = 1
    """Index, UUID, name, PCI address, persistence mode."""
    FAN_COUNT = 2
    RANGE = 3
    THRESHOLD = 4
    TEMPERATURE = 5
    POWER = 6
    THROTTLE = 7
    GET_FAN = 8
    GET_TARGET = 9
    GET_POLICY = 10
    RPM = 11
    SET_FAN = 12
    SET_DEFAULT = 13
    SET_POLICY = 14
    GET_LIMIT = 15
    """The power limit, its range and its default."""
    SET_POWER = 16
    SET_ACOUSTIC = 17
    """The driver's target temperature."""


AUTO, MANUAL = 0, 1
"""Values of a fan's policy."""

MOVES, IGNORES, JAMS = 0, 1, 2
"""Values of a fan's `stuck`. Setting it succeeds, and: the fan follows; nothing changes at all; policy and target
change but the fan stands still."""


# __slots__ makes a misspelt field an error rather than a new attribute.
class Fan(ctypes.Structure):
    """Speeds in percent. `target` is what was set, `driver_target` what the driver wants in auto.

    `floor`: the driver raises every lower target to it. `cap`: the speed ends there, whatever the target. `ramp`:
    points per second; 0 is the ramp of the plant. `rpm_percent`: the true speed as a share of the reported one.
    """

    __slots__ = ()
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("speed", "target", "driver_target", "policy", "rpm", "stuck")),
        *((name, ctypes.c_int32) for name in ("floor", "cap", "ramp", "rpm_percent")),
    ]


class Card(ctypes.Structure):
    """Temperatures in °C, duties in percent. With `by_hand` the test sets temperature and power, not the plant.

    `least_power_mw` and `most_power_mw` bound the power limit; the three values of `acoustic` are the driver's target
    temperature. 0 means that the card has no such limit. With `ignores_limits` setting one succeeds without effect.

    A card that is `absent` is not listed, and is lost for those who have it open. The next `odd_calls` of a kind return
    `odd_error`; all calls of a kind return `error`.
    """

    __slots__ = ()
    _fields_ = [
        ("uuid", ctypes.c_char * 96),
        ("pci", ctypes.c_char * 32),
        ("name", ctypes.c_char * 96),
        *((name, ctypes.c_int32) for name in ("fan_count", "min_duty", "max_duty", "slowdown", "shutdown", "maximum")),
        *(
            (name, ctypes.c_int32)
            for name in ("temperature", "power_mw", "power_limit_mw", "lost", "by_hand", "absent")
        ),
        *((name, ctypes.c_int32) for name in ("least_power_mw", "most_power_mw", "default_power_mw")),
        *((name, ctypes.c_int32) for name in ("acoustic", "least_acoustic", "most_acoustic", "ignores_limits")),
        ("throttle_reasons", ctypes.c_uint64),
        ("fans", Fan * FANS),
        ("error", ctypes.c_int32 * len(Kind)),
        ("delay_us", ctypes.c_int32 * len(Kind)),
        ("hang", ctypes.c_int32 * len(Kind)),
        ("odd_calls", ctypes.c_int32 * len(Kind)),
        ("odd_error", ctypes.c_int32 * len(Kind)),
        ("calls", ctypes.c_uint64 * len(Kind)),
    ]


class _Entry(ctypes.Structure):
    __slots__ = ()
    _fields_ = [
        ("number", ctypes.c_uint64),
        ("time_ns", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("pid", "card", "fan", "operation", "value", "result")),
    ]


class Map(ctypes.Structure):
    """The content of the shared file, as call.h declares it.

    With `list_at_init` NVML lists the cards that were present at nvmlInit, else those present now.
    """

    __slots__ = ()
    _fields_ = [
        ("magic", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("driver", ctypes.c_char * 80),
        *((name, ctypes.c_int32) for name in ("card_count", "init_error", "not_permitted", "asks_capability")),
        *((name, ctypes.c_int32) for name in ("list_at_init", "starts", "stale_error")),
        ("log_count", ctypes.c_uint64),
        ("cards", Card * CARDS),
        ("log", _Entry * LOG),
    ]


class SetCall(NamedTuple):
    """One call to change a fan or a limit; `time_ns` as of time.monotonic_ns."""

    time_ns: int
    pid: int
    card: int
    fan: int
    operation: Kind
    value: int
    result: int


def build(driver: str = DRIVER, folder: Path | None = None) -> Path:
    """Compile the library with the symbols of `driver`; without `folder` once for each version of the source."""
    numbers = [int(part) for part in driver.split(".")[:2]]
    define = f"-DDRIVER={numbers[0] * 1000 + numbers[1]}"
    if folder is None:
        digest = hashlib.sha256(
            b"".join(map(Path.read_bytes, SOURCES)) + " ".join((define, *FLAGS)).encode()
        ).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"gpufan-nvml-{os.getuid()}" / digest
        if (folder / SONAME).exists():
            return folder / SONAME
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{SONAME}.{os.getpid()}.{threading.get_ident()}"
    command = [require("cc", "gcc"), *FLAGS, define, str(SOURCES[0]), "-o", str(draft)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    draft.replace(folder / SONAME)
    return folder / SONAME


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait until another process or thread makes `condition` true. Raises TimeoutError."""
    start_s = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - start_s
        if waited_s > timeout_s:
            raise TimeoutError(f"not true within {timeout_s:g} s")
        time.sleep(min(max(waited_s / 10, 0.002), 0.02))  # asked all the time, it would slow down what it waits for


@dataclass
class Rival:
    """Another program that sets every fan of `card` to `percent` every `every_s` seconds."""

    card: int
    percent: int
    every_s: float = 0.9
    pid: int = 1
    """Process number in the log."""
    due_s: float = 0.0
    """Time until the next set, s."""


class NvmlDouble:
    """The cards of one machine behind NVML, in the shared file `folder`/nvml.

    `box` is the physics; the map is the truth about fans, and about everything else while no plant runs.
    """

    rivals: list[Rival]
    """Other programs that set fans while time passes."""

    def __init__(self, folder: Path, box: SimulatedBox | None = None, driver: str = DRIVER) -> None:
        self.box = box or SimulatedBox(PROFILES["dual-1080ti"], WORKLOADS["idle"])
        self.library = build(driver)
        self._loaded = ctypes.CDLL(str(self.library))
        self.path = folder / "nvml"
        with self.path.open("w+b") as file:
            file.truncate(ctypes.sizeof(Map))
            self.map = Map.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(Map)))
        self.path.chmod(0o666)  # a reader without root counts its calls in it
        self.cards = self.map.cards
        self.map.driver = driver.encode()
        self.map.card_count = len(self.box.gpus)
        for gpu, card in zip(self.box.gpus, self.cards, strict=False):
            card.uuid, card.pci, card.name = gpu.info.uuid.encode(), gpu.info.pci.encode(), gpu.info.name.encode()
            card.fan_count = gpu.plant.fan_count
            card.min_duty, card.max_duty = gpu.plant.duty_range
            card.maximum, card.slowdown, card.shutdown = (gpu.plant.slowdown_c + k for k in (-2, 0, 3))
            card.power_limit_mw = card.default_power_mw = round(gpu.plant.power_limit_w * 1000)
            card.least_power_mw, card.most_power_mw = (round(limit_w * 1000) for limit_w in gpu.plant.power_range_w)
            if gpu.plant.temperature_limit_range_c:
                card.least_acoustic, card.most_acoustic = gpu.plant.temperature_limit_range_c
                card.acoustic = round(gpu.plant.target_c)
            for fan in card.fans:
                fan.target = fan.speed = round(gpu.speed_percent)
                fan.cap = fan.rpm_percent = 100
        # Not rounded: a slow ramp would never get to the next percent.
        self._speeds = [[gpu.speed_percent] * FANS for gpu in self.box.gpus]
        self.rivals = []
        self._write()
        self.map.magic, self.map.size = MAGIC, ctypes.sizeof(Map)

    def environment(self) -> dict[str, str]:
        """Environment variables with which another process uses this double."""
        folders = [str(self.library.parent), os.environ.get("LD_LIBRARY_PATH", "")]
        return {"GPUFAN_NVML_DOUBLE": str(self.path), "LD_LIBRARY_PATH": ":".join(filter(None, folders))}

    @contextmanager
    def install(self) -> Iterator["NvmlDouble"]:
        """Let the pynvml of this process use this double; at the end release every hung call."""
        library = self._loaded
        before = pynvml.nvmlLib, os.environ.get("GPUFAN_NVML_DOUBLE")
        _shut_down(library)
        _point_pynvml_at(library, str(self.path))
        try:
            yield self
        finally:
            self.let_go()
            _shut_down(library)
            _point_pynvml_at(*before)

    def let_go(self) -> None:
        """Release every hung call."""
        for card in self.cards:
            ctypes.memset(card.hang, 0, ctypes.sizeof(card.hang))

    def calls(self, card: int) -> dict[Kind, int]:
        """How often each kind of call was made on `card`, by all processes."""
        return dict(zip(Kind, self.cards[card].calls, strict=True))

    def odd(self, card: int, kind: Kind, error: int, calls: int = 1) -> None:
        """Let the next `calls` calls of `kind` on `card` return `error`."""
        self.cards[card].odd_error[kind], self.cards[card].odd_calls[kind] = error, calls

    def restart(
        self, *, error: int = pynvml.NVML_ERROR_UNINITIALIZED, init_error: int = 0, manual: bool = False
    ) -> None:
        """Restart the driver: calls of every process return `error` until it shuts NVML down and initialises it anew.

        That returns `init_error`, until the test sets `map.init_error` to 0. The fans are in auto afterwards and
        the limits as they are built in, or all stays as it is if `manual`.
        """
        self.map.stale_error, self.map.init_error = error, init_error
        self.map.starts += 1
        if not manual:
            for gpu, card in zip(self.box.gpus, self.cards, strict=False):
                card.power_limit_mw = card.default_power_mw
                card.acoustic = round(gpu.plant.target_c) if card.most_acoustic else 0
                for fan in card.fans:
                    fan.policy = AUTO

    def log(self) -> list[SetCall]:
        """The last 65536 calls to set a fan, in order."""
        found = []
        for i in range(max(self.map.log_count - LOG, 0), self.map.log_count):
            entry = self.map.log[i % LOG]
            if entry.number != i + 1:
                break  # not complete yet
            values = entry.time_ns, entry.pid, entry.card, entry.fan, Kind(entry.operation), entry.value, entry.result
            found.append(SetCall(*values))
        return found

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass: fans follow their targets, the plant follows the fans, the map shows both."""
        steps = max(math.ceil(seconds / 0.5), 1)
        for _ in range(steps):
            for gpu, card, speeds in zip(self.box.gpus, self.cards, self._speeds, strict=False):
                for i, fan in enumerate(card.fans):
                    ramp = (fan.ramp or gpu.plant.ramp_percent_per_s) * seconds / steps
                    if round(speeds[i]) != fan.speed:
                        speeds[i] = fan.speed  # the test has set it
                    if fan.stuck != JAMS:
                        target = min(fan.target if fan.policy == MANUAL else gpu.driver_percent, fan.cap)
                        speeds[i] += min(max(target - speeds[i], -ramp), ramp)
                    fan.speed = round(speeds[i])
                # The plant has one air flow per card: the mean of its fans.
                flows = [speed * fan.rpm_percent / 100 for speed, fan in zip(speeds, card.fans, strict=True)]
                flow = fmean(flows[: card.fan_count] or [gpu.driver_percent])
                gpu.speed_percent = gpu.manual_percent = flow
                gpu.set_limits(Limits(card.power_limit_mw / 1000 or None, card.acoustic or None))
            self.box.advance(seconds / steps)
            for rival in self.rivals:
                self._let_set(rival, seconds / steps)
        self._write()

    def _let_set(self, rival: Rival, seconds: float) -> None:
        rival.due_s -= seconds
        while rival.due_s <= 0:
            rival.due_s += rival.every_s
            for fan in range(self.cards[rival.card].fan_count):
                self._loaded.rival_sets(ctypes.byref(self.map), rival.card, fan, rival.percent, rival.pid)

    @contextmanager
    def live(self, speed: float = 1.0) -> Iterator[None]:
        """Let time pass by itself, `speed` times as fast as real time."""
        stop = threading.Event()

        def run() -> None:
            last = time.monotonic()
            while not stop.wait(0.02):
                now = time.monotonic()
                self.advance((now - last) * speed)
                last = now

        thread = threading.Thread(target=run, name="plant", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _write(self) -> None:
        """Copy the state of the plant into the map."""
        for gpu, card, speeds in zip(self.box.gpus, self.cards, self._speeds, strict=False):
            for fan, speed in zip(card.fans, speeds, strict=True):
                fan.driver_target = round(gpu.driver_percent)
                fan.rpm = round(speed / 100 * gpu.plant.full_scale_rpm * fan.rpm_percent / 100)
            if card.by_hand:
                continue
            reading = gpu.read()
            card.temperature = round(reading.temperature_c)
            card.power_mw = round(reading.power_w * 1000)
            if gpu.die_c >= gpu.plant.slowdown_c:
                card.throttle_reasons = pynvml.nvmlClocksEventReasonHwThermalSlowdown
            elif gpu.clock < 1:
                card.throttle_reasons = pynvml.nvmlClocksEventReasonSwThermalSlowdown
            elif gpu.throughput < 1:
                card.throttle_reasons = pynvml.nvmlClocksEventReasonSwPowerCap
            else:
                card.throttle_reasons = pynvml.nvmlClocksEventReasonNone


def _shut_down(library: ctypes.CDLL) -> None:
    while library.nvmlShutdown() == pynvml.NVML_SUCCESS:
        pass


def _point_pynvml_at(library: ctypes.CDLL | None, path: str | None) -> None:
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()
    if path is None:
        os.environ.pop("GPUFAN_NVML_DOUBLE", None)
    else:
        os.environ["GPUFAN_NVML_DOUBLE"] = path
