"""Find in the log of an X server why the server failed to start, and what the user can do. Reads no files."""

import re

from gpufan.system.printable import printable

_OTHER_SERVER = (
    "another X server, a Wayland session or a container holds the card: name that server with --display, or stop it"
)
_KERNEL_MODULE = "load the kernel module with `modprobe nvidia` (`dmesg | grep -i nvidia` says why it is not)"

_KNOWN = [
    # Xorg 21.1 itself.
    (r"Parse error on line .*(?:\n.*)?", "correct that line"),
    (r"Data incomplete in file .*(?:\n.*)?", "correct that file"),
    (r'Failed to load module "nvidia".*', "install the X driver of NVIDIA (Debian: xserver-xorg-video-nvidia)"),
    (r"(?:parse_vt_settings|xf86OpenConsole): Cannot .*", "run as root, on a machine with a console"),
    (r"Cannot establish any listening sockets", "stop the X server on that display"),
    (r"Unable to locate/open config file.*", "check that path"),
    # NVIDIA's X driver, as in users' reports and in its README.
    (r"NVIDIA.*: API mismatch", "the driver was updated under the running kernel module: reboot"),
    (r"NVIDIA.*: Failed to initialize the NVIDIA kernel module", _KERNEL_MODULE),
    (r"NVIDIA.*: Failed to acquire modesetting permission", _OTHER_SERVER),
    (r"NVIDIA.*: Failed to initialize the NVIDIA GPU at [\w:@]+", "see `dmesg | grep -i nvrm` for that card"),
    (
        r"NVIDIA.*: GPU screens are not yet supported.*",
        'one server must have all cards, each with a Device and a Screen, and Option "AutoAddGPU" "false"',
    ),
    # These have many causes, so they come last.
    (r"No devices detected", "check BusID: it is decimal, where lspci and nvidia-smi print hexadecimal"),
    (
        r"Screen\(s\) found, but none have a usable configuration",
        'every Screen needs Option "AllowEmptyInitialConfiguration" "true"',
    ),
]

_NOISE = re.compile(
    r"no screens found|Please |Fatal server error|Server terminated|dbus-core|systemd-logind"
    r"|Problem parsing|Error parsing|warning, \(EE\) error|^$"
)


def find_cause_in_log(text: str) -> str | None:
    """Find the error that stopped an X server, in the log `text` of the server.

    Returns the error, followed by its remedy if a remedy is known. Returns None if the log has no error.

    >>> find_cause_in_log("[ 14.8] (EE) No devices detected.")
    'No devices detected: check BusID: it is decimal, where lspci and nvidia-smi print hexadecimal'
    """
    text = re.sub(r"^\[ *[\d.]+\] ", "", text, flags=re.MULTILINE)
    for pattern, remedy in _KNOWN:
        if match := re.search(rf"^(?:\(EE\) )?({pattern})", text, re.MULTILINE):
            return f"{_xorg_log_line(match[1])}: {remedy}"
    errors = (line.removeprefix("(EE)").strip() for line in text.splitlines() if line.startswith("(EE)"))
    return next((_xorg_log_line(line) for line in errors if not _NOISE.search(line)), None)


def _xorg_log_line(text: str) -> str:
    """Return a message of the log as one printable line. Remove the mark `(EE)` and full stops from its end."""
    return " ".join(printable(text).split()).removesuffix("(EE)").rstrip(". ")
