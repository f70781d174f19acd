"""Finds settings that are valid but surely not meant: names that fit no card, values that gpufan will not follow."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from gpufan.config.mistakes import Mistake, decode_lines, key_lines, table_name
from gpufan.config.schema import LIMIT_KEYS, TABLE_KEYS, CardKeys, FanTable, QuietTable
from gpufan.config.settings import DEFAULT_PATH, Settings
from gpufan.config.toml_text import parse_settings_text, toml
from gpufan.control.law import duty_range
from gpufan.control.target_law import TUNABLES
from gpufan.core.gpu import GpuInfo
from gpufan.core.quiet_hours import DAY_MINUTES
from gpufan.core.selection import card_matches, card_may_match, is_card_index
from gpufan.core.thermal import full_speed_from_c
from gpufan.errors import InputError
from gpufan.hwmon.channels import Channel, resolve_channel

_ANY_CARD = GpuInfo(uuid="", pci="", index=-1, name="", fan_count=1, duty_range=(20, 100), slowdown_c=None, backend="")
"""A card to check values against if the cards of the box are unknown. No card gets a lower duty than this one."""


def lint_settings(
    settings: Settings, text: bytes, cards: Sequence[GpuInfo], channels: Sequence[Channel] | None = None
) -> list[Mistake]:
    """Return a warning for each setting in the file that is surely not meant, in the order of the lines.

    `text` is the text of the file from which `settings` were read. `cards` are the cards of the box; empty if they are
    unknown. `channels` are the fans on headers of its motherboard; None if they are unknown.
    """
    lines = key_lines(decode_lines(text)[1])
    found: list[tuple[str, str, str]] = []
    for number, keys in ((0, settings.file), *enumerate(settings.tables, 1)):
        where = table_name("gpu", number) if number else ""
        match = [str(settings.tables[number - 1].match)] if number else []
        here = [card for card in cards if not match or card_matches(card, match[0])]
        abouts = [
            *_lint_values(settings, number, keys, here),
            *_lint_names(settings, keys, match, cards),
            *_lint_own_name(keys, match, here, cards),
            *_lint_limits(keys, here),
        ]
        found += [(where, key, about) for key, about in abouts]
        if number:
            found += [(where, "fans", about) for about in _lint_channels(settings.tables[number - 1].fans, channels)]
    for number, hours in enumerate(settings.file.quiet or (), 1):
        found += [
            (table_name("quiet", number), key, about)
            for key, about in _lint_quiet_hours(settings, number, hours, cards)
        ]
    for number, fan in enumerate(settings.case_fans, 1):
        found += [(table_name("fan", number), key, about) for key, about in _lint_case_fan(fan, cards)]
        found += [(table_name("fan", number), "name", about) for about in _lint_channels((fan.name,), channels)]
    named = [Mistake(lines.get((where, key)), f"{where}: {about}" if where else about) for where, key, about in found]
    return sorted(named, key=lambda mistake: mistake.line or 0)


def lint_change(path: Path, before: str, after: str) -> list[Mistake]:
    """Compare the warnings about the texts `before` and `after` of the file `path`. Return those that only `after` has.

    The warnings are those of `lint_settings` if the cards of the box are unknown.
    """
    old, new = (
        lint_settings(Settings(path, *parse_settings_text(text.encode())), text.encode(), ())
        for text in (before, after)
    )
    known = {mistake.text for mistake in old}
    return [mistake for mistake in new if mistake.text not in known]


def lint_overriding_tables(settings: Settings, key: str, match: str | None, cards: Sequence[GpuInfo]) -> list[str]:
    """Return a warning for each later table that overrides the value of `key`.

    If `match` is None, this is the value above all tables. Otherwise, it is the value in the last table that has this
    `match`. `cards` are the cards of the box.
    """
    names = [str(table.match).strip().lower() for table in settings.tables]
    number = 0 if match is None else len(names) - names[::-1].index(match.strip().lower())
    mine = settings.resolve(key, [number] if number else []).value
    found = []
    for later, table in enumerate(settings.tables[number:], number + 1):
        value, origin = settings.resolve(key, [later])
        same = number == 0 or any(
            card_matches(card, str(match)) and card_matches(card, str(table.match)) for card in cards
        )
        if same and origin == table_name("gpu", later) and value != mine:
            there = key if value is not None else {"target_c": "curve", "curve": "target_c"}[key]
            shown = f"{there} = {toml(getattr(table, there))}"
            found.append(f"{origin} overrides {key} for cards that match {toml(table.match)}: {shown}")
    return found


def _lint_values(
    settings: Settings, number: int, keys: CardKeys, cards: Sequence[GpuInfo]
) -> Iterator[tuple[str, str]]:
    """Find keys whose values gpufan cuts, raises or ignores. Return each such key with a warning.

    `keys` are the settings in the table with this `number`; 0 stands for the keys above all tables. `cards` are the
    cards to which these settings apply. A warning names only the first card that a value does not suit.
    """
    for card in [card for card in cards if card.uuid] or [_ANY_CARD]:
        floor = duty_range(card.duty_range, settings.resolve("min_duty_percent", [number] if number else []).value)[0]
        on = _lint_place(card)
        found = _lint_target(keys.target_c, card)
        if keys.curve is not None and keys.curve.lowest_duty < floor:
            found.append(("curve", f"curve: its lowest duty, {keys.curve.lowest_duty:g} %, is raised to {floor} %{on}"))
        if keys.min_duty_percent not in (None, floor):
            found.append(("min_duty_percent", f"min_duty_percent = {keys.min_duty_percent} becomes {floor} %{on}"))
        range_w, limit_w = card.power_range_w, keys.power_limit_w
        if limit_w is not None and range_w is not None and not range_w[0] <= limit_w <= range_w[1]:
            nearest_w = min(max(limit_w, range_w[0]), range_w[1])
            accepted = f"which accepts {range_w[0]:g} to {range_w[1]:g} W"
            found.append(("power_limit_w", f"power_limit_w = {limit_w:g} becomes {nearest_w:g} W{on}, {accepted}"))
        if found:
            yield from found
            break
    if keys.curve is not None and keys.target_c is not None:
        yield "curve", "curve has no effect, since target_c is set too: remove one of them"
    yield from ((key, line) for key, line in settings.keys_without_effect().items() if getattr(keys, key) is not None)
    if number and all(getattr(keys, key) is None for key in TABLE_KEYS):
        yield "", "this table sets nothing"
    if not number and settings.path == DEFAULT_PATH:
        if settings.file.dry_run:
            yield "dry_run", "dry_run = true: the service sets no fans"
        if settings.file.duration_s is not None:
            yield "duration_s", "duration_s: the service ends after this time, and is started again"


def _lint_case_fan(fan: FanTable, cards: Sequence[GpuInfo]) -> Iterator[tuple[str, str]]:
    """Find keys in the table of a case fan that are surely not meant. Return each such key with a warning."""
    for name in map(str, fan.follows or ()):
        if cards and not any(card_may_match(card, name) for card in cards):
            yield "follows", f"follows: {toml(name)} matches no card here"
        elif is_card_index(name):
            text = "may be the index of another card after a reboot: use the card's UUID, see `gpufan list`"
            yield "follows", f"follows: {toml(name)} {text}"
    low = fan.min_duty_percent
    if fan.curve is not None and low is not None and fan.curve.lowest_duty < low:
        yield "curve", f"curve: its lowest duty, {fan.curve.lowest_duty:g} %, is raised to {low} % by min_duty_percent"


def _lint_channels(names: Sequence[str] | None, channels: Sequence[Channel] | None) -> Iterator[str]:
    """Return a warning for each of `names` that does not stand for exactly one of `channels`."""
    if channels is None:
        return
    for name in names or ():
        try:
            resolve_channel(name, channels)
        except InputError as error:
            yield str(error)


def _lint_place(card: GpuInfo) -> str:
    """Return the part of a warning that names the card: ` on 0 GTX 1080 Ti`."""
    return " or more, depending on the card" if card is _ANY_CARD else f" on {card.label}"


def _lint_target(target_c: float | None, card: GpuInfo) -> list[tuple[str, str]]:
    """Return the key `target_c` and a warning if the target is too close to the slowdown threshold of the card.

    Return an empty list if the target is None, or is low enough.
    """
    highest_c = full_speed_from_c(card.slowdown_c) - TUNABLES.band_k
    if target_c is None or target_c <= highest_c:
        return []
    on = " on a card whose slowdown threshold is not known" if card is _ANY_CARD else _lint_place(card)
    return [("target_c", f"target_c = {target_c:g} is cut to {highest_c:g} °C{on}")]


def _lint_names(
    settings: Settings, keys: CardKeys, match: Sequence[str], cards: Sequence[GpuInfo]
) -> Iterator[tuple[str, str]]:
    """Find names that match none of `cards`, or that may match another card after a reboot.

    Return the key that has such a name, with a warning. `keys` are the settings in a table. `match` holds the `match`
    of the table; it is empty for the keys above all tables.
    """
    gpus: Sequence[str | int] = () if match else settings.file.gpus or ()
    for key, names in (("match", match), ("neighbours", keys.neighbours or ()), ("gpus", gpus)):
        for name in names:
            if cards and not any(card_may_match(card, str(name)) for card in cards):
                yield key, f"{key}: {toml(name)} matches no card here"
            elif is_card_index(str(name)):
                text = "may be the index of another card after a reboot: use the card's UUID, see `gpufan list`"
                yield key, f"{key}: {toml(name)} {text}"


def _lint_limits(keys: CardKeys, cards: Sequence[GpuInfo]) -> Iterator[tuple[str, str]]:
    """Return each key of a limit, with a warning, if one of `cards` has no fan. gpufan sets no limit of such a card."""
    labels = ", ".join(card.label for card in cards if not card.fan_count)
    for key in LIMIT_KEYS:
        if labels and getattr(keys, key) not in (None, "off"):
            yield key, f"{key} has no effect on {labels}: gpufan does not control a card without fans"


def _lint_own_name(
    keys: CardKeys, match: Sequence[str], here: Sequence[GpuInfo], cards: Sequence[GpuInfo]
) -> Iterator[tuple[str, str]]:
    """Return the key `neighbours` and a warning for each neighbour that is the card of the table itself.

    `keys` are the settings in the table. `match` holds the `match` of the table; it is empty for the keys above all
    tables. `here` are the cards that the table matches, and `cards` are all cards of the box.
    """
    for name in map(str, keys.neighbours or ()):
        named = [card for card in cards if card_matches(card, name)]
        same_word = [name.strip().lower()] == [each.strip().lower() for each in match]
        if (same_word and len(named) < 2) or (len(named) == 1 and list(here) == named):
            yield "neighbours", f"neighbours: {toml(name)} is the card itself: name the cards that it warms"


def _lint_quiet_hours(
    settings: Settings, number: int, hours: QuietTable, cards: Sequence[GpuInfo]
) -> Iterator[tuple[str, str]]:
    """Find keys in a `[[quiet]]` table whose values gpufan cuts or raises. Return each such key with a warning.

    `hours` is the table, and `number` is its number. If the table overlaps an earlier table, the result also has a
    warning with an empty key, except if one of them covers the whole week.
    """
    for card in [card for card in cards if card.uuid] or [_ANY_CARD]:
        found = _lint_target(hours.target_c, card)
        floor = duty_range(card.duty_range, settings.for_card(card).min_duty_percent)[0]
        if hours.max_duty_percent is not None and hours.max_duty_percent < floor:
            text = f"max_duty_percent = {hours.max_duty_percent} is raised to {floor} %{_lint_place(card)}"
            found.append(("max_duty_percent", text))
        if found:
            yield from found
            break
    minutes = _lint_minutes_of_week(hours)
    for other, earlier in enumerate((settings.file.quiet or ())[: number - 1], 1):
        earlier_minutes = _lint_minutes_of_week(earlier)
        # A limit for all times is meant to overlap.
        if minutes & earlier_minutes and max(len(minutes), len(earlier_minutes)) < 7 * DAY_MINUTES:
            yield "", f"it overlaps [[quiet]] {other}: at such times the lowest values count"


def _lint_minutes_of_week(table: QuietTable) -> set[int]:
    """Return the minutes of the week that a `[[quiet]]` table covers. Monday at 00:00 is minute 0."""
    hours = table.hours()
    length = (hours.to_minute - hours.from_minute - 1) % DAY_MINUTES + 1
    starts = [day * DAY_MINUTES + hours.from_minute for day in hours.days]
    return {(start + minute) % (7 * DAY_MINUTES) for start in starts for minute in range(length)}
