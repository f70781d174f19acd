"""The keys of the settings file: types, bounds and defaults.

`descriptions.py` says what the keys mean. `toml_text.py` reads and writes the text of the file. `settings.py` decides
which source of a setting wins.
"""

from functools import cache
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from gpufan.core.card_settings import DEFAULT_CURVE, DEFAULT_TARGET_C, CardSettings
from gpufan.core.curve import Curve
from gpufan.core.quiet_hours import QuietHours

_CardName = Annotated[str, Meta(pattern=r"\S")] | int
"""A name of a card, which is not blank. If this is an index, it may be written without quotes."""

ChannelName = Annotated[str, Meta(min_length=1)]
"""A name of a channel of hwmon. `hwmon.channels` checks it."""

_Target = Annotated[float, Meta(ge=50, le=90)]
_Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[str, ...] = get_args(_Day)


class CardKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that may differ from card to card. A key that is not set here is None."""

    target_c: _Target | None = None
    curve: Curve | None = None
    hysteresis_c: Annotated[float, Meta(ge=0, le=30)] | None = None
    hold_s: Annotated[float, Meta(ge=0, le=3600)] | None = None
    min_duty_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    neighbours: tuple[_CardName, ...] | None = None
    power_limit_w: Annotated[float, Meta(ge=10, le=2000)] | None = None
    give_way: Literal["off", "power"] | None = None


class QuietTable(msgspec.Struct, frozen=True, kw_only=True):
    """A `[[quiet]]` table: limits for the fans of all cards at some hours. A key that is not set here is None."""

    begin: Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z")] = msgspec.field(name="from")
    end: Annotated[str, Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z")] = msgspec.field(name="to")
    days: Annotated[tuple[_Day, ...], Meta(min_length=1)] | None = None
    max_duty_percent: Annotated[int, Meta(ge=1, le=100)] | None = None
    target_c: _Target | None = None
    give_way: Literal["power"] | None = None

    def hours(self) -> QuietHours:
        """Convert the table to `QuietHours`: its times to minutes of the day, and its days to numbers.

        A table without days is for every day.
        """
        days = frozenset(map(DAYS.index, self.days or DAYS))
        times = _quiet_key_minute(self.begin), _quiet_key_minute(self.end)
        return QuietHours(*times, days, self.max_duty_percent, self.target_c, self.give_way is not None)


class FanTable(msgspec.Struct, frozen=True, kw_only=True):
    """A `[[fan]]` table: a case fan that follows cards. A key that is not set here is None."""

    name: ChannelName
    follows: Annotated[tuple[_CardName, ...], Meta(min_length=1)] | None = None
    curve: Curve | None = None
    min_duty_percent: Annotated[int, Meta(ge=0, le=100)] | None = None


class RunKeys(CardKeys, frozen=True, kw_only=True):
    """All settings of a run: those of every card, and those of the run itself. A key that is not set here is None."""

    gpus: tuple[_CardName, ...] | None = None
    backend: Literal["auto", "nvml", "x11"] | None = None
    display: Annotated[str, Meta(pattern=r"^(unix)?:[0-9]{1,5}(\.[0-9]+)?\Z")] | None = None
    interval_s: Annotated[float, Meta(ge=0.1, le=5)] | None = None
    dry_run: bool | None = None
    duration_s: Annotated[float, Meta(ge=1, le=365 * 86400)] | None = None
    quiet: tuple[QuietTable, ...] | None = None
    """The `[[quiet]]` tables; only a file has them."""
    fan: tuple[FanTable, ...] | None = None
    """The `[[fan]]` tables; only a file has them."""


class CardTable(CardKeys, frozen=True, kw_only=True):
    """A `[[gpu]]` table: settings of the cards that `match` names."""

    match: _CardName
    fans: Annotated[tuple[ChannelName, ...], Meta(min_length=1)] | None = None
    """Channels of the motherboard that cool the cards in place of their own fans."""


CARD_KEYS = CardKeys.__struct_fields__
TABLE_KEYS = (*CARD_KEYS, "fans")
"""The keys that a `[[gpu]]` table can have beside `match`."""
CURVE_KEYS = ("hysteresis_c", "hold_s")
"""Keys that have no effect on a card that holds a target."""
LIMIT_KEYS = ("power_limit_w", "give_way")
"""Keys that set limits of a card."""
RUN_KEYS = tuple(key for key in RunKeys.__struct_fields__ if key not in ("quiet", "fan"))
QUIET_KEYS = tuple(field.encode_name for field in msgspec.structs.fields(QuietTable))
FAN_KEYS = FanTable.__struct_fields__
SECTIONS = {"The same for every card": CARD_KEYS, "All cards together": RUN_KEYS[len(CARD_KEYS) :]}
"""The headings of the sections of the file, with the keys in each section."""

NOTHING = RunKeys()
"""Keys of which none is set."""

_BUILT_IN = CardSettings(target_c=DEFAULT_TARGET_C)
_CARD_DEFAULTS = {key: getattr(_BUILT_IN, key) for key in CARD_KEYS if key != "curve"}
DEFAULTS = RunKeys(**_CARD_DEFAULTS, gpus=(), backend="auto", interval_s=1.0, dry_run=False)
"""The built-in settings. If a key has none, its value is None, and `descriptions.UNSET` says what happens then."""

EXAMPLES = msgspec.structs.replace(
    DEFAULTS, curve=DEFAULT_CURVE, min_duty_percent=30, power_limit_w=220.0, display=":0", duration_s=3600.0
)
"""A value for every key: the built-in setting, or an example if there is no built-in setting."""

QUIET_EXAMPLE = QuietTable(
    begin="22:00", end="07:00", days=("fri", "sat"), max_duty_percent=50, target_c=78.0, give_way="power"
)
"""An example that has a value for every key of quiet hours."""


FAN_EXAMPLE = FanTable(
    name="nct6798/pwm2",
    follows=("0a:00.0", "41:00.0"),
    curve=Curve.parse("40:25,60:40,75:70,83:100"),
    min_duty_percent=25,
)
"""An example that has a value for every key of a case fan."""


def without_unit(key: str, text: str) -> str:
    """Return `text`, a value of `key`, without the unit of `key`: `75` for `75 °C`. Other texts stay as they are.

    >>> without_unit("target_c", "75C"), without_unit("min_duty_percent", "40 %"), without_unit("target_c", "75 F")
    ('75', '40', '75 F')
    """
    spellings = {"c": ("°C", "C"), "percent": ("%",), "s": ("s",), "w": ("W",)}.get(key.rpartition("_")[2], ())
    unit = next((unit for unit in spellings if text.lower().endswith(unit.lower())), "")
    return text[: len(text) - len(unit)].rstrip()


def is_number_key(key: str) -> bool:
    """Whether the values of `key` are numbers."""
    return key in _number_key_types()


def is_whole_number_key(key: str) -> bool:
    """Whether the values of `key` are whole numbers."""
    return isinstance(_number_key_types().get(key), msgspec.inspect.IntType)


def key_bounds(key: str) -> tuple[Any, Any]:
    """Return the lowest and the highest number that `key` accepts. Raises KeyError if `key` accepts no numbers."""
    number = _number_key_types()[key]
    return number.ge, number.le


@cache
def _number_key_types() -> dict[str, Any]:
    """Return the type of each key that accepts a number. It is a type of msgspec, and has the bounds of the key."""
    structs: list[Any] = [msgspec.inspect.type_info(keys) for keys in (RunKeys, QuietTable)]
    kinds = msgspec.inspect.IntType, msgspec.inspect.FloatType
    return {
        field.name: kind
        for struct in structs
        for field in struct.fields
        for kind in getattr(field.type, "types", ())
        if isinstance(kind, kinds)
    }


def _quiet_key_minute(text: str) -> int:
    """Convert a time of day, such as `22:00`, to minutes since midnight."""
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
