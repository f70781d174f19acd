"""Find and load the files in `templates/` and `systemd/`, which are not code."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gpufan.errors import GpufanError

if TYPE_CHECKING:
    import jinja2

_PACKAGE = Path(__file__).resolve().parents[1]


def resource(name: str) -> Path:
    """Return the path of the file `name` in the installation or in the source tree.

    `name` is a relative path, such as `templates/xorg.conf.j2`. Raises GpufanError if the file is missing.
    """
    # A wheel installs them beside the code; in the source tree they are one level up.
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).is_file():
            return root / name
    raise GpufanError(f"{name} is missing from this installation of gpufan: install it again")


@cache
def template(name: str) -> "jinja2.Template":
    """Load and return the Jinja template in the file `name`. Raises GpufanError if the file is missing.

    A template raises an error for an unknown variable. A template for HTML escapes the values of variables.
    """
    # Imported late: it loads slowly, and few commands need it.
    import jinja2

    environment = jinja2.Environment(
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.from_string(resource(name).read_text("utf-8"))
