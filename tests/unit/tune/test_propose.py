"""Proposals: the quietest setting under the limit, or why there is none."""

import re
from dataclasses import replace
from functools import cache

import pytest

from gpufan.config.toml_text import parse_settings_text
from gpufan.core.card_settings import DEFAULT_CURVE, CardSettings
from gpufan.core.curve import Curve
from gpufan.gpu.simulated import WORKLOADS, Plant, Profile, SimulatedBox
from gpufan.tune.fit import fit
from gpufan.tune.propose import Candidate, Proposal, calmest_of_the_quietest, proposal_notes, propose, proposed_curve
from gpufan.tune.recorded_cards import recorded_cards
from gpufan.tune.replay import Outcome, Trace, replay
from tests.unit.builders import LIGHT
from tests.unit.tune.recorded import WARM, card, fitted, record

LOUD = CardSettings(Curve.parse("0:90"))


@cache
def proposal(
    limit_c: float = 80, present: CardSettings = LOUD, plant: Plant = LIGHT, workload: str = "epochs"
) -> Proposal:
    return propose(fitted(plant, workload, minutes=6), present, limit_c)


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["epochs", "sweep"])
@pytest.mark.parametrize("limit_c", [74, 80])
def test_the_card_stays_under_the_limit_with_the_proposed_setting(workload: str, limit_c: float) -> None:
    best = propose(fitted(LIGHT, workload, minutes=20), LOUD, limit_c).best
    assert best is not None
    box = SimulatedBox(Profile("", (LIGHT,)), WORKLOADS[workload])
    outcome = replay(box, "", best.settings, 600)
    assert outcome.peak_c < limit_c + 0.5


@pytest.mark.slow
def test_no_setting_under_the_limit_is_audibly_quieter_than_the_proposal() -> None:
    found = proposal()
    outcomes = [candidate.outcome for candidate in found.candidates]
    assert [outcome.name for outcome in outcomes[:2]] == ["as recorded", "present: curve 0:90"]
    assert found.best in found.candidates[2:]
    assert found.best.outcome.sound_db <= min(outcome.sound_db for outcome in outcomes) + 0.5
    assert all(candidate.at_most_c <= 80 for candidate in found.candidates[2:])


@pytest.mark.slow
def test_the_reason_says_what_the_proposal_gains() -> None:
    gain = re.search(r"keeps the card under 80 °C, (\d+\.\d) dB quieter than the present setting", proposal().reason)
    # 90 % is 57.2 dB(A). 80 °C needs 60 % under load, which is 48.5 dB(A), and less until the card is warm.
    assert gain and float(gain[1]) == pytest.approx(10, abs=1.5)
    hot = proposal(present=CardSettings(Curve.parse("0:30,90:35")))
    assert hot.reason.endswith("keeps the card under 80 °C, which the present setting does not")


@pytest.mark.slow
def test_a_present_setting_that_is_as_quiet_as_the_proposal_stays() -> None:
    present = proposal().best
    assert present is not None
    assert present.settings is not None
    again = proposal(present=present.settings)
    assert (again.best, again.reason) == (
        None,
        "no setting is clearly quieter or calmer than the present one: leave it as it is",
    )


def test_a_card_that_full_fans_cannot_cool_gets_a_remedy_and_no_proposal() -> None:
    found = proposal(plant=WARM)
    assert found.best is None
    assert "even at full fan speed the card reaches 8" in found.reason
    assert "nvidia-smi --power-limit" in found.reason


def test_a_card_that_was_idle_gets_no_proposal() -> None:
    found = proposal(workload="idle")
    assert (found.best, found.reason) == (None, "the card drew at most 12 W: record it at work")


@pytest.mark.slow
def test_two_minutes_are_too_short_for_a_proposal_near_the_limit() -> None:
    tight = fitted(replace(LIGHT, inlet_c=36), minutes=2)
    found = propose(tight, LOUD, 80)
    assert (found.best, found.reason) == (
        None,
        "it is not certain enough which setting keeps the card under 80 °C: record for longer",
    )


def test_predictions_that_are_wrong_by_more_than_3_k_give_no_proposal() -> None:
    later_warmer = [r._replace(temperature_c=r.temperature_c + 6 * (r.time_s > 400)) for r in record()]
    found = propose(fit(card(later_warmer)), LOUD, 80)
    assert found.best is None
    assert re.match(r"predictions are wrong by [3-6]\.\d K, which is too much for a proposal", found.reason)


def test_a_recording_that_is_too_short_to_be_tested_gives_no_proposal() -> None:
    found = propose(fit(card(record(minutes=1))), LOUD, 80)
    assert found.best is None
    assert "too short to test what is learnt from it" in found.reason


def candidate(name: str, sound_db: float, swings: int) -> Candidate:
    outcome = Outcome(name, 79, 0, sound_db, swings, 0, [0], [Trace("", [79], [50])], [sound_db])
    return Candidate(CardSettings(), outcome, 79.5)


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        ([("curve", 40.0, 2), ("target", 39.6, 12)], "curve"),
        ([("curve", 40.2, 2), ("target", 39.6, 12)], "target"),
        ([("curve", 39.8, 3), ("target", 39.6, 3)], "target"),
        ([("curve", 39.0, 9), ("target", 39.6, 0)], "curve"),
    ],
    ids=["calmer within 0.5 dB", "calmer but heard", "as calm", "quieter"],
)
def test_of_settings_that_sound_the_same_the_calmest_is_proposed(
    offers: list[tuple[str, float, int]], chosen: str
) -> None:
    assert calmest_of_the_quietest([candidate(*offer) for offer in offers]).outcome.name == chosen


def test_the_lines_for_the_settings_file_set_the_proposal() -> None:
    found = proposal()
    _, (table,) = parse_settings_text(found.config().encode())
    assert table.match == card().uuid
    assert found.best is not None
    assert found.best.settings is not None
    assert (table.curve == found.best.settings.curve) or (table.target_c == found.best.settings.target_c)


@pytest.mark.parametrize("limit_c", [50, 65.5, 85])
@pytest.mark.parametrize("duty", [20, 30, 47, 64, 99, 100])
def test_a_curve_through_any_duty_is_valid_and_has_that_duty_at_the_limit(limit_c: float, duty: int) -> None:
    curve = proposed_curve(limit_c, duty)
    assert curve.duty_at(limit_c) == duty
    assert curve.points[-1] == (limit_c + 3, 100)


def test_the_curve_through_the_default_duty_is_the_default_curve() -> None:
    assert proposed_curve(80, 64) == DEFAULT_CURVE


def test_a_varied_recording_has_no_gaps() -> None:
    assert proposal_notes(fitted()) == []


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        ({"curve": "0:60"}, ["fans stayed at 60 %", "--curve 20:45"]),
        ({"workload": "idle"}, ["power stayed at 12 W", "record a pause"]),
        ({"minutes": 2}, ["only 2 min: record 10 min"]),
    ],
    ids=lambda value: str(value),
)
def test_a_gap_in_a_recording_is_named_with_its_remedy(recording: dict[str, object], words: list[str]) -> None:
    text = "\n".join(proposal_notes(fitted(**recording)))  # type: ignore[arg-type]  # as fitted takes it
    for word in words:
        assert word in text


def test_a_poor_fit_is_named_as_a_gap() -> None:
    draught = [row._replace(temperature_c=row.temperature_c + 4 * (row.time_s // 60 % 2)) for row in record()]
    assert "something beside the load changed" in proposal_notes(fit(card(draught)))[-1]


def test_cards_that_worked_at_the_same_times_are_named_as_a_gap() -> None:
    both = [r for row in record() for r in (row, row._replace(uuid="GPU-2"))]
    first, _ = recorded_cards(both)
    assert "the cards worked at the same times" in proposal_notes(fit(first))[-1]
