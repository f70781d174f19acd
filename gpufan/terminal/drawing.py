"""What both live tables are drawn with: a table of the cards, and a line of bars."""

import sys
import termios
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from rich.console import Group as RichGroup
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gpufan.core.gpu import FanReading
from gpufan.core.reasons import Group
from gpufan.core.sentences import duty_text, notes, state_sentence
from gpufan.core.snapshot import GpuState

SCALE_C = (30, 90)
"""What the lowest and the highest bar of a temperature stand for, °C."""

_BARS = "▁▂▃▄▅▆▇█"
_STYLE = {
    **dict.fromkeys((Group.FAIL_SAFE, Group.FAULT, Group.LOST, Group.HANG), "bold red"),
    Group.FULL: "yellow",
}


def cards_table(gpus: Sequence[GpuState], below: Callable[[GpuState], RenderableType]) -> Table:
    """A row for each card: what was read, what was set and why, and under that what `below` draws of it."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("GPU", no_wrap=True)
    table.add_column("°C", justify="right", no_wrap=True)
    table.add_column("W", justify="right", no_wrap=True)
    table.add_column("set", justify="right", no_wrap=True)
    table.add_column("read", justify="right", no_wrap=True)
    table.add_column("why", ratio=1)
    for gpu in gpus:
        table.add_row(
            Text(gpu.label),
            _whole(gpu.temperature_c),
            _whole(gpu.power_w),
            duty_text(gpu),
            " ".join(_speed(fan) for fan in gpu.fans) or "-",
            RichGroup(Text("; ".join([state_sentence(gpu), *notes(gpu)]), style=_style(gpu)), below(gpu)),
        )
    return table


def _style(gpu: GpuState) -> str:
    return _STYLE.get(gpu.reason.cause.group, "")


def bars(values: Iterable[float | None], low: float, high: float) -> str:
    """A bar for each of `values` between `low` and `high`, and a gap for None.

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
    """Keep the terminal from echoing `^C`, which would shift the last table by a line. Harmless if it stays so."""
    with suppress(OSError, ValueError, termios.error):
        attributes = termios.tcgetattr(sys.stdin.fileno())
        attributes[3] &= ~termios.ECHOCTL
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, attributes)


def _speed(fan: FanReading) -> str:
    return "-" if fan.speed_percent is None else str(fan.speed_percent)


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
