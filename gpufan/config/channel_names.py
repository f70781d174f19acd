"""Finds channels of the motherboard that a settings file names twice. A channel has several possible names."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from gpufan.errors import InputError
from gpufan.hwmon.channels import Channel, are_names_of_same_channel, resolve_channel

FindChannels = Callable[[], Sequence[Channel]]
"""Returns the channels of this box; none if they are unknown."""


class NamedChannel(NamedTuple):
    """A name of a channel in a settings file, and the place where it stands."""

    table: str
    """The name of the table: `[[fan]] 1`."""
    key: str
    """The key in the table: `fans` of a card, or `name` of a case fan."""
    name: str


def find_repeated_channels(
    named: Sequence[NamedChannel], find: FindChannels
) -> Iterator[tuple[NamedChannel, NamedChannel]]:
    """Return each name in `named` that stands for the same channel as an earlier name, together with that name.

    Several tables of cards may share a channel. Otherwise, a channel may be named only once: a fan cools a card, or it
    follows cards. `find` is called only if there are different names to compare.
    """
    compared = [
        (later, [earlier for earlier in named[:number] if not _are_of_two_cards(earlier, later)])
        for number, later in enumerate(named)
    ]
    channels = find() if any(earlier.name != later.name for later, others in compared for earlier in others) else ()
    for later, others in compared:
        for earlier in others:
            if is_same_channel(earlier.name, later.name, channels):
                yield later, earlier
                break


def _are_of_two_cards(earlier: NamedChannel, later: NamedChannel) -> bool:
    """Whether the names stand in two tables of cards."""
    return earlier.key == later.key == "fans" and earlier.table != later.table


def is_same_channel(one: str, other: str, channels: Sequence[Channel]) -> bool:
    """Whether two names stand for the same channel. If `channels` does not say it, the names alone decide."""
    if are_names_of_same_channel(one, other):
        return True
    with suppress(InputError):
        return resolve_channel(one, channels).place == resolve_channel(other, channels).place
    return False
