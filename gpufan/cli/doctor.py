"""The command `gpufan doctor`."""

from pathlib import Path

import click
import msgspec
from rich.console import Console

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.doctor.bundle import check_bundle_path, write_bundle
from gpufan.doctor.findings import Level
from gpufan.doctor.judge import judge
from gpufan.doctor.look import gather_facts
from gpufan.doctor.prove_fans import prove_fans
from gpufan.doctor.show import print_report


@click.command(cls=Command)
@click.option("--try-fans", is_flag=True, help="Change the speed of all fans for a moment, as a proof; needs root.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings for programs.")
@options.file(
    "--bundle", help="Write the facts that help to explain a fault to a new .tar.gz file, without private data."
)
@options.config
@options.runtime_dir
def doctor(try_fans: bool, as_json: bool, bundle: Path | None, config_path: Path | None, runtime_dir: Path) -> None:
    """Check the driver, the cards, the service and this machine, and say what to do.

    Changes nothing, needs no root, and ends within seconds. The exit status is 1 when there is a problem.
    """
    if bundle is not None:
        check_bundle_path(bundle)
    proofs = prove_fans(runtime_dir, config_path) if try_fans else ()
    facts = gather_facts(runtime_dir, config_path, proofs)
    report = judge(facts)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        print_report(report, Console(highlight=False))
    if bundle is not None:
        write_bundle(bundle, facts, report)
        click.echo(f"wrote {bundle}: look through it before you send it, with `tar -tzvf {bundle}`", err=as_json)
    if report.level is Level.PROBLEM:
        click.get_current_context().exit(1)
