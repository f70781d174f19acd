"""Draws the table of the cards for both live views and for `status`: its cells, rows and styles."""

import sys
import termios
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Literal

from rich.console import Console, RenderableType
from rich.console import Group as RichGroup
from rich.table import Table
from rich.text import Text

from gpufan.core.gpu import Throttle
from gpufan.core.reasons import Group
from gpufan.core.sentences import duty_text, limits_and_faults_in_words, rpm_text, state_sentence
from gpufan.core.severity import Severity, reason_severity, severity
from gpufan.core.snapshot import GpuState
from gpufan.core.thermal import full_speed_from_c

_WARM_C = 8
"""A temperature is yellow from this difference below full fan speed on, K."""


def card_style(gpu: GpuState) -> str:
    """The style of the text about a card: red for a problem, fault or fail-safe, yellow for a warning or full speed."""
    worst = severity(gpu)
    if worst is Severity.PROBLEM or reason_severity(gpu):
        return "bold red"
    return "yellow" if worst or gpu.reason.cause.group is Group.FULL else ""


def temperature_style(gpu: GpuState) -> str:
    """The style of the temperature of a card: red if it makes the fans run at full speed, yellow if it nearly does."""
    if gpu.temperature_c is None:
        return ""
    margin_c = full_speed_from_c(gpu.slowdown_c) - gpu.temperature_c
    if margin_c <= 0 or gpu.throttle == Throttle.HEAT.value:
        return "bold red"
    return "yellow" if margin_c <= _WARM_C else "green"


Below = Callable[[GpuState], Sequence[RenderableType]]
"""Makes the rows below the row of a card."""


def cards_table(gpus: Sequence[GpuState], below: Below, *, reason: Literal["fold", "ellipsis"] = "fold") -> Table:
    """Make a table with a row for each card: readings, duty, reason. The result of `below` stands below the reason.

    `reason` says whether a long reason is folded, or cut to one line.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("GPU", no_wrap=True)
    for heading in ("°C", "W", "set", "read"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why", ratio=1)
    for gpu in gpus:
        table.add_row(
            Text(gpu.label),
            Text(_number_cell(gpu.temperature_c), style=temperature_style(gpu)),
            _number_cell(gpu.power_w),
            duty_text(gpu),
            " ".join(_number_cell(fan.speed_percent) for fan in gpu.fans) or "-",
            RichGroup(
                Text(
                    "; ".join([state_sentence(gpu), *limits_and_faults_in_words(gpu)]),
                    style=card_style(gpu),
                    overflow=reason,
                    no_wrap=reason == "ellipsis",
                ),
                *below(gpu),
            ),
        )
    return table


def highest_screen_that_fits(console: Console, screens: Iterable[RenderableType]) -> RenderableType:
    """Return the highest of `screens` that fits the terminal, or else the last. They begin with the highest."""
    screen: RenderableType = ""
    for screen in screens:
        if len(console.render_lines(screen)) < console.height:
            break
    return screen


def settings_row(gpu: GpuState) -> Text:
    """The row about the settings of a card and the speed of its fans: `target 78 °C; fans at 2950 2900 rpm`."""
    followed = "" if gpu.order else gpu.settings  # an order is in the row above
    return Text("; ".join(filter(None, [followed, rpm_text(gpu.fans)])), style="dim")


def prepare_terminal_for_live_view() -> None:
    """Set the terminal not to echo `^C`, which would shift the last table. The setting remains: it is harmless."""
    with suppress(OSError, ValueError, termios.error):
        attributes = termios.tcgetattr(sys.stdin.fileno())
        attributes[3] &= ~termios.ECHOCTL
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, attributes)


def _number_cell(value: float | None) -> str:
    """A value as text without decimals for a cell of the table; `-` if unknown."""
    return "-" if value is None else f"{value:.0f}"
