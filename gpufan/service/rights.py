"""Check whether this user can install or remove a service on this box, and let only one process do that at a time.

The user must be root. systemd must run the box. The folders of the unit files, the config file and the manifest must be
writable.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from gpufan.errors import GpufanError, NoPermission
from gpufan.service import config_file, manifest
from gpufan.system import files, systemctl
from gpufan.system.lock import folder_locks


def check_rights() -> None:
    """Raise GpufanError if this user cannot install or remove a service on this box.

    The error is NoPermission if the user is not root.
    """
    if os.geteuid() != 0:
        raise NoPermission("only root can install or remove a service: run this with sudo")
    if not systemctl.systemd_is_running():
        raise GpufanError(
            "systemd does not run this box, so gpufan cannot be a service: start it with `sudo gpufan run`"
        )
    for folder in (systemctl.UNIT_FOLDER, config_file.CONFIG.parent, manifest.PATH.parent):
        existing = files.existing_parent(folder)
        if not os.access(existing, os.W_OK):
            raise GpufanError(files.why_root_cannot_write(existing))


@contextmanager
def no_other_install() -> Iterator[None]:
    """Make sure that no other process installs or uninstalls the service during the block.

    Raises GpufanError if another process does not end that within ten seconds.
    """
    with folder_locks([systemctl.UNIT_FOLDER]):
        yield
