"""Recordings of real cards by other people, in the folder `../shared/traces` beside this one. None may be copied."""

import csv
from functools import cache
from pathlib import Path

import pytest

from gpufan.core.card_settings import CardSettings
from gpufan.daemon.recording import Row
from gpufan.tune.fit import Fit, fit
from gpufan.tune.propose import propose
from gpufan.tune.recorded_cards import RecordedCard, recorded_cards
from tests.unit.tune.recorded import course

FOLDER = Path(__file__).parents[4] / "shared" / "traces"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="there are no recordings in ../shared/traces")


@cache
def recorded(name: str) -> RecordedCard:
    with (FOLDER / f"{name}.csv").open(newline="") as file:
        rows = [[float(cell) if cell else None for cell in cells] for cells in list(csv.reader(file))[1:]]
    (card,) = recorded_cards(
        Row(time_s or 0.0, "GPU-1", "0 A", temperature_c, power_w, None, speed_percent, speed_rpm, "driver", "", "")
        for time_s, temperature_c, power_w, speed_percent, speed_rpm in rows
    )
    return card


@cache
def fitted(name: str) -> Fit:
    return fit(recorded(name))


@pytest.mark.parametrize(
    ("name", "at_most_k"),
    [
        ("gtx1080ti-held-60c", 1.0),
        ("gtx1080ti-held-80c", 1.0),
        ("gtx1080ti-limit-250w", 1.0),
        pytest.param("rtx2080-80min", 1.0, marks=pytest.mark.slow),
        pytest.param("gtx960-gaming", 1.0, marks=pytest.mark.slow),
        ("rtx3070-gaming", 1.0),
        pytest.param("rtx4070-10h", 2.0, marks=pytest.mark.slow),
    ],
)
def test_the_last_third_is_predicted_from_the_first_two(name: str, at_most_k: float) -> None:
    unseen_k = fitted(name).unseen_k
    assert unseen_k is not None and unseen_k < at_most_k


@pytest.mark.parametrize(
    ("seen", "unseen"),
    [("gtx1080ti-held-60c", "gtx1080ti-held-80c"), ("gtx1080ti-held-80c", "gtx1080ti-held-60c")],
)
def test_a_recording_predicts_another_recording_of_the_same_card(seen: str, unseen: str) -> None:
    (stretch,) = recorded(unseen).stretches
    found = course(stretch)
    # The air of the day is not known, but follows from the start that fits best.
    misses_k = found.temperature_c - found.predict(fitted(seen).plant)
    assert (misses_k**2).mean() ** 0.5 < 2


def test_the_heat_capacity_of_the_simulated_card_is_that_of_the_recorded_cards() -> None:
    names = ("gtx1080ti-held-60c", "gtx1080ti-held-80c", "gtx1080ti-limit-250w")
    intervals = [fitted(name).interval(lambda plant: plant.heat_capacity) for name in names]
    assert max(low for low, _ in intervals) * 0.9 < 800 < min(high for _, high in intervals) * 1.1


@pytest.mark.slow
def test_a_recording_that_begins_under_load_gets_a_proposal() -> None:
    found = propose(fitted("rtx2080-80min"), CardSettings(), 80)
    assert found.best is not None
    assert found.best.at_most_c <= 80
