import pytest

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg.config import Config


def sections(text: bytes) -> list[str]:
    return [section.kind for section in Config(text, "f").sections]


def test_case_blanks_and_underscores_do_not_count_in_keywords_and_section_names():
    assert sections(b'SEC_TION "Server _Layout" END_SECTION') == ["serverlayout"]


def test_comment_ends_at_a_carriage_return_as_it_does_for_the_server():
    assert sections(b'# note\rSection "Device"\rEndSection') == ["device"]


def test_hash_sign_in_quotes_is_no_comment():
    config = Config(b'Section "Device" Identifier "a # b" EndSection', "f")
    assert config.identifier(config.sections[0]) == "a # b"


def test_quoted_keywords_are_values():
    assert sections(b'Section "Device" Identifier "EndSection" EndSection') == ["device"]


def test_last_of_repeated_entries_is_valid():
    config = Config(b'Section "Device" Driver "nv" Driver "nvidia" EndSection', "f")
    assert config.string(config.sections[0], "driver").text == "nvidia"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'Section "Device"\n  Driver "nvidia\nEndSection', "f:2:10: this quote is not closed on its line"),
        (b'\nSection "Device"\n', "f:2:1: this Section is not closed: EndSection is missing"),
        (b'Section "A"\n\tSection "B"', "f:2:2: Section within the one of line 1: EndSection is missing"),
        (b'Section "Screen"\n SubSection "Display"\nEndSection', "f:2:2: this SubSection is not closed"),
        (b'Section "S" SubSection "A" SubSection "B"', "f:1:28: SubSection within a SubSection"),
        (b'Section "S" EndSubSection EndSection', "f:1:13: EndSubSection without a SubSection"),
        (b"EndSection", "f:1:1: expected Section"),
        (b'"Device"', "f:1:1: expected Section"),
        (b'\xef\xbb\xbfSection "Device" EndSection', "f:1:1: expected Section"),
        (b"Section Device EndSection", "f:1:1: section needs a name in quotes"),
        (b'Section "Device" 4 EndSection', "f:1:18: expected a keyword"),
        (b'Section "Device" EndSection "x"', "f:1:29: expected nothing after endsection"),
        (b'Section"Device" EndSection', "f:1:8: a quote within a word: put a blank before it"),
        (b'Section "Device"\n\0', "f:2:1: a zero byte: this is not a text file"),
    ],
)
def test_syntax_error_is_named_with_line_and_column(text, message):
    with pytest.raises(InputError) as caught:
        Config(text, "f")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("option", [b'Option "Coolbits" 4', b"Option Coolbits", b'Option "a" "b" "c"'])
def test_option_that_the_server_cannot_read_is_an_error(option):
    config = Config(b'Section "Device" ' + option + b" EndSection", "f")
    with pytest.raises(InputError, match="f:1:"):
        config.options(config.sections[0], "coolbits")


def test_entry_without_a_value_in_quotes_is_an_error():
    config = Config(b'Section "Device"\n Driver nvidia EndSection', "f")
    with pytest.raises(InputError, match="f:2:2: driver needs a value in quotes"):
        config.string(config.sections[0], "driver")


@pytest.mark.parametrize("text", ["PCI:10:0:0", "pci:10@0:0:0", "AGP:10:0", "10:0:0", "PCI:010:00:0"])
def test_every_legal_spelling_of_bus_id_is_understood(text):
    assert PciAddress.from_bus_id(text) == PciAddress(0, 10, 0, 0)


@pytest.mark.parametrize("text", ["PCI:0x0a:0:0", "PCI:0a:0:0", "0a:00.0", "0000:0a:00.0", "PCI:10", "ISA:1:0", ""])
def test_bus_id_that_the_server_would_not_take_is_refused(text):
    with pytest.raises(InputError):
        PciAddress.from_bus_id(text)


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
