"""The commands `gpufan exporter` and `gpufan dashboard`: parse, call, print."""

import re
from pathlib import Path

import click

from gpufan.cli.options import FloatRange, debug_option, is_given, read_with, runtime_option
from gpufan.errors import InputError, MissingExtra
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT


def _address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`; without a host, every address of this machine. Raises InputError."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]\s]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise InputError(f"'{text}' is not an address: write it as 127.0.0.1:10835, [::1]:10835, or :10835 for all")
    return match[1] or match[2] or "", int(match[3])


@click.command(short_help="Serve metrics to Prometheus.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=read_with(_address),
    default="127.0.0.1:10835",
    show_default=True,
    help="Where to serve them, at /metrics; who reaches that can read them, without password or encryption.",
)
@click.option(
    "--textfile",
    type=click.Path(path_type=Path),
    metavar="FILE.prom",
    help="Write them to this file instead, for node_exporter's textfile collector.",
)
@click.option(
    "--every",
    "every_s",
    type=FloatRange(1, 3600),
    metavar="SECONDS",
    default=15.0,
    show_default=True,
    help="Time between two writes of the file.",
)
@click.option("--once", is_flag=True, help="Write the file once.")
@runtime_option
@debug_option
def exporter(
    listen: tuple[str, int], textfile: Path | None, every_s: float, once: bool, runtime_dir: Path | None
) -> None:
    """Tell Prometheus what the running gpufan does: temperatures, duties, states, errors.

    It reads gpufan's snapshot and nothing else, needs no rights, and outlives a restart of gpufan.
    """
    for name in ("every_s", "once"):
        if textfile is None and is_given(name):
            raise InputError(f"--{name.removesuffix('_s')} goes with --textfile: add that, or leave it out")
    if textfile is not None and is_given("listen"):
        raise InputError("--listen and --textfile exclude each other: start two of them")
    if once and is_given("every_s"):
        raise InputError("--once and --every exclude each other")
    if textfile is not None and textfile.suffix != ".prom":
        raise InputError(f"{textfile}: node_exporter reads only files whose names end with .prom")
    path = (runtime_dir or RUNTIME_FOLDER) / SNAPSHOT
    try:
        from gpufan.metrics.exporter import serve, write_textfile
    except ModuleNotFoundError as error:
        raise MissingExtra("metrics need", str(error.name), "metrics") from None
    if textfile is None:
        serve(listen, path, click.echo)
    else:
        write_textfile(textfile, path, None if once else every_s, lambda text: click.echo(f"gpufan: {text}", err=True))


@click.command(short_help="Write a Grafana dashboard and Prometheus alert rules.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    default=".",
    help="Where to write them. [default: here]",
)
@click.option("--force", is_flag=True, help="Replace files that are there with other content.")
@debug_option
def dashboard(output: Path, force: bool) -> None:
    """Write what looks after many boxes with gpufan: a dashboard for Grafana, and alert rules for Prometheus.

    Both take the metrics of `gpufan exporter`.
    """
    from gpufan.metrics.dashboard import contents
    from gpufan.system.files import write_files as write

    for line in write(output, contents(), force=force):
        click.echo(line)
