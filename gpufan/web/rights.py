"""Gives up the rights of root for ever, in the process that speaks HTTP."""

import ctypes
import os
import pwd
import resource
import signal
from contextlib import suppress
from typing import NamedTuple

from gpufan.errors import GpufanError

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_NOBODY = 65534


class User(NamedTuple):
    """A user without rights."""

    uid: int
    gid: int


def user_without_rights() -> User:
    """Return the user who has called sudo; `nobody` if that is root, or if sudo was not used."""
    try:
        uid, gid = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    except (KeyError, ValueError):
        uid = gid = 0
    if uid > 0 and gid > 0:
        return User(uid, gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return User(_NOBODY, _NOBODY)
    return User(nobody.pw_uid or _NOBODY, nobody.pw_gid or _NOBODY)


def close_ways_back() -> None:
    """Make it impossible for any program that this process starts to have more rights. Raises GpufanError.

    The kernel does this for one thread. So it must be done before there are others, which inherit it. A process of root
    still has its rights after that.
    """
    try:
        if os.geteuid() == 0:
            _empty_bounding_set()
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    except OSError as error:
        raise _not_given_up(error.strerror) from error
    with suppress(OSError, ValueError):  # the sandbox of the service has set the limit already, and forbids this
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def drop_rights(user: User) -> None:
    """Become `user`, without groups and capabilities. Does nothing without root. Raises GpufanError if that fails.

    All threads lose their rights, since the C library asks each thread to change its user.
    """
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        _clear_capabilities()
    except OSError as error:
        raise _not_given_up(error.strerror) from error
    if 0 in (*os.getresuid(), *os.getresgid(), *os.getgroups()):
        raise _not_given_up("some are left")


def _not_given_up(why: str | None) -> GpufanError:
    """Return the error for rights that could not be given up."""
    return GpufanError(f"the rights of root cannot be given up: {why}; so the page is not served")


def die_with_parent(parent: int) -> None:
    """Make this process end when its parent, whose number is `parent`, ends.

    Call this after `drop_rights`: a change of the user turns it off. Raises OSError.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _empty_bounding_set() -> None:
    """Remove all capabilities from the set that a program with file capabilities could give. Raises OSError."""
    for number in range(64):
        try:
            _prctl(_PR_CAPBSET_DROP, number)
        except OSError:
            break  # the kernel knows no further capability


def _clear_capabilities() -> None:
    """Give up all permitted, effective, inheritable and ambient capabilities. Raises OSError."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_libc().capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())))


def _prctl(option: int, value: int) -> None:
    """Call prctl(2). Raises OSError."""
    number = ctypes.c_ulong
    _check(_libc().prctl(ctypes.c_int(option), number(value), number(0), number(0), number(0)))


def _check(result: int) -> None:
    """Raise OSError if `result`, that of a C function, says that the call failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _libc() -> ctypes.CDLL:
    """Return the C library."""
    return ctypes.CDLL(None, use_errno=True)
