"""Links that open the page: their text, and the file with the key by which another process can make them."""

import os
import re
from contextlib import suppress
from pathlib import Path

from gpufan.errors import GpufanError, NoPermission
from gpufan.system.files import replace_unsynced
from gpufan.web.access import KEY_BYTES, LOCAL_HOSTS, new_login_token

_FILE_BYTES = 512


def page_link(host: str, port: int, token: str) -> str:
    """Return the link that opens the page with this `token`. `host` is the host to listen on."""
    return f"http://{host_and_port((local_host(host), port))}/?token={token}"


def tunnel_command(host: str, port: int) -> str | None:
    """Return the command that makes the page reachable from another computer; None if it is reachable anyway.

    `host` is the host to listen on.
    """
    if host not in LOCAL_HOSTS:
        return None
    return f"ssh -L {port}:{host_and_port((host, port))} {os.uname().nodename}"


def local_host(host: str) -> str:
    """Return a host by which a browser on this machine reaches the page. `host` is the host to listen on."""
    return "127.0.0.1" if is_any_address(host) else host


def is_any_address(host: str) -> bool:
    """Whether `host`, the host to listen on, stands for all addresses of this machine."""
    return host in ("", "0.0.0.0", "::")


def host_and_port(listen: tuple[str, int]) -> str:
    """Return host and port as in a URL: `127.0.0.1:10836`, `[::1]:10836`."""
    host, port = listen
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def write_key_file(path: Path, key: bytes, listen: tuple[str, int]) -> None:
    """Write `key` and the address of the page to the file `path`. Only this user and root can read it.

    Raises GpufanError if that fails.
    """
    try:
        replace_unsynced(path, f"{host_and_port(listen)}\n{key.hex()}\n".encode(), mode=0o600)
    except OSError as error:
        raise GpufanError(f"{path} cannot be written: {error.strerror}; choose another --key-file") from error


def remove_key_file(path: Path) -> None:
    """Remove the file `path`, if it exists."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def link_of_running_page(path: Path) -> tuple[str, str | None]:
    """Return a new link to the page that has written the key file `path`, and the command to reach it through SSH.

    The file belongs to a process without rights, so nothing that it contains is trusted. Raises NoPermission if this
    user cannot read it, GpufanError if no page has written it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, _FILE_BYTES).decode("ascii", "replace")
        finally:
            os.close(descriptor)
    except PermissionError:
        raise NoPermission(f"only root can make a link to this page (it needs {path}): run this with sudo") from None
    except FileNotFoundError:
        remedy = "`sudo gpufan install-service --web` starts it, and `gpufan web` shows it at once"
        raise GpufanError(f"no page runs as a service (no {path}): {remedy}") from None
    except OSError as error:
        raise GpufanError(f"{path} cannot be read: {error.strerror}") from error
    match = re.fullmatch(
        rf"(?:\[([0-9a-f:.]+)\]|([0-9A-Za-z.-]*)):([0-9]{{1,5}})\n([0-9a-f]{{{2 * KEY_BYTES}}})\n", text
    )
    if match is None:
        raise GpufanError(f"{path} is not a key of the page: restart gpufan-web.service")
    host, port = match[1] or match[2], int(match[3])
    return page_link(host, port, new_login_token(bytes.fromhex(match[4]))), tunnel_command(host, port)
