"""Sentences about a card: its limits, and what they cost."""

from typing import Any

import pytest

from gpufan.core.reasons import Cause, Reason
from gpufan.core.sentences import limits_and_faults_in_words, limits_in_words, reason_sentence, state_sentence
from tests.unit.builders import gpu_state

QUIET_NIGHT = {"power_limit_w": 180.0, "power_limit_before_w": 250.0, "held_back_w": 49.6}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, ""),
        (QUIET_NIGHT, "power limit 180 W instead of 250 W, about 50 W held back"),
        (
            {**QUIET_NIGHT, "gives_way": True},
            "the clocks give way: power limit 180 W instead of 250 W, about 50 W held back",
        ),
        (
            {"temperature_limit_c": 79.0, "gives_way": True, "held_back_w": 0.0},
            "the clocks give way: temperature limit 79 °C",
        ),
        ({"power_limit_w": 200.0, "temperature_limit_c": 79.0}, "power limit 200 W, temperature limit 79 °C"),
    ],
)
def test_limits_and_what_they_cost_are_said_in_watts(changes: dict[str, Any], text: str) -> None:
    assert limits_in_words(gpu_state(**changes)) == text
    assert limits_and_faults_in_words(gpu_state(**changes)) == ([text] if text else [])


def test_a_limit_that_could_not_be_set_is_noted() -> None:
    assert limits_and_faults_in_words(gpu_state(limits_error="power limit: refused")) == ["power limit: refused"]


@pytest.mark.parametrize(
    ("change_percent", "change"),
    [(-9, "9 points less"), (-1, "1 point less"), (1, "1 point more"), (43, "43 points more")],
)
def test_a_change_of_the_duty_has_a_unit(change_percent: int, change: str) -> None:
    reason = Reason(Cause.SETTLING, power_w=230, needed_percent=56, limit_c=78, change_percent=change_percent)
    assert reason_sentence(reason) == f"56 % holds 78 °C at 230 W; {change} for now"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"reason": Reason(Cause.X_LOST, message="nct6798/pwm2: its chip does not answer")},
            "out of reach: its chip does not answer",
        ),
        ({"fault": Reason(Cause.REFUSED, message="nct6798/pwm2: Input/output error")}, "Input/output error"),
        (
            {"control": "released", "release_error": "nct6798/pwm2: Input/output error"},
            "giving the fans back failed: Input/output error",
        ),
    ],
)
def test_the_sentence_about_a_case_fan_does_not_repeat_its_name(changes: dict[str, Any], text: str) -> None:
    sentence = state_sentence(gpu_state(uuid="fan:nct6798/pwm2", label="nct6798/pwm2", **changes))
    assert text in sentence
    assert "pwm2" not in sentence
