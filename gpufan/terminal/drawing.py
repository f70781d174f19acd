"""The parts of both live tables: the table of the cards, and a line of bars."""

import sys
import termios
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Literal

from rich.console import Console, RenderableType
from rich.console import Group as RichGroup
from rich.table import Table
from rich.text import Text

from gpufan.core.gpu import FanReading, Throttle
from gpufan.core.reasons import Group
from gpufan.core.sentences import duty_text, notes, state_sentence
from gpufan.core.severity import Severity, reason_severity, severity
from gpufan.core.snapshot import GpuState
from gpufan.core.thermal import full_speed_from_c

_WARM_C = 8
"""A temperature is yellow from this many °C below full speed on."""

_BARS = "▁▂▃▄▅▆▇█"


def card_style(gpu: GpuState) -> str:
    """The style of the text about a card: red for a problem, a fault or the fail-safe, yellow for lesser ones."""
    worst = severity(gpu)
    if worst is Severity.PROBLEM or reason_severity(gpu):
        return "bold red"
    return "yellow" if worst or gpu.reason.cause.group is Group.FULL else ""


def temperature_style(gpu: GpuState) -> str:
    """The style of the temperature of a card: red from where its fans run at full speed, yellow shortly below."""
    if gpu.temperature_c is None:
        return ""
    margin_c = full_speed_from_c(gpu.slowdown_c) - gpu.temperature_c
    if margin_c <= 0 or gpu.throttle == Throttle.HEAT.value:
        return "bold red"
    return "yellow" if margin_c <= _WARM_C else "green"


Below = Callable[[GpuState], Sequence[RenderableType]]
"""The rows below the reason for the duty of a card."""


def cards_table(gpus: Sequence[GpuState], below: Below, *, reason: Literal["fold", "ellipsis"] = "fold") -> Table:
    """Make a table with a row for each card: readings, duty, reason, and the rows `below` it.

    A long `reason` is folded, or cut to one line.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("GPU", no_wrap=True)
    for heading in ("°C", "W", "set", "read"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why", ratio=1)
    for gpu in gpus:
        table.add_row(
            Text(gpu.label),
            Text(_number(gpu.temperature_c), style=temperature_style(gpu)),
            _number(gpu.power_w),
            duty_text(gpu),
            " ".join(_number(fan.speed_percent) for fan in gpu.fans) or "-",
            RichGroup(
                Text(
                    "; ".join([state_sentence(gpu), *notes(gpu)]),
                    style=card_style(gpu),
                    overflow=reason,
                    no_wrap=reason == "ellipsis",
                ),
                *below(gpu),
            ),
        )
    return table


def fitting(console: Console, screens: Iterable[RenderableType]) -> RenderableType:
    """The first of `screens` that is not higher than the terminal; else the last."""
    screen: RenderableType = ""
    for screen in screens:
        if len(console.render_lines(screen)) < console.height:
            break
    return screen


def settings_row(gpu: GpuState) -> Text:
    """What the fans of a card follow, and how fast they turn: `target 78 °C; fans at 2950 2900 rpm`."""
    followed = "" if gpu.order else gpu.settings  # an order is in the row above
    return Text("; ".join(filter(None, [followed, rpm_text(gpu.fans)])), style="dim")


def rpm_text(fans: Sequence[FanReading]) -> str:
    """How fast fans turn: `fans at 2950 2900 rpm`; empty if the driver does not report it."""
    speeds = ["?" if fan.speed_rpm is None else str(fan.speed_rpm) for fan in fans]
    if all(speed == "?" for speed in speeds):
        return ""
    return f"{'fan' if len(speeds) == 1 else 'fans'} at {' '.join(speeds)} rpm"


def bars(values: Iterable[float | None], low: float, high: float) -> str:
    """A bar for each value on a scale from `low` to `high`, and a gap for None.

    >>> bars([30, 60, None, 89, 120], 30, 90)
    '▁▅ ██'
    """
    line = ""
    for value in values:
        if value is None:
            line += " "
        else:
            step = int((value - low) / (high - low) * len(_BARS))
            line += _BARS[min(max(step, 0), len(_BARS) - 1)]
    return line


def hide_control_characters() -> None:
    """Prevent the terminal from echoing `^C`, which would shift the last table. Not reverted: it is harmless."""
    with suppress(OSError, ValueError, termios.error):
        attributes = termios.tcgetattr(sys.stdin.fileno())
        attributes[3] &= ~termios.ECHOCTL
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, attributes)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
