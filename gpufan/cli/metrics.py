"""The command `gpufan exporter`."""

import re
from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.errors import InputError, MissingExtra
from gpufan.system.paths import SNAPSHOT
from gpufan.terminal.log import log_to_stderr


def _read_listen_option(text: str) -> tuple[str, int]:
    """Convert `text`, in the form `HOST:PORT`, to a host and a port.

    An empty host stands for every address of this machine. Raises InputError if `text` does not have this form.
    """
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]\s]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise InputError(f"'{text}' is not an address: write it as 127.0.0.1:10835, [::1]:10835, or :10835 for all")
    return match[1] or match[2] or "", int(match[3])


@click.command(cls=Command)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    type=options.parsed_option_type(_read_listen_option),
    default="127.0.0.1:10835",
    help="Where to serve the metrics, at /metrics. Whoever reaches the address can read them: there is no password.",
)
@options.file(
    "--textfile", metavar="FILE.prom", help="Write to this file instead, for the textfile collector of node_exporter."
)
@click.option(
    "--every", "every_s", type=options.FloatRange(1, 3600), metavar="SECONDS", default=15, help="Time between writes."
)
@click.option("--once", is_flag=True, help="Write the file once, and end.")
@options.runtime_dir
def exporter(listen: tuple[str, int], textfile: Path | None, every_s: float, once: bool, runtime_dir: Path) -> None:
    """Serve temperatures, duties, states and errors of the running gpufan as metrics for Prometheus.

    The exporter only reads the snapshot of gpufan. It needs no rights, and keeps running when gpufan restarts.
    """
    if textfile is None:
        options.refuse_options(["every_s", "once"], "goes with --textfile: add that, or leave it out")
    else:
        options.refuse_options(["listen"], "and --textfile exclude each other: start two exporters")
        if textfile.suffix != ".prom":
            raise InputError(f"{textfile}: node_exporter reads only files whose names end with .prom")
    if once:
        options.refuse_options(["every_s"], "and --once exclude each other: leave out one")
    try:
        from gpufan.metrics.exporter import serve_metrics, update_metrics_textfile, write_metrics_textfile
    except ModuleNotFoundError as error:
        raise MissingExtra("metrics need", str(error.name), "metrics") from None
    path = runtime_dir / SNAPSHOT
    if textfile is None:
        serve_metrics(listen, path, click.echo)
    elif once:
        write_metrics_textfile(textfile, path)
    else:
        with log_to_stderr():
            update_metrics_textfile(textfile, path, every_s)
