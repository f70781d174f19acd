"""The pretended monitor of `setup-xorg --edid`: its EDID, and the options that make X pretend this monitor. No I/O."""

from gpufan.xorg.config import Section
from gpufan.xorg.editor import Edits
from gpufan.xorg.tokens import normalized_name

PRETENDED_EDID = bytes.fromhex(
    "00ffffffffffff00"  # header
    "1e0601000100000001220103"  # maker GPF, product 1, serial number 1, week 1 of 2024, EDID 1.3
    "802018780e"  # digital, 32 cm by 24 cm, gamma 2.2, sRGB, the first detailed timing is preferred
    "ee91a3544c99260f5054"  # primary colours and white of sRGB
    "210800"  # 640x480, 800x600 and 1024x768, each at 60 Hz
    "01010101010101010101010101010101"  # no standard timings
    "64190040410026301888360040f010000018"  # 1024x768 at 60 Hz
    "000000fc0067707566616e0a202020202020"  # name: gpufan
    "000000fd00324b1e3c08000a202020202020"  # 50 to 75 Hz, 30 to 60 kHz, at most 80 MHz
    "000000100000000000000000000000000000"  # unused descriptor
    "00"  # no extension blocks
    "8f"  # checksum: all bytes add up to a multiple of 256
)
"""EDID 1.3 of a digital monitor, in the layout of VESA's E-EDID Standard, release A.

The timing is VESA's DMT 0x10: 65 MHz, 1024 + 24 + 136 + 160 pixels, 768 + 3 + 6 + 29 lines, both syncs negative."""

MonitorOptions = tuple[tuple[str, str], ...]
"""Names and values of the options that make X pretend a monitor; empty if X is not to pretend a monitor."""


def monitor_options(edid_path: str | None) -> MonitorOptions:
    """Return the options of a Device that make X pretend a monitor. `edid_path` is the EDID file of the monitor.

    If `edid_path` is None, return no options.
    """
    if edid_path is None:
        return ()
    return ("ConnectedMonitor", "DFP-0"), ("CustomEDID", f"DFP-0:{edid_path}")


def pretend_monitor(edits: Edits, screen: Section | None, device: Section, options: MonitorOptions) -> None:
    """Add `options` to `device`, so that X pretends a monitor. The changes are added to `edits`.

    `options` are those that `monitor_options` returned. `screen` and `device` are the sections of the X screen. If the
    user already pretends another monitor in one of these sections, nothing is added.
    """
    if users_monitor_option(screen, device, options) is None:
        for name, value in options:
            if device.option(normalized_name(name)) is None:
                edits.add_entry(device, f'Option "{name}" "{value}"')


def users_monitor_option(screen: Section | None, device: Section, options: MonitorOptions) -> str | None:
    """Return the name of the first option in `options` that `device` or `screen` sets to another value.

    With such an option, the user pretends another monitor. Returns None if there is no such option.
    """
    for name, value in options:
        for section in (device, *([screen] if screen else [])):
            option = section.option(normalized_name(name))
            if option and (option.value is None or option.value.text != value):
                return name
    return None
