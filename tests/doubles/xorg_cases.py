"""Configurations of X as people have them, each with the graphics devices of its box and what `setup-xorg` does."""

from typing import NamedTuple

_VENDORS = {
    "nvidia": "0x10de",
    "vfio-pci": "0x10de",
    "i915": "0x8086",
    "amdgpu": "0x1002",
    "ast": "0x1a03",
    "": "0x1a03",
}

# What the command does.
NO_CHANGE, CHANGES, REFUSES, NEEDS_YES = "no change", "changes", "refuses", "needs yes"


class Case(NamedTuple):
    """One configuration."""

    files: dict[str, str]
    """Snippets and `xorg.conf`; a name with `/` is a file of a package."""
    devices: tuple[tuple[str, str, str, bool], ...]
    """Address, PCI vendor, kernel driver, and whether it is the boot VGA."""
    outcome: str
    out_of_reach: str = ""
    """Part of the line about a card that is out of reach after it; empty if there is none."""
    arguments: tuple[str, ...] = ()


def section(kind: str, name: str, *lines: str) -> str:
    body = "".join(f"    {line}\n" for line in ((f'Identifier "{name}"', *lines) if name else lines))
    return f'Section "{kind}"\n{body}EndSection\n\n'


def device(name: str, bus: int, *lines: str, driver: str = "nvidia") -> str:
    return section("Device", name, f'Driver "{driver}"', f'BusID "PCI:{bus}:0:0"', *lines)


def screen(name: str, device_name: str, *lines: str) -> str:
    return section("Screen", name, f'Device "{device_name}"', *lines)


def layout(name: str, *screens: str, more: tuple[str, ...] = ()) -> str:
    entries = [f'Screen {i} "{s}"' + (f' RightOf "{screens[i - 1]}"' if i else "") for i, s in enumerate(screens)]
    return section("ServerLayout", name, *entries, *more)


def box(*drivers: str) -> tuple[tuple[str, str, str, bool], ...]:
    """Devices by kernel driver; the first is the boot VGA. NVIDIA cards are at 01:00.0 and 41:00.0."""
    cards = iter(("0000:01:00.0", "0000:41:00.0", "0000:61:00.0"))
    others = iter(("0000:00:02.0", "0000:00:03.0"))
    places = [next(cards if _VENDORS[driver] == "0x10de" else others) for driver in drivers]
    return tuple((p, _VENDORS[d], d, i == 0) for i, (p, d) in enumerate(zip(places, drivers, strict=True)))


FANS, ALL = 'Option "Coolbits" "4"', 'Option "Coolbits" "28"'
WEAK = 'Option "Coolbits" "8"'
ONE, TWO = box("nvidia"), box("nvidia", "nvidia")
HYBRID = box("i915", "nvidia")
A, B = device("a", 1), device("b", 65)
INTEL = section("Device", "intel", 'Driver "modesetting"', 'BusID "PCI:0:2:0"')
OUTPUT_CLASS = section("OutputClass", "nvidia", 'MatchDriver "nvidia-drm"', 'Driver "nvidia"', "{}")

GIVEN = {
    "a snippet that allows fans": Case(
        {
            "20-nvidia.conf": section("Device", "Nvidia Card", 'Driver "nvidia"', ALL)
            + screen("Screen0", "Nvidia Card", 'Option "MetaModes" "nvidia-auto-select +0+0"')
        },
        ONE,
        NO_CHANGE,
    ),
    "a snippet for the Intel GPU": Case(
        {"20-intel.conf": section("Device", "Intel Graphics", 'Driver "intel"', 'BusID "PCI:0:2:0"')}, HYBRID, CHANGES
    ),
    "the Device in a snippet": Case(
        {"10-nvidia.conf": device("NvidiaCard", 1), "xorg.conf": layout("l", "s") + screen("s", "NvidiaCard")},
        ONE,
        CHANGES,
    ),
    "an OutputClass with bits": Case({"xorg.conf": OUTPUT_CLASS.format(ALL)}, ONE, CHANGES),
    "two seats": Case(
        {
            "xorg.conf": A
            + screen("s", "a")
            + layout("seat0", "s", more=('MatchSeat "seat0"',))
            + B
            + screen("t", "b")
            + layout("seat1", "t", more=('MatchSeat "seat1"',))
        },
        TWO,
        CHANGES,
    ),
    "a second Device without Driver": Case(
        {
            "xorg.conf": A
            + section("Device", "b", 'BusID "PCI:65:0:0"')
            + screen("s", "a")
            + screen("t", "b")
            + layout("l", "s", "t")
        },
        TWO,
        CHANGES,
    ),
    "two Screens of one name": Case(
        {"xorg.conf": A + B + screen("s", "a") + screen("s", "b") + layout("l", "s")}, TWO, CHANGES
    ),
    "an inactive card": Case(
        {"xorg.conf": layout("l", "i", more=('Inactive "a"',)) + INTEL + screen("i", "intel") + A},
        HYBRID,
        NO_CHANGE,
        "declares it Inactive: remove that line",
    ),
    "a Screen that does not exist": Case({"xorg.conf": A + layout("l", "nope")}, ONE, REFUSES),
}

OWN = {
    "no file": Case({}, ONE, CHANGES),
    "no file, two cards": Case({}, TWO, CHANGES),
    "no file, Intel drives the screen": Case({}, HYBRID, CHANGES),
    "no file, AMD drives the screen": Case({}, box("amdgpu", "nvidia", "nvidia"), CHANGES),
    "no file, the BMC drives the screen": Case({}, box("ast", "nvidia"), CHANGES),
    "no file, a GPU without driver drives the screen": Case({}, box("", "nvidia"), NEEDS_YES),
    "no file, a screen that may go dark": Case({}, box("", "nvidia"), CHANGES, arguments=("--yes",)),
    "a card of a virtual machine": Case({}, box("nvidia", "vfio-pci"), CHANGES),
    "only cards of virtual machines": Case({}, box("vfio-pci", "vfio-pci"), NEEDS_YES),
    "only input": Case({"10-input.conf": section("InputClass", "mouse", 'MatchIsPointer "on"')}, ONE, CHANGES),
    "a snippet without the bit": Case({"20.conf": device("c", 1, WEAK) + screen("s", "c")}, ONE, CHANGES),
    "a snippet of a package": Case({"/20.conf": A, "xorg.conf": screen("s", "a")}, ONE, CHANGES),
    "layout in a snippet": Case({"20.conf": layout("l", "s") + screen("s", "a"), "xorg.conf": A + B}, TWO, CHANGES),
    "Screen in a snippet": Case({"20.conf": screen("s", "a"), "xorg.conf": A + layout("l", "s")}, ONE, CHANGES),
    "every section in a file of its own": Case(
        {"10.conf": layout("l", "s"), "20.conf": screen("s", "a"), "30.conf": A}, ONE, CHANGES
    ),
    "a Device in a snippet and again in xorg.conf": Case(
        {"20.conf": device("a", 1), "xorg.conf": device("A", 1, FANS) + screen("s", "a")}, ONE, CHANGES
    ),
    "Coolbits in the Screen": Case({"xorg.conf": A + screen("s", "a", FANS)}, ONE, NO_CHANGE),
    "a weak Screen over a good Device": Case(
        {"xorg.conf": device("a", 1, FANS) + screen("s", "a", WEAK)}, ONE, CHANGES
    ),
    "a weak Monitor over a good Device": Case(
        {"xorg.conf": device("a", 1, FANS) + section("Monitor", "m", WEAK) + screen("s", "a", 'Monitor "m"')},
        ONE,
        CHANGES,
    ),
    "a good Screen over a weak Device": Case(
        {"xorg.conf": device("a", 1, WEAK) + screen("s", "a", FANS)}, ONE, NO_CHANGE
    ),
    "the first of two equal options is weak": Case(
        {"xorg.conf": device("a", 1, WEAK, FANS) + screen("s", "a")}, ONE, CHANGES
    ),
    "an OutputClass of a package with bits": Case({"/10.conf": OUTPUT_CLASS.format(WEAK)}, ONE, CHANGES),
    "an OutputClass over which a Device goes": Case(
        {"/10.conf": OUTPUT_CLASS.format(ALL), "xorg.conf": A + screen("s", "a")}, ONE, NO_CHANGE
    ),
    "a primary card by OutputClass": Case(
        {
            "/10.conf": OUTPUT_CLASS.format('Option "PrimaryGPU" "yes"'),
            "xorg.conf": section("Device", "a", 'Driver "nvidia"') + screen("s", "a"),
        },
        HYBRID,
        CHANGES,
    ),
    "a Device without BusID beside Intel": Case(
        {"xorg.conf": section("Device", "a", 'Driver "nvidia"') + screen("s", "a")}, HYBRID, CHANGES
    ),
    "a first Device without Driver": Case(
        {
            "xorg.conf": section("Device", "a", 'BusID "PCI:1:0:0"')
            + B
            + screen("s", "a")
            + screen("t", "b")
            + layout("l", "s", "t")
        },
        TWO,
        CHANGES,
    ),
    "an Intel Device without Driver": Case(
        {"xorg.conf": section("Device", "x", 'BusID "PCI:0:2:0"')}, HYBRID, NO_CHANGE, "has no Driver, so X drops"
    ),
    "a Device of nouveau": Case(
        {"xorg.conf": device("n", 1, driver="nouveau")}, ONE, NO_CHANGE, "gives it to another driver"
    ),
    "two Devices in a Screen": Case({"xorg.conf": A + B + screen("s", "a", 'Device "b"')}, TWO, CHANGES),
    "two Devices of one name": Case(
        {"xorg.conf": device("a", 1, FANS) + device("a", 65) + screen("s", "a")},
        TWO,
        NO_CHANGE,
        "X ignores this Device",
    ),
    "a GPUDevice": Case(
        {"xorg.conf": device("a", 1, FANS) + B + screen("s", "a", 'GPUDevice "b"')},
        TWO,
        NO_CHANGE,
        "has it as a GPUDevice",
    ),
    "a Device that X adds as GPUDevice": Case({"xorg.conf": A + B + screen("s", "a")}, TWO, CHANGES),
    "a GPUDevice of another maker that would be dropped": Case(
        {"xorg.conf": A + INTEL + screen("s", "a")}, box("nvidia", "i915", "nvidia"), NEEDS_YES
    ),
    "two heads of one card": Case(
        {
            "xorg.conf": device("a", 1, "Screen 0")
            + device("b", 1, "Screen 1")
            + screen("s", "a")
            + screen("t", "b")
            + layout("l", "s", "t")
        },
        ONE,
        CHANGES,
    ),
    "a Screen that names a missing Device": Case({"xorg.conf": A + screen("s", "typo")}, ONE, CHANGES),
    "a Screen without Device": Case({"xorg.conf": section("Screen", "s") + layout("l", "s")}, ONE, CHANGES),
    "a layout without Screen": Case({"xorg.conf": A + B + screen("s", "a") + layout("l")}, TWO, CHANGES),
    "a layout that ServerFlags choose": Case(
        {
            "xorg.conf": A
            + B
            + screen("s", "a")
            + screen("t", "b")
            + layout("one", "s")
            + layout("two", "t", "s")
            + section("ServerFlags", "", 'Option "DefaultServerLayout" "two"')
        },
        TWO,
        CHANGES,
    ),
    "ServerFlags in two files": Case(
        {
            "20.conf": section("ServerFlags", "", 'Option "DefaultServerLayout" "nope"'),
            "xorg.conf": A
            + screen("s", "a")
            + layout("one", "s")
            + section("ServerFlags", "", 'Option "BlankTime" "0"'),
        },
        ONE,
        CHANGES,
    ),
    "two layouts for two servers": Case(
        {
            "xorg.conf": device("a", 1, FANS)
            + B
            + screen("s", "a")
            + screen("t", "b")
            + layout("one", "s")
            + layout("two", "t")
        },
        TWO,
        NO_CHANGE,
        'ServerLayout "two" has it',
    ),
    "a layout that the user names": Case(
        {"xorg.conf": A + B + screen("s", "a") + screen("t", "b") + layout("one", "s") + layout("two", "t")},
        TWO,
        CHANGES,
        arguments=("--layout", "two"),
    ),
    "a seat that is not ours": Case(
        {
            "xorg.conf": device("a", 1, FANS)
            + screen("s", "a")
            + section("Device", "b", 'Driver "nvidia"', 'BusID "PCI:65:0:0"', 'MatchSeat "seat1"')
        },
        TWO,
        NO_CHANGE,
        "is for another seat",
    ),
    "a seat without a layout": Case(
        {
            "20.conf": section("Device", "a", 'Driver "nvidia"', 'BusID "PCI:1:0:0"', 'MatchSeat "seat0"'),
            "30.conf": INTEL.replace("EndSection", '    MatchSeat "seat1"\nEndSection'),
        },
        box("nvidia", "i915", "nvidia"),
        NEEDS_YES,
    ),
    "an empty Driver and an empty BusID": Case(
        {"20.conf": section("Device", "a", 'Driver ""', 'BusID ""'), "xorg.conf": screen("s", "a")}, TWO, CHANGES
    ),
    "an empty Driver on the second screen": Case(
        {
            "xorg.conf": A
            + section("Device", "b", 'Driver ""', 'BusID "PCI:65:0:0"')
            + screen("s", "a")
            + screen("t", "b")
            + layout("l", "s", "t")
        },
        TWO,
        CHANGES,
    ),
    "an unused Device with an empty Driver": Case(
        {"20.conf": INTEL, "xorg.conf": section("Device", "a", 'Driver ""', 'BusID "PCI:1:0:0"')}, HYBRID, CHANGES
    ),
    "three seats": Case(
        {
            "xorg.conf": "".join(
                device(name, bus) + screen(name, name) + layout(name, name, more=(f'MatchSeat "seat{place}"',))
                for place, (name, bus) in enumerate((("a", 1), ("b", 65), ("c", 97)))
            )
        },
        box("nvidia", "nvidia", "nvidia"),
        CHANGES,
    ),
    "two Screens for one Device without BusID": Case(
        {
            "10.conf": section("Device", "a", 'Driver "nvidia"'),
            "20.conf": screen("s", "a") + screen("t", "a") + layout("l", "s", "t"),
        },
        box("i915", "nvidia", "nvidia"),
        CHANGES,
    ),
    "the last of two drivers": Case(
        {"xorg.conf": section("Device", "a", 'Driver "nouveau"', 'Driver "nvidia"') + screen("s", "a")}, ONE, CHANGES
    ),
    "the last of two addresses": Case({"xorg.conf": device("a", 1, 'BusID "PCI:65:0:0"')}, TWO, CHANGES),
    "a GPUDevice that does not exist": Case({"xorg.conf": A + screen("s", "a", 'GPUDevice "x"')}, ONE, CHANGES),
    "a Monitor that does not exist": Case({"xorg.conf": A + screen("s", "a", 'Monitor "x"')}, ONE, CHANGES),
    "screens in the old form of a layout": Case(
        {
            "xorg.conf": A
            + screen("s", "a")
            + section("ServerLayout", "l", 'Screen "s" "" "" "" ""', 'InputDevice "k" "CoreKeyboard"')
            + section("InputDevice", "k", 'Driver "kbd"')
        },
        TWO,
        CHANGES,
    ),
    "one Screen twice in a layout": Case(
        {"xorg.conf": A + screen("s", "a") + section("ServerLayout", "l", 'Screen 0 "s"', 'Screen 1 "s"')}, TWO, CHANGES
    ),
    "a byte order mark": Case({"xorg.conf": "\ufeff" + A + screen("s", "a")}, ONE, REFUSES),
    "comments within statements": Case(
        {
            "xorg.conf": 'Section # "Screen"\n "Device" # EndSection\nIdentifier # "b"\n\n "a" Driver "nvidia"#\n'
            ' BusID "PCI:1:0:0" EndSection# end\n' + screen("s", "a") + "#last"
        },
        ONE,
        CHANGES,
    ),
    "bits without fans": Case({}, ONE, CHANGES, "does not contain 4", arguments=("--coolbits", "8")),
    "a misspelt keyword": Case({"20.conf": section("Device", "a", 'Drivr "nvidia"')}, ONE, REFUSES),
    "a misspelt section": Case({"xorg.conf": section("Devise", "a", 'Driver "nvidia"')}, ONE, REFUSES),
    "a section that is not closed": Case({"xorg.conf": A + 'Section "Screen"\n Identifier "s"\n'}, ONE, REFUSES),
    "a Device without Identifier": Case({"xorg.conf": section("Device", "", 'Driver "nvidia"')}, ONE, REFUSES),
    "an inactive Device that does not exist": Case(
        {"xorg.conf": A + layout("l", more=('Inactive "x"',))}, ONE, REFUSES
    ),
    "an InputDevice that does not exist": Case({"xorg.conf": A + layout("l", more=('InputDevice "x"',))}, ONE, REFUSES),
    "an InputDevice without Driver": Case({"30.conf": section("InputDevice", "k"), "xorg.conf": A}, ONE, REFUSES),
    "a default layout that does not exist": Case(
        {"xorg.conf": A + layout("l") + section("ServerFlags", "", 'Option "DefaultServerLayout" "x"')}, ONE, REFUSES
    ),
    "a BusID that is not decimal": Case(
        {"xorg.conf": section("Device", "a", 'Driver "nvidia"', 'BusID "PCI:0x01:0:0"', FANS) + screen("s", "a")},
        ONE,
        CHANGES,
    ),
    "a Coolbits that is no number": Case({"xorg.conf": device("a", 1, 'Option "Coolbits" "on"')}, ONE, CHANGES),
    "a Coolbits with a sign": Case({"xorg.conf": device("a", 1, 'Option "Coolbits" "-1"')}, ONE, NO_CHANGE),
    "an Option without quotes": Case(
        {"xorg.conf": device("a", 1, "Option Coolbits", FANS) + screen("s", "a")}, ONE, NO_CHANGE
    ),
    "a default layout without a name": Case(
        {
            "xorg.conf": device("a", 1, FANS)
            + screen("s", "a")
            + layout("l", "s")
            + section("ServerFlags", "", 'Option "DefaultServerLayout" ""')
        },
        ONE,
        NO_CHANGE,
    ),
    "octal and hexadecimal numbers of screens": Case(
        {
            "xorg.conf": A
            + B
            + screen("s", "a")
            + screen("t", "b")
            + section("ServerLayout", "l", 'Screen 010 "s"', 'Screen 0x2 "t"')
        },
        TWO,
        CHANGES,
    ),
    "an isolated device": Case(
        {"xorg.conf": A + screen("s", "a") + layout("l", "s", more=('Option "IsolateDevice" "PCI:1:0:0"',))},
        TWO,
        CHANGES,
    ),
    "an isolated device with a domain": Case(
        {"xorg.conf": A + screen("s", "a") + layout("l", "s", more=('Option "IsolateDevice" "PCI:1@0:0:0"',))},
        ONE,
        REFUSES,
    ),
    "a single card with a domain": Case(
        {
            "xorg.conf": section("Device", "a", 'Driver "nvidia"', 'BusID "PCI:1@0:0:0"')
            + screen("s", "a")
            + layout("l", "s", more=('Option "SingleCard"',))
        },
        ONE,
        REFUSES,
    ),
    "a depth that the driver does not have": Case(
        {"xorg.conf": A + screen("s", "a", "DefaultDepth 32")}, ONE, CHANGES, "has no such colour depth"
    ),
    "a Gamma out of range": Case(
        {"xorg.conf": A + section("Monitor", "m", "Gamma 1 11 1") + screen("s", "a", 'Monitor "m"')}, ONE, REFUSES
    ),
    "a Gamma out of range that nothing uses": Case(
        {"xorg.conf": A + section("Monitor", "m", "Gamma 11") + screen("s", "a")}, ONE, CHANGES
    ),
    "ranges that begin with the higher number": Case(
        {"xorg.conf": A + section("Monitor", "m", "HorizSync 80 - 30")}, ONE, REFUSES
    ),
    "a value without quotes": Case({"xorg.conf": section("Device", "a", "Driver nvidia")}, ONE, REFUSES),
    "Intel on a seat of its own": Case(
        {"20.conf": INTEL + screen("i", "intel") + layout("l", "i", more=('MatchSeat "seat1"',))}, TWO[:1], CHANGES
    ),
    "two seats, and a third card": Case(
        {
            "20.conf": A + B + screen("s", "a") + screen("t", "b"),
            "xorg.conf": layout("l", "s", more=('MatchSeat "seat0"',)) + layout("m", "t", more=('MatchSeat "seat1"',)),
        },
        box("nvidia", "nvidia", "nvidia"),
        CHANGES,
    ),
    "a screen on the left of the first one": Case(
        {
            "xorg.conf": A
            + B
            + screen("s", "a")
            + screen("t", "b")
            + section("ServerLayout", "l", 'Screen "s"', 'Screen "t" LeftOf "s"')
        },
        box("nvidia", "nvidia", "nvidia"),
        CHANGES,
    ),
    "a screen for VNC": Case(
        {"10.conf": section("Device", "vnc", 'Driver "dummy"', "VideoRam 256000") + screen("v", "vnc")}, TWO, CHANGES
    ),
    "two cards with SLI": Case(
        {"xorg.conf": A + screen("s", "a", 'Option "SLI" "Auto"') + layout("l", "s")}, TWO, NEEDS_YES
    ),
    "a ModulePath that does not exist": Case(
        {"20.conf": section("Files", "", 'ModulePath "/usr/lib/nvidia-384/xorg"'), "xorg.conf": A},
        ONE,
        NO_CHANGE,
        "looks for drivers only in this ModulePath",
    ),
    "the second of two ModulePaths": Case(
        {
            "20.conf": section("Files", "", 'ModulePath "/usr/lib/nvidia-384/xorg"'),
            "xorg.conf": section("Files", "", 'FontPath "/usr/share/fonts"') + A,
        },
        ONE,
        CHANGES,
    ),
    "the digits of lspci in a BusID": Case({"xorg.conf": device("a", 41) + screen("s", "a")}, TWO, CHANGES),
    "a Device of the default seat that a Screen names": Case(
        {"xorg.conf": device("a", 1, 'MatchSeat "seat0"') + screen("s", "a") + layout("l", "s")}, ONE, CHANGES
    ),
    "an OutputClass that makes AMD primary": Case(
        {
            "/10-amdgpu.conf": section(
                "OutputClass", "AMDgpu", 'MatchDriver "amdgpu"', 'Driver "amdgpu"', 'Option "PrimaryGPU" "yes"'
            )
        },
        box("nvidia", "amdgpu"),
        CHANGES,
    ),
    "a virtual machine has the primary card, Intel the screen": Case(
        {"20.conf": section("Device", "ms", 'Driver "modesetting"')}, box("vfio-pci", "i915", "nvidia"), CHANGES
    ),
    "a virtual machine has the primary card": Case({}, box("vfio-pci", "nvidia"), CHANGES),
    "a seat with a card, and a card without": Case(
        {"xorg.conf": B + screen("t", "b") + layout("m", "t", more=('MatchSeat "seat1"',))}, TWO, CHANGES
    ),
    "a layout that turns PRIME render offload off": Case(
        {"10.conf": layout("l", more=('Option "AllowNVIDIAGPUScreens" "off"',))}, HYBRID, CHANGES
    ),
}
