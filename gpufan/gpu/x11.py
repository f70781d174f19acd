"""Backend `x11`: cards whose fans are set over an X server, for drivers that cannot set them through NVML.

Each card has its own connection, so that no card waits for another. The server numbers the coolers (fans) of all its
cards together. gpufan asks the server which coolers belong to a card. Manual mode is an attribute of the card; the
level is an attribute of the cooler.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from gpufan.core.gpu import ASSUMED_DUTY_RANGE, NO_FAN, FanReading, Gpu, GpuInfo, Limits, Reading, Sensed, SingleBackend
from gpufan.core.pci import PciAddress
from gpufan.errors import DriverError, FansOutOfReach, GpuError, NotControllable
from gpufan.gpu.nvcontrol import Number, Numbers, NvControl, Target, Text
from gpufan.xorg.client import LIMIT_S, Display

_NO_COOLBITS = (
    'its X server does not let fans be set: put Option "Coolbits" "4" into the Device section of the card in that'
    " server's xorg.conf, and restart it"
)
_UNKNOWN = Sensed(None, None)


@dataclass(frozen=True, slots=True)
class _X11ServerCard:
    """A card, with the numbers that an X server uses for the card and for its fans."""

    number: int
    uuid: str | None
    pci: str | None
    coolers: tuple[int, ...]

    def is_card(self, info: GpuInfo) -> bool:
        """Whether `info` has the same UUID as this card. If one UUID is unknown, the PCI addresses are compared."""
        if self.uuid and info.uuid:
            return self.uuid.lower() == info.uuid.lower()
        return bool(info.pci) and self.pci == info.pci


class X11Gpu(SingleBackend):
    """A card over X. It connects to the server when it is first used, and again after the connection broke."""

    def __init__(self, info: GpuInfo, locate: Callable[[], Display], sensor: Gpu | None, limit_s: float) -> None:
        self.info = info
        self._locate = locate
        self._sensor = sensor
        self._limit_s = limit_s
        self._link: tuple[NvControl, _X11ServerCard] | None = None

    def sense(self) -> Sensed:
        """Return temperature and power. Raises GpuLost, also if only the X server does not answer."""
        sensed = _UNKNOWN if self._sensor is None else self._sensor.sense()
        with self._x11_connection() as (control, card):
            x_temperature_c = _read_x11_number(control, Target.GPU, card.number, Number.GPU_CORE_TEMPERATURE)
        return Sensed(x_temperature_c, sensed.power_w) if sensed.temperature_c is None else sensed

    def read(self) -> Reading:
        """Return the fans as X reports them, and temperature and power as NVML reports them. Raises GpuLost.

        If NVML does not know the card, the temperature is what X reports, and the power is None.
        """
        sensed = Reading(None, None, ()) if self._sensor is None else self._sensor.read()
        with self._x11_connection() as (control, card):
            manual = _read_x11_number(control, Target.GPU, card.number, Number.GPU_COOLER_MANUAL_CONTROL)
            fans = tuple(
                FanReading(
                    speed_percent=_read_x11_number(control, Target.COOLER, cooler, Number.THERMAL_COOLER_CURRENT_LEVEL),
                    target_percent=_read_x11_number(control, Target.COOLER, cooler, Number.THERMAL_COOLER_LEVEL),
                    manual=None if manual is None else bool(manual),
                    speed_rpm=_read_x11_number(control, Target.COOLER, cooler, Number.THERMAL_COOLER_SPEED),
                )
                for cooler in card.coolers
            )
            temperature_c = sensed.temperature_c
            if temperature_c is None:
                temperature_c = _read_x11_number(control, Target.GPU, card.number, Number.GPU_CORE_TEMPERATURE)
            return Reading(temperature_c, sensed.power_w, fans, sensed.throttle)

    def set_duty(self, duty_percent: int) -> None:
        """Put the card into manual mode and set every fan to `duty_percent`.

        Raises NotControllable, GpuError or FansOutOfReach.
        """
        if self.info.uncontrollable_reason is not None:
            raise NotControllable(self.info.uncontrollable_reason)
        failed: GpuError | None = None
        with self._x11_connection() as (control, card):
            control.set(Target.GPU, card.number, Number.GPU_COOLER_MANUAL_CONTROL, 1)
            for cooler in card.coolers:
                try:
                    control.set(Target.COOLER, cooler, Number.THERMAL_COOLER_LEVEL, duty_percent)
                except GpuError as error:
                    failed = failed or error
        if failed is not None:
            raise failed

    def release(self) -> None:
        """Give every fan back to the driver. Raises GpuError or FansOutOfReach."""
        if self.info.uncontrollable_reason is None:
            with self._x11_connection() as (control, card):
                control.set(Target.GPU, card.number, Number.GPU_COOLER_MANUAL_CONTROL, 0)

    def read_limits(self) -> Limits:
        """Return the limits that NVML reports. Both are None if NVML does not know the card. Raises GpuLost."""
        return Limits() if self._sensor is None else self._sensor.read_limits()

    def set_limits(self, limits: Limits) -> None:
        """Set limits through NVML. Raises GpuError, GpuLost or NoPermission."""
        if self._sensor is None:
            raise GpuError("its limits can be set through NVML only, which does not know the card")
        self._sensor.set_limits(limits)

    def reopen(self) -> None:
        """Close the connection and drop the handle of NVML, so that the next call opens both anew. Never fails."""
        self.close()
        if self._sensor is not None:
            self._sensor.reopen()

    def close(self) -> None:
        """Close the connection; the next call connects again."""
        if self._link is not None:
            self._link[0].close()
            self._link = None

    @contextmanager
    def _x11_connection(self) -> Iterator[tuple[NvControl, _X11ServerCard]]:
        """Give the block a connection to the X server, and the numbers that the server uses for the card.

        Connects if there is no connection yet. Raises FansOutOfReach if the connection fails, also within the block.
        """
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

    def _connect(self) -> tuple[NvControl, _X11ServerCard]:
        """Return a new connection, and the numbers of the card on the X server. Raises DriverError or GpuError."""
        display = self._locate()
        control = NvControl(display, self._limit_s)
        try:
            for card in _x11_server_cards(control):
                if card.is_card(self.info):
                    return control, card
        except BaseException:
            control.close()
            raise
        control.close()
        raise FansOutOfReach(f"X server {display} does not know the card: its xorg.conf must have a Device for it")


def open_x11_cards(
    locate: Callable[[], Display], sensors: Sequence[Gpu] = (), limit_s: float = LIMIT_S
) -> list[X11Gpu]:
    """Return all cards of the X server at the display that `locate` returns, in the order of NVML's index.

    `locate` is called for every new connection, and raises DriverError if no server runs. `sensors` are the cards as
    NVML knows them; a card that is not among them is read over X, without power. Raises DriverError or GpuError.
    """
    display = locate()
    with closing(NvControl(display, limit_s)) as control:
        # NVML numbers cards in the order of their PCI addresses, so without NVML that order gives the index.
        cards = sorted(_x11_server_cards(control), key=lambda card: card.pci or "")
        gpus = []
        for index, card in enumerate(cards):
            sensor = next((sensor for sensor in sensors if card.is_card(sensor.info)), None)
            info = _x11_info(control, card, index) if sensor is None else sensor.info
            gpus.append(X11Gpu(_x11_info_with_coolers(control, card, info), locate, sensor, limit_s))
    if not gpus:
        raise DriverError(f"X server {display} knows no card: its xorg.conf must have a Device for each")
    return sorted(gpus, key=lambda gpu: gpu.info.index)


def _x11_server_cards(control: NvControl) -> list[_X11ServerCard]:
    """Return all cards of an X server. Raises DriverError or GpuError."""
    return [_x11_server_card(control, number) for number in range(control.count(Target.GPU))]


def _x11_server_card(control: NvControl, number: int) -> _X11ServerCard:
    """Return the card that has the number `number` on an X server. Raises DriverError or GpuError."""
    attributes = (Number.PCI_DOMAIN, Number.PCI_BUS, Number.PCI_DEVICE, Number.PCI_FUNCTION)
    place = [control.number(Target.GPU, number, attribute) for attribute in attributes]
    known = [part for part in place if part is not None]
    return _X11ServerCard(
        number=number,
        uuid=control.text(Target.GPU, number, Text.GPU_UUID),
        pci=PciAddress(*known).nvml if len(known) == len(place) else None,
        coolers=control.numbers(Target.GPU, number, Numbers.COOLERS_USED_BY_GPU) or (),
    )


def _x11_info(control: NvControl, card: _X11ServerCard, index: int) -> GpuInfo:
    """Return the properties of `card`, which only the X server lists. `index` is its number in lists of cards.

    The properties of the fans are left out.
    """
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


def _x11_info_with_coolers(control: NvControl, card: _X11ServerCard, info: GpuInfo) -> GpuInfo:
    """Return a copy of `info` with the properties of the fans (coolers) that the X server reports for `card`."""
    ranges = [control.duty_range(cooler) or info.duty_range for cooler in card.coolers] or [info.duty_range]
    uncontrollable_reason = None
    if not card.coolers:
        uncontrollable_reason = NO_FAN
    elif control.number(Target.GPU, card.number, Number.GPU_COOLER_MANUAL_CONTROL) is None:
        uncontrollable_reason = _NO_COOLBITS
    return replace(
        info,
        fan_count=len(card.coolers),
        duty_range=(max(low for low, _ in ranges), min(high for _, high in ranges)),
        backend="x11",
        uncontrollable_reason=uncontrollable_reason,
    )


def _read_x11_number(control: NvControl, target: Target, number: int, attribute: Number) -> int | None:
    """Return the value of an attribute. `target` is the kind of the target, `number` its index.

    Returns None if the target does not have the attribute, or if the server refuses the request.
    """
    try:
        return control.number(target, number, attribute)
    except GpuError:
        return None
