"""The parts of both live tables: the table of the cards, and a line of bars."""

import sys
import termios
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from rich.console import Group as RichGroup
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gpufan.core.reasons import Group
from gpufan.core.sentences import duty_text, notes, state_sentence
from gpufan.core.severity import Severity, reason_severity, severity
from gpufan.core.snapshot import GpuState

_BARS = "▁▂▃▄▅▆▇█"


def card_style(gpu: GpuState) -> str:
    """The style of the text about a card: red for a problem, a fault or the fail-safe, yellow for lesser ones."""
    worst = severity(gpu)
    if worst is Severity.PROBLEM or reason_severity(gpu):
        return "bold red"
    return "yellow" if worst or gpu.reason.cause.group is Group.FULL else ""


def cards_table(gpus: Sequence[GpuState], below: Callable[[GpuState], RenderableType]) -> Table:
    """Make a table with a row for each card: readings, duty and reason. Below the reason is the result of `below`."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("GPU", no_wrap=True)
    for heading in ("°C", "W", "set", "read"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why", ratio=1)
    for gpu in gpus:
        table.add_row(
            Text(gpu.label),
            _number(gpu.temperature_c),
            _number(gpu.power_w),
            duty_text(gpu),
            " ".join(_number(fan.speed_percent) for fan in gpu.fans) or "-",
            RichGroup(Text("; ".join([state_sentence(gpu), *notes(gpu)]), style=card_style(gpu)), below(gpu)),
        )
    return table


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
