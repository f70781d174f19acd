"""Sentences about a card: its limits, and what they cost."""

from typing import Any

import pytest

from gpufan.core.sentences import limits_and_faults_in_words, limits_in_words
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
