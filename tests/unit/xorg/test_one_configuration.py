"""Several files as one configuration, and boxes with more than NVIDIA cards: what X makes of them, and the change."""

import difflib
from pathlib import Path
from typing import NamedTuple

import pytest

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg.box import Box, graphics_devices, make_box
from gpufan.xorg.config import ConfigFile
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.plan import ConfigurationPlan, PlanOptions, make_plan
from gpufan.xorg.screens import Fault, screens_of_servers

A, B, C = (PciAddress.parse(text) for text in ("01:00.0", "41:00.0", "61:00.0"))
INTEL = PciAddress.parse("00:02.0")
FANS = PlanOptions()


def section(kind: str, name: str, *lines: str) -> str:
    body = "".join(f"    {line}\n" for line in (f'Identifier "{name}"', *lines))
    return f'Section "{kind}"\n{body}EndSection\n'


def device(name: str, bus: int, *lines: str, driver: str = "nvidia") -> str:
    return section("Device", name, f'Driver "{driver}"', f'BusID "PCI:{bus}:0:0"', *lines)


def screen(name: str, device_name: str, *lines: str) -> str:
    return section("Screen", name, f'Device "{device_name}"', *lines)


def layout(name: str, *screens: str, more: tuple[str, ...] = ()) -> str:
    return section("ServerLayout", name, *(f'Screen {i} "{s}"' for i, s in enumerate(screens)), *more)


INTEL_DEVICE = section("Device", "intel", 'Driver "modesetting"', 'BusID "PCI:0:2:0"')
TWO_CARDS = device("a", 1) + device("b", 65)


class Result(NamedTuple):
    plan: ConfigurationPlan
    added: dict[str, list[str]]
    """Lines that each changed file has gained, without indentation."""
    out_of_reach: list[str]


def configuration(*texts: str) -> Configuration:
    """The last text is xorg.conf, those before it are snippets."""
    names = [*(f"{number}.conf" for number in range(10, 9 + len(texts))), "xorg.conf"]
    return Configuration(tuple(ConfigFile(t.encode(), n) for t, n in zip(texts, names, strict=True)), "xorg.conf")


def box(*cards: PciAddress, primary: PciAddress | None = None) -> Box:
    return Box(cards, primary or cards[0])


def plan(*texts: str, on: Box, wanted: PlanOptions = FANS) -> Result:
    made = make_plan(configuration(*texts), on, wanted)
    again = make_plan(made.after, on, wanted)
    assert again.changes == [], "a second run changes nothing"
    added = {}
    for name, before, after in made.changes:
        lines = list(difflib.ndiff(before.decode().splitlines(), after.decode().splitlines()))
        assert not [line for line in lines if line[0] == "-"], "only lines are added"
        added[name] = [line[2:].strip() for line in lines if line[0] == "+"]
    return Result(made, added, [str(reach) for reach in made.reaches if reach.obstacle])


# One configuration of several files


def test_a_snippet_that_sets_the_fan_bit_is_enough():
    snippet = section("Device", "card", 'Driver "nvidia"', 'Option "Coolbits" "28"') + screen("s", "card")
    assert plan(snippet, "", on=box(A)).added == {}


def test_the_bit_goes_into_the_snippet_that_has_the_device():
    result = plan(device("card", 1), layout("l", "s") + screen("s", "card"), on=box(A))
    assert result.added == {"10.conf": ['Option "Coolbits" "4"']}


def test_a_new_screen_goes_into_the_layout_of_a_snippet():
    result = plan(layout("l", "s") + screen("s", "a"), TWO_CARDS, on=box(A, B))
    assert result.added["10.conf"] == ['Screen 1 "Screen 0000:41:00.0" RightOf "s"']
    assert 'Section "Screen"' in result.added["xorg.conf"]


def test_the_first_section_of_a_name_is_the_one_that_counts():
    result = plan(device("card", 1), device("CARD", 1, 'Option "Coolbits" "4"') + screen("s", "card"), on=box(A))
    assert result.added == {"10.conf": ['Option "Coolbits" "4"']}


def test_the_last_server_flags_are_the_ones_that_count():
    flags = 'Section "ServerFlags"\n    Option "DefaultServerLayout" "{}"\nEndSection\n'
    layouts = layout("one", "a") + layout("two", "b") + screen("a", "a") + screen("b", "b") + TWO_CARDS
    found = screens_of_servers(configuration(flags.format("one"), flags.format("two") + layouts), box(A, B))
    assert found[0].layout.name == "two"


def test_the_bits_of_an_output_class_are_part_of_those_of_a_new_device():
    output_class = section("OutputClass", "nvidia", 'MatchDriver "nvidia-drm"', 'Option "Coolbits" "24"')
    assert 'Option "Coolbits" "28"' in plan(output_class, "", on=box(A)).added["xorg.conf"]


def test_the_bits_of_an_output_class_are_part_of_those_of_a_device_that_overrides_it():
    output_class = section("OutputClass", "nvidia", 'Option "Coolbits" "8"')
    result = plan(output_class, device("a", 1) + screen("s", "a"), on=box(A))
    assert result.added == {"xorg.conf": ['Option "Coolbits" "12"']}


def test_an_output_class_with_the_bit_is_enough_for_a_device():
    output_class = section("OutputClass", "nvidia", 'MatchDriver "amdgpu|nvidia-drm"', 'Option "Coolbits" "28"')
    assert plan(output_class, device("a", 1) + screen("s", "a"), on=box(A)).added == {}


def test_the_last_output_class_is_the_one_that_counts():
    classes = [section("OutputClass", name, f'Option "Coolbits" "{bits}"') for name, bits in (("a", 4), ("b", 8))]
    assert plan(*classes, device("a", 1) + screen("s", "a"), on=box(A)).added == {
        "xorg.conf": ['Option "Coolbits" "12"']
    }


def test_an_output_class_for_other_drivers_does_not_count():
    output_class = section("OutputClass", "amd", 'MatchDriver "amdgpu"', 'Option "Coolbits" "28"')
    result = plan(output_class, device("a", 1) + screen("s", "a"), on=box(A))
    assert result.added == {"xorg.conf": ['Option "Coolbits" "4"']}


@pytest.mark.parametrize("place", ["monitor", "screen", "display"])
def test_the_bit_is_set_where_a_stronger_option_lacks_it(place):
    option = 'Option "Coolbits" "8"'
    monitor = section("Monitor", "m", option if place == "monitor" else "")
    lines = [option] if place == "screen" else []
    lines += ['SubSection "Display"', "Depth 24", option, "EndSubSection"] if place == "display" else []
    text = device("a", 1, 'Option "Coolbits" "4"') + monitor + screen("s", "a", 'Monitor "M"', *lines)
    made = make_plan(configuration(text), box(A), PlanOptions())
    assert made.after.files[0].text == text.replace('"8"', '"12"')


@pytest.mark.parametrize("device_option", ["", 'Option "Coolbits" "8"'])
def test_the_file_of_a_package_is_left_alone_if_the_screen_is_in_another_file(device_option):
    files = (
        ConfigFile(device("a", 1, device_option).encode(), "/usr/a.conf"),
        ConfigFile(screen("s", "a").encode(), "x"),
    )
    made = make_plan(Configuration(files, "x"), box(A), FANS)
    bits = "12" if device_option else "4"
    assert [(name, b'Option "Coolbits" "%b"' % bits.encode() in after) for name, _, after in made.changes] == [
        ("x", True)
    ]
    assert make_plan(made.after, box(A), FANS).changes == []


def test_new_names_differ_from_those_of_every_file():
    result = plan(device("NVIDIA 0000:41:00.0", 9, driver="amdgpu"), device("a", 1) + screen("s", "a"), on=box(A, B))
    assert 'Identifier "NVIDIA 0000:41:00.0 #2"' in result.added["xorg.conf"]


def test_a_new_layout_has_the_name_that_server_flags_choose():
    flags = 'Section "ServerFlags"\n    Option "DefaultServerLayout" "mine"\nEndSection\n'
    assert 'Identifier "mine"' in plan(flags, "", on=box(A)).added["xorg.conf"]


# What X refuses after it has parsed the files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (section("ServerLayout", "l", 'Screen "nope"'), '10.conf:3:12: X refuses "nope": no Screen has this name'),
        (section("ServerLayout", "l", 'Inactive "x"'), '10.conf:3:14: X refuses "x": no Device has this name'),
        (section("ServerLayout", "l", 'InputDevice "k"'), '10.conf:3:17: X refuses "k": no InputDevice has this name'),
        (section("InputDevice", "k"), "10.conf:1: X refuses an InputDevice without Driver"),
        (section("Monitor", "m", 'UseModes "u"') + screen("s", "d", 'Monitor "m"'), '10.conf:3:14: X refuses "u"'),
        (screen("s", "d", 'VideoAdaptor "v"'), '10.conf:4:18: X refuses "v": no VideoAdaptor has this name'),
        (
            section("VideoAdaptor", "v") + screen("s", "d", 'VideoAdaptor "v"') + screen("t", "d", 'VideoAdaptor "V"'),
            '10.conf:12:18: X refuses VideoAdaptor "V" in a second Screen',
        ),
        (
            layout("l") + 'Section "ServerFlags"\n    DefaultServerLayout "m"\nEndSection\n',
            '10.conf:4: X refuses DefaultServerLayout "m": no ServerLayout has it',
        ),
        (
            section("Monitor", "m", "Gamma 1", "Gamma 1 0.09 1") + screen("s", "d", 'Monitor "m"'),
            "10.conf:4:13: X refuses this Gamma: it must be 0.1 to 10.0",
        ),
        (
            section("ServerLayout", "l", 'Option "IsolateDevice" "PCI:1@0:0:0"'),
            '10.conf:3:12: X refuses to isolate "PCI:1@0:0:0"',
        ),
        (
            section("Device", "a", 'BusID "PCI:1@0:0:0"') + section("ServerLayout", "l", 'Option "SingleCard" "on"'),
            '10.conf:7:12: X refuses to isolate "PCI:1@0:0:0"',
        ),
        (section("ServerLayout", "l", 'Option "SingleCard"'), "10.conf:3:12: X crashes with SingleCard"),
    ],
)
def test_a_reference_that_the_server_refuses_is_named_with_file_and_line(text, message):
    with pytest.raises(InputError) as caught:
        plan(text, "", on=box(A))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        section("Monitor", "m", "Gamma 11")
        + section("Monitor", "n", "Gamma 0.001 0x0a 10")
        + screen("s", "a", 'Monitor "n"'),
        section("ServerLayout", "l", 'Option "IsolateDevice" "PCI: 1:+0:0x"', 'Option "SingleCard"'),
        section("ServerLayout", "l", 'Option "SingleCard" "off"')
        + 'Section "ServerFlags" DefaultServerLayout "" EndSection',
        section("ServerLayout", "l", 'Option "IsolateDevice" "pci:1@0:0:0"') + screen("s", "a"),
    ],
)
def test_what_the_server_accepts_is_accepted(text):
    assert plan(text, device("a", 1, 'Option "Coolbits" "4"'), on=box(A)).out_of_reach == []


def test_a_reference_into_a_later_file_is_valid():
    result = plan(layout("l", "s"), screen("s", "a") + device("a", 1, 'Option "Coolbits" "4"'), on=box(A))
    assert result.added == {}


# Cards that have a Device, but no X screen of their own


def test_a_second_screen_section_of_the_same_name_does_not_count():
    text = TWO_CARDS + screen("s", "a") + screen("s", "b") + layout("l", "s")
    assert 'Screen 1 "Screen 0000:41:00.0" RightOf "s"' in plan(text, on=box(A, B)).added["xorg.conf"]


def test_a_second_device_without_driver_gets_one():
    text = device("a", 1) + section("Device", "b", 'BusID "PCI:65:0:0"')
    text += screen("s", "a") + screen("t", "b") + layout("l", "s", "t")
    assert 'Driver "nvidia"' in make_plan(configuration(text), box(A, B), PlanOptions()).after.files[0].text[100:]
    found = screens_of_servers(configuration(text), box(A, B))
    assert found[0].screens[1].fault is Fault.NO_DRIVER


def test_a_first_device_without_driver_hides_all_other_screens_until_it_gets_one():
    text = section("Device", "a", 'BusID "PCI:1:0:0"') + device("b", 65)
    text += screen("s", "a") + screen("t", "b") + layout("l", "s", "t")
    assert screens_of_servers(configuration(text), box(A, B))[0].screens[1].fault is Fault.LOST
    assert plan(text, on=box(A, B)).out_of_reach == []


def test_a_device_of_another_maker_without_driver_hides_all_other_screens():
    text = section("Device", "x", 'BusID "PCI:0:2:0"')
    (line,) = plan(text, on=box(A, primary=INTEL)).out_of_reach
    assert 'xorg.conf:1: Device "x" of the first X screen has no Driver' in line


def test_of_two_devices_of_a_screen_the_last_one_counts():
    text = TWO_CARDS + screen("s", "a", 'Device "b"')
    result = plan(text, on=box(A, B))
    assert result.out_of_reach == []
    assert 'Screen 1 "Screen 0000:01:00.0" RightOf "s"' in result.added["xorg.conf"]


def test_a_gpu_device_is_out_of_reach():
    (line,) = plan(TWO_CARDS + screen("s", "a", 'GPUDevice "b"'), on=box(A, B)).out_of_reach
    assert line.startswith('X cannot set the fans of 0000:41:00.0: xorg.conf:15: Screen "s" has it as a GPUDevice')


def test_a_device_that_x_adds_as_gpu_device_by_itself_gets_a_screen():
    assert plan(TWO_CARDS + screen("s", "a"), on=box(A, B)).out_of_reach == []


def test_an_inactive_device_is_out_of_reach():
    text = INTEL_DEVICE + device("a", 1) + screen("s", "intel") + layout("l", "s", more=('Inactive "a"',))
    (line,) = plan(text, on=box(A, primary=INTEL)).out_of_reach
    assert line.startswith('X cannot set the fans of 0000:01:00.0: xorg.conf:18: ServerLayout "l" declares it Inactive')


def test_a_device_that_x_ignores_because_of_its_name_is_named():
    text = device("a", 1) + device("A", 65) + screen("s", "a")
    (line,) = plan(text, on=box(A, B)).out_of_reach
    assert 'xorg.conf:7: X ignores this Device, because an earlier one is called "A" too' in line


def test_a_device_of_another_driver_counts_even_if_an_earlier_one_of_another_seat_has_its_name():
    text = section("Device", "d", 'MatchSeat "seat1"') + device("d", 1, driver="modesetting") + device("a", 1)
    (line,) = plan(text, on=box(A)).out_of_reach
    assert 'xorg.conf:5: Device "d" gives it to another driver' in line


def test_two_heads_of_one_card_share_it():
    text = device("a", 1, "Screen 0") + device("b", 1, "Screen 1")
    text += screen("s", "a") + screen("t", "b") + layout("l", "s", "t")
    found = screens_of_servers(configuration(text), box(A))
    assert [x.fault for x in found[0].screens] == [None, None]
    assert plan(text, on=box(A)).added == {"xorg.conf": ['Option "Coolbits" "4"'] * 2}


def test_a_second_device_of_one_card_gets_no_screen():
    text = device("a", 1) + device("b", 1) + screen("s", "a") + screen("t", "b") + layout("l", "s", "t")
    assert screens_of_servers(configuration(text), box(A))[0].screens[1].fault is Fault.TAKEN


def test_a_device_without_bus_id_means_the_primary_card():
    text = section("Device", "d", 'Driver "nvidia"', 'Option "Coolbits" "4"') + screen("s", "d")
    assert plan(text, on=box(A, primary=A)).added == {}
    assert plan(text, on=box(A, primary=INTEL)).added == {"xorg.conf": ['BusID "PCI:1:0:0"']}


def test_an_empty_driver_is_none_for_x_and_is_replaced():
    text = section("Device", "a", 'Driver ""', 'BusID "PCI:1:0:0"') + device("b", 65)
    text += screen("s", "a") + screen("t", "b") + layout("l", "s", "t")
    found = screens_of_servers(configuration(text), box(A, B))[0].screens
    assert [x.fault for x in found] == [Fault.NO_CARD, None], "X drops no other screen because of it"
    assert plan(text, on=box(A, B)).added["xorg.conf"][:2] == ['Driver "nvidia"', 'Option "Coolbits" "4"']


def test_a_card_whose_device_has_an_empty_driver_gets_one_screen():
    result = plan(INTEL_DEVICE, section("Device", "a", 'Driver ""', 'BusID "PCI:1:0:0"'), on=box(A, primary=INTEL))
    assert result.out_of_reach == []
    assert result.added["xorg.conf"].count('Device "a"') == 1


def test_an_empty_bus_id_is_none():
    text = section("Device", "d", 'Driver "nvidia"', 'BusID "PCI:65:0:0"', 'BusID ""') + screen("s", "d")
    assert plan(text, on=box(A)).added == {"xorg.conf": ['Option "Coolbits" "4"']}
    assert plan(text, on=box(A, primary=INTEL)).added["xorg.conf"][0] == 'BusID "PCI:1:0:0"'


def test_a_device_of_several_screens_gets_one_bus_id():
    text = section("Device", "d", 'Driver "nvidia"') + screen("s", "d") + screen("t", "d") + layout("l", "s", "t")
    added = plan(text, on=box(A, B, primary=INTEL)).added["xorg.conf"]
    assert [line for line in added if line.startswith("BusID")] == ['BusID "PCI:1:0:0"', 'BusID "PCI:65:0:0"']
    assert added.index('BusID "PCI:65:0:0"') > added.index('Section "Device"'), "the second one is of a new Device"


@pytest.mark.parametrize(
    ("entries", "neighbour"),
    [
        ('Screen 0 "s"\nScreen 1 "t" RightOf "s"', "t"),
        ('Screen "s"\nScreen "t" LeftOf "S"', "s"),
        ('Screen "s" RightOf "t"\nScreen "t"', "s"),
        ('Screen "s"\nScreen "t" Above "s"', "t"),
        ('Screen "s" "" "" "t" ""\nScreen "t" "" "" "" "s"', "s"),
        ('Screen "s" LeftOf "t"\nScreen "t" LeftOf "s"', "t"),
    ],
)
def test_a_new_screen_stands_where_no_other_one_is(entries, neighbour):
    text = TWO_CARDS + screen("s", "a") + screen("t", "b") + section("ServerLayout", "l", *entries.split("\n"))
    added = plan(text, on=box(A, B, C)).added["xorg.conf"]
    assert [line for line in added if line.endswith(f'"Screen {C}" RightOf "{neighbour}"')]


@pytest.mark.parametrize(
    ("option", "ends"),
    [
        ('"SLI" "Auto"', True),
        ('"sli" "AFR"', True),
        ('"Multi_GPU"', True),
        ('"BaseMosaic" "on"', True),
        ('"SLI" "off"', False),
        ('"BaseMosaic" "no"', False),
    ],
)
def test_cards_that_share_a_screen_and_would_be_parted_are_a_loss(option, ends):
    text = device("a", 1) + screen("s", "a", f"Option {option}")
    losses = make_plan(configuration(text), box(A, B), FANS).losses
    assert [loss.startswith("xorg.conf:6: ") and '"s" ends' in loss for loss in losses] == [True] * ends
    assert make_plan(configuration(text), box(A), FANS).losses == [], "there is nothing to part"


def test_a_bus_id_with_the_digits_of_lspci_is_named_with_the_right_one():
    card = PciAddress.parse("10:00.0")
    (note,) = plan(device("a", 10), on=box(card)).plan.notes
    assert note == (
        'xorg.conf:1: Device "a" names 0000:0a:00.0, where there is no usable NVIDIA card'
        " (a BusID is decimal: 0000:10:00.0 is PCI:16:0:0)"
    )


# Seats, and layouts for several servers


def test_what_a_seat_without_a_layout_would_lose_is_a_loss():
    text = device("a", 1, 'MatchSeat "seat0"') + INTEL_DEVICE.replace("EndS", 'MatchSeat "seat1"\nEndS')
    (loss,) = make_plan(configuration(text), box(A, B), FANS).losses
    assert loss == f'X on seat "seat1" would no longer show screen 0 on {INTEL}'


def test_sections_of_the_default_seat_need_an_option_of_x():
    text = device("a", 1, 'MatchSeat "Seat_0"')
    (note,) = make_plan(configuration(text), box(A), FANS).notes
    assert note.startswith("xorg.conf:1: X uses this section only if it is started with `-seat seat0`")
    assert make_plan(configuration(text + screen("s", "a")), box(A), FANS).notes == [], "a Screen names it"


def test_a_card_of_another_seat_stays_there():
    text = TWO_CARDS + screen("s", "a") + screen("t", "b")
    text += layout("one", "s", more=('MatchSeat "seat0"',)) + layout("two", "t", more=('MatchSeat "seat1"',))
    result = plan(text, on=box(A, B))
    assert result.added == {"xorg.conf": ['Option "Coolbits" "4"'] * 2}
    assert result.out_of_reach == []


def test_the_only_screen_section_is_not_taken_from_the_seat_that_has_it():
    text = TWO_CARDS + screen("t", "b") + layout("two", "t", more=('MatchSeat "seat1"',))
    made = make_plan(configuration(text), box(A, B), FANS)
    assert [x.address for x in screens_of_servers(made.after, box(A, B))[0].screens] == [A]
    assert [x.address for x in screens_of_servers(made.after, box(A, B))[1].screens] == [B]
    assert (made.losses, [reach.obstacle for reach in made.reaches]) == ([], [None, None])


def test_x_on_another_seat_adds_no_new_device_as_gpu_device():
    text = INTEL_DEVICE + screen("i", "intel") + layout("one", "i", more=('MatchSeat "seat1"',))
    result = plan(text, on=box(A))
    assert 'MatchSeat "seat0"' in result.added["xorg.conf"]
    first, other = screens_of_servers(result.plan.after, box(A))
    assert ([x.address for x in first.screens], other.gpu_devices) == ([A], ())
    assert (result.plan.losses, result.plan.notes, result.out_of_reach) == ([], [], [])


@pytest.mark.parametrize(
    "text",
    [device("a", 1, 'MatchSeat "seat1"'), device("a", 1) + screen("s", "a", 'MatchSeat "seat1"')],
)
def test_a_card_whose_device_or_screen_is_for_another_seat_stays_there(text):
    result = plan(text + device("b", 65) + screen("t", "b"), on=box(A, B))
    assert result.added == {"xorg.conf": ['Option "Coolbits" "4"']}
    (line,) = result.out_of_reach
    assert "is for another seat, whose ServerLayout has no Screen for it" in line


def test_a_new_layout_adds_no_device_of_another_seat_as_gpu_device():
    text = device("b", 65) + screen("t", "b") + layout("two", "t", more=('MatchSeat "seat1"',))
    after = plan(text, on=box(A, B)).plan.after
    assert [server.gpu_devices for server in screens_of_servers(after, box(A, B))] == [(), ()]


def test_a_device_of_another_seat_that_is_no_gpu_device_any_more_is_no_loss():
    text = TWO_CARDS + screen("s", "a") + screen("t", "b")
    text += layout("one", "s", more=('MatchSeat "seat0"',)) + layout("two", "t", more=('MatchSeat "seat1"',))
    result = plan(text, on=box(A, B, C))
    assert (result.plan.losses, result.out_of_reach) == ([], [])


def test_a_screen_without_graphics_card_stays_beside_a_card_on_another_seat():
    text = section("Device", "vnc", 'Driver "dummy"') + screen("v", "vnc") + device("b", 1) + screen("t", "b")
    text += layout("two", "t", more=('MatchSeat "seat1"',))
    first, _ = screens_of_servers(plan(text, on=box(A, B)).plan.after, box(A, B))
    assert [(x.number, x.device.name, x.fault) for x in first.screens] == [
        (0, "vnc", None),
        (1, "NVIDIA 0000:41:00.0", None),
    ]


def test_a_card_in_a_layout_that_x_does_not_choose_is_asked_about():
    text = TWO_CARDS + screen("s", "a") + screen("t", "b") + layout("one", "s") + layout("two", "t")
    (line,) = plan(text, on=box(A, B)).out_of_reach
    assert 'xorg.conf:24: ServerLayout "two" has it' in line
    chosen = plan(text, on=box(A, B), wanted=PlanOptions(layout="ONE"))
    assert chosen.out_of_reach == []
    assert 'Screen 1 "t" RightOf "s"' in chosen.added["xorg.conf"]


@pytest.mark.parametrize("name", ["three", ""])
def test_a_layout_that_does_not_exist_is_an_input_error(name):
    with pytest.raises(InputError, match=f'no ServerLayout is called "{name}": choose one of "one"'):
        plan(layout("one"), on=box(A), wanted=PlanOptions(layout=name))
    with pytest.raises(InputError, match=f'no ServerLayout is called "{name}", because X uses none here'):
        plan("", on=box(A, B), wanted=PlanOptions(layout=name))


# GPUs of other makers


@pytest.fixture
def sysfs(tmp_path: Path):
    def add(address: str, vendor: str, driver: str = "", boot_vga: str = "0", kind: str = "0x030000", **links: str):
        folder = tmp_path / "devices" / address
        folder.mkdir(parents=True)
        for name, text in (("vendor", f"0x{vendor}\n"), ("class", kind), ("boot_vga", boot_vga)):
            (folder / name).write_text(text)
        for name, target in {"driver": driver, **links}.items():
            if target:
                (folder / name).symlink_to(tmp_path / target)
        return tmp_path / "devices"

    return add


def test_the_gpu_that_drives_the_screen_stays_screen_0(sysfs):
    sysfs("0000:00:02.0", "8086", "i915", boot_vga="1")
    on = make_box([A], graphics_devices(sysfs("0000:01:00.0", "10de", "nvidia")))
    result = plan("", on=on)
    text = result.plan.after.files[0].text
    assert text.index('BusID "PCI:0:2:0"') < text.index('BusID "PCI:1:0:0"')
    assert [x.address for x in screens_of_servers(result.plan.after, on)[0].screens] == [INTEL, A]
    assert result.plan.losses == []
    assert "drives the screen: it stays screen 0" in result.plan.notes[0]


def test_the_device_of_a_snippet_keeps_screen_0(sysfs):
    on = make_box([A], graphics_devices(sysfs("0000:00:02.0", "8086", "i915", boot_vga="1")))
    result = plan(INTEL_DEVICE, "", on=on)
    assert [x.address for x in screens_of_servers(result.plan.after, on)[0].screens] == [INTEL, A]
    assert set(result.added) == {"xorg.conf"}


def test_a_device_of_another_seat_without_bus_id_does_not_end_the_screen_of_the_default_seat(sysfs):
    on = make_box([A], graphics_devices(sysfs("0000:00:02.0", "8086", "i915", boot_vga="1")))
    text = section("Device", "usb", 'Driver "modesetting"', 'MatchSeat "seat1"') + screen("u", "usb")
    text = text.replace('"usb"\nEnd', '"usb"\n    MatchSeat "seat1"\nEnd')
    after = plan(text + layout("two", "u", more=('MatchSeat "seat1"',)), on=on).plan.after
    assert [x.address for x in screens_of_servers(after, on)[0].screens] == [INTEL, A]


def test_a_screen_that_x_finds_by_itself_and_that_does_not_change_gets_no_note(sysfs):
    on = make_box([A], graphics_devices(sysfs("0000:00:02.0", "8086", "i915", boot_vga="1")))
    text = device("b", 1, 'Option "Coolbits" "4"') + screen("t", "b", 'MatchSeat "seat1"')
    text = text.replace("EndSection", '    MatchSeat "seat1"\nEndSection', 1)
    result = plan(text + layout("two", "t", more=('MatchSeat "seat1"',)), on=on)
    assert (result.added, result.plan.notes) == ({}, [])


def test_a_screen_for_which_no_driver_is_known_is_a_loss(sysfs):
    on = make_box([A], graphics_devices(sysfs("0000:03:00.0", "1a03", boot_vga="1")))
    (loss,) = make_plan(configuration(""), on, PlanOptions()).losses
    assert loss.startswith("X would no longer show screen 0 on 0000:03:00.0 (ASPEED)")


def test_render_offload_that_would_end_is_a_loss(sysfs):
    on = make_box([A], graphics_devices(sysfs("0000:00:02.0", "8086", "i915", boot_vga="1")))
    offload = section("ServerLayout", "layout", 'Option "AllowNVIDIAGPUScreens"')
    made = make_plan(configuration(offload, ""), on, FANS)
    assert made.losses == ["10.conf:1: the cards get X screens, so PRIME render offload to them ends"]
    is_off = offload.replace('Screens"', 'Screens" "no"')
    assert make_plan(configuration(is_off, ""), on, FANS).losses == []
    assert [x.address for x in screens_of_servers(made.after, on)[0].screens] == [INTEL, A]


def test_a_gpu_device_of_another_maker_that_would_be_dropped_is_a_loss():
    text = device("a", 1) + INTEL_DEVICE + screen("s", "a")
    (loss,) = make_plan(configuration(text), box(A, B), PlanOptions()).losses
    assert loss == 'xorg.conf:6: X would no longer use Device "intel" as a GPUDevice'


@pytest.mark.parametrize(
    "unused", [section("Device", "u"), device("u", 1, driver="nouveau"), section("Device", "u", 'BusID "PCI:0:2:0"')]
)
def test_a_device_that_x_cannot_use_as_a_gpu_device_is_no_loss(unused):
    assert make_plan(configuration(device("a", 1) + unused + screen("s", "a")), box(A, B), FANS).losses == []


def test_a_device_of_another_maker_without_bus_id_keeps_its_gpu_when_cards_are_added(sysfs):
    sysfs("0000:00:02.0", "8086", "i915")
    on = make_box([A], graphics_devices(sysfs("0000:01:00.0", "10de", "nvidia", boot_vga="1")))
    result = plan(section("Device", "Intel Graphics", 'Driver "intel"'), "", on=on)
    assert result.added["10.conf"] == ['BusID "PCI:0:2:0"']
    assert [x.address for x in screens_of_servers(result.plan.after, on)[0].screens] == [INTEL, A]


def test_the_primary_card_gets_screen_0():
    made = make_plan(configuration(""), box(A, B, primary=B), PlanOptions())
    assert [x.address for x in screens_of_servers(made.after, box(A, B, primary=B))[0].screens] == [B, A]
    assert made.losses == []


@pytest.mark.parametrize(
    ("files", "is_intel_shown"),
    [
        ("", True),
        (section("Device", "ms", 'Driver "modesetting"'), True),
        (section("Device", "n", 'Driver "nvidia"', 'Option "Coolbits" "4"'), False),
    ],
)
def test_what_x_shows_stays_if_a_virtual_machine_has_the_primary_card(sysfs, files, is_intel_shown):
    sysfs("0000:00:02.0", "8086", "i915")
    sysfs("0000:41:00.0", "10de", "nvidia")
    on = make_box([B], graphics_devices(sysfs("0000:01:00.0", "10de", "vfio-pci", boot_vga="1")))
    result = plan(files, "", on=on)
    assert (result.plan.losses, result.out_of_reach) == ([], [])
    addresses = [x.device.address for x in screens_of_servers(result.plan.after, on)[0].screens]
    assert addresses == [INTEL, B] if is_intel_shown else [B]


def test_a_card_that_only_lacks_a_number_of_an_x_screen_is_out_of_reach():
    cards = [PciAddress(0, bus, 0, 0) for bus in range(1, 19)]
    assert plan("", on=box(*cards)).out_of_reach == [
        f"X cannot set the fans of {card}: X has 16 X screens at most" for card in cards[16:]
    ]


def test_cards_of_virtual_machines_are_no_cards_of_the_box(sysfs):
    sysfs("0000:01:00.0", "10de", "nvidia")
    sysfs("0000:41:00.0", "10de", "vfio-pci")
    folder = sysfs("0000:42:00.0", "10de", "nvidia", physfn="41")
    (folder.parent / "41").mkdir()
    on = make_box([A, B, PciAddress.parse("42:00.0")], graphics_devices(folder))
    assert on.cards == (A,)
    assert [(str(other), bool(other.unusable)) for other in on.others] == [
        ("0000:41:00.0 (NVIDIA)", True),
        ("0000:42:00.0 (NVIDIA)", True),
    ]


@pytest.mark.parametrize(
    ("driver", "is_lent"), [("pciback", True), ("nvgrace-gpu-vfio-pci", True), ("nouveau", False), ("", False)]
)
def test_cards_of_other_kernel_drivers_are_none_of_the_box_once_nvidias_module_is_loaded(sysfs, driver, is_lent):
    devices = graphics_devices(sysfs("0000:41:00.0", "10de", driver))
    assert make_box([B], devices).cards == (() if is_lent else (B,))
    devices = graphics_devices(sysfs("0000:01:00.0", "10de", "nvidia"))
    assert make_box([A, B], devices).cards == (A,)


def test_devices_that_show_no_picture_are_none_of_the_box(sysfs):
    sysfs("0000:01:00.1", "10de", kind="0x040300")
    (sysfs("0000:00:02.0", "8086") / "not an address:1:1.1").mkdir()
    folder = sysfs("0000:01:00.0", "10de")
    assert [found.address for found in graphics_devices(folder)] == [INTEL, A]


def test_an_output_class_can_make_a_card_primary():
    output_class = section("OutputClass", "o", 'MatchDriver "nvidia-drm"', 'Option "PrimaryGPU" "yes"')
    text = section("Device", "d", 'Driver "nvidia"', 'Option "Coolbits" "4"') + screen("s", "d")
    assert plan(output_class, text, on=box(A, primary=INTEL)).added == {}


def test_an_output_class_can_make_a_gpu_of_another_maker_primary(sysfs):
    folder = sysfs("0000:0c:00.0", "1002", "amdgpu")
    (folder / "0000:0c:00.0/drm/card1").mkdir(parents=True)
    on = make_box([A], graphics_devices(sysfs("0000:01:00.0", "10de", "nvidia", boot_vga="1")))
    output_class = section("OutputClass", "o", 'MatchDriver "amdgpu"', 'Option "PrimaryGPU" "yes"')
    after = plan(output_class, "", on=on).plan.after
    assert [x.address for x in screens_of_servers(after, on)[0].screens] == [PciAddress.parse("0c:00.0"), A]


@pytest.mark.parametrize("is_drm_device", [False, True])
def test_an_output_class_counts_only_for_a_card_that_is_a_drm_device(sysfs, is_drm_device):
    folder = sysfs("0000:01:00.0", "10de", "nvidia")
    if is_drm_device:
        (folder / "0000:01:00.0/drm/card0").mkdir(parents=True)
    sysfs("0000:00:02.0", "8086", "i915", boot_vga="1")
    lines = 'MatchDriver "nvidia-drm"', 'Driver "nvidia"', 'Option "Coolbits" "28"', 'Option "PrimaryGPU" "yes"'
    text = section("Device", "a", 'BusID "PCI:1:0:0"') + screen("s", "a")
    on = make_box([A], graphics_devices(folder))
    added = plan(section("OutputClass", "nvidia", *lines), text, on=on).added
    assert added == ({} if is_drm_device else {"xorg.conf": ['Driver "nvidia"', 'Option "Coolbits" "28"']})
    assert on.primary_under(configuration(section("OutputClass", "n", *lines))) == (A if is_drm_device else INTEL)
