"""One file: its tokens, its sections, and what X refuses to parse."""

import pytest

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg.config import ConfigFile
from gpufan.xorg.values import bus_id_address


def kinds(text: bytes) -> list[str]:
    return [section.kind for section in ConfigFile(text, "f").sections]


def test_case_blanks_and_underscores_do_not_count_in_keywords_and_section_names():
    assert kinds(b'SEC_TION "Server _Layout" identi_FIER "l" END_SECTION') == ["serverlayout"]


def test_comment_ends_at_a_carriage_return_as_it_does_for_the_server():
    assert kinds(b'# note\rSection "ServerFlags"\rEndSection') == ["serverflags"]


def test_hash_sign_in_quotes_is_no_comment():
    assert ConfigFile(b'Section "Device" Identifier "a # b" EndSection', "f").sections[0].name == "a # b"


def test_a_string_without_a_closing_quote_ends_with_its_line_as_for_the_server():
    config = ConfigFile(b'Section "Device"\n  Identifier "gpu 1\n  Driver "nvidia"\nEndSection', "f")
    assert config.sections[0].name == "gpu 1"
    assert config.sections[0].value("driver").text == "nvidia"


@pytest.mark.parametrize(
    "text", [b"%b\0\0", b"%b\n\0\0\0", b"\0 \0\n%b", b"%b\0\0\n\n%b", b"%b # end\0\n", b"%b\n \0\r\n%b"]
)
def test_zero_bytes_that_the_server_skips_are_blanks(text):
    section = b'Section "Files"\nEndSection'
    assert set(kinds(text.replace(b"%b", section))) == {"files"}


def test_an_option_without_a_name_in_quotes_is_skipped_with_the_next_word_as_for_the_server():
    text = b'Section "Device" Identifier "a" Option Coolbits Option 4 Option "Coolbits" "8" EndSection'
    assert ConfigFile(text, "f").sections[0].option("coolbits").value.text == "8"


def test_a_long_line_may_have_carriage_returns_where_no_token_is_torn():
    assert kinds(b'Section "Files"' + b"\r" * 2000 + b'LogFile "x" ' + b"\r " * 900 + b"EndSection\r") == ["files"]


def test_quoted_keywords_are_values():
    assert kinds(b'Section "Device" Identifier "EndSection" EndSection') == ["device"]


def test_last_of_repeated_entries_is_valid():
    config = ConfigFile(b'Section "Device" Identifier "d" Driver "nv" Driver "nvidia" EndSection', "f")
    assert config.sections[0].value("driver").text == "nvidia"


def test_first_of_repeated_options_is_valid():
    config = ConfigFile(b'Section "Device" Identifier "d" Option "a" "1" Option "A" "2" EndSection', "f")
    assert config.sections[0].option("a").value.text == "1"


def test_an_option_in_a_subsection_is_none_of_the_section():
    text = b'Section "Screen" Identifier "s" SubSection "Display" Option "a" "1" EndSubSection EndSection'
    section = ConfigFile(text, "f").sections[0]
    assert section.option("a") is None
    assert [option.value.text for option in section.subsection_options("a")] == ["1"]


@pytest.mark.parametrize(
    "body",
    [
        b'Section "Monitor" Identifier "m" HorizSync 30.0-80 , 90 VertRefresh 60 Gamma 1.0 DisplaySize 300 200'
        b' ModeLine "a" 25 640 656 752 800 480 490 492 525 -hsync +vsync DoubleScan VScan 2'
        b' Mode "b" DotClock 25.2 HTimings 1 2 3 4 VTimings 1 2 3 4 Flags "-hsync" "+vsync" EndMode EndSection',
        b'Section "ServerLayout" Identifier "l" Screen "a" Screen 1 "b" RightOf "a" Screen 2 "c" 0 0'
        b' Screen 3 "d" Absolute 0 0 Screen 4 "e" Relative "a" 1 2 Screen "f" "" "" "" ""'
        b' InputDevice "k" "CoreKeyboard" Inactive "d" EndSection',
        b'Section "Device" Identifier "d" Clocks 25 28.3 VideoRam 0x100 Option "NoLogo" Screen 1 EndSection',
        b'Section "InputClass" Identifier "i" MatchIsPointer "yes" NoMatchProduct "a|b" EndSection',
        b'Section "OutputClass" Identifier "o" MatchDriver "a" ModulePath "/x" Driver "d" EndSection',
        b'Section "Module" Load "x" Disable "glx" SubSection "extmod" Option "omit x" EndSubSection EndSection',
        b'Section "Files" FontPath "/f" RgbPath "/r" EndSection Section "DRI" Mode 0666 EndSection',
        b'Section "Screen" Driver "vesa" Device "d" EndSection',
    ],
)
def test_a_section_of_the_manual_page_is_parsed(body):
    assert kinds(body)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'\nSection "Device"\n', "f:2:1: this Section is not closed: EndSection is missing"),
        (b'Section "Files"\n\tSection "Files"', "f:1:1: this Section is not closed: EndSection is missing"),
        (b'Section "Screen"\n SubSection "Display"\nEndSection', "f:2:2: this SubSection is not closed"),
        (b'Section "Screen" SubSection "A" SubSection "B"', "f:1:18: this SubSection is not closed"),
        (b'Section "Screen" EndSubSection EndSection', 'f:1:18: X knows no keyword EndSubSection in Section "Screen"'),
        (b"EndSection", "f:1:1: expected Section"),
        (b'"Device"', "f:1:1: expected Section"),
        (b'\xef\xbb\xbfSection "Device" EndSection', "f:1:1: expected Section"),
        (b"Section Device EndSection", "f:1:1: Section needs a value in quotes"),
        (b'Section "Device" 4 EndSection', "f:1:18: expected a keyword after the values of Section"),
        (b'Section "Files" EndSection "x"', "f:1:28: expected a keyword after the values of EndSection"),
        (b'Section"Device" EndSection', "f:1:8: a quote within a word: put a blank before it"),
        (b'Section "Files" # \0\nEndSection', "f:1:19: a zero byte: this is not a text file"),
        (b'Section "Files"\rEndSection\r# end', "f:1:28: X misreads this line"),
        (b'Section "Files"\rLogFile "x', "f:1:25: X misreads this line"),
        (b'Section "Files"\rLogFile "x"\r' + b" " * 990 + b"EndSection\r", "f:1:1019: X misreads this line"),
        (b'Section "Devize"\nEndSection', 'f:1:9: X knows no Section "Devize": did you mean device?'),
        (
            b'Section "Device"\n  Drivr "nvidia"\nEndSection',
            'f:2:3: X knows no keyword Drivr in Section "Device": did you mean driver?',
        ),
        (b'Section "Device"\n  Driver nvidia\nEndSection', "f:2:3: Driver needs a value in quotes"),
        (b'Section "Device"\n  Driver "a" "b"\nEndSection', "f:2:14: expected a keyword after the values of Driver"),
        (b'Section "Device" VideoRam "1" EndSection', "f:1:18: VideoRam needs a number"),
        (b'Section "Device"\nDriver "nvidia"\nEndSection', "f:1:1: this Section needs an Identifier"),
        (b'Section "Device" Identifier "a" Identifier "b" EndSection', "f:1:33: this Section has an Identifier"),
        (b'Section "Device" Identifier "a" Option "Coolbits" 4 EndSection', "f:1:51: expected a keyword"),
        (b'Section "Device" Identifier "a" Option Coolbits "4" EndSection', "f:1:33: Option needs a value in quotes"),
        (b'Section "Device" Identifier "a" Option EndSection', "f:1:1: this Section is not closed"),
        (b'Section "Device" Identifier "a" Option "a" "b" "c" EndSection', "f:1:48: expected a keyword"),
        (b'Section "ServerLayout" RightOf "a" EndSection', "f:1:24: X knows no keyword RightOf"),
        (b'Section "Monitor" Gamma 1 2 EndSection', "f:1:27: expected a keyword after the values of Gamma"),
        (b'Section "Monitor" Mode "a" DotClock 1 EndMode EndSection', "f:1:19: this Mode needs htimings"),
        (b'Section "Monitor" Mode "a" Flags "HSync" EndMode EndSection', 'f:1:34: X knows no flag "HSync": did you'),
        (
            b'Section "Monitor" HorizSync 80 - 30 EndSection',
            "f:1:29: this range of HorizSync must begin with the lower",
        ),
        (b'Section "Monitor" VertRefresh ' + b"1-2," * 9 + b" EndSection", "f:1:19: more than 8 ranges of VertRefresh"),
        (b'Section "Pointer" Buttons 4294967295 EndSection', "f:1:27: this number of Buttons is too large"),
        (b'Section "DRI" Mode 666 EndSection', "f:1:20: Mode must be octal, for example 0666"),
        (b'Section "InputClass" MatchIsPointer "mabe" EndSection', "f:1:37: MatchIsPointer must be on or off"),
        (b'Section "Screen" Identifier "s"' + b' GPUDevice "d"' * 5 + b" EndSection", "f:1:89: more than 4 GPUDevices"),
    ],
)
def test_what_the_server_refuses_to_parse_is_named_with_line_and_column(text, message):
    with pytest.raises(InputError) as caught:
        ConfigFile(text, "f")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        *("PCI:10:0:0", "pci:10@0:0:0", "AGP:10:0", "10:0:0", "PCI:010:00:0", "P_C I:10:0:0", ":PCI:10:0:0"),
        "platform:/sys/devices/pci0000:00/0000:00:01.0/0000:0a:00.0/drm/card0",
        *("PCI:10::0:0", "PCI:10:0:0:x", "PCI:10@:0:0", "PCI:4294967306:0:0", "PCI:" + "0" * 5000 + "10:0:0"),
    ],
)
def test_every_bus_id_that_the_server_reads_is_understood(text):
    assert bus_id_address(text) == PciAddress(0, 10, 0, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("PCI:0x0a:0:0", "PCI:0a:0:0", "0a:00.0", "0000:0a:00.0", "PCI:10", "ISA:1:0", "", "PCI", "PCI: 10:0:0"),
        *(
            "PCI:10@0@0:0:0",
            "PCI:10:32:0",
            "PCI:10:0:8",
            "platform:/sys/x/drm/card0",
            "PCI:10:" + "9" * 5000,
            "::PCI:10:0:0",
            "\xb9:0:0",
        ),
    ],
)
def test_a_bus_id_with_which_the_server_finds_no_device_is_no_address(text):
    assert bus_id_address(text) is None


@pytest.mark.parametrize("text", ["00000000:0A:00.0", "0000:0a:00.0", "0a:00.0", "PCI:10:0:0", " 0A:00.0\n"])
def test_the_spellings_of_all_tools_are_the_same_address(text):
    assert PciAddress.parse(text) == PciAddress(0, 10, 0, 0)


@pytest.mark.parametrize("text", ["0a:20.0", "0a:00.8", "PCI:1:32:0", "PCI:99999999999:0:0", "", "0a", "٣:0:0"])
def test_impossible_address_is_an_input_error(text):
    with pytest.raises(InputError):
        PciAddress.parse(text)


def test_each_spelling_of_an_address_is_parsed_to_the_same_address():
    card = PciAddress(0x10000, 0xE1, 31, 7)
    assert PciAddress.parse(card.nvml) == PciAddress.parse(card.lspci) == PciAddress.parse(card.xorg) == card
