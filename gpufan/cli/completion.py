"""Completion: the scripts for the shells, and the values that only this box knows."""

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from gpufan.errors import GpufanError
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT

SHELLS = ("bash", "fish", "zsh")


def script(shell: str, cli: click.Command) -> str:
    """What `shell` has to read to complete `gpufan`."""
    kind = get_completion_class(shell)
    assert kind is not None
    completion = kind(cli, {}, "gpufan", "_GPUFAN_COMPLETE")
    # Not `source()`, which for bash asks the one of this box how old it is.
    return completion.source_template % completion.source_vars()


def cards(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """Cards of the running gpufan, by index and by UUID. The driver is not asked: it may hang."""
    from gpufan.daemon import snapshot_file as snapshot

    folder = context.params.get("runtime_dir") or os.environ.get("GPUFAN_RUNTIME_DIR") or RUNTIME_FOLDER
    try:
        gpus = snapshot.read(Path(folder) / SNAPSHOT).gpus
    except GpufanError:
        return []
    # No PCI addresses: bash takes a word apart at each colon.
    names = [(str(gpu.index), f"{gpu.label} {gpu.pci}") for gpu in gpus] + [(gpu.uuid, gpu.label) for gpu in gpus]
    return [CompletionItem(name, help=what) for name, what in names if name.startswith(incomplete)]
