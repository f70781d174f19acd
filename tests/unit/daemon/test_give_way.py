"""Quiet nights of the simulated box: its clocks give way, and its fans stay at their limit."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import Limits, Throttle
from gpufan.core.quiet_hours import QuietHours
from gpufan.core.reasons import Group
from gpufan.core.snapshot import GpuState
from gpufan.daemon.simulation import simulation_local_time
from gpufan.daemon.taken import Taken
from gpufan.daemon.worker import Worker
from gpufan.daemon.workers import make_workers
from gpufan.errors import GpuError
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox, Workload
from tests.unit.builders import FakeGpu, LimitedGpu

HOUR_S = 3600
QUIET_PERCENT, TARGET_C, HIGHEST_C = 50, 78.0, 80.0
FROM_ONE = QuietHours(60, 12 * 60, frozenset(range(7)), QUIET_PERCENT, TARGET_C, gives_way=True)
SETTINGS = CardSettings(target_c=TARGET_C, quiet_hours=(FROM_ONE,))


def full_load(_: float) -> float:
    return 230.0


@dataclass
class Seen:
    """What a card did during quiet hours."""

    highest_c: float = 0.0
    highest_percent: int = 0
    clock_s: float = 0.0
    seconds: float = 0.0
    changes: int = 0
    groups: frozenset[Group] = frozenset()

    @property
    def throughput_percent(self) -> float:
        return 100 * self.clock_s / self.seconds


class Night:
    """Two cards, an hour of the day and then quiet hours."""

    def __init__(self, workload: Workload = full_load, settings: CardSettings = SETTINGS, **plant: object) -> None:
        profile = PROFILES["dual-1080ti"]
        plants = tuple(replace(each, **plant) for each in profile.plants)  # type: ignore[arg-type]
        self.box = SimulatedBox(replace(profile, plants=plants), workload)
        self.workers = make_workers(self.box.gpus, lambda _: settings, wall_clock=simulation_local_time)
        self.now_s = 0
        self.seen = [Seen() for _ in self.box.gpus]

    def run(self, hours: float) -> "Night":
        for _ in range(round(hours * HOUR_S)):
            for worker, gpu, seen in zip(self.workers, self.box.gpus, self.seen, strict=True):
                before = gpu.limits
                worker.tick(self.now_s)
                if worker.instructions.current.quiet is not None:
                    seen.highest_c = max(seen.highest_c, gpu.die_c)
                    seen.highest_percent = max(seen.highest_percent, worker.state.duty_percent or 0)
                    seen.clock_s += gpu.throughput
                    seen.seconds += 1
                    seen.changes += gpu.limits != before
                    seen.groups |= {worker.state.reason.cause.group}
            self.box.advance(1)
            self.now_s += 1
        return self

    @property
    def limits(self) -> list[Limits]:
        return [gpu.limits for gpu in self.box.gpus]


@cache
def best_constant_percent() -> list[float]:
    """Throughput of each card under the highest constant power limit that holds it at 80 °C with quiet fans."""
    box = SimulatedBox(PROFILES["dual-1080ti"], full_load)
    for gpu in box.gpus:
        gpu.manual_percent = QUIET_PERCENT
    lowest_w, highest_w = [125.0, 125.0], [250.0, 250.0]
    for _ in range(8):
        tried_w = [(low_w + high_w) / 2 for low_w, high_w in zip(lowest_w, highest_w, strict=True)]
        for gpu, limit_w in zip(box.gpus, tried_w, strict=True):
            gpu.set_limits(Limits(limit_w))
        for _ in range(1000):  # until it is warm
            box.advance(1)
        for card, gpu in enumerate(box.gpus):
            bounds = highest_w if gpu.die_c > HIGHEST_C else lowest_w
            bounds[card] = tried_w[card]
    for gpu, limit_w in zip(box.gpus, lowest_w, strict=True):
        gpu.set_limits(Limits(limit_w))
    box.advance(1)
    return [100 * gpu.throughput for gpu in box.gpus]


BY_BOTH_LIMITS = pytest.mark.parametrize(
    "range_c", [None, pytest.param((60, 90), marks=pytest.mark.slow)], ids=["power limit", "temperature limit"]
)


@BY_BOTH_LIMITS
def test_two_cards_at_230_w_stay_cool_and_quiet_and_lose_little_against_the_best_constant_limit(
    range_c: tuple[int, int] | None,
) -> None:
    night = Night(temperature_limit_range_c=range_c).run(3)
    assert max(seen.highest_c for seen in night.seen) <= HIGHEST_C
    assert max(seen.highest_percent for seen in night.seen) == QUIET_PERCENT
    best = best_constant_percent()
    lost = [best_percent - seen.throughput_percent for best_percent, seen in zip(best, night.seen, strict=True)]
    assert max(lost) < 2
    assert all(Group.FAIL_SAFE not in seen.groups for seen in night.seen)
    if range_c is None:
        assert max(seen.changes for seen in night.seen) <= 20  # in two hours
        assert {limits.temperature_c for limits in night.limits} == {84}
    else:
        assert night.limits == [(250, 79), (250, 79)]


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["epochs", "sweep", "step"])
def test_the_same_holds_under_loads_with_pauses(workload: str) -> None:
    night = Night(WORKLOADS[workload]).run(3)
    assert max(seen.highest_c for seen in night.seen) <= HIGHEST_C + 0.5
    assert max(seen.highest_percent for seen in night.seen) <= QUIET_PERCENT


@BY_BOTH_LIMITS
def test_the_limits_before_come_back_at_the_end_of_quiet_hours(range_c: tuple[int, int] | None) -> None:
    night = Night(
        settings=replace(SETTINGS, quiet_hours=(FROM_ONE._replace(to_minute=120),)), temperature_limit_range_c=range_c
    )
    for gpu in night.box.gpus:
        gpu.set_limits(Limits(240))
    night.run(1.9)
    assert [worker.state.gives_way for worker in night.workers] == [True, True]
    night.run(0.2)
    assert night.limits == [(240, 84), (240, 84)]
    assert [worker.state.gives_way for worker in night.workers] == [False, False]


def test_without_give_way_no_limit_is_set() -> None:
    night = Night(settings=replace(SETTINGS, quiet_hours=(FROM_ONE._replace(gives_way=False),))).run(2)
    assert night.limits == [(250, 84), (250, 84)]
    assert max(seen.highest_c for seen in night.seen) > HIGHEST_C


def test_at_any_hour_the_clocks_give_way_only_when_the_fans_are_at_full_speed() -> None:
    night = Night(settings=CardSettings(target_c=70, give_way="power"), inlet_c=32.0).run(2)
    for gpu, worker in zip(night.box.gpus, night.workers, strict=True):
        assert worker.state.duty_percent == 100
        assert gpu.limits.power_w is not None
        assert gpu.limits.power_w < 230
        assert 68 < gpu.die_c < 73
    cool = Night(settings=CardSettings(target_c=78, give_way="power")).run(2)
    assert cool.limits == [(250, 84), (250, 84)]


@pytest.mark.slow
def test_the_power_held_back_is_about_the_power_before_less_the_power_now() -> None:
    night = Night().run(2)
    for gpu, worker in zip(night.box.gpus, night.workers, strict=True):
        state = worker.state
        assert state.settings == "target 78 °C, clocks may give way, at most 50 %, quiet hours until 12:00"
        assert state.held_back_w == pytest.approx(230 - gpu.power_w, abs=2)
        assert (state.power_limit_w, state.power_limit_before_w) == (gpu.limits.power_w, 250)
        assert state.held_back_j == pytest.approx(state.held_back_w * HOUR_S, rel=0.1)


@pytest.mark.slow
def test_clocks_that_give_way_at_our_temperature_limit_are_not_throttled_by_heat() -> None:
    night = Night(temperature_limit_range_c=(60, 90)).run(2)
    for gpu, worker in zip(night.box.gpus, night.workers, strict=True):
        assert gpu.read().throttle is Throttle.HEAT
        assert worker.state.throttle is Throttle.GIVING_WAY
        assert worker.state.throttled_s < 60


# ---- one card, and what other programs do to its limit ----


LIMITED = CardSettings(power_limit_w=200)


@pytest.fixture
def gpu() -> LimitedGpu:
    return LimitedGpu()


def tick(worker: Worker, seconds: int, *, start_s: int = 0, force_write: bool = False) -> GpuState:
    for second in range(seconds):
        worker.tick(start_s + second, force_write=force_write)
    return worker.state


def test_a_limit_that_another_program_sets_stays_and_is_not_given_back(
    gpu: LimitedGpu, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(gpu, lambda _: LIMITED)
    tick(worker, 5)
    for start_s, limit_w in ((5, 170.0), (105, 250.0)):  # 250 W is also the limit before
        gpu.limits = Limits(limit_w)
        assert tick(worker, 60, start_s=start_s).power_limit_w is None
        assert gpu.limits == (limit_w, None)
        worker.follow(lambda _: replace(LIMITED, power_limit_w=200))  # new settings count again
        assert tick(worker, 5, start_s=start_s + 60).power_limit_w == 200
    gpu.limits = Limits(170)
    worker.stop()
    assert gpu.limits == (170, None)
    assert caplog.messages == [
        "0 GTX 1080 Ti: another program has set a power limit of 170 W in place of the power limit of 200 W: it stays",
        "0 GTX 1080 Ti: another program has set a power limit of 250 W in place of the power limit of 200 W: it stays",
        "0 GTX 1080 Ti: another program has set a power limit of 170 W in place of the power limit of 200 W: it stays",
    ]


def test_clocks_do_not_give_way_to_a_limit_of_another_program(gpu: LimitedGpu) -> None:
    gpu.temperature_c, gpu.power_w = 85, 230
    worker = Worker(gpu, lambda _: CardSettings(target_c=70, give_way="power"))
    assert tick(worker, 60).gives_way
    gpu.limits = Limits(300)
    state = tick(worker, 60, start_s=60)
    assert (state.gives_way, state.power_limit_w, gpu.limits.power_w) == (False, None, 300)


def test_a_limit_is_set_again_after_a_sleep_or_a_restart_of_the_driver(gpu: LimitedGpu) -> None:
    worker = Worker(gpu, lambda _: LIMITED)
    tick(worker, 5)
    gpu.limits = Limits(250)  # the driver was loaded anew
    tick(worker, 1, start_s=5, force_write=True)
    assert gpu.limits == (200, None)
    worker.stop()
    assert gpu.limits == (250, None)


def test_a_limit_that_is_already_so_is_neither_set_nor_given_back(gpu: LimitedGpu) -> None:
    gpu.limits = Limits(200)
    worker = Worker(gpu, lambda _: LIMITED)
    tick(worker, 30)
    worker.stop()
    assert not [call for call in gpu.calls if str(call).startswith("limit")]


def test_a_refused_limit_is_tried_again_after_a_minute_and_logged_once(
    gpu: LimitedGpu, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.limit_error = GpuError("the driver refused: Unknown Error")
    worker = Worker(gpu, lambda _: LIMITED)
    assert tick(worker, 200).limits_error == "power limit: the driver refused: Unknown Error"
    assert worker.state.duty_percent is not None
    gpu.limit_error = None
    state = tick(worker, 61, start_s=200)
    assert (state.power_limit_w, state.limits_error) == (200, "")
    assert len(caplog.messages) == 1


def test_a_card_whose_power_cannot_be_limited_says_that_its_clocks_cannot_give_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gpu = FakeGpu()
    worker = Worker(gpu, lambda _: CardSettings(target_c=78, give_way="power"))
    state = tick(worker, 300)
    assert state.limits_error == "power limit: the driver does not let it be set"
    assert len(caplog.messages) == 1
    assert state.duty_percent is not None


def test_every_limit_is_in_the_record_before_it_is_set(tmp_path: Path) -> None:
    gpu, record = LimitedGpu(), tmp_path / "taken.json"
    recorded: list[object] = []
    set_limits: Callable[[Limits], None] = gpu.set_limits

    def checked(limits: Limits) -> None:
        recorded.append([limit["set"][-1] for limit in json.loads(record.read_text())["cards"][0]["limits"]])
        set_limits(limits)

    gpu.set_limits = checked  # type: ignore[method-assign]
    worker = Worker(gpu, lambda _: LIMITED, taken=Taken(record, None))
    tick(worker, 5)
    worker.follow(lambda _: replace(LIMITED, power_limit_w=150))
    tick(worker, 5, start_s=5)
    assert recorded == [[200], [150]]
