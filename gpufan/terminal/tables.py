"""The texts and tables that `list`, `status`, `config show` and a simulated run print once."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from gpufan.config.descriptions import CASE_FANS, QUIET_HOURS, describe_key
from gpufan.config.schema import CARD_KEYS, FAN_EXAMPLE, QUIET_EXAMPLE, QUIET_KEYS, RUN_KEYS, QuietTable
from gpufan.config.settings import DEFAULT_PATH, Settings, Value
from gpufan.config.toml_text import fan_values_for_toml, quiet_values_for_toml, toml, toml_or_words
from gpufan.core.gpu import FanReading, GpuInfo, Reading
from gpufan.core.pci import PciAddress
from gpufan.core.sentences import card_sentence, limits_and_faults_in_words, rpm_text, settings_sentence
from gpufan.daemon import snapshot_file
from gpufan.errors import GpufanError
from gpufan.system.own_command import with_own_command
from gpufan.terminal.drawing import cards_table, settings_row
from gpufan.terminal.service_state import service_state_explains

if TYPE_CHECKING:
    from gpufan.daemon.summary import CardSummary

_BACKENDS = {"nvml": "through NVML, as root", "x11": "over X (NV-CONTROL), as root", "simulated": "simulated"}
_BACKENDS["hwmon"] = "over headers of the motherboard, as root"
_SETTERS = {True: "set by a program", False: "controlled by the driver", None: "set by whom is unknown"}
"""The words for who sets the fans, for each value of `FanReading.manual`."""


def print_cards_as_json(cards: Sequence[tuple[GpuInfo, Reading | None]], controllers: Mapping[str, int]) -> None:
    """Print the list of the cards as JSON. The arguments are those of `print_cards`."""
    content = [
        {
            **asdict(info),
            "answers": reading is not None,
            **({} if reading is None else msgspec.structs.asdict(reading)),
            "controlled_by_pid": controllers.get(info.uuid),
        }
        for info, reading in cards
    ]
    print(msgspec.json.encode(content).decode())


def print_cards(cards: Sequence[tuple[GpuInfo, Reading | None]], controllers: Mapping[str, int]) -> None:
    """Print the list of the cards, with a paragraph for each card.

    A reading of None means that the card does not answer. `controllers` has an entry for each card whose fans a gpufan
    sets: the UUID of the card, and the process number of this gpufan.
    """
    for info, reading in cards:
        print(f"{info.index}  {info.name}")
        if reading is None:
            print("   it does not answer: look for Xid in `dmesg`; a reboot may bring it back")
            continue
        rows = [
            ("UUID", info.uuid),
            ("PCI", f"{info.pci}, in xorg.conf {PciAddress.parse(info.pci).xorg}"),
            ("now", f"{_printed_value(reading.temperature_c, '°C')}, {_printed_value(reading.power_w, 'W')}"),
            ("fans", _listed_fans(info, reading, controllers.get(info.uuid))),
            ("slowdown", _printed_value(info.slowdown_c, "°C")),
            ("limit", _listed_power_limit(info)),
            ("control", _listed_control(info)),
        ]
        for name, text in rows:
            print(f"   {name:9}{text}")


def _listed_fans(info: GpuInfo, reading: Reading, controller: int | None) -> str:
    """Return the fans of a card in words: number, range, speeds, and who sets the fans.

    `controller` is the process number of the gpufan that sets the fans; None if no gpufan sets them.
    """
    if not info.fan_count:
        return "none"
    low, high = info.duty_range
    count = "1 fan" if info.fan_count == 1 else f"{info.fan_count} fans"
    setter = _SETTERS[reading.fans[0].manual]
    if controller is not None:
        setter = f"controlled by gpufan (process {controller}){', over X' if info.backend == 'x11' else ''}"
    return f"{count}, {low}..{high} %, {_printed_speeds(reading.fans)}, {setter}"


def _listed_power_limit(info: GpuInfo) -> str:
    """Return the power limit of a card and the range of this limit, in words."""
    limit = _printed_value(info.power_limit_w, "W")
    if info.power_range_w is None:
        return f"{limit}, cannot be set"
    low_w, high_w = info.power_range_w
    return f"{limit}, can be {low_w:g}..{high_w:g} W"


def _listed_control(info: GpuInfo) -> str:
    """Return how gpufan can set the fans of a card, in words; if it cannot, return why."""
    if info.uncontrollable_reason is not None:
        return f"none: {info.uncontrollable_reason}"
    reason = f": {info.backend_reason}" if info.backend_reason else ""
    return _BACKENDS[info.backend] + reason


def print_status(path: Path, *, as_json: bool, of_service: bool = False) -> None:
    """Print the snapshot in `path`. Raises GpufanError if the snapshot is missing or out of date.

    `of_service` says whether the service writes the snapshot. If it does, the error says why no gpufan is running.
    """
    with service_state_explains(of_service):
        snapshot = snapshot_file.read_snapshot(path)
    if as_json:
        print(msgspec.json.encode(snapshot).decode())
    else:
        kinds = (", simulated cards" * (snapshot.simulated_s is not None)) + ", dry run" * snapshot.dry_run
        print(f"gpufan {snapshot.version}, process {snapshot.pid}, every {snapshot.interval_s:g} s{kinds}")
        if trouble := settings_sentence(snapshot):
            print(trouble)
        console = Console()
        if console.is_terminal:
            with console.capture() as capture:  # `print` writes it: rich would end the program when a pipe breaks
                console.print(cards_table(snapshot.states, lambda gpu: [settings_row(gpu)]))
            print(capture.get(), end="")
        else:
            for gpu in snapshot.states:
                speeds = [_printed_speeds(gpu.fans), rpm_text(gpu.fans)] if gpu.fans else ["no reading"]
                print(card_sentence(gpu))
                followed = "" if gpu.order else gpu.settings
                power = "" if gpu in snapshot.case_fans else _printed_value(gpu.power_w, "W")
                parts = [power, *speeds, followed, *limits_and_faults_in_words(gpu)]
                print(f"  {', '.join(filter(None, parts))}")
    if complaint := snapshot_file.snapshot_complaint(snapshot):
        raise GpufanError(complaint)


def print_run_summary(summaries: Sequence[tuple[str, "CardSummary"]]) -> None:
    """Print a table with the results of a simulated run: peak, sound and swings of each card.

    `summaries` has the label of each card and its results.
    """
    table = Table("GPU", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("peak °C", "s above 83 °C", "dB(A)", "swings", "throttled"):
        table.add_column(heading, justify="right")
    for label, summary in summaries:
        table.add_row(
            label,
            f"{summary.peak_c:.1f}",
            f"{summary.hot_s:.0f}",
            f"{summary.sound_db:.1f}",
            str(summary.swings.count),
            f"{summary.throttled_percent:.1f} %",
        )
    Console().print(table)


def print_settings(settings: Settings, keys: Sequence[str] = ()) -> None:
    """Print each setting in effect and its origin: for all cards, for the cards of each table, and for quiet hours.

    If there are `keys`, print only these settings, and what they mean. The key `quiet` stands for quiet hours.
    """
    print(f"file: {settings.path or f'none ({DEFAULT_PATH} does not exist)'}")
    shown = [key for key in RUN_KEYS if not keys or key in keys]
    _print_settings_values("every card", [(key, settings.resolve(key)) for key in shown])
    for number, table in enumerate(settings.tables, 1):
        heading = f"[[gpu]] {number}, cards that match {toml(table.match)}"
        values = [(key, settings.resolve(key, [number])) for key in shown if key in CARD_KEYS]
        fans = [("fans", Value(table.fans, f"[[gpu]] {number}"))] if table.fans and (not keys or "fans" in keys) else []
        _print_settings_values(heading, values + fans)
    if not keys or "fan" in keys:
        for number, fan in enumerate(settings.case_fans, 1):
            values = [(key, Value(value, f"[[fan]] {number}")) for key, value in fan_values_for_toml(fan)]
            _print_settings_values(f"[[fan]] {number}, a case fan", values)
    if not keys or "quiet" in keys:
        _print_settings_quiet(settings.file.quiet or ())
    for key in keys:
        print()
        if key == "quiet":
            before = "It stands at the end of the file; from, to and one limit are enough:\n\n  [[quiet]]"
            _print_table_help(QUIET_HOURS, before, quiet_values_for_toml(QUIET_EXAMPLE), QUIET_KEYS)
        elif key == "fan":
            before = "A table needs only the name:\n\n  [[fan]]"
            _print_table_help(CASE_FANS, before, fan_values_for_toml(FAN_EXAMPLE), ("name", "follows", "fans"))
        else:
            print(_explained(f"{key}: {describe_key(key)}"))


def _print_table_help(about: str, before_example: str, example: Iterable[tuple[str, Any]], keys: Sequence[str]) -> None:
    """Print what a table of the settings file is for, an example of it, and what each of its `keys` means."""
    print(_explained(about))
    print(before_example)
    for key, value in example:
        print(f"  {key} = {toml(value)}")
    print()
    for key in keys:
        print(_explained(f"{key}: {describe_key(key)}"))


def _explained(text: str) -> str:
    return textwrap.fill(text, 80, subsequent_indent="  ", break_on_hyphens=False)


def _print_settings_quiet(tables: Sequence[QuietTable]) -> None:
    for number, hours in enumerate(tables, 1):
        origin = f"[[quiet]] {number}"
        values = [(key, Value(value, origin)) for key, value in quiet_values_for_toml(hours)]
        _print_settings_values(f"{origin}, every card", values)
    if not tables:
        print(with_own_command("\nquiet hours: none (`gpufan config show quiet` explains them)"))


def _print_settings_values(heading: str, values: Sequence[tuple[str, Value]]) -> None:
    """Print `heading`, and below it a row for each setting: key, value and origin. Print nothing without settings."""
    if not values:
        return
    rows = [(key, toml_or_words(key, value), origin) for key, (value, origin) in values]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    print(f"\n{heading}")
    for key, text, origin in rows:
        print(f"  {key:{widths[0]}}  {text:{widths[1]}}  {origin}")


def _printed_speeds(fans: Sequence[FanReading]) -> str:
    """Return the speeds of `fans` as text, for example `at 62 % 61 %` for two fans. An unknown speed is `?`."""
    return "at " + " ".join("?" if fan.speed_percent is None else f"{fan.speed_percent} %" for fan in fans)


def _printed_value(value: float | None, unit: str) -> str:
    """Return a value with its unit as text: `74 °C`; `unknown` if the value is None."""
    return "unknown" if value is None else f"{value:g} {unit}"
