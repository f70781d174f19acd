"""Receive uevents: messages of the kernel about devices that appear.

A process that is not allowed to receive uevents gets none.
"""

import errno
import socket
from contextlib import suppress

_KERNEL_GROUP = 1
"""Multicast group to which the kernel sends its messages. udev sends to other groups."""

_NETLINK_KOBJECT_UEVENT = 15
_SIZE_BYTES = 8192
"""Size of the receive buffer. No uevent is longer (UEVENT_BUFFER_SIZE in the kernel is 2048)."""


class Uevents:
    """Receives uevents. No method waits for a uevent."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        with suppress(OSError, AttributeError):  # a sandbox, or a kernel without netlink
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_KOBJECT_UEVENT)
            self._socket.bind((0, _KERNEL_GROUP))

    def card_appeared(self) -> bool:
        """Whether a PCI or display device has appeared since the last call.

        Also True if messages were lost. Always False if this process cannot receive uevents.
        """
        if self._socket is None:
            return False
        appeared = False
        while True:
            try:
                message, (sender, _) = self._socket.recvfrom(_SIZE_BYTES)
            except BlockingIOError:
                return appeared
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return appeared
                appeared = True  # too many messages came at once
                continue
            # The sender is 0 for the kernel; a process may write to the socket, too.
            appeared |= sender == 0 and uevent_names_new_card(message)


def uevent_names_new_card(message: bytes) -> bool:
    r"""Whether the uevent `message` says that a PCI or DRM device was added, or was bound to a driver.

    >>> uevent_names_new_card(b"bind@/devices/pci0/x\0ACTION=bind\0DEVPATH=/devices/pci0/x\0SUBSYSTEM=pci\0SEQNUM=7\0")
    True
    >>> uevent_names_new_card(b"add@/devices/virtual/net/lo\0ACTION=add\0SUBSYSTEM=net\0SEQNUM=8\0")
    False
    """
    fields = message.split(b"\0")
    return bool({b"ACTION=add", b"ACTION=bind"} & {*fields} and {b"SUBSYSTEM=pci", b"SUBSYSTEM=drm"} & {*fields})
