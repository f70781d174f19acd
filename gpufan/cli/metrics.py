"""The command `gpufan exporter`."""

from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.errors import InputError, MissingExtra
from gpufan.system.paths import SNAPSHOT
from gpufan.terminal.log import log_to_stderr


@click.command(cls=Command)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    type=options.parsed_option_type(options.read_listen_option),
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
            raise InputError(f"{textfile}: node_exporter reads only files whose names end with .prom: name such a file")
        if textfile.exists() and not textfile.is_file():
            raise InputError(f"{textfile} is not a file: name another --textfile")
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
