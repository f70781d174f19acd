"""The rules, on a clock of the tests: what is reported, when, and when it is over."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gpufan.alerts.messages import Message, Phase, Trouble, message_text, message_title
from gpufan.alerts.rules import FLICKER_S, MANY_RESTARTS, OVER_AFTER_S, RESTARTS_WITHIN_S, Rules
from gpufan.alerts.settings import AFTER_S, REPEAT_AFTER_S
from gpufan.core.reasons import Cause, Reason
from gpufan.core.snapshot import GpuState, SettingsInUse, Snapshot
from gpufan.daemon.snapshot_file import snapshot_now
from tests.unit.builders import gpu_state

NOON_S = 1_700_000_000.0
"""Wall clock at the start of each test."""


class Bench:
    """Rules that see a snapshot every `step_s` seconds."""

    def __init__(self, step_s: int = 1, **options: Any) -> None:
        self.now_s = 0.0
        self._step_s = step_s
        self.said: list[Message] = []
        self._rules = Rules("rig", **{"after_s": AFTER_S, "repeat_after_s": REPEAT_AFTER_S, **options})

    def see(self, seconds: float, *gpus: GpuState, **run: Any) -> "list[tuple[float, str, str]]":
        """Show the same cards for `seconds`; time, phase and trouble of each message of this time."""
        return self._pass(seconds, lambda: self._rules.see(self._snapshot(gpus, run), self.now_s))

    def miss(self, seconds: float, problem: str = "gpufan hangs") -> "list[tuple[float, str, str]]":
        return self._pass(seconds, lambda: self._rules.miss(problem, NOON_S + self.now_s, self.now_s))

    def _pass(self, seconds: float, tick: Callable[[], list[Message]]) -> "list[tuple[float, str, str]]":
        found = []
        for _ in range(0, int(seconds), self._step_s):
            for message in tick():
                self.said.append(message)
                found.append((self.now_s, message.phase.value, message.trouble.value if message.trouble else ""))
            self.now_s += self._step_s
        return found

    def _snapshot(self, gpus: tuple[GpuState, ...], run: dict[str, Any]) -> Snapshot:
        snapshot = snapshot_now(gpus, interval_s=1.0)
        return msgspec.structs.replace(snapshot, time_s=NOON_S + self.now_s, **run)


FINE = gpu_state()
STILL = Reason(Cause.FAN_STILL, fan=0, found_percent=62, seconds=12)
SLOW = Reason(Cause.FAN_SLOW, fan=0, found_percent=30, set_percent=62)
TROUBLED = {
    Trouble.THROTTLED: gpu_state(throttle="heat"),
    Trouble.HOT: gpu_state(temperature_c=88.0, slowdown_c=93),
    Trouble.LOST: gpu_state(group="lost", control="lost", temperature_c=None),
    Trouble.FAIL_SAFE: gpu_state(group="fail-safe", temperature_c=None),
    Trouble.FAN_STILL: gpu_state(fault=STILL),
    Trouble.NOT_FOLLOWING: gpu_state(fault=SLOW),
    Trouble.GIVEN_BACK: gpu_state(group="fault", control="released"),
}


@pytest.mark.parametrize("trouble", TROUBLED, ids=lambda trouble: trouble.value)
def test_each_trouble_of_a_card_is_reported_after_its_time_and_when_it_is_over(trouble: Trouble):
    bench = Bench()
    after_s = AFTER_S[trouble]
    assert bench.see(10, FINE) == []
    assert bench.see(after_s + 100, TROUBLED[trouble]) == [(10 + after_s, "began", trouble.value)]
    ended_s = bench.now_s
    assert bench.see(1000, FINE) == [(ended_s + OVER_AFTER_S, "over", trouble.value)]
    began, over = bench.said
    assert (began.box, began.card, began.uuid) == ("rig", FINE.label, FINE.uuid)
    assert (began.since_s, began.time_s) == (NOON_S + 10, NOON_S + 10 + after_s)
    assert (over.since_s, over.time_s) == (NOON_S + 10, NOON_S + ended_s)


@pytest.mark.parametrize("trouble", TROUBLED, ids=lambda trouble: trouble.value)
def test_a_trouble_shorter_than_its_time_is_not_reported(trouble: Trouble):
    bench = Bench()
    assert bench.see(AFTER_S[trouble], TROUBLED[trouble]) == []
    assert bench.see(1000, FINE) == []


@pytest.mark.parametrize(
    "gpu",
    [
        gpu_state(throttle="power-cap"),
        gpu_state(temperature_c=87.0, slowdown_c=93),
        gpu_state(temperature_c=84.0),  # without a threshold of its own: 90 °C
        gpu_state(control="driver", group="auto"),
        gpu_state(fault=Reason(Cause.FAN_FLOOR, fan=0, limit_percent=40)),
        gpu_state(group="full"),
    ],
)
def test_normal_operation_is_not_reported(gpu: GpuState):
    assert Bench().see(1000, gpu) == []


def test_a_hot_card_without_a_threshold_of_its_own_is_reported_from_85_degrees():
    assert Bench().see(61, gpu_state(temperature_c=85.0)) == [(60, "began", "hot")]
    assert Bench().see(61, gpu_state(temperature_c=85.0, slowdown_c=12)) == [(60, "began", "hot")]


@pytest.mark.parametrize("cause", [Cause.FAN_TAKEN, Cause.FAN_RELEASED, Cause.OTHER_TARGET])
def test_another_program_that_sets_the_fans_is_reported(cause: Cause):
    gpu = gpu_state(fault=Reason(cause, fan=0, found_percent=30, set_percent=62))
    assert Bench().see(121, gpu) == [(120, "began", "not-following")]


def test_another_program_is_reported_although_its_changes_are_undone_between_the_ticks():
    assert Bench().see(121, gpu_state(contested=True)) == [(120, "began", "not-following")]


def test_what_a_lost_card_does_not_say_is_not_over():
    bench = Bench()
    bench.see(121, TROUBLED[Trouble.THROTTLED])
    assert bench.see(1000, TROUBLED[Trouble.LOST]) == [(121 + 60, "began", "lost")]
    assert bench.see(100, TROUBLED[Trouble.THROTTLED]) == []


def test_a_trouble_that_flickers_counts_as_lasting_until_it_stays_away_for_longer():
    bench = Bench()
    said = []
    while bench.now_s < 120:
        said += bench.see(1, TROUBLED[Trouble.THROTTLED]) + bench.see(FLICKER_S - 1, FINE)
    said += bench.see(1, TROUBLED[Trouble.THROTTLED])
    assert said == [(120, "began", "throttled")]
    bench = Bench()
    for _ in range(20):
        assert bench.see(1, TROUBLED[Trouble.THROTTLED]) == []
        assert bench.see(FLICKER_S + 1, FINE) == []


def test_a_message_is_repeated_seldom_while_the_trouble_lasts():
    bench = Bench(repeat_after_s=600.0)
    lost = TROUBLED[Trouble.LOST]
    assert bench.see(1300, lost) == [(60, "began", "lost"), (660, "lasts", "lost"), (1260, "lasts", "lost")]
    assert bench.said[-1].since_s == NOON_S


def test_a_trouble_that_comes_and_goes_is_over_only_after_ever_longer_calm():
    bench = Bench(step_s=10)
    said = []
    while bench.now_s < REPEAT_AFTER_S:
        said += bench.see(200, TROUBLED[Trouble.THROTTLED]) + bench.see(200, FINE)
    assert len(said) <= 4
    calm = bench.see(REPEAT_AFTER_S, FINE)
    assert [phase for _, phase, _ in said + calm][-1] == "over"


def test_after_a_long_calm_a_trouble_is_over_as_soon_as_the_first_time():
    bench = Bench(step_s=10, repeat_after_s=600.0)
    for _ in range(5):
        start_s = bench.now_s
        assert bench.see(100, TROUBLED[Trouble.LOST]) == [(start_s + 60, "began", "lost")]
        assert bench.see(1000, FINE) == [(start_s + 100 + OVER_AFTER_S, "over", "lost")]


def test_messages_of_cards_and_troubles_are_independent():
    other = gpu_state(uuid="GPU-2", label="1 GTX 1080 Ti", throttle="heat", fault=STILL)
    bench = Bench()
    assert bench.see(121, TROUBLED[Trouble.LOST], other) == [
        (30, "began", "fan-still"),
        (60, "began", "lost"),
        (120, "began", "throttled"),
    ]
    assert [message.card for message in bench.said] == ["1 GTX 1080 Ti", "0 GTX 1080 Ti", "1 GTX 1080 Ti"]


def test_only_chosen_troubles_are_reported():
    bench = Bench(after_s={Trouble.LOST: 0.0})
    other = gpu_state(uuid="GPU-2")
    assert bench.see(500, other, TROUBLED[Trouble.THROTTLED], reload_refused="line 3") == []
    assert bench.miss(500) == []
    assert bench.see(1, other, TROUBLED[Trouble.LOST]) == [(bench.now_s - 1, "began", "lost")]


def test_a_controller_that_is_gone_is_reported_and_says_nothing_of_the_cards():
    bench = Bench()
    assert bench.see(100, TROUBLED[Trouble.LOST]) == [(60, "began", "lost")]
    assert bench.miss(1000, "gpufan hangs") == [(220, "began", "no-controller")]
    assert bench.said[-1].detail == "gpufan hangs"
    assert bench.see(200, FINE) == [
        (1100 + OVER_AFTER_S, "over", "lost"),
        (1100 + OVER_AFTER_S, "over", "no-controller"),
    ]
    assert bench.said[-1].detail.startswith("0 GTX 1080 Ti: 62 % at 74 °C")


def test_a_restart_of_gpufan_is_not_reported():
    bench = Bench()
    bench.see(100, FINE)
    assert bench.miss(20) == []
    assert bench.see(100, gpu_state(group="start", control="driver", temperature_c=None), FINE) == []


@pytest.mark.parametrize("lives_s", [2, 20, 500])
@pytest.mark.parametrize("gap_s", [0, 1, 20])
def test_a_gpufan_that_crashes_again_and_again_is_reported_although_it_publishes(lives_s: int, gap_s: int):
    bench = Bench()
    said = []
    for run in range(MANY_RESTARTS + 1):
        assert said == []
        said = bench.see(lives_s, FINE, started_s=NOON_S + run) + bench.miss(gap_s)
    assert said == [(MANY_RESTARTS * (lives_s + gap_s), "began", "restarts")]
    assert bench.said[0].detail == "3 restarts in the last 30 minutes"
    calm = bench.see(RESTARTS_WITHIN_S + 1000, FINE, started_s=NOON_S + MANY_RESTARTS)
    assert [(phase, trouble) for _, phase, trouble in calm] == [("over", "restarts")]


def test_restarts_now_and_then_are_not_reported():
    bench = Bench(step_s=10)
    for run in range(20):
        assert bench.see(RESTARTS_WITHIN_S * 0.6, FINE, started_s=NOON_S + run) == []


def test_a_card_that_is_not_read_yet_is_neither_over_nor_new():
    bench = Bench()
    bench.see(61, TROUBLED[Trouble.LOST])
    assert bench.see(500, gpu_state(group="start", control="driver")) == []
    assert bench.see(500, TROUBLED[Trouble.LOST]) == []
    assert len(bench.said) == 1


def test_a_card_that_vanishes_from_the_list_is_reported_as_lost():
    other = gpu_state(uuid="GPU-2", label="1 GTX 1080 Ti")
    bench = Bench()
    bench.see(10, FINE, other)
    assert bench.see(100, FINE) == [(70, "began", "lost")]
    assert bench.said[0].card == "1 GTX 1080 Ti"
    assert "no longer lists" in bench.said[0].detail
    assert bench.see(200, FINE, other) == [(110 + OVER_AFTER_S, "over", "lost")]


def test_refused_settings_are_reported_at_once_with_the_mistake():
    bench = Bench()
    assert bench.see(10, FINE, reload_refused="unknown key curv") == [(0, "began", "settings-refused")]
    assert "unknown key curv" in bench.said[0].detail
    assert bench.see(200, FINE) == [(10 + OVER_AFTER_S, "over", "settings-refused")]


def test_a_start_with_other_settings_than_those_of_the_file_is_reported_at_once():
    bench = Bench()
    run = {"settings_in_use": SettingsInUse.LAST_GOOD, "settings_refused": "unknown key curv"}
    assert bench.see(10, FINE, **run) == [(0, "began", "settings-refused")]
    assert "settings not used, but the last good ones: unknown key curv" in bench.said[0].detail


def test_a_message_names_box_card_trouble_time_and_remedy():
    bench = Bench()
    bench.see(600, TROUBLED[Trouble.FAN_STILL])
    bench.see(600, FINE)
    began, over = bench.said
    assert message_title(began) == "gpufan on rig: 0 GTX 1080 Ti: a fan does not turn"
    lines = message_text(began).splitlines()
    assert lines[0] == "0 GTX 1080 Ti in rig: a fan does not turn."
    assert lines[1].startswith("Since 2023-11-1")
    assert lines[1].endswith(", for 0:00:30.")
    assert "fan 0 has stood still for 12 s" in lines[2]
    assert lines[3].startswith("What to do: ")
    assert message_title(over) == "gpufan on rig: 0 GTX 1080 Ti: over: a fan does not turn"
    assert "for 0:10:00" in message_text(over)


@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("phase", [Phase.BEGAN, Phase.LASTS, Phase.OVER])
def test_every_trouble_has_its_words_in_every_phase(trouble: Trouble, phase: Phase):
    message = Message(phase=phase, trouble=trouble, box="rig", since_s=0, time_s=60, times=2)
    assert message_title(message).startswith("gpufan on rig: ")
    assert ("What to do: " in message_text(message)) == (phase is not Phase.OVER)


FAN = gpu_state(uuid="fan:nct6798/pwm2", label="nct6798/pwm2", pci="")
STILL_FAN = msgspec.structs.replace(FAN, fault=Reason(Cause.FAN_STILL, fan=0, found_percent=60, seconds=10.0))


def test_a_case_fan_that_stands_still_is_reported() -> None:
    bench = Bench()
    assert [trouble for _, _, trouble in bench.see(60, gpu_state(), case_fans=(STILL_FAN,))] == ["fan-still"]


def test_a_case_fan_that_the_settings_no_longer_name_is_no_lost_card() -> None:
    bench = Bench()
    bench.see(60, gpu_state(), case_fans=(FAN,))
    assert bench.see(300, gpu_state()) == []
