"""What lies where a shell looks for it: manual pages and completion."""

from pathlib import Path

import click

from gpufan.cli.completion import script
from gpufan.cli.man import page
from gpufan.system import paths


def shell_files(cli: click.Group) -> dict[Path, str]:
    """Text by path of all of them."""
    share = paths.PREFIX / "share"
    return {
        share / "man/man1/gpufan.1": page("gpufan.1", cli),
        share / "man/man5/gpufan.toml.5": page("gpufan.toml.5", cli),
        share / "bash-completion/completions/gpufan": script("bash", cli),
        share / "fish/vendor_completions.d/gpufan.fish": script("fish", cli),
        share / "zsh/site-functions/_gpufan": script("zsh", cli),
    }
