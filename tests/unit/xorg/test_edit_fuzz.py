"""Any legal file comes through an edit with all else unchanged, and no bytes at all make the editor fall over."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg.config import Config, same_name, with_bits
from gpufan.xorg.edit import Wanted, edit
from tests.doubles.xorg_files import SAMPLES, Piece, legal_files

CARDS = [PciAddress.parse(text) for text in ("0a:00.0", "41:00.0", "1:01:00.0")]
ADDED = re.compile(rb'[ \t]*(Option "Coolbits" "4"|BusID "PCI:[^"]*"|Screen [^#]*?"[^"]*"( RightOf "[^"]*")?)(\r?\n| )')
QUOTED = re.compile(rb'"[^"\r\n]*"')

few = settings(max_examples=100, deadline=None)
many = settings(max_examples=10_000, deadline=None)


def edited(data: bytes) -> bytes:
    return edit(Config(data, "xorg.conf"), CARDS, Wanted()).data


def check_all_else_unchanged(pieces: list[Piece]) -> None:
    data = b"".join(piece.data for piece in pieces)
    result = edited(data)
    at = 0
    for piece in pieces:
        if piece.kind == "coolbits":
            match = QUOTED.match(result, at)
            assert match
            assert match[0] in (piece.data, f'"{with_bits(piece.data[1:-1].decode(), 4)}"'.encode())
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
    assert re.fullmatch(rb'\s*(Section "(Device|Screen|ServerLayout)"[^#]*EndSection\r?\n)?', result[at:])


def check_every_card_is_served(pieces: list[Piece]) -> None:
    result = edited(b"".join(piece.data for piece in pieces))
    config = Config(result, "xorg.conf")
    devices = {same_name(config.identifier(device)): device for device in config.of_kind("device")}
    nvidia = [d for d in devices.values() if same_name(config.string(d, "driver").text) == "nvidia"]
    for device in nvidia:
        using = [s for s in config.of_kind("screen") if names_device(config, s, config.identifier(device))]
        assert has_fan_bit(config, device) or (using and all(has_fan_bit(config, screen) for screen in using))
    busy = [config.string(device, "busid") for device in devices.values()]
    named = {PciAddress.from_bus_id(token.text) for token in busy if token}
    assert named.issuperset(CARDS) or any(config.string(device, "busid") is None for device in nvidia)


def names_device(config, screen, name) -> bool:
    named = config.string(screen, "device")
    if named is None:
        return config.of_kind("device")[0] is not None and config.identifier(config.of_kind("device")[0]) == name
    return same_name(named.text) == same_name(name)


def has_fan_bit(config, section) -> bool:
    values = [option.value.text for option in config.options(section, "coolbits")]
    return bool(values) and with_bits(values[-1], 4) == values[-1]


def check_never_crashes(data: bytes) -> None:
    try:
        result = edited(data)
    except InputError:
        return
    assert edited(result) == result


@few
@given(legal_files())
def test_edit_of_a_legal_file_changes_nothing_else(pieces):
    check_all_else_unchanged(pieces)


@few
@given(legal_files())
def test_every_card_is_served_after_an_edit(pieces):
    check_every_card_is_served(pieces)


@few
@given(legal_files())
def test_second_edit_changes_nothing(pieces):
    once = edited(b"".join(piece.data for piece in pieces))
    assert edited(once) == once


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
@given(legal_files())
def test_edit_of_ten_thousand_legal_files_changes_nothing_else(pieces):
    check_all_else_unchanged(pieces)
    check_every_card_is_served(pieces)


@pytest.mark.slow
@many
@given(st.one_of(st.binary(), legal_files().map(lambda pieces: b"".join(p.data for p in pieces))), st.data())
def test_ten_thousand_damaged_files_raise_nothing_but_input_error(legal, data):
    at = data.draw(st.integers(0, len(legal)))
    check_never_crashes(legal[:at] + data.draw(st.binary(max_size=8)) + legal[at + data.draw(st.integers(0, 30)) :])
