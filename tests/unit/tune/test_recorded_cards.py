"""The cards of a recording: complete readings, in stretches without gaps."""

from typing import Any

import pytest

from gpufan.daemon.recording import Row
from gpufan.errors import InputError
from gpufan.tune.recorded_cards import MOST_READINGS, RecordedCard, choose_recorded, recorded_cards


def row(time_s: float, **changes: Any) -> Row:
    return Row(time_s, "GPU-1", "0 GTX 1080 Ti", 60, 200, 50, 48, 2304, "ours", "curve", "", "0A:00.0")._replace(
        **changes
    )


def lengths(*rows: Row) -> list[int]:
    (card,) = recorded_cards(rows)
    return [len(stretch) for stretch in card.stretches]


MINUTE = [row(second) for second in range(61)]


def later(seconds: float) -> list[Row]:
    return [row(r.time_s + seconds) for r in MINUTE]


def test_a_recording_without_gaps_is_one_stretch() -> None:
    assert lengths(*MINUTE, *later(61)) == [122]


def test_after_a_gap_a_new_stretch_begins() -> None:
    assert lengths(*MINUTE, *later(200)) == [61, 61]


def test_when_time_goes_backwards_a_new_stretch_begins() -> None:
    assert lengths(*MINUTE, *MINUTE, *later(-60)) == [61, 61, 61]


def test_a_stretch_of_less_than_a_minute_is_left_out() -> None:
    assert lengths(*MINUTE[:60]) == []
    assert lengths(MINUTE[0]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature_c": None},
        {"temperature_c": 0},
        {"temperature_c": 250},
        {"power_w": None},
        {"power_w": -1},
        {"power_w": 1e308},
        {"speed_percent": None, "duty_percent": None},
        {"speed_percent": 1e9},
    ],
    ids=str,
)
def test_a_row_that_is_incomplete_or_not_credible_is_left_out(changes: dict[str, Any]) -> None:
    assert lengths(*MINUTE[:30], row(30, **changes), *MINUTE[31:]) == [60]


def test_if_the_speed_is_unknown_the_duty_set_counts() -> None:
    (card,) = recorded_cards([r._replace(speed_percent=None) for r in MINUTE])
    assert card.readings[0].speed_percent == 50


def test_cards_are_separated_in_the_order_of_their_first_rows() -> None:
    both = [r._replace(uuid=uuid, label=label) for r in MINUTE for uuid, label in (("GPU-2", "1 B"), ("GPU-1", "0 A"))]
    cards = recorded_cards(both)
    assert [(card.uuid, card.label, card.seconds) for card in cards] == [("GPU-2", "1 B", 60), ("GPU-1", "0 A", 60)]


def test_a_reading_has_the_power_of_the_other_cards_at_the_same_time() -> None:
    third = [r._replace(uuid="GPU-3", power_w=None) for r in MINUTE]
    ticks = zip(MINUTE, [r._replace(uuid="GPU-2", power_w=50) for r in MINUTE], third, strict=True)
    first, second, _ = recorded_cards(r for tick in ticks for r in tick)
    assert (first.readings[5].others_w, second.readings[5].others_w) == (50, 200)


def test_a_row_that_is_there_twice_counts_once() -> None:
    (card,) = recorded_cards([row for row in MINUTE for _ in range(2)])
    assert [len(stretch) for stretch in card.stretches] == [61]
    assert {reading.others_w for reading in card.readings} == {0.0}


def test_the_speed_at_100_percent_follows_from_rpm_and_percent() -> None:
    assert recorded_cards(MINUTE)[0].full_scale_rpm == pytest.approx(4800)
    assert recorded_cards([r._replace(speed_rpm=None) for r in MINUTE])[0].full_scale_rpm is None


def test_a_speed_that_no_fan_has_is_left_out() -> None:
    assert recorded_cards([row(second, speed_rpm=1e308) for second in range(61)])[0].full_scale_rpm is None


def test_a_power_that_no_card_draws_is_not_counted_as_heat_of_others() -> None:
    rows = [each for second in range(61) for each in (row(second), row(second, uuid="GPU-2", power_w=1e308))]
    assert {reading.others_w for reading in recorded_cards(rows)[0].readings} == {0.0}


def test_of_a_long_recording_the_last_two_hours_count() -> None:
    (card,) = recorded_cards(row(second) for second in range(MOST_READINGS + 100))
    assert (len(card.readings), card.readings[0].time_s) == (MOST_READINGS, 100)


@pytest.mark.parametrize(
    ("powers_w", "counts_w"),
    [
        ((30, 100, 200), 200),
        ((200, 100, 30), 30),
        ((30, 30, 200), 30),
        ((30, 200, 200), 200),
        ((200, 30, 200), 30),
        ((180, 190, 200), 190),
    ],
    ids=["rise", "fall", "before a rise", "after a rise", "dip", "no jump"],
)
def test_the_mean_power_in_the_middle_of_a_jump_gives_way_to_the_power_after_it(
    powers_w: tuple[float, ...], counts_w: float
) -> None:
    before, between, after = powers_w
    (card,) = recorded_cards(row(t, power_w=before if t < 30 else between if t == 30 else after) for t in range(61))
    assert card.readings[30].power_w == counts_w


CARDS = recorded_cards(
    [*MINUTE, *(r._replace(uuid="GPU-22222222", label="1 GTX 1080 Ti", pci="41:00.0") for r in MINUTE)]
)


@pytest.mark.parametrize(
    ("names", "indices"),
    [([], [0, 1]), (["1"], [1]), (["GPU-2222"], [1]), (["PCI:10:0:0"], [0]), (["GTX"], [0, 1]), (["1", "0"], [0, 1])],
)
def test_a_card_is_chosen_by_any_of_its_names(names: list[str], indices: list[int]) -> None:
    assert choose_recorded(CARDS, names, "a.csv") == [CARDS[index] for index in indices]


def test_the_error_for_an_unknown_card_names_the_cards_that_are_there() -> None:
    with pytest.raises(InputError, match=r"--gpu 7: no such card; a.csv has 0 GTX 1080 Ti \(GPU-1\), 1 GTX"):
        choose_recorded(CARDS, ["7"], "a.csv")


def test_a_recording_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match=r"a.csv has no rows: `gpufan run --record FILE`"):
        choose_recorded([], [], "a.csv")


@pytest.mark.parametrize(("label", "shown"), [("0 GTX 1080 Ti", "0 GTX 1080 Ti"), ("odd", "0 odd"), ("", "0 ")])
def test_a_label_of_any_kind_names_the_card(label: str, shown: str) -> None:
    assert RecordedCard("GPU-1", label, ()).info.label == shown
