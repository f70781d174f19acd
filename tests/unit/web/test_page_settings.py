"""The settings of the page in the text of the settings file."""

import difflib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.config.settings import Settings, Source
from gpufan.config.toml_text import parse_settings_text, render_settings_text
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.web.box import BoxOptions, WebBox
from gpufan.web.model import Models
from gpufan.web.page_settings import (
    PageSettings,
    read_page_settings,
    settings_with_page_settings,
    shown_settings,
    text_with_page_settings,
)
from gpufan.web.predict import Predictor
from gpufan.web.reload import info_of_state
from tests.unit.builders import curves, gpu_state

MINE = """\
# Under the desk.
target_c = 75  # quiet
hold_s = 60

[[gpu]]
match = "GPU-aaaaaaaa"
curve = "50:30,83:100"  # the upper card
min_duty_percent = 40

[[quiet]]  # nights
from = "22:00"
to = "07:00"
max_duty_percent = 50
give_way = "power"
"""


def changed(text: str, **content: Any) -> str:
    return text_with_page_settings(text, read_page_settings(msgspec.json.encode(content)))


def lines_changed(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def settings_of(text: str) -> Settings:
    file, tables = parse_settings_text(text.encode())
    return Settings(file=file, tables=tables)


def test_the_path_of_the_file_is_shown_before_there_is_one(tmp_path: Path) -> None:
    options = BoxOptions(tmp_path, Source(tmp_path / "config.toml", required=False), None)
    box = WebBox(options, None, Models(Mock(), None), Predictor([]))
    assert box.shown_settings()["path"] == str(tmp_path / "config.toml")


def test_a_target_for_all_cards_reaches_the_cards_with_tables_too() -> None:
    after = changed(MINE, target_c=70)
    assert lines_changed(MINE, after) == [
        "-target_c = 75  # quiet",
        "+target_c = 70  # quiet",
        '-curve = "50:30,83:100"  # the upper card',
        '+# curve = "50:30,83:100"  # the upper card',
    ]


def test_a_curve_replaces_the_target_of_the_same_place() -> None:
    after = changed(MINE, curve=[[0, None], [50, 30], [83, 100]])
    assert '+curve = "0:auto,50:30,83:100"' in lines_changed(MINE, after)
    assert settings_of(after).resolve("target_c").value is None


def test_settings_of_one_card_leave_the_others_alone() -> None:
    after = changed(MINE, target_c=65, cards=["GPU-bbbbbbbb"])
    assert after == MINE + '\n[[gpu]]\nmatch = "GPU-bbbbbbbb"\ntarget_c = 65\n'
    again = changed(after, curve=[[60, 40], [80, 100]], cards=["GPU-bbbbbbbb", "00000000:0A:00.0"])
    assert settings_of(again).for_card(info_of_state(gpu_state(uuid="GPU-bbbbbbbb", pci=""))).target_c is None
    assert settings_of(again).resolve("target_c").value == 75


def test_the_same_settings_again_change_nothing() -> None:
    for content in ({"target_c": 70}, {"curve": [[50, 30], [83, 100]]}, {"target_c": 70, "max_duty_percent": 60}):
        after = changed(MINE, **content)
        assert changed(after, **content) == after


def test_quiet_hours_that_stay_keep_their_text() -> None:
    night = {"from": "22:00", "to": "07:00", "max_duty_percent": 50, "give_way": "power"}
    noon = {"from": "12:00", "to": "13:00", "days": ["sat", "sun"], "target_c": 80}
    after = changed(MINE, target_c=75, cards=["GPU-aaaaaaaa"], quiet=[noon, night])
    assert '[[quiet]]  # nights\nfrom = "22:00"' in after
    assert 'days = ["sat", "sun"]' in after
    without = changed(after, target_c=75, cards=["GPU-aaaaaaaa"], quiet=[night])
    assert "12:00" not in without and "[[quiet]]  # nights" in without
    assert "[[quiet]]" not in changed(without, target_c=75, cards=["GPU-aaaaaaaa"], quiet=[])


def test_days_of_the_whole_week_are_no_days() -> None:
    week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    night = {"from": "22:00", "to": "07:00", "max_duty_percent": 50, "give_way": "power", "days": week}
    assert changed(MINE, target_c=75, cards=["GPU-bbbbbbbb"], quiet=[night]).startswith(MINE)


def test_the_highest_duty_is_a_table_for_the_whole_day() -> None:
    limited = changed(MINE, target_c=75, cards=[], max_duty_percent=80)
    assert '[[quiet]]\nfrom = "00:00"\nto = "24:00"\nmax_duty_percent = 80\n' in limited
    shown = shown_settings(settings_of(limited), [gpu_state()])
    assert [card["max_duty_percent"] for card in shown["cards"]] == [80]
    assert [hours["from"] for hours in shown["quiet"]] == ["22:00"]
    higher = changed(limited, target_c=75, max_duty_percent=90)
    assert "max_duty_percent = 90" in higher and "max_duty_percent = 80" not in higher
    assert "24:00" not in changed(higher, target_c=75, max_duty_percent=100)


def test_the_highest_duty_of_one_card_is_refused() -> None:
    with pytest.raises(InputError, match="all cards together"):
        changed(MINE, target_c=75, cards=["GPU-aaaaaaaa"], max_duty_percent=80)


@pytest.mark.parametrize(
    "content",
    [
        {"target_c": 70},
        {"curve": [[40, 30], [80, 100]], "cards": ["GPU-aaaaaaaa-1"]},
        {"target_c": 70, "max_duty_percent": 80},
        {"target_c": 70, "quiet": [{"from": "01:00", "to": "02:00", "max_duty_percent": 30}]},
        {"curve": [[0, None], [60, 40]], "quiet": []},
    ],
)
def test_a_prediction_uses_the_settings_that_the_file_would_have(content: dict[str, Any]) -> None:
    wanted = read_page_settings(msgspec.json.encode(content))
    before, tables = parse_settings_text(MINE.encode())
    predicted = settings_with_page_settings(Settings(file=before, tables=tables), wanted)
    file, tables = parse_settings_text(changed(MINE, **content).encode())
    for uuid in ("GPU-aaaaaaaa-1", "GPU-bbbbbbbb-2"):
        info = info_of_state(gpu_state(uuid=uuid))
        one, other = predicted.for_card(info), Settings(file=file, tables=tables).for_card(info)
        assert set(one.quiet_hours) == set(other.quiet_hours)  # their order has no effect
        assert replace(one, quiet_hours=()) == replace(other, quiet_hours=())


def test_a_later_table_that_overrides_a_setting_is_named() -> None:
    text = '[[gpu]]\nmatch = "GPU-aaaaaaaa"\nhold_s = 5\n\n[[gpu]]\nmatch = "*"\ntarget_c = 60\n'
    with pytest.raises(InputError, match="overrides this for GPU-aaaaaaaa"):
        changed(text, target_c=75, cards=["GPU-aaaaaaaa"])


def test_a_file_with_a_mistake_is_not_changed() -> None:
    with pytest.raises(InputError, match="curv"):
        changed("curv = 3\n", target_c=75)


def test_quiet_hours_on_one_line_are_left_to_an_editor() -> None:
    text = 'quiet = [{from = "22:00", to = "07:00", max_duty_percent = 50}]\n'
    with pytest.raises(InputError, match="by hand"):
        changed(text, target_c=75, quiet=[])


def test_what_the_page_shows_can_be_sent_back() -> None:
    shown = shown_settings(settings_of(MINE), [gpu_state(uuid="GPU-aaaaaaaa"), gpu_state(uuid="GPU-bbbbbbbb")])
    first, second = shown["cards"]
    assert first["curve"] == ((50, 30), (83, 100)) and first["target_c"] is None
    assert second["curve"] is None and second["target_c"] == 75
    assert first["fans_percent"][0] == 40
    assert changed(MINE, target_c=75, cards=["GPU-bbbbbbbb"], quiet=shown["quiet"]).startswith(MINE)


@given(curve=curves(), base=st.sampled_from((MINE, render_settings_text(), "")))
def test_every_curve_that_can_be_drawn_arrives_in_the_file(curve: Curve, base: str) -> None:
    after = changed(base, curve=curve.points)
    assert settings_of(after).resolve("curve").value == curve


@given(st.binary(max_size=60))
def test_no_bytes_are_mistaken_for_settings(data: bytes) -> None:
    with suppress(InputError):
        assert isinstance(read_page_settings(data), PageSettings)
