"""Any legal set of files comes through a change with all else unchanged, and what X uses before, it uses after."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg.box import Box, make_box
from gpufan.xorg.config import ConfigFile
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.coolbits import with_coolbits
from gpufan.xorg.plan import ConfigurationPlan, PlanOptions, make_plan
from gpufan.xorg.reach import Obstacle
from gpufan.xorg.screens import screens_of_servers
from tests.doubles.xorg_files import SAMPLES, Piece, file_sets

CARDS = tuple(PciAddress.parse(text) for text in ("0a:00.0", "41:00.0", "1:01:00.0"))
BOXES = st.sampled_from(
    [
        make_box(CARDS),
        Box(CARDS, CARDS[1]),
        Box(CARDS, PciAddress.parse("00:02.0")),
        Box(CARDS, CARDS[0], without_drm=frozenset(CARDS)),
    ]
)
ADDED = re.compile(
    rb'[ \t]*(Option "Coolbits" "\d+"|Driver "nvidia"|BusID "PCI:[^"]*"|Screen [^#]*?"[^"]*"( RightOf "[^"]*")?)'
    rb"(\r?\n| )"
)
QUOTED = re.compile(rb'"[^"\r\n]*"')
NOT_FIXED = {
    *(Obstacle.OTHER_DRIVER, Obstacle.GPU_DEVICE, Obstacle.INACTIVE, Obstacle.HIDDEN),
    *(Obstacle.OTHER_LAYOUT, Obstacle.OTHER_SEAT, Obstacle.FIRST_DRIVER, Obstacle.TAKEN),
}

few = settings(max_examples=40, deadline=None)
many = settings(max_examples=10_000, deadline=None)


def configuration(*files: bytes) -> Configuration:
    names = [*(f"{number}.conf" for number in range(len(files) - 1)), "xorg.conf"]
    return Configuration(tuple(ConfigFile(data, name) for data, name in zip(files, names, strict=True)), "xorg.conf")


def planned(file_set: list[list[Piece]], box: Box) -> ConfigurationPlan | None:
    """The plan; None for a set that X refuses, as with a DefaultServerLayout of another seat."""
    try:
        return make_plan(configuration(*(b"".join(p.data for p in pieces) for pieces in file_set)), box, PlanOptions())
    except InputError:
        return None


def check_all_else_unchanged(pieces: list[Piece], result: bytes, is_main: bool) -> None:
    at = 0
    for piece in pieces:
        if piece.kind == "coolbits":
            match = QUOTED.match(result, at)
            assert match
            assert match[0] in (piece.data, f'"{with_coolbits(piece.data[1:-1].decode(), 4)}"'.encode())
            at = match.end()
            continue
        before = piece.data
        if piece.kind == "end":
            before = piece.data[: len(piece.data.rstrip(b" \t"))]
            before = before if before.endswith(b"\n") else piece.data
        assert result[at : at + len(before)] == before
        at += len(before)
        if piece.kind == "end":
            while match := ADDED.match(result, at):
                at = match.end()
            rest = piece.data[len(before) :]
            assert result[at : at + len(rest)] == rest
            at += len(rest)
    tail = rb'\s*(Section "(Device|Screen|ServerLayout)"[^#]*EndSection\r?\n)?' if is_main else rb""
    assert re.fullmatch(tail, result[at:]) or (is_main and not pieces[:-1])


def check(file_set: list[list[Piece]], box: Box) -> None:
    plan = planned(file_set, box)
    if plan is None:
        return
    for pieces, file in zip(file_set, plan.after.files, strict=True):
        check_all_else_unchanged(pieces, file.data, file.name == "xorg.conf")
    for reach in plan.reaches:
        assert reach.obstacle is None or reach.obstacle in NOT_FIXED, str(reach)
    again = make_plan(plan.after, box, PlanOptions())
    assert again.changes == [], "a second run changes nothing"
    assert again.reaches and [r.obstacle for r in again.reaches] == [r.obstacle for r in plan.reaches]
    after = screens_of_servers(plan.after, box)
    for old, new in zip(screens_of_servers(plan.before, box) if not plan.losses else (), after, strict=False):
        elsewhere = {x.address for server in after if server is not new for x in server.screens}
        for place, x in enumerate(old.screens):
            if x.fault is None and x.address not in elsewhere:
                assert x.address == new.screens[place].address, "what X has shown, it shows in the same place"


def check_never_crashes(data: bytes) -> None:
    try:
        plan = make_plan(configuration(data), make_box(CARDS), PlanOptions())
    except InputError:
        return
    assert make_plan(plan.after, make_box(CARDS), PlanOptions()).changes == []


@few
@given(file_sets(), BOXES)
def test_a_change_of_a_set_of_files_changes_nothing_else_and_settles(file_set, box):
    check(file_set, box)


@few
@given(st.binary())
def test_arbitrary_bytes_raise_nothing_but_input_error(data):
    check_never_crashes(data)


@few
@given(st.sampled_from(list(SAMPLES.values())), st.data())
def test_damaged_files_raise_nothing_but_input_error(sample, data):
    at = data.draw(st.integers(0, len(sample)))
    length = data.draw(st.integers(0, 10))
    damage = data.draw(st.one_of(st.binary(max_size=5), st.sampled_from([b'"', b"EndSection", b"Option", b"Screen 0"])))
    check_never_crashes(sample[:at] + damage + sample[at + length :])


@pytest.mark.slow
@many
@given(file_sets(), BOXES)
def test_ten_thousand_sets_of_files(file_set, box):
    check(file_set, box)


@pytest.mark.slow
@many
@given(st.one_of(st.binary(), file_sets(0).map(lambda files: b"".join(p.data for p in files[0]))), st.data())
def test_ten_thousand_damaged_files_raise_nothing_but_input_error(legal, data):
    at = data.draw(st.integers(0, len(legal)))
    check_never_crashes(legal[:at] + data.draw(st.binary(max_size=8)) + legal[at + data.draw(st.integers(0, 30)) :])
