"""The command `gpufan doctor`: parse, look, judge, print."""

from pathlib import Path

import click

from gpufan.cli.options import config_option, debug_option, runtime_option


@click.command(short_help="Find what is wrong here, and what to do about it.")
@click.option("--try-fans", is_flag=True, help="Move the fans of every card by a step, and give them back; needs root.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings for programs.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all that helps to understand a fault to a new .tar.gz, with nothing private in it.",
)
@config_option
@runtime_option
@debug_option
def doctor(
    try_fans: bool, as_json: bool, bundle: Path | None, config_path: Path | None, runtime_dir: Path | None
) -> None:
    """Look at driver, cards, service and box, and say what to do.

    Changes nothing, works for any user, and takes some seconds at most. Exit status 1 where there is a problem.
    """
    from gpufan.doctor.checks import examine
    from gpufan.doctor.probe import gather, try_the_fans

    if bundle is not None:
        from gpufan.doctor.bundle import check_free

        check_free(bundle)
    proofs = try_the_fans(runtime_dir, config_path) if try_fans else ()
    facts = gather(runtime_dir, config_path, proofs)
    report = examine(facts)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        from rich.console import Console

        from gpufan.doctor.show import print_report

        print_report(report, Console(highlight=False))
    if bundle is not None:
        from gpufan.doctor.bundle import write_bundle

        write_bundle(bundle, facts, report)
        click.echo(f"wrote {bundle}: look through it before you send it, with `tar -tzvf {bundle}`", err=as_json)
    if report.level == "problem":
        click.get_current_context().exit(1)
