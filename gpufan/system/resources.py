"""Where the files that are not code lie: `templates/` and `systemd/`."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gpufan.errors import GpufanError

if TYPE_CHECKING:
    import jinja2

_PACKAGE = Path(__file__).resolve().parents[1]


def resource(name: str) -> Path:
    """Path of a file such as `templates/xorg.conf.j2`, installed or in the source tree.

    Raises GpufanError where the installation lacks it.
    """
    # Beside the code once installed from a wheel; one level up where the source tree itself is run.
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).is_file():
            return root / name
    raise GpufanError(f"{name} is missing from this installation of gpufan: install it again")


@cache
def template(name: str) -> "jinja2.Template":
    """The template in the file `name`, in which an unknown variable is an error; a page escapes what is put into it."""
    # Only here: it takes longer to load than all the rest.
    import jinja2

    environment = jinja2.Environment(
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.from_string(resource(name).read_text("utf-8"))
