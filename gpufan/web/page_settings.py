"""The settings of fans that the page shows and changes: curve, target, highest duty and quiet hours. No I/O here.

The highest duty is stored as a `[[quiet]]` table from 00:00 to 24:00 that sets nothing else. The page shows it apart
from the quiet hours.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gpufan.config.edit import text_with_key, text_with_quiet_tables, text_without_key
from gpufan.config.schema import DAYS, CardTable, QuietTable
from gpufan.config.settings import Settings
from gpufan.config.toml_text import parse_settings_text
from gpufan.control.law import duty_range
from gpufan.core.curve import Curve
from gpufan.core.gpu import GpuInfo
from gpufan.core.snapshot import GpuState
from gpufan.errors import InputError
from gpufan.web.reload import info_of_state

_Key = Annotated[str, Meta(pattern=r"\A(GPU-[0-9A-Za-z-]{1,60}|[0-9A-Fa-f:.]{5,20})\Z")]
"""The key of a card: its UUID or its PCI address."""
_Number = Annotated[float, Meta(ge=0, le=200)]
_Point = tuple[_Number, _Number | None]


class PageQuiet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A period of quiet hours, as the page writes it."""

    begin: Annotated[str, Meta(max_length=5)] = msgspec.field(name="from")
    end: Annotated[str, Meta(max_length=5)] = msgspec.field(name="to")
    days: Annotated[tuple[str, ...], Meta(max_length=7)] | None = None
    max_duty_percent: int | None = None
    target_c: float | None = None
    give_way: str | None = None

    def table(self) -> QuietTable:
        """Convert the period to a table of the settings file. Raises InputError if a value is wrong."""
        values = {key: value for key, value in msgspec.to_builtins(self).items() if value is not None}
        if set(values.get("days", ())) == set(DAYS):
            del values["days"]
        try:
            return msgspec.convert(values, QuietTable)
        except msgspec.ValidationError as error:
            raise InputError(f"quiet hours: {error}") from error


class PageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings that a person has chosen on the page. Exactly one of `curve` and `target_c` is set."""

    cards: Annotated[tuple[_Key, ...], Meta(max_length=64)] = ()
    """Keys of the cards; empty for all cards."""
    curve: Annotated[tuple[_Point, ...], Meta(min_length=1, max_length=32)] | None = None
    target_c: _Number | None = None
    max_duty_percent: Annotated[int, Meta(ge=1, le=100)] | None = None
    """The highest duty of all cards, percent; None leaves it as it is. 100 removes the limit."""
    quiet: Annotated[tuple[PageQuiet, ...], Meta(max_length=32)] | None = None
    """All quiet hours; None leaves them as they are."""

    def chosen_curve(self) -> Curve | None:
        """Return the curve; None if there is a target. Raises InputError unless exactly one of both is set."""
        if (self.curve is None) == (self.target_c is None):
            raise InputError("choose either a curve or a target")
        return None if self.curve is None else Curve(self.curve)


def read_page_settings(data: bytes) -> PageSettings:
    """Convert JSON to settings. Raises InputError if it is not JSON, or has an unknown key or a wrong value."""
    try:
        settings = msgspec.json.decode(data, type=PageSettings)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"these settings cannot be read: {error}") from error
    settings.chosen_curve()
    return settings


def text_with_page_settings(text: str, wanted: PageSettings) -> str:
    """Return the `text` of a settings file, changed so that it has the settings that were chosen on the page.

    Only the keys `curve` and `target_c` and the `[[quiet]]` tables change. Raises InputError if the text or a setting
    has a mistake, or if another table of the file still overrides a setting.
    """
    curve = wanted.chosen_curve()
    key, value, other = ("target_c", wanted.target_c, "curve") if curve is None else ("curve", str(curve), "target_c")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    for match in wanted.cards or (None,):
        text = text_with_key(text, key, value, match)
        text = text_without_key(text, other, match)
    if not wanted.cards:
        for table in parse_settings_text(text.encode())[1]:
            for name in ("curve", "target_c"):
                if getattr(table, name) is not None:
                    text = text_without_key(text, name, str(table.match))
    if wanted.quiet is not None or wanted.max_duty_percent is not None:
        before = parse_settings_text(text.encode())[0].quiet or ()
        text = text_with_quiet_tables(text, _quiet_tables(before, wanted))
    _check_effect(text, wanted, curve)
    return text


def settings_with_page_settings(settings: Settings, wanted: PageSettings) -> Settings:
    """Return `settings` with the settings that were chosen on the page, as if `text_with_page_settings` were written.

    This is faster, since no text is made. Raises InputError if a setting has a mistake.
    """
    curve, target_c = wanted.chosen_curve(), wanted.target_c
    file, tables = settings.file, settings.tables
    if wanted.cards:
        tables += tuple(CardTable(match=card, curve=curve, target_c=target_c) for card in wanted.cards)
    else:
        file = msgspec.structs.replace(file, curve=curve, target_c=target_c)
        tables = tuple(msgspec.structs.replace(table, curve=None, target_c=None) for table in tables)
    if wanted.quiet is not None or wanted.max_duty_percent is not None:
        file = msgspec.structs.replace(file, quiet=tuple(_quiet_tables(file.quiet or (), wanted)))
    return replace(settings, file=file, tables=tables)


def _quiet_tables(before: Sequence[QuietTable], wanted: PageSettings) -> list[QuietTable]:
    """Return the `[[quiet]]` tables that replace the tables `before`.

    Raises InputError if a period has a mistake, or if the highest duty is for some of the cards only.
    """
    if wanted.cards and wanted.max_duty_percent is not None:
        raise InputError("the highest duty is for all cards together: choose all cards")
    periods = [table for table in before if not is_all_day_limit(table)]
    limits = [table for table in before if is_all_day_limit(table)]
    if wanted.quiet is not None:
        periods = [period.table() for period in wanted.quiet]
    if wanted.max_duty_percent is not None and wanted.max_duty_percent != all_day_max_duty(limits):
        limits = []
        if wanted.max_duty_percent < 100:
            limits = [QuietTable(begin="00:00", end="24:00", max_duty_percent=wanted.max_duty_percent)]
    return [*limits, *periods]


def is_all_day_limit(table: QuietTable) -> bool:
    """Whether a table only limits the duty, on all days at all times."""
    is_all_day = (table.begin, table.end) == ("00:00", "24:00") and set(table.days or DAYS) == set(DAYS)
    return is_all_day and table.target_c is None and table.give_way is None


def all_day_max_duty(tables: Sequence[QuietTable]) -> int | None:
    """Return the highest duty that `tables` allow at all times, percent; None if no table limits it."""
    limits = [table.max_duty_percent for table in tables if is_all_day_limit(table)]
    return min((limit for limit in limits if limit is not None), default=None)


def _check_effect(text: str, wanted: PageSettings, curve: Curve | None) -> None:
    """Raise InputError if a card does not get the settings, since another table of the file overrides them."""
    file, tables = parse_settings_text(text.encode())
    settings = Settings(file=file, tables=tables)
    names = wanted.cards or ("", *(str(table.match) for table in tables))
    for name in names:
        of_card = settings.for_card(_card_named(name))
        if of_card.target_c != wanted.target_c or (curve is not None and of_card.curve != curve):
            raise InputError(
                f"a [[gpu]] table of the file overrides this{f' for {name}' if name else ''}: change it with"
                " `sudo gpufan config edit`"
            )


def _card_named(key: str) -> GpuInfo:
    """Return a card of which only `key` is known: its UUID or its PCI address."""
    is_address = ":" in key
    return GpuInfo(
        uuid="" if is_address else key,
        pci=key if is_address else "",
        index=-1,
        name=key,
        fan_count=1,
        duty_range=(0, 100),
        slowdown_c=None,
        backend="",
    )


def shown_settings(settings: Settings, cards: Sequence[GpuState]) -> dict[str, Any]:
    """Return the present settings as the page shows them, for `cards`."""
    quiet = settings.file.quiet or ()
    return {
        "quiet": [
            {name: getattr(table, field) for field, name in _QUIET_NAMES} | {"days": table.days or DAYS}
            for table in quiet
            if not is_all_day_limit(table)
        ],
        "cards": [_shown_card(settings, gpu, all_day_max_duty(quiet)) for gpu in cards],
    }


_QUIET_NAMES = [(field.name, field.encode_name) for field in msgspec.structs.fields(QuietTable)]


def _shown_card(settings: Settings, gpu: GpuState, max_duty_percent: int | None) -> dict[str, Any]:
    """Return the settings of one card."""
    info = info_of_state(gpu)
    of_card = settings.for_card(info)
    return {
        "key": gpu.key,
        "curve": None if of_card.target_c is not None else of_card.curve.points,
        "target_c": of_card.target_c,
        "max_duty_percent": max_duty_percent,
        "fans_percent": duty_range(info.duty_range, of_card.min_duty_percent),
    }
