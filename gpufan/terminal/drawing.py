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
"""A temperature is yellow if it is at most this far below the temperature of full fan speed, K."""


def card_style(gpu: GpuState) -> str:
    """Return the style of the text about a card: red, yellow, or empty.

    Red stands for a problem or a reason that is a fault or the fail-safe. Yellow stands for another warning, or for
    fans at full speed.
    """
    worst = severity(gpu)
    if worst is Severity.PROBLEM or reason_severity(gpu):
        return "bold red"
    return "yellow" if worst or gpu.reason.cause.group is Group.FULL else ""


def temperature_style(gpu: GpuState) -> str:
    """Return the style of the temperature of a card: red, yellow or green; empty if the temperature is unknown.

    Red stands for a temperature at which the fans run at full speed, or at which heat lowers the clocks. Yellow stands
    for a temperature up to 8 °C below full speed.
    """
    if gpu.temperature_c is None:
        return ""
    margin_c = full_speed_from_c(gpu.slowdown_c) - gpu.temperature_c
    if margin_c <= 0 or gpu.throttle == Throttle.HEAT.value:
        return "bold red"
    return "yellow" if margin_c <= _WARM_C else "green"


Below = Callable[[GpuState], Sequence[RenderableType]]
"""A function that returns the rows to show below the row of a card."""


def cards_table(gpus: Sequence[GpuState], below: Below, *, reason: Literal["fold", "ellipsis"] = "fold") -> Table:
    """Return a table with a row for each card: readings, duty, reason. Below the reason stand the rows from `below`.

    `reason` decides what happens to a long reason: `fold` continues it on the next line, `ellipsis` cuts it.
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
    """Return the first of `screens` that is low enough for the terminal, or the last one if none is.

    `screens` begins with the highest one.
    """
    screen: RenderableType = ""
    for screen in screens:
        if len(console.render_lines(screen)) < console.height:
            break
    return screen


def settings_row(gpu: GpuState) -> Text:
    """Return a row with the settings of a card and the speed of its fans: `target 78 °C; fans at 2950 2900 rpm`.

    The settings are left out if an order of a person replaces them.
    """
    followed = "" if gpu.order else gpu.settings  # an order is in the row above
    return Text("; ".join(filter(None, [followed, rpm_text(gpu.fans)])), style="dim")


def prepare_terminal_for_live_view() -> None:
    """Make the terminal show no `^C` when a person presses Ctrl-C. The `^C` would shift the last table.

    This setting of the terminal stays after the end of the view. That is harmless.
    """
    with suppress(OSError, ValueError, termios.error):
        attributes = termios.tcgetattr(sys.stdin.fileno())
        attributes[3] &= ~termios.ECHOCTL
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, attributes)


def _number_cell(value: float | None) -> str:
    """Return `value` as text without decimals; `-` if the value is None."""
    return "-" if value is None else f"{value:.0f}"
