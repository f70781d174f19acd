"""Sends requests to NV-CONTROL, the extension of NVIDIA's X driver, with a time limit. Cards are in `x11.py`.

Numbers and layouts are those of NVCtrl.h and nv_control.h of driver 610.43. A test compares the numbers with
python-xlib's.
"""

import struct
from enum import IntEnum

from gpufan.errors import DriverError, GpuError
from gpufan.system.printable import printable
from gpufan.xorg.client import LIMIT_S, Connection, Display, RequestRefused

_ATTRIBUTE_TYPE_RANGE = 4


class Request(IntEnum):
    """The numbers of requests. Their names in nv_control.h begin with `X_nvCtrl`."""

    QueryAttribute = 2
    QueryStringAttribute = 4
    QueryValidAttributeValues = 5
    SetAttributeAndGetStatus = 19
    QueryBinaryData = 20
    QueryTargetCount = 24


class Target(IntEnum):
    """Kinds of targets, the objects that have attributes. A cooler is a fan.

    The names in NVCtrl.h begin with `NV_CTRL_TARGET_TYPE_`.
    """

    GPU = 1
    COOLER = 5


class Number(IntEnum):
    """Attributes whose value is a signed number. Their names in NVCtrl.h begin with `NV_CTRL_`."""

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
    """Attributes whose value is a string. Their names in NVCtrl.h begin with `NV_CTRL_STRING_`."""

    PRODUCT_NAME = 0
    GPU_UUID = 52


class Numbers(IntEnum):
    """Attributes whose value is a list of unsigned numbers. Names in NVCtrl.h begin with `NV_CTRL_BINARY_DATA_`."""

    COOLERS_USED_BY_GPU = 10


class NvControl:
    """A connection to NV-CONTROL. A request raises DriverError if the connection fails, GpuError if it is refused.

    The methods return None if the target does not have the attribute.
    """

    def __init__(self, display: Display, limit_s: float = LIMIT_S) -> None:
        """Connect. Raises DriverError, also if the server has no NV-CONTROL."""
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
        """Return how many targets of the kind `target` the X server has."""
        reply = self._request(Request.QueryTargetCount, struct.pack("=I", target), f"the count of {target.name}s")
        (count,) = struct.unpack_from("=I", reply, 8)
        return int(count)

    def number(self, target: Target, number: int, attribute: Number) -> int | None:
        """Return the value of an attribute that is a number. `target` is the kind of the target, `number` its index."""
        reply = self._ask(Request.QueryAttribute, target, number, attribute)
        there, value = struct.unpack_from("=Ii", reply, 8)
        return value if there else None

    def duty_range(self, cooler: int) -> tuple[int, int] | None:
        """Return the lowest and the highest level that can be set on the cooler with the index `cooler`, percent.

        Returns None if the server reports no valid range.
        """
        reply = self._ask(Request.QueryValidAttributeValues, Target.COOLER, cooler, Number.THERMAL_COOLER_LEVEL)
        there, kind, low, high = struct.unpack_from("=Iiii", reply, 8)
        return (low, high) if there and kind == _ATTRIBUTE_TYPE_RANGE and 0 <= low < high <= 100 else None

    def text(self, target: Target, number: int, attribute: Text) -> str | None:
        """Return the value of an attribute that is a string. `target` is the kind of the target, `number` its index."""
        data = self._data(Request.QueryStringAttribute, target, number, attribute)
        return None if data is None else printable(data.rstrip(b"\0").decode(errors="replace"))

    def numbers(self, target: Target, number: int, attribute: Numbers) -> tuple[int, ...] | None:
        """Return the value of an attribute that is a list. `target` is the kind of the target, `number` its index."""
        data = self._data(Request.QueryBinaryData, target, number, attribute)
        # The first number is the count of the others.
        return None if data is None else struct.unpack(f"={len(data) // 4}I", data[: len(data) & ~3])[1:]

    def set(self, target: Target, number: int, attribute: Number, value: int) -> None:
        """Set an attribute to `value`. `target` is the kind of the target, `number` its index.

        Raises GpuError if the server answers with an error, or with the status that the attribute was not set.
        """
        reply = self._ask(Request.SetAttributeAndGetStatus, target, number, attribute, struct.pack("=i", value))
        (done,) = struct.unpack_from("=I", reply, 8)
        if not done:
            raise GpuError(f"the driver refused to set {attribute.name} of {target.name} {number} to {value}")

    def close(self) -> None:
        """Close the connection; a second call is harmless."""
        self._connection.close()

    def _data(self, request: Request, target: Target, number: int, attribute: Text | Numbers) -> bytes | None:
        """Return the bytes of a string or of a list; None if the target does not have the attribute.

        `target` is the kind of the target, `number` its index.
        """
        reply = self._ask(request, target, number, attribute)
        there, length = struct.unpack_from("=II", reply, 8)
        return reply[32 : 32 + length] if there else None

    def _ask(
        self, request: Request, target: Target, number: int, attribute: Number | Text | Numbers, value: bytes = b""
    ) -> bytes:
        """Send a request about an attribute of a target. Returns the reply.

        `target` is the kind of the target, `number` its index. The bytes `value` are the end of the request.
        """
        # The third field is a mask of displays; no attribute used here belongs to a display.
        body = struct.pack("=HHII", number, target, 0, attribute) + value
        return self._request(request, body, f"{attribute.name} of {target.name} {number}")

    def _request(self, request: Request, body: bytes, subject: str) -> bytes:
        """Send a request with the content `body`, and return the reply. Raises DriverError.

        If the server refuses the request, raises GpuError, whose text names `subject`.
        """
        try:
            return self._connection.request(self._opcode, request, body)
        except RequestRefused as error:
            raise GpuError(f"X server {self._connection.display} refused {subject}: {error}") from error
