"""How serious the state of a card is on the page, and what a person can do."""

from typing import Any

import pytest

from gpufan.core.gpu import Throttle
from gpufan.core.news import News
from gpufan.core.reasons import Cause, Group, Reason
from gpufan.core.severity import FAULT_CAUSES
from gpufan.web import card_words
from gpufan.web.card_words import card_remedy, card_severity, now_card
from tests.unit.builders import REASONS, gpu_state


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({}, "ok"),
        ({"order": "60 %"}, "note"),
        ({"group": "full", "temperature_c": 90.0, "slowdown_c": 93, "duty_percent": 100}, "warning"),
        ({"throttle": "heat"}, "warning"),
        ({"throttle": "power-cap"}, "ok"),
        ({"contested": True}, "warning"),
        ({"limits_error": "refused"}, "warning"),
        ({"group": "fail-safe"}, "warning"),
        ({"group": "lost", "control": "lost"}, "problem"),
        ({"group": "hang", "control": "lost"}, "problem"),
        ({"uncontrolled_s": 61.0}, "problem"),
        ({"fault": Reason(Cause.FAN_STILL, fan=1, found_percent=60, seconds=30)}, "problem"),
        ({"fault": Reason(Cause.FAN_SLOW, fan=1, found_percent=60, set_percent=90)}, "warning"),
    ],
)
def test_severity_of_a_card(changes: dict[str, Any], severity: str) -> None:
    assert card_severity(gpu_state(**changes)) == severity


@pytest.mark.parametrize("group", [group for group in REASONS if group not in (Group.START,)])
def test_a_card_in_trouble_says_what_to_do(group: Group) -> None:
    gpu = gpu_state(group=group.value)
    in_trouble = card_severity(gpu) in ("warning", "problem")
    assert bool(card_remedy(gpu)) >= in_trouble


@pytest.mark.parametrize("cause", [cause for cause in FAULT_CAUSES if cause in (Cause.FAN_STILL, Cause.FAN_SLOW)])
def test_a_faulty_fan_says_what_to_do(cause: Cause) -> None:
    gpu = gpu_state(fault=Reason(cause, fan=1, found_percent=60, set_percent=90, seconds=30))
    assert card_remedy(gpu)


@pytest.mark.parametrize("throttle", [*(reason.value for reason in Throttle), None, "of a later version"])
def test_the_state_of_the_clocks_is_a_sentence(throttle: str | None) -> None:
    sentence = now_card(gpu_state(throttle=throttle), "")["throttle"]
    assert bool(sentence) == (throttle in {reason.value for reason in Throttle} - {"none"})


@pytest.mark.parametrize("kind", list(News))
def test_every_kind_of_news_has_its_place(kind: News) -> None:
    assert kind in card_words._MOST_SERIOUS_FIRST
    assert kind in card_words._REMEDIES or kind is News.GIVING_WAY


def test_a_fan_that_stands_still_matters_more_than_throttling() -> None:
    gpu = gpu_state(throttle="heat", fault=Reason(Cause.FAN_STILL, fan=1, found_percent=60, seconds=30))
    assert "look at the fan" in card_remedy(gpu)
    assert "`sudo gpufan restore`" in card_remedy(gpu_state(control="released", release_error="refused"))


def test_unknown_values_are_none() -> None:
    card = now_card(gpu_state(temperature_c=None, power_w=None, duty_percent=None, fans=()), "")
    assert (card["temperature_c"], card["power_w"], card["duty_percent"]) == (None, None, None)
    assert (card["read_percent"], card["rpm"]) == ([], [])
