"""Completion by the shell: the command `gpufan completion`, the scripts that it prints, and the names of cards."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from gpufan.cli.command import Command
from gpufan.cli.main import cli
from gpufan.errors import GpufanError
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT

if TYPE_CHECKING:
    from gpufan.core.snapshot import GpuState

SHELLS = ("bash", "fish", "zsh")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script with which a shell completes gpufan.

    install-service installs it for every shell. Without the service, run `source <(gpufan completion bash)`.
    """
    click.echo(completion_script(shell), nl=False)


def completion_script(shell: str) -> str:
    """Return the completion script for `shell`: bash, fish or zsh."""
    kind = get_completion_class(shell)
    assert kind is not None
    generator = kind(cli, {}, "gpufan", "_GPUFAN_COMPLETE")
    # Not `source()`: for bash that runs the bash of this machine, to ask for its version.
    return generator.source_template % generator.source_vars()


def complete_card(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the indices and UUIDs that begin with `incomplete`, among those of the cards in the snapshot.

    The result is empty if there is no snapshot. The driver is not asked, since it may hang.
    """
    gpus, _ = _states_to_complete(context)
    # No PCI addresses: bash splits a word at each colon.
    names = [(str(gpu.index), f"{gpu.label} {gpu.pci}") for gpu in gpus] + [(gpu.uuid, gpu.label) for gpu in gpus]
    return [CompletionItem(name, help=about) for name, about in names if name.startswith(incomplete)]


def complete_card_or_case_fan(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return what `complete_card` returns, and the names of case fans that begin with `incomplete`."""
    _, fans = _states_to_complete(context)
    found = [CompletionItem(fan.name, help="case fan") for fan in fans if fan.name.startswith(incomplete)]
    return [*complete_card(context, parameter, incomplete), *found]


def _states_to_complete(context: click.Context) -> tuple[Sequence["GpuState"], Sequence["GpuState"]]:
    """Return the states of the cards and of the case fans in the snapshot; none if there is no snapshot."""
    from gpufan.daemon import snapshot_file

    try:
        snapshot = snapshot_file.read_snapshot(context.params.get("runtime_dir", RUNTIME_FOLDER) / SNAPSHOT)
    except GpufanError:
        return (), ()
    return snapshot.gpus, snapshot.case_fans
