"""Loads the code of the page before the rights of root are given up, if it could not be read after that.

This is necessary where root has installed gpufan in its home, and serves the page as `nobody`. Python loads many
modules only when they are needed; so the code that may need them is run here once.
"""

import importlib
import os
import pkgutil
from contextlib import suppress
from pathlib import Path

import msgspec

import gpufan
from gpufan.config.toml_text import render_settings_text
from gpufan.web.card_model import ONE_THREAD
from gpufan.web.page_settings import PageSettings, text_with_page_settings
from gpufan.web.rights import User

_MODULES = (
    *("concurrent.futures.process", "concurrent.futures.thread", "encodings.idna", "encodings.utf_8_sig", "sqlite3"),
    *("multiprocessing.context", "multiprocessing.popen_fork", "multiprocessing.queues", "multiprocessing.synchronize"),
    *("scipy.optimize", "traceback", "uvicorn.lifespan.off", "uvicorn.loops.asyncio"),
)
"""Modules outside gpufan that the code below does not load."""
_ROOMS = ("gpufan.web", "gpufan.history", "gpufan.tune", "gpufan.config", "gpufan.system")


def load_hidden_code(user: User) -> None:
    """Load all modules that the page may need later, if `user` cannot read them, as in a folder of root's home.

    Call this before `drop_rights`.
    """
    if all(_is_readable_for(Path(str(file)), user) for file in (os.__file__, gpufan.__file__, msgspec.__file__)):
        return
    os.environ.update(ONE_THREAD)
    for name in _MODULES:
        with suppress(ModuleNotFoundError):  # of an extra that is not installed
            importlib.import_module(name)
    for package in _ROOMS:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            with suppress(ModuleNotFoundError):
                importlib.import_module(module.name)
    text_with_page_settings(render_settings_text(), PageSettings(target_c=75.0))


def _is_readable_for(path: Path, user: User) -> bool:
    """Whether `user`, whose only group is `user.gid`, can read the file `path`."""
    for number, part in enumerate((path, *path.parents)):
        status = part.stat()
        shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
        if not status.st_mode >> shift & (1 if number else 4):
            return False
    return True
