"""The command `gpufan set`."""

from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.config.order import SYNTAX, order_of_words
from gpufan.daemon import set_fans as orders
from gpufan.errors import InputError
from gpufan.system.paths import RUNTIME_FOLDER
from gpufan.terminal.service_state import service_state_explains


def _complete_set_words(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the words of orders that begin with `incomplete`. The shell offers them as completions."""
    return [word for word in ("auto", "max", "target", "curve") if word.startswith(incomplete)]


@click.command("set", cls=Command)
@click.argument("words", metavar="[60|auto|max|target °C|curve T:D,...]", nargs=-1, shell_complete=_complete_set_words)
@options.gpu_or_case_fan
@options.duration("--for", "for_s", show_default="until cleared", help="The order ends by itself after this time.")
@click.option("--keep", is_flag=True, help="Keep the order when gpufan or the machine is started anew.")
@click.option("--clear", is_flag=True, help="End the order: gpufan follows its settings again.")
@options.runtime_dir
def set_fans(
    words: tuple[str, ...], gpus: tuple[str, ...], for_s: float | None, keep: bool, clear: bool, runtime_dir: Path
) -> None:
    """Order what the fans do for now, without a change of the settings.

    `sudo gpufan set max --for 10m` runs the fans at full speed for ten minutes, `set 40 --gpu 0` runs those of card 0
    at 40 % until `set --clear`. `set auto` leaves the fans to the driver, `set target 75` holds 75 °C with the least
    sound, and `set curve 50:30,83:100` follows this curve.

    `set 60 --gpu nct6798/pwm2` is for a case fan, which obeys only an order with its name. It can have a duty, a curve,
    or `auto`, which leaves it to the BIOS, but no target.

    An order ends with --clear or after --for. It also ends when gpufan is started anew, unless --keep is given. A new
    order replaces the one before. While no gpufan is running, --keep stores an order for its next start; --clear
    removes it.

    An order cannot set a duty below the lowest one of the card. Fans still go to full speed near the slowdown threshold
    of the card, or when its temperature is in doubt. `gpufan status` shows the order.
    """
    if clear:
        if words:
            raise InputError(f"{' '.join(words)} is a new order, and --clear ends one: leave one of them out")
        options.refuse_options(["for_s", "keep"], "is for a new order, and --clear ends one: leave one of them out")
        lines = orders.clear_set_orders(gpus, runtime_dir)
    elif not words:
        raise InputError(f"nothing is ordered: write {SYNTAX}, or --clear")
    else:
        order = order_of_words(words)
        with service_state_explains(runtime_dir == RUNTIME_FOLDER):
            lines = orders.set_fans(order, gpus, runtime_dir, for_s=for_s, keep=keep)
    for line in lines:
        click.echo(line)
