"""The crowd of connections: who has to go when there are too many."""

import asyncio
from typing import Any

from gpufan.web.connections import Connection, Crowd


class Transport:
    """A transport that notes its end."""

    def __init__(self) -> None:
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted


def opened(crowd: Crowd, known: bool = False) -> tuple[Connection, Transport]:
    connection, transport = Connection(crowd), Transport()
    fake: Any = transport
    connection.open(fake)
    connection.is_known = known
    return connection, transport


def test_the_oldest_connection_without_login_has_to_go() -> None:
    async def crowd_of_three() -> list[bool]:
        crowd = Crowd(limit=3)
        first, second, third = opened(crowd, known=True), opened(crowd), opened(crowd)
        fourth, fifth = opened(crowd), opened(crowd)
        return [each[1].is_aborted for each in (first, second, third, fourth, fifth)]

    assert asyncio.run(crowd_of_three()) == [False, True, True, False, False]


def test_if_all_have_logged_in_the_new_connection_has_to_go() -> None:
    async def crowd_of_two() -> list[bool]:
        crowd = Crowd(limit=2)
        first, second, third = opened(crowd, known=True), opened(crowd, known=True), opened(crowd)
        return [each[1].is_aborted for each in (first, second, third)]

    assert asyncio.run(crowd_of_two()) == [False, False, True]


def test_a_closed_connection_makes_room() -> None:
    async def come_and_go() -> list[bool]:
        crowd = Crowd(limit=1)
        first = opened(crowd, known=True)
        first[0].forget()
        second = opened(crowd)
        return [each[1].is_aborted for each in (first, second)]

    assert asyncio.run(come_and_go()) == [False, False]
