"""A paused card in a time of its own; when NVML is loaded again."""

import pytest

from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.sentences import duty_text, state_sentence
from gpufan.daemon.recovery import ALL_BLIND_S, RELOAD_DRIVER_S, DriverReload
from gpufan.daemon.worker import Worker
from gpufan.errors import GpuError, GpufanError, GpuLost, NoAnswer, ResetRequired
from tests.unit.builders import FakeGpu


def controlling(gpu: FakeGpu) -> Worker:
    """A worker that has set its card's fans, whose record starts now."""
    worker = Worker(gpu, lambda _: CardSettings(curve=Curve.parse("30:30,80:80")))
    worker.tick(0)
    gpu.calls.clear()
    return worker


# ---- the card ----


def test_a_pause_gives_the_fans_back_once_and_then_makes_no_call() -> None:
    gpu = FakeGpu()
    worker = controlling(gpu)
    worker.pause(1, 600)
    assert gpu.written == ["release"]
    gpu.calls.clear()
    for second in range(2, 500):
        worker.pause(second, 601 - second)
    assert gpu.calls == []
    assert (worker.recovery.uncontrolled_s(500), worker.recovery.blind_s(500)) == (1, 1)


def test_a_card_counts_as_paused_only_when_it_is_closed() -> None:
    worker = controlling(FakeGpu())
    worker.pause(1, 600)
    assert (worker.state.control, worker.state.reason.cause) == ("driver", "closing")
    news = worker.news
    worker.closed = True
    worker.pause(2, 599)
    assert worker.news > news
    assert (worker.state.control, worker.state.reason.cause, duty_text(worker.state)) == ("driver", "paused", "paused")
    assert state_sentence(worker.state) == "paused for another 0:09:59: the driver controls its fans"


def test_after_the_pause_the_fans_are_set_at_once() -> None:
    gpu = FakeGpu()
    worker = controlling(gpu)
    for second in range(1, 60):
        worker.pause(second, 60 - second)
    gpu.temperature_c = 70
    gpu.calls.clear()
    worker.tick(60)
    assert gpu.written == [70]
    assert not worker.closed


def test_fans_that_are_not_given_back_are_tried_again_and_the_card_is_not_paused_before() -> None:
    gpu = FakeGpu()
    worker = controlling(gpu)
    gpu.release_errors = [GpuError("refused")] * 4  # each release is tried twice
    for second in (1, 2):
        worker.pause(second, 600)
        assert (worker.state.control, worker.state.release_error, worker.paused) == ("released", "refused", False)
    worker.pause(3, 600)
    assert (worker.state.control, worker.paused) == ("driver", True)


@pytest.mark.parametrize(("error", "cause"), [(GpuLost("gone"), "lost"), (ResetRequired("gone"), "reset-required")])
def test_a_card_that_does_not_answer_can_be_paused(error: GpuLost, cause: str) -> None:
    gpu = FakeGpu()
    worker = controlling(gpu)
    gpu.read_error = error
    worker.tick(1)
    assert (worker.state.control, worker.state.reason.cause) == ("lost", cause)
    worker.pause(2, 600)
    assert (worker.state.control, worker.paused) == ("driver", True)


def test_a_card_that_does_not_answer_once_is_given_back_before_it_is_paused() -> None:
    gpu = FakeGpu()
    worker = controlling(gpu)
    gpu.release_errors = [GpuLost("gone")]
    worker.pause(1, 600)
    assert (worker.state.control, worker.paused) == ("released", False)
    worker.pause(2, 600)
    assert (worker.state.control, worker.paused, gpu.fans[0].manual) == ("driver", True, False)


def test_the_end_does_not_touch_a_paused_card() -> None:
    gpu = FakeGpu()
    worker = controlling(gpu)
    worker.pause(1, 600)
    gpu.calls.clear()
    worker.stop()
    assert gpu.calls == []


# ---- NVML ----


class Driver:
    """Counts how often it was loaded again; refuses with `error`."""

    def __init__(self) -> None:
        self.times = 0
        self.error: GpufanError | None = None

    def reload(self) -> None:
        self.times += 1
        if self.error is not None:
            raise self.error


def test_nvml_is_loaded_again_for_a_card_that_is_to_be_closed() -> None:
    driver = Driver()
    assert DriverReload(driver.reload).run_if_due(1, [0.0, 0.0], is_wanted=True)
    assert driver.times == 1


def test_after_a_failure_nvml_is_left_alone_for_some_seconds() -> None:
    driver = Driver()
    driver.error = NoAnswer("no answer within 2 s")
    reload = DriverReload(driver.reload)
    done_s = [now_s for now_s in range(20) if not reload.run_if_due(now_s, [0.0], is_wanted=True) and driver.times]
    assert done_s[0] == 0
    assert driver.times == 3  # at 0, 8 and 16 s
    driver.error = None
    assert reload.run_if_due(16 + RELOAD_DRIVER_S, [0.0], is_wanted=True)


def test_nvml_is_loaded_again_at_doubling_times_for_a_blind_card_and_soon_when_a_card_appears() -> None:
    driver = Driver()
    reload = DriverReload(driver.reload)
    times = [s for s in range(1, 60) if reload.run_if_due(s, [float(s), 0.0], is_wanted=False)]
    assert times == [8, 24, 56]
    reload.hurry()
    assert reload.run_if_due(60, [60.0, 0.0], is_wanted=False)


def test_while_no_card_can_be_read_nvml_is_loaded_again_and_again() -> None:
    driver = Driver()
    reload = DriverReload(driver.reload)
    times = [s for s in range(1, 14) if reload.run_if_due(s, [float(s), float(s)], is_wanted=False)]
    assert times == [ALL_BLIND_S * n for n in range(1, 5)]
