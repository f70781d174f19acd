"""Messages of the kernel about devices. How a real one is received is tested in integration/daemon/test_pause.py."""

import errno
import socket

import pytest

from gpufan.system.uevents import Uevents, uevent_names_new_card


@pytest.mark.parametrize(
    ("fields", "is_new"),
    [
        ("ACTION=add SUBSYSTEM=pci", True),
        ("ACTION=bind SUBSYSTEM=pci", True),
        ("ACTION=add SUBSYSTEM=drm", True),
        ("ACTION=remove SUBSYSTEM=pci", False),
        ("ACTION=change SUBSYSTEM=drm", False),
        ("ACTION=add SUBSYSTEM=usb", False),
        ("", False),
    ],
)
def test_only_a_device_that_may_be_a_card_counts(fields: str, is_new: bool) -> None:
    assert uevent_names_new_card(b"add@/devices/x\0" + fields.replace(" ", "\0").encode() + b"\0SEQNUM=7\0") is is_new


def test_without_a_right_to_listen_nothing_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    assert not Uevents().card_appeared()


class Messages:
    """A socket with messages and errors; it is empty after them."""

    def __init__(self, *messages: tuple[bytes, int] | OSError) -> None:
        self._messages = list(messages)

    def recvfrom(self, _: int) -> tuple[bytes, tuple[int, int]]:
        if not self._messages:
            raise BlockingIOError
        message = self._messages.pop(0)
        if isinstance(message, OSError):
            raise message
        return message[0], (message[1], 1)


NEW = b"add@/x\0ACTION=add\0SUBSYSTEM=pci\0"
OTHER = b"add@/x\0ACTION=add\0SUBSYSTEM=net\0"


@pytest.mark.parametrize(
    ("messages", "heard"),
    [
        (Messages((OTHER, 0), (NEW, 0), (OTHER, 0)), True),
        (Messages((OTHER, 0)), False),
        (Messages((NEW, 4711)), False),
        (Messages(OSError(errno.ENOBUFS, "lost")), True),
        (Messages(OSError(errno.EBADF, "bad")), False),
    ],
    ids=["a new card", "another device", "not the kernel", "messages lost", "a broken socket"],
)
def test_all_messages_of_the_kernel_since_the_last_call_count(messages: Messages, heard: bool) -> None:
    uevents = Uevents()
    uevents._socket = messages  # type: ignore[assignment]  # a double
    assert uevents.card_appeared() is heard
    assert not uevents.card_appeared()
