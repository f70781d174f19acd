"""Real cards through NV-CONTROL, the X extension of NVIDIA's driver, for drivers that cannot set fans through NVML.

The numbers of requests, targets and attributes are those of NVIDIA's NVCtrl.h and nv_control.h, and the layout of the
requests is that of nv_control.h, all of driver 610.43. A test compares the numbers with python-xlib's.

Each card has a connection of its own, so that no card waits for another. Fans are `coolers` here: they are numbered
through the whole server, and which of them belong to a card is asked. Manual mode belongs to the card, the target level
to the cooler.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum

from gpufan.core.gpu import FanReading, Gpu, GpuInfo, Reading, SingleWay
from gpufan.core.pci import PciAddress
from gpufan.errors import DriverError, FansOutOfReach, GpuError, NotControllable
from gpufan.system.printable import printable
from gpufan.xorg.client import LIMIT_S, Connection, Display, RequestRefused

ASSUMED_DUTY_RANGE = (30, 100)
"""For a cooler that does not tell its range, percent: consumer cards start at 23 to 30 %."""

_NO_COOLBITS = (
    'its X server does not let fans be set: put Option "Coolbits" "4" into the Device section of the card in that'
    " server's xorg.conf, and restart it"
)
_NO_COOLER = "it has no fan of its own that the driver knows of"

_ATTRIBUTE_TYPE_RANGE = 4


class Request(IntEnum):
    """Requests: `X_nvCtrl...` of nv_control.h."""

    QueryAttribute = 2
    QueryStringAttribute = 4
    QueryValidAttributeValues = 5
    SetAttributeAndGetStatus = 19
    QueryBinaryData = 20
    QueryTargetCount = 24


class Target(IntEnum):
    """Owners of attributes: `NV_CTRL_TARGET_TYPE_...` of NVCtrl.h."""

    GPU = 1
    COOLER = 5


class Number(IntEnum):
    """Attributes that are a signed number: `NV_CTRL_...` of NVCtrl.h."""

    GPU_CORE_TEMPERATURE = 60
    GPU_CORE_THRESHOLD = 61
    PCI_BUS = 239
    PCI_DEVICE = 240
    PCI_FUNCTION = 241
    PCI_DOMAIN = 306
    GPU_COOLER_MANUAL_CONTROL = 319
    THERMAL_COOLER_LEVEL = 320
    THERMAL_COOLER_SPEED = 405
    THERMAL_COOLER_CURRENT_LEVEL = 417


class Text(IntEnum):
    """Attributes that are a string: `NV_CTRL_STRING_...` of NVCtrl.h."""

    PRODUCT_NAME = 0
    GPU_UUID = 52


class Numbers(IntEnum):
    """Attributes that are a list of unsigned numbers: `NV_CTRL_BINARY_DATA_...` of NVCtrl.h."""

    COOLERS_USED_BY_GPU = 10


class NvControl:
    """The requests. Each raises DriverError when the connection fails, GpuError when the server refuses.

    None for an attribute means that its target does not have it.
    """

    def __init__(self, display: Display, limit_s: float = LIMIT_S) -> None:
        """Connect. Raises DriverError, also where the server has no NV-CONTROL."""
        self._connection = Connection(display, limit_s)
        opcode = self._connection.extension("NV-CONTROL")
        if opcode is None:
            self.close()
            raise DriverError(
                f"X server {display} has no NV-CONTROL, so it does not run NVIDIA's driver: its xorg.conf must say"
                ' Driver "nvidia" for the cards'
            )
        self._opcode = opcode

    def count(self, target: Target) -> int:
        """How many targets of a kind there are."""
        reply = self._request(Request.QueryTargetCount, struct.pack("=I", target), f"the count of {target.name}s")
        (count,) = struct.unpack_from("=I", reply, 8)
        return int(count)

    def number(self, target: Target, number: int, attribute: Number) -> int | None:
        """Value of an attribute."""
        reply = self._ask(Request.QueryAttribute, target, number, attribute)
        there, value = struct.unpack_from("=Ii", reply, 8)
        return value if there else None

    def duty_range(self, cooler: int) -> tuple[int, int] | None:
        """Lowest and highest target level that a cooler takes, percent."""
        reply = self._ask(Request.QueryValidAttributeValues, Target.COOLER, cooler, Number.THERMAL_COOLER_LEVEL)
        there, kind, low, high = struct.unpack_from("=Iiii", reply, 8)
        return (low, high) if there and kind == _ATTRIBUTE_TYPE_RANGE and 0 <= low < high <= 100 else None

    def text(self, target: Target, number: int, attribute: Text) -> str | None:
        """Value of an attribute."""
        data = self._data(Request.QueryStringAttribute, target, number, attribute)
        return None if data is None else printable(data.rstrip(b"\0").decode(errors="replace"))

    def numbers(self, target: Target, number: int, attribute: Numbers) -> tuple[int, ...] | None:
        """Value of an attribute: on the wire a count comes before the numbers."""
        data = self._data(Request.QueryBinaryData, target, number, attribute)
        return None if data is None else struct.unpack(f"={len(data) // 4}I", data[: len(data) & ~3])[1:]

    def set(self, target: Target, number: int, attribute: Number, value: int) -> None:
        """Set an attribute. A refusal comes as an error or as a status, and is a GpuError either way."""
        reply = self._ask(Request.SetAttributeAndGetStatus, target, number, attribute, struct.pack("=i", value))
        (done,) = struct.unpack_from("=I", reply, 8)
        if not done:
            raise GpuError(f"the driver would not set {attribute.name} of {target.name} {number} to {value}")

    def close(self) -> None:
        """Hang up; twice is harmless."""
        self._connection.close()

    def _data(self, request: Request, target: Target, number: int, attribute: Text | Numbers) -> bytes | None:
        reply = self._ask(request, target, number, attribute)
        there, length = struct.unpack_from("=II", reply, 8)
        return reply[32 : 32 + length] if there else None

    def _ask(
        self, request: Request, target: Target, number: int, attribute: Number | Text | Numbers, value: bytes = b""
    ) -> bytes:
        # The third field is a mask of displays, and nothing that is asked here belongs to one.
        body = struct.pack("=HHII", number, target, 0, attribute) + value
        return self._request(request, body, f"{attribute.name} of {target.name} {number}")

    def _request(self, request: Request, body: bytes, subject: str) -> bytes:
        try:
            return self._connection.request(self._opcode, request, body)
        except RequestRefused as error:
            raise GpuError(f"X server {self._connection.display} refused {subject}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Card:
    """What one server calls a card; another server may call it otherwise."""

    number: int
    uuid: str | None
    pci: str | None
    coolers: tuple[int, ...]

    def is_called(self, uuid: str, pci: str) -> bool:
        return self.uuid.lower() == uuid.lower() if self.uuid and uuid else bool(pci) and self.pci == pci


class NvControlGpu(SingleWay):
    """One card. It is connected when first needed, and again after the connection broke."""

    def __init__(self, info: GpuInfo, locate: Callable[[], Display], sensor: Gpu | None, limit_s: float) -> None:
        self.info = info
        self._locate = locate
        self._sensor = sensor
        self._limit_s = limit_s
        self._link: tuple[NvControl, _Card] | None = None

    def read(self) -> Reading:
        """Read the fans, and temperature and power through NVML where it tells them. Raises GpuLost."""
        sensed = Reading(None, None, ()) if self._sensor is None else self._sensor.read()
        with self._linked() as (control, card):
            manual = _number(control, Target.GPU, card.number, Number.GPU_COOLER_MANUAL_CONTROL)
            fans = tuple(
                FanReading(
                    speed_percent=_number(control, Target.COOLER, cooler, Number.THERMAL_COOLER_CURRENT_LEVEL),
                    target_percent=_number(control, Target.COOLER, cooler, Number.THERMAL_COOLER_LEVEL),
                    manual=None if manual is None else bool(manual),
                    speed_rpm=_number(control, Target.COOLER, cooler, Number.THERMAL_COOLER_SPEED),
                )
                for cooler in card.coolers
            )
            temperature_c = sensed.temperature_c
            if temperature_c is None:
                temperature_c = _number(control, Target.GPU, card.number, Number.GPU_CORE_TEMPERATURE)
            return Reading(temperature_c, sensed.power_w, fans, sensed.throttle)

    def set_duty(self, duty_percent: int) -> None:
        """Take every fan of the card and set it. Raises NotControllable, GpuError or GpuLost."""
        if self.info.uncontrollable_reason is not None:
            raise NotControllable(self.info.uncontrollable_reason)
        failed: GpuError | None = None
        with self._linked() as (control, card):
            control.set(Target.GPU, card.number, Number.GPU_COOLER_MANUAL_CONTROL, 1)
            for cooler in card.coolers:
                try:
                    control.set(Target.COOLER, cooler, Number.THERMAL_COOLER_LEVEL, duty_percent)
                except GpuError as error:
                    failed = failed or error
        if failed is not None:
            raise failed

    def release(self) -> None:
        """Give every fan back to the driver. Raises GpuError or GpuLost."""
        if self.info.uncontrollable_reason is None:
            with self._linked() as (control, card):
                control.set(Target.GPU, card.number, Number.GPU_COOLER_MANUAL_CONTROL, 0)

    def close(self) -> None:
        """Hang up; the next call connects again."""
        if self._link is not None:
            self._link[0].close()
            self._link = None

    @contextmanager
    def _linked(self) -> Iterator[tuple[NvControl, _Card]]:
        """The connection, and the card on it. What breaks the connection becomes GpuLost."""
        try:
            if self._link is None:
                self._link = self._connect()
            yield self._link
        except GpuError:
            raise
        except BaseException as error:
            self.close()
            if isinstance(error, DriverError):
                raise FansOutOfReach(str(error)) from error
            raise

    def _connect(self) -> tuple[NvControl, _Card]:
        display = self._locate()
        control = NvControl(display, self._limit_s)
        try:
            for card in _cards(control):
                if card.is_called(self.info.uuid, self.info.pci):
                    return control, card
        except BaseException:
            control.close()
            raise
        control.close()
        raise FansOutOfReach(f"X server {display} does not know the card: its xorg.conf must have a Device for it")


class NvControlBox:
    """All cards that an X server knows."""

    def __init__(self, locate: Callable[[], Display], sensors: Sequence[Gpu] = (), limit_s: float = LIMIT_S) -> None:
        """Ask the server that `locate` tells, here and after every break, what cards it has.

        `sensors` are the same cards as NVML knows them; one that is not among them is read over X, without power.
        `locate` raises DriverError while there is no server. Raises DriverError or GpuError.
        """
        display = locate()
        control = NvControl(display, limit_s)
        try:
            # NVML numbers cards by PCI address, so without a sensor that order stands for its index.
            cards = sorted(_cards(control), key=lambda card: card.pci or "")
            found = [_describe(control, card, index, sensors) for index, card in enumerate(cards)]
        finally:
            control.close()
        if not found:
            raise DriverError(f"X server {display} knows no card: its xorg.conf must have a Device for each")
        found.sort(key=lambda pair: pair[0].index)
        self.gpus = [NvControlGpu(info, locate, sensor, limit_s) for info, sensor in found]

    def close(self) -> None:
        """Hang up. Neither releases fans nor stops a server."""
        for gpu in self.gpus:
            gpu.close()


def _cards(control: NvControl) -> list[_Card]:
    return [_card(control, number) for number in range(control.count(Target.GPU))]


def _card(control: NvControl, number: int) -> _Card:
    place = [
        control.number(Target.GPU, number, attribute)
        for attribute in (Number.PCI_DOMAIN, Number.PCI_BUS, Number.PCI_DEVICE, Number.PCI_FUNCTION)
    ]
    known = [part for part in place if part is not None]
    return _Card(
        number=number,
        uuid=control.text(Target.GPU, number, Text.GPU_UUID),
        pci=PciAddress(*known).nvml if len(known) == len(place) else None,
        coolers=control.numbers(Target.GPU, number, Numbers.COOLERS_USED_BY_GPU) or (),
    )


def _describe(control: NvControl, card: _Card, index: int, sensors: Sequence[Gpu]) -> tuple[GpuInfo, Gpu | None]:
    """What there is to tell of a card, and which of `sensors` it is."""
    sensor = next((sensor for sensor in sensors if card.is_called(sensor.info.uuid, sensor.info.pci)), None)
    told = sensor.info if sensor is not None else _introduction(control, card, index)
    ranges = [control.duty_range(cooler) or told.duty_range for cooler in card.coolers]
    uncontrollable_reason = None
    if not card.coolers:
        uncontrollable_reason = _NO_COOLER
    elif control.number(Target.GPU, card.number, Number.GPU_COOLER_MANUAL_CONTROL) is None:
        uncontrollable_reason = _NO_COOLBITS
    info = replace(
        told,
        fan_count=len(card.coolers),
        duty_range=(max(low for low, _ in ranges), min(high for _, high in ranges)) if ranges else told.duty_range,
        backend="x11",
        uncontrollable_reason=uncontrollable_reason,
    )
    return info, sensor


def _introduction(control: NvControl, card: _Card, index: int) -> GpuInfo:
    """What a card that NVML does not know says of itself."""
    return GpuInfo(
        uuid=card.uuid or card.pci or "",
        pci=card.pci or "",
        index=index,
        name=control.text(Target.GPU, card.number, Text.PRODUCT_NAME) or "NVIDIA card",
        fan_count=0,
        duty_range=ASSUMED_DUTY_RANGE,
        slowdown_c=control.number(Target.GPU, card.number, Number.GPU_CORE_THRESHOLD),
        backend="x11",
    )


def _number(control: NvControl, target: Target, number: int, attribute: Number) -> int | None:
    """Value of an attribute; None also where the server refuses to tell."""
    try:
        return control.number(target, number, attribute)
    except GpuError:
        return None
