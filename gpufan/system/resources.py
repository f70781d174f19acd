"""Find and load the files that are not code: `templates/` and `systemd/`."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gpufan.errors import GpufanError

if TYPE_CHECKING:
    import jinja2

_PACKAGE = Path(__file__).resolve().parents[1]


def resource(name: str) -> Path:
    """Return the path of the file `name`, such as `templates/xorg.conf.j2`, in the installation or the source tree.

    Raises GpufanError if the installation lacks it.
    """
    # A wheel installs them beside the code; in the source tree they are one level up.
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).is_file():
            return root / name
    raise GpufanError(f"{name} is missing from this installation of gpufan: install it again")


@cache
def template(name: str) -> "jinja2.Template":
    """Return the template in the file `name`. An unknown variable is an error; HTML pages escape their values."""
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
