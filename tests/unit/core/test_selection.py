"""Which cards a person means, in every spelling that people use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.core.selection import card_may_match, select_cards, select_present_cards
from gpufan.errors import InputError
from tests.unit.builders import FakeGpu

CARDS = [
    FakeGpu(index=0, uuid="GPU-aaaa1111-0000-4000-8000-000000000000", pci="00000000:0A:00.0"),
    FakeGpu(index=1, uuid="GPU-aaaa2222-0000-4000-8000-000000000001", pci="00000000:41:00.0"),
    FakeGpu(index=2, uuid="GPU-bbbb3333-0000-4000-8000-000000000002", pci="00010000:81:00.0", name="NVIDIA TITAN Xp"),
    FakeGpu(index=3, uuid="", pci="", name="card that does not answer"),
]


def chosen(*wanted: str) -> list[int]:
    return [gpu.info.index for gpu in select_cards(CARDS, wanted)]


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("1", [1]),
        (" 1 ", [1]),
        ("GPU-aaaa2222-0000-4000-8000-000000000001", [1]),
        ("gpu-AAAA2222-0000-4000-8000-000000000001", [1]),
        ("GPU-aaaa2", [1]),
        ("GPU-aaaa", [0, 1]),
        ("00000000:0A:00.0", [0]),
        ("00000000:0a:00.0", [0]),
        ("0000:0a:00.0", [0]),
        ("0a:00.0", [0]),
        ("a:0.0", [0]),
        ("PCI:10:0:0", [0]),
        ("pci:10:0:0", [0]),
        ("10:0:0", [0]),
        ("PCI:65:0:0", [1]),
        ("10000:81:00.0", [2]),
        ("PCI:129@65536:0:0", [2]),
        ("TITAN", [2]),
        ("titan xp", [2]),
        ("GTX 1080 Ti", [0, 1]),
        ("NVIDIA", [0, 1, 2]),
        ("3", [3]),
        ("1080", [0, 1]),
        (" 1080 ", [0, 1]),
    ],
)
def test_a_card_is_selected_by_index_uuid_pci_address_or_name(text: str, indices: list[int]) -> None:
    assert chosen(text) == indices


def test_without_names_every_card_is_selected() -> None:
    assert chosen() == [0, 1, 2, 3]


def test_each_card_is_selected_once_in_the_order_of_the_machine() -> None:
    assert chosen("2", "0", "TITAN", "0a:00.0") == [0, 2]


@pytest.mark.parametrize(
    "text", ["4", "80", "2080", "-1", "", " ", "GPU-", "GPU-cccc", "GPU-aaa", "0b:00.0", "0a:00.1", "PCI:0:10:0", "RTX"]
)
def test_a_name_that_matches_no_card_is_an_error_that_lists_the_cards(text: str) -> None:
    with pytest.raises(InputError) as caught:
        chosen("0", text)
    assert str(caught.value) == (
        f"--gpu {text}: no such card; this box has 0 GTX 1080 Ti (00000000:0A:00.0),"
        " 1 GTX 1080 Ti (00000000:41:00.0), 2 TITAN Xp (00010000:81:00.0), 3 card that does not answer (not answering)"
    )


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("1", [1]),
        ("GPU-aaaa2", [1, 3]),
        ("titan", [2, 3]),
        ("0a:00.0", [0, 3]),
        ("3", [3]),
        ("4", []),
        ("1080", [0, 1, 3]),
    ],
)
def test_a_card_of_which_nothing_but_its_index_is_known_may_have_any_other_name(text: str, indices: list[int]) -> None:
    assert [gpu.info.index for gpu in CARDS if card_may_match(gpu.info, text)] == indices


@given(st.text(alphabet="0123456789abcdefGPUCI:.-@ ²é", max_size=12))
def test_any_text_selects_cards_or_raises_input_error(text: str) -> None:
    try:
        assert chosen(text)
    except InputError as error:
        assert "no such card" in str(error)


def test_an_absent_uuid_or_address_does_not_keep_the_others_from_being_selected() -> None:
    names = [CARDS[0].info.uuid, "GPU-99999999-0000", "ff:00.0"]
    assert select_present_cards(CARDS, names, "gpus:") == ([CARDS[0]], ["GPU-99999999-0000", "ff:00.0"])


@pytest.mark.parametrize("names", [["GPU-99999999-0000"], ["0", "Tesla"], ["7"]])
def test_a_wrong_name_and_the_only_card_if_it_is_absent_are_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match="no such card"):
        select_present_cards(CARDS, names, "gpus:")
