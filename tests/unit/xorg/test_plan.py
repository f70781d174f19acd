"""The smallest change of one file. Sets of files and boxes with other cards are in `test_one_configuration`."""

import difflib
from typing import NamedTuple

import pytest

from gpufan.core.pci import PciAddress
from gpufan.xorg.box import make_box
from gpufan.xorg.config import ConfigFile
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.plan import PlanOptions, make_plan
from tests.doubles.xorg_files import SAMPLES

ONE = PciAddress.parse("0a:00.0")
OTHER = PciAddress.parse("41:00.0")
FAR = PciAddress.parse("0001:0a:00.0")

FANS = PlanOptions()

INTEL = b'Section "Device"\n  Identifier "intel"\n  Driver "modesetting"\n  BusID "PCI:0:2:0"\nEndSection\n'
DEVICE = b'Section "Device"\n  Identifier "gpu"\n  Driver "nvidia"\n  BusID "PCI:10:0:0"\n%bEndSection\n'


class Edited(NamedTuple):
    data: bytes
    notes: tuple[str, ...]
    out_of_reach: list[str]


def run(data: bytes, *cards: PciAddress, wanted: PlanOptions = FANS) -> Edited:
    configuration = Configuration((ConfigFile(data, "xorg.conf"),), "xorg.conf")
    plan = make_plan(configuration, make_box(cards), wanted)
    assert plan.losses == []
    return Edited(plan.after.files[0].data, tuple(plan.notes), [str(r) for r in plan.reaches if r.obstacle])


def changes(data: bytes, *cards: PciAddress, wanted: PlanOptions = FANS) -> list[str]:
    """Lines taken away and put in, without their end."""
    old, new = (text.decode("latin-1").split("\n") for text in (data, run(data, *cards, wanted=wanted).data))
    return [line.rstrip("\r") for line in difflib.ndiff(old, new) if line[0] in "+-"]


def test_no_file_becomes_one_with_device_screen_and_layout_for_each_card():
    text = run(b"", OTHER, ONE).data.decode()
    assert text.count('Section "Device"') == text.count('Section "Screen"') == 2
    assert text.count('Option "AllowEmptyInitialConfiguration" "on"') == text.count('Option "Coolbits" "4"') == 2
    assert text.index('BusID "PCI:10:0:0"') < text.index('BusID "PCI:65:0:0"')
    assert 'Screen 1 "Screen 0000:41:00.0" RightOf "Screen 0000:0a:00.0"' in text


def test_card_in_another_domain_gets_a_bus_id_with_domain():
    assert b'BusID "PCI:10@1:0:0"' in run(b"", FAR).data


def test_card_given_twice_is_one_card():
    assert run(b"", ONE, ONE) == run(b"", ONE)


def test_coolbits_goes_into_the_device_that_lacks_it():
    assert changes(DEVICE % b"", ONE) == ['+   Option "Coolbits" "4"']


def test_bits_are_added_to_those_that_are_set():
    assert changes(DEVICE % b'  option "cool_bits" "8"\n', ONE) == [
        '-   option "cool_bits" "8"',
        '+   option "cool_bits" "12"',
    ]


def test_hexadecimal_coolbits_stay_hexadecimal():
    assert '+ Option "Coolbits" "0x1c"' in changes(DEVICE % b'Option "Coolbits" "0x18"\n', ONE)


def test_bit_that_is_set_changes_nothing():
    data = DEVICE % b'Option "Coolbits" "28"\n'
    assert run(data, ONE).data == data


def test_the_requested_bits_are_set():
    assert '+ Option "Coolbits" "12"' in changes(
        DEVICE % b'Option "Coolbits" "4"\n', ONE, wanted=PlanOptions(coolbits=12)
    )


@pytest.mark.parametrize(
    "option", [b'Option "Coolbits"', b'Option "Coolbits', b'Option "Coolbits" "1', b'Option "Coolbits" ""']
)
def test_coolbits_without_a_value_or_closing_quote_gets_one(option):
    added = '+ Option "Coolbits" "5"' if b"1" in option else '+ Option "Coolbits" "4"'
    assert added in changes(DEVICE % (option + b"\n"), ONE)


def test_a_screen_with_a_depth_that_the_driver_does_not_have_is_out_of_reach():
    text = (
        DEVICE % b'Option "Coolbits" "4"\n'
        + b'Section "Screen"\nIdentifier "s"\nDefaultDepth 24\nDefaultColorDepth %b\nEndSection\n'
    )
    assert run(text % b"040", ONE).out_of_reach == [
        "X cannot set the fans of 0000:0a:00.0: xorg.conf:10: NVIDIA's driver has no such colour depth,"
        ' so it does not start Screen "s": use 24'
    ]
    assert [run(text % depth, ONE).out_of_reach for depth in (b"0", b"036", b"0x10")] == [[], [], []]


@pytest.mark.parametrize(
    ("value", "new"),
    [(v, b"4") for v in (b"on", b"", b"08", b"1f", b"0x", b"4.0", b"4 ", b"-", b"0x1c ")]
    + [(b"-8", b"-4"), (b"0xfffffff8", b"-4"), (b"+8", b"12"), (b"00", b"04"), (b"0X8", b"0Xc")]
    + [(v, v) for v in (b"-1", b"9" * 9999, b" 4", b"+4", b"0x100000004", b"\t034")],
)
def test_coolbits_is_read_as_x_reads_a_number(value, new):
    text = DEVICE % b'Option "Coolbits" "%b"\n'
    assert run(text % value, ONE).data.startswith(text % new)


def test_coolbits_in_the_screen_is_changed_only_there():
    assert changes(SAMPLES["nvidia-xconfig"], ONE) == [
        '-     Option         "Coolbits" "8"',
        '+     Option         "Coolbits" "12"',
    ]


def test_coolbits_of_the_monitor_is_changed_because_it_overrides_the_device():
    monitor = b'Section "Monitor"\nIdentifier "m"\nOption "Coolbits" "1"\nEndSection\n'
    screen = b'Section "Screen"\nIdentifier "s"\nDevice "gpu"\nMonitor "m"\nEndSection\n'
    assert '+ Option "Coolbits" "5"' in changes(monitor + screen + DEVICE % b"", ONE)


def test_device_without_bus_id_serves_the_only_card():
    data = b'Section "Device"\nIdentifier "x"\nDriver "nvidia"\nEndSection\n'
    assert changes(data, ONE) == ['+ Option "Coolbits" "4"']


def test_device_without_bus_id_gets_one_when_a_second_device_is_added():
    data = b'Section "Device"\nIdentifier "x"\nDriver "nvidia"\nEndSection\n'
    lines = changes(data, ONE, OTHER)
    assert lines[:2] == ['+ BusID "PCI:10:0:0"', '+ Option "Coolbits" "4"']
    assert '+     BusID "PCI:65:0:0"' in lines


def test_second_card_gets_device_screen_and_a_numbered_place_in_the_layout():
    lines = changes(SAMPLES["nvidia-xconfig"], ONE, OTHER)
    assert '+     Screen 1 "Screen 0000:41:00.0" RightOf "Screen0"' in lines
    assert lines.count('+ Section "Device"') == lines.count('+ Section "Screen"') == 1


def test_layout_without_screen_numbers_gets_an_entry_without_number():
    data = DEVICE % b"" + (
        b'Section "Screen"\nIdentifier "s"\nDevice "gpu"\nEndSection\n'
        b'Section "ServerLayout"\nIdentifier "l"\nScreen "s"\nEndSection\n'
    )
    assert '+ Screen "Screen 0000:41:00.0" RightOf "s"' in changes(data, ONE, OTHER)


def test_screen_outside_the_layout_is_added_to_it():
    data = (
        DEVICE % b'Option "Coolbits" "4"\n'
        + INTEL
        + (
            b'Section "Screen"\nIdentifier "s"\nDevice "gpu"\nEndSection\n'
            b'Section "Screen"\nIdentifier "i"\nDevice "intel"\nEndSection\n'
            b'Section "ServerLayout"\nIdentifier "l"\nScreen 0 "i"\nEndSection\n'
        )
    )
    assert changes(data, ONE) == ['+ Screen 1 "s" RightOf "i"']


def test_screen_that_names_a_missing_device_has_the_first_device_as_for_the_server():
    data = DEVICE % b"" + b'Section "Screen"\nIdentifier "s"\nDevice "typo"\nEndSection\n'
    assert changes(data, ONE) == ['+   Option "Coolbits" "4"']


def test_layout_named_by_server_flags_is_the_one_that_is_extended():
    data = (
        b'Section "ServerLayout"\nIdentifier "a"\nEndSection\n'
        b'Section "ServerLayout"\nIdentifier "b"\nEndSection\n'
        b'Section "ServerFlags"\nOption "DefaultServerLayout" "B"\nEndSection\n'
    )
    result = run(data, ONE).data
    assert result.index(b"Screen 0 ") > result.index(b'Identifier "b"')


def test_intel_device_is_not_changed_and_keeps_its_screen():
    data = SAMPLES["intel first"]
    result = run(data, ONE).data
    assert result.startswith(data)
    assert b'Identifier "Screen 0"\n    Device "iGPU"\nEndSection' in result
    assert b'Screen 0 "Screen 0"\n    Screen 1 "Screen 0000:0a:00.0" RightOf "Screen 0"' in result


def test_coolbits_in_an_intel_screen_is_not_changed():
    screen = b'Section "Screen"\nIdentifier "s"\nDevice "iGPU"\nOption "Coolbits" "1"\nEndSection\n'
    assert run(SAMPLES["intel first"] + screen, ONE).data.startswith(SAMPLES["intel first"] + screen)


def test_card_of_another_driver_is_out_of_reach_and_gets_no_second_device():
    data = (DEVICE % b"").replace(b"nvidia", b"nouveau")
    result = run(data, ONE)
    assert result.data == data
    assert result.out_of_reach == [
        'X cannot set the fans of 0000:0a:00.0: xorg.conf:1: Device "gpu" gives it to another driver: '
        'change its Driver to "nvidia", or remove it'
    ]


def test_device_without_driver_at_the_address_of_a_card_gets_one():
    data = b'Section "Device"\nIdentifier "x"\nBusID "PCI:10:0:0"\nEndSection\n'
    assert changes(data, ONE) == ['+ Driver "nvidia"', '+ Option "Coolbits" "4"']


@pytest.mark.parametrize("bus_id", [b"PCI:0a:0:0", b"PCI:0x0a:0:0", b"0a:00.0", b"0000:0a:00.0"])
def test_a_device_whose_bus_id_is_not_decimal_is_for_no_card(bus_id):
    edited = run((DEVICE % b"").replace(b"PCI:10:0:0", bus_id), ONE)
    assert b'BusID "PCI:10:0:0"' in edited.data
    assert 'Device "gpu" is for no card: X finds no PCI address' in edited.notes[0]


def test_new_names_do_not_collide_with_those_of_the_user():
    data = b'Section "Device"\nIdentifier "nvidia_0000:0a:00.0"\nDriver "intel"\nBusID "PCI:0:2:0"\nEndSection\n'
    assert b'Identifier "NVIDIA 0000:0a:00.0 #2"' in run(data, ONE).data


def test_line_endings_of_the_file_are_kept():
    result = run(SAMPLES["windows"], ONE, OTHER).data
    assert result.count(b"\n") == result.count(b"\r\n")


def test_section_on_one_line_stays_on_one_line():
    result = run(SAMPLES["one line"], ONE).data
    assert result == SAMPLES["one line"].replace(b"EndSection", b'Option "Coolbits" "4" EndSection')


def test_file_without_a_last_newline_gets_new_sections_on_lines_of_their_own():
    assert b'EndSection\n\nSection "Device"' in run(SAMPLES["no end of line"], ONE, OTHER).data


def test_bytes_that_are_not_utf_8_are_preserved_also_in_new_entries():
    result = run(SAMPLES["latin-1"], ONE, OTHER).data
    assert result.startswith(b"# \xe0 la main\n")
    assert b'Device "carte \xe9"' in result


def test_pretended_monitor_is_added_to_device_and_new_device():
    result = run(DEVICE % b"", ONE, OTHER, wanted=PlanOptions(edid="/etc/X11/e.bin")).data
    assert result.count(b'Option "ConnectedMonitor" "DFP-0"') == 2
    assert result.count(b'Option "CustomEDID" "DFP-0:/etc/X11/e.bin"') == 2


def test_pretended_monitor_of_the_user_is_not_changed():
    data = DEVICE % b'Option "Coolbits" "4"\nOption "ConnectedMonitor" "CRT-0"\n'
    result = run(data, ONE, wanted=PlanOptions(edid="/e.bin"))
    assert result.data == data
    assert "has a ConnectedMonitor of its own" in result.notes[0]


@pytest.mark.parametrize("sample", SAMPLES)
def test_second_edit_changes_nothing(sample):
    once = run(SAMPLES[sample], ONE, OTHER, FAR).data
    assert run(once, ONE, OTHER, FAR).data == once
