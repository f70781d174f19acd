"""The one line of an X server's log that matters. Lines are as Xorg 21.1 writes them, or as they stand in reports."""

import pytest

from gpufan.xorg.server_log import find_cause_in_log

ENDING = """[    14.816] (EE)
Fatal server error:
[    14.816] (EE) no screens found(EE)
[    14.816] (EE)
Please consult the The X.Org Foundation support
[    14.816] (EE) Please also check the log file at "/run/gpufan/x/Xorg.log" for additional information.
[    14.816] (EE) Server terminated with error (1). Closing log file.
"""

KNOWN = {
    "held by another server (coolgpus#8)": (
        "[ 89013.217] (EE) NVIDIA(G0): GPU screens are not yet supported by the NVIDIA driver\n"
        "[ 89013.226] (EE) NVIDIA(GPU-1): Failed to acquire modesetting permission.\n",
        "NVIDIA(GPU-1): Failed to acquire modesetting permission: another X server, a Wayland session",
    ),
    "driver without GPU screens": (
        "[ 89013.217] (EE) NVIDIA(G0): GPU screens are not yet supported by the NVIDIA driver\n"
        "[ 89013.217] (EE) NVIDIA(G0): Failing initialization of X screen\n",
        "NVIDIA(G0): GPU screens are not yet supported by the NVIDIA driver: one server must have all cards",
    ),
    "kernel module missing": (
        "[    14.8] (EE) NVIDIA: Failed to initialize the NVIDIA kernel module. Please see the\n"
        "[    14.8] (EE) NVIDIA:     system's kernel log for additional error messages.\n"
        "[    14.8] (EE) No devices detected.\n",
        "NVIDIA: Failed to initialize the NVIDIA kernel module: load the kernel module with `modprobe nvidia`",
    ),
    "X driver missing": (
        '[    14.8] (WW) Warning, couldn\'t open module nvidia\n[    14.8] (EE) Failed to load module "nvidia" '
        "(module does not exist, 0)\n[    14.8] (EE) No drivers available.\n",
        'Failed to load module "nvidia" (module does not exist, 0): install the X driver of NVIDIA',
    ),
    "card dead": (
        "[  5.1] (EE) NVIDIA(GPU-0): Failed to initialize the NVIDIA GPU at PCI:10:0:0.  Please\n"
        "[  5.1] (EE) NVIDIA(GPU-0):     check your system's kernel log for additional error\n",
        "NVIDIA(GPU-0): Failed to initialize the NVIDIA GPU at PCI:10:0:0: see `dmesg",
    ),
    "BusID of no card": (
        "[  1409.907] (EE) open /dev/dri/card0: No such file or directory\n[  1409.907] (EE) No devices detected.\n",
        "No devices detected: check BusID: it is decimal",
    ),
    "no monitor": (
        "[  14.8] (EE) Screen(s) found, but none have a usable configuration.\n",
        'Screen(s) found, but none have a usable configuration: every Screen needs Option "AllowEmpty',
    ),
    "syntax": (
        "(==) Using system config directory\nParse error on line 3 of section Device in file /run/gpufan/x/xorg.conf\n"
        '\t"Drivr" is not a valid keyword in this section.\n(EE) Problem parsing the config file\n',
        "Parse error on line 3 of section Device in file /run/gpufan/x/xorg.conf"
        ' "Drivr" is not a valid keyword in this section: correct that line',
    ),
    "not root": (
        "(EE) parse_vt_settings: Cannot open /dev/tty0 (Permission denied)\n",
        "parse_vt_settings: Cannot open /dev/tty0 (Permission denied): run as root",
    ),
}


@pytest.mark.parametrize("case", KNOWN)
def test_a_known_cause_is_found_with_its_remedy(case: str) -> None:
    text, expected = KNOWN[case]
    found = find_cause_in_log(text + ENDING)
    assert found is not None
    assert found.startswith(expected)
    assert "\n" not in found


def test_an_unknown_cause_is_the_first_error_with_content() -> None:
    text = (
        "[  4.7] (EE) dbus-core: error connecting to system bus\n"
        "[  4.8] (EE) NVIDIA(0): The widget is on fire.\n[  4.9] (EE) NVIDIA(0): Aborting\n"
    )
    assert find_cause_in_log(text + ENDING) == "NVIDIA(0): The widget is on fire"


def test_a_log_without_errors_has_no_cause() -> None:
    assert find_cause_in_log(ENDING) is None
