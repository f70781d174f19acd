"""The configuration file of our own X server. The module `headless_server` runs this server."""

from collections.abc import Sequence

from gpufan.core.pci import PciAddress

LAYOUT = "gpufan own server"
"""Name of the ServerLayout of our own server.

The server is started with the option -layout and this name, because a snippet may have a ServerLayout too.
"""


def headless_config(addresses: Sequence[PciAddress]) -> str:
    """Return the text of an xorg.conf with which our own server can set the fans of the cards at `addresses`.

    X reads the snippets in xorg.conf.d before this file. So this file uses names that no snippet has. The numbers of
    the X screens begin at 1: to a single X screen with the number 0, X would add every Device of the snippets as a
    GPUDevice. The sections ServerFlags and Module replace those of the snippets. So X uses no input devices, no other
    cards, and no OpenGL. OpenGL would need 55 MB.
    """
    names = [f"gpufan own {address}" for address in addresses]
    sections = [
        'Section "ServerFlags"\n    Option "AutoAddDevices" "off"\n    Option "AutoAddGPU" "off"\nEndSection\n',
        'Section "Module"\n    Disable "glx"\nEndSection\n',
    ]
    for name, address in zip(names, addresses, strict=True):
        sections += [
            f'Section "Device"\n    Identifier "{name}"\n    Driver "nvidia"\n    BusID "{address.xorg}"\n'
            '    Option "Coolbits" "4"\nEndSection\n',
            f'Section "Screen"\n    Identifier "{name}"\n    Device "{name}"\n'
            '    Option "AllowEmptyInitialConfiguration" "on"\nEndSection\n',
        ]
    entries = [f'    Screen {number} "{name}"' for number, name in enumerate(names, 1)]
    entries[1:] = [f'{entry} RightOf "{before}"' for entry, before in zip(entries[1:], names, strict=False)]
    sections.append("\n".join(['Section "ServerLayout"', f'    Identifier "{LAYOUT}"', *entries, "EndSection\n"]))
    return "# The X server that gpufan runs to set fans; this file is written at every start.\n\n" + "\n".join(sections)
