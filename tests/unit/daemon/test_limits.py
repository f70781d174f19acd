"""Limits of a card that cannot be given back at once, and how limits are shown."""

import json
import threading
from pathlib import Path

import pytest

from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import Limits
from gpufan.core.snapshot import GpuState
from gpufan.daemon.orders import Orders
from gpufan.daemon.passes import CardStep, Pass
from gpufan.daemon.taken import Taken
from gpufan.daemon.worker import Worker
from gpufan.errors import GpuError, GpuLost
from tests.unit.builders import LimitedGpu

LIMITED = CardSettings(power_limit_w=200)


@pytest.fixture
def gpu() -> LimitedGpu:
    return LimitedGpu()


def tick(worker: Worker, seconds: int, *, start_s: int = 0) -> GpuState:
    for second in range(seconds):
        worker.tick(start_s + second)
    return worker.state


def recorded_limits(record: Path) -> list[dict[str, object]]:
    return [limit for card in json.loads(record.read_text())["cards"] for limit in card["limits"]]


def test_a_pause_goes_on_giving_back_a_limit_that_the_card_refuses(gpu: LimitedGpu) -> None:
    worker = Worker(gpu, lambda _: LIMITED)
    tick(worker, 5)
    gpu.limit_error = GpuError("the driver refused: Unknown Error")
    worker.pause(5, 60)
    assert not worker.paused
    assert worker.state.limits_error == "power limit: the driver refused: Unknown Error"
    gpu.limit_error = None
    worker.pause(6, 59)
    assert worker.paused
    assert (gpu.limits.power_w, worker.state.limits_error) == (250, "")


def test_the_end_of_a_paused_card_gives_back_a_limit_that_the_pause_could_not(gpu: LimitedGpu) -> None:
    worker = Worker(gpu, lambda _: LIMITED)
    tick(worker, 5)
    gpu.limit_error = GpuLost("the card is gone")
    worker.pause(5, 60)
    gpu.limit_error = GpuError("the driver refused: Unknown Error")
    with pytest.raises(GpuError, match="Unknown Error"):
        worker.stop()
    gpu.limit_error = None
    worker.stop()
    assert gpu.limits == (250, None)


def test_a_limit_that_a_hanging_call_sets_after_the_end_stays_recorded_and_is_given_back(
    gpu: LimitedGpu, tmp_path: Path
) -> None:
    record = tmp_path / "taken.json"
    worker = Worker(gpu, lambda _: LIMITED, taken=Taken(record, None))
    begun, go_on = threading.Event(), threading.Event()
    set_limits = gpu.set_limits

    def hang_once(limits: Limits) -> None:
        gpu.set_limits = set_limits  # type: ignore[method-assign]
        begun.set()
        go_on.wait(10)
        set_limits(limits)

    gpu.set_limits = hang_once  # type: ignore[method-assign]
    step = CardStep(worker, Orders(None))
    thread = threading.Thread(target=step.run, args=[Pass(1, 0.0)])
    thread.start()
    assert begun.wait(10)
    with pytest.raises(GpuError, match="power limit: the call that sets it has not returned"):
        step.stop(0.0)
    assert [limit["before"] for limit in recorded_limits(record)] == [250]
    go_on.set()
    thread.join(10)
    assert gpu.limits == (250, None)


def test_a_hanging_call_that_gives_a_limit_back_may_return_after_the_end(gpu: LimitedGpu) -> None:
    worker = Worker(gpu, lambda _: LIMITED)
    tick(worker, 5)
    begun, go_on, errors = threading.Event(), threading.Event(), []
    set_limits = gpu.set_limits

    def hang_once(limits: Limits) -> None:
        gpu.set_limits = set_limits  # type: ignore[method-assign]
        begun.set()
        go_on.wait(10)
        set_limits(limits)

    def pause() -> None:
        try:
            worker.pause(5, 60)
        except BaseException as error:
            errors.append(error)

    gpu.set_limits = hang_once  # type: ignore[method-assign]
    thread = threading.Thread(target=pause)
    thread.start()
    assert begun.wait(10)
    gpu.calls.clear()
    worker.stop()
    assert "release" in gpu.calls
    go_on.set()
    thread.join(10)
    assert (errors, gpu.limits) == ([], (250, None))


def test_the_limit_before_stays_recorded_when_the_limits_cannot_be_read_at_a_start(
    gpu: LimitedGpu, tmp_path: Path
) -> None:
    record = tmp_path / "taken.json"
    tick(Worker(gpu, lambda _: LIMITED, taken=Taken(record, None)), 5)  # this run is killed
    gpu.limits = Limits()
    worker = Worker(gpu, lambda _: LIMITED, taken=Taken(record, None))
    tick(worker, 5)
    assert [limit["before"] for limit in recorded_limits(record)] == [250]
    gpu.limits = Limits(200)
    worker.stop()
    assert gpu.limits == (250, None)


def test_the_limit_before_is_given_back_by_a_run_that_ends_before_it_looks_at_limits(
    gpu: LimitedGpu, tmp_path: Path
) -> None:
    record = tmp_path / "taken.json"
    tick(Worker(gpu, lambda _: LIMITED, taken=Taken(record, None)), 5)  # this run is killed
    Worker(gpu, lambda _: LIMITED, taken=Taken(record, None)).stop()
    assert gpu.limits == (250, None)


def test_a_limit_that_the_card_rounds_is_recorded_as_it_was_read_back(gpu: LimitedGpu, tmp_path: Path) -> None:
    record, set_limits = tmp_path / "taken.json", gpu.set_limits
    gpu.set_limits = lambda limits: set_limits(Limits(limits.power_w - 10))  # type: ignore[method-assign,operator]
    tick(Worker(gpu, lambda _: LIMITED, taken=Taken(record, None)), 5)
    (limit,) = recorded_limits(record)
    assert gpu.limits.power_w in limit["set"]  # type: ignore[operator]


# ---- what is shown ----


def test_a_refused_limit_is_not_shown_as_set(gpu: LimitedGpu) -> None:
    gpu.limit_error = GpuError("the driver refused: Unknown Error")
    assert tick(Worker(gpu, lambda _: LIMITED), 5).power_limit_w is None


def test_settings_without_a_limit_end_the_error_about_it(gpu: LimitedGpu) -> None:
    gpu.limits = Limits()
    worker = Worker(gpu, lambda _: LIMITED)
    assert tick(worker, 5).limits_error == "power limit: the card does not report it"
    worker.follow(lambda _: CardSettings())
    assert tick(worker, 40, start_s=5).limits_error == ""
