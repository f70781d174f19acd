"""The file of orders as the daemon reads it, and a card that follows an order in a time of its own."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.config.order import Order
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.sentences import state_sentence
from gpufan.daemon import orders as module
from gpufan.daemon.orders import KeptOrder, Orders, kept_orders_path, write_kept_orders
from gpufan.daemon.worker import Worker
from gpufan.system.paths import ORDERS
from tests.unit.builders import FakeGpu

INFO = FakeGpu().info
DAMAGED = [b"", b"{", b"[]", b'{"cards": 7}', b"\xff" * 9, b"[" * 100_000, b'{"cards": {"a": {"order": "fast"}}}']


def write(folder: Path, **cards: dict[str, Any]) -> None:
    (folder / "new").write_bytes(msgspec.json.encode({"cards": cards}))
    (folder / "new").replace(folder / ORDERS)


def paused_s(orders: Orders, now_s: float = 100.0) -> float:
    orders.look()
    return orders.pause_left_s(INFO, now_s)


def ordered(orders: Orders, now_s: float = 100.0) -> tuple[str, float | None]:
    orders.look()
    order, left_s = orders.order(INFO, now_s)
    return str(order), left_s


# ---- the file ----


def test_a_card_is_paused_until_the_time_in_the_file(tmp_path: Path) -> None:
    orders = Orders(tmp_path / ORDERS)
    assert paused_s(orders) == 0
    write(tmp_path, **{INFO.uuid: {"paused_until_s": 160.0}, "GPU-other": {"paused_until_s": 900.0}})
    assert [paused_s(orders, now_s) for now_s in (100, 159, 160, 161)] == [60, 1, 0, 0]
    write(tmp_path, **{"GPU-other": {"paused_until_s": 900.0}})
    assert paused_s(orders) == 0


def test_an_order_holds_until_its_time_or_for_ever(tmp_path: Path) -> None:
    orders = Orders(tmp_path / ORDERS)
    write(tmp_path, **{INFO.uuid: {"order": "60", "order_until_s": 160.0}})
    assert [ordered(orders, now_s) for now_s in (100, 159, 160)] == [("60 %", 60), ("60 %", 1), ("None", None)]
    write(tmp_path, **{INFO.uuid: {"order": "target 75"}})
    assert ordered(orders, 1e9) == ("target 75 °C", None)
    (tmp_path / ORDERS).unlink()
    assert ordered(orders) == ("None", None)


def test_a_card_without_a_uuid_is_ordered_by_its_address(tmp_path: Path) -> None:
    write(tmp_path, **{INFO.pci: {"paused_until_s": 160.0, "order": "max"}})
    orders = Orders(tmp_path / ORDERS)
    assert (paused_s(orders), ordered(orders)) == (60, ("100 %", None))


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_orders_nothing_and_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / ORDERS).write_bytes(content)
    orders = Orders(tmp_path / ORDERS)
    assert [(paused_s(orders), ordered(orders)) for _ in range(3)] == [(0, ("None", None))] * 3
    assert len(caplog.records) == 1


def test_a_file_of_another_user_orders_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, **{INFO.uuid: {"paused_until_s": 160.0, "order": "60"}})
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    orders = Orders(tmp_path / ORDERS)
    assert (paused_s(orders), ordered(orders)) == (0, ("None", None))


# ---- orders to keep ----


def started(folder: Path, monkeypatch: pytest.MonkeyPatch, wall_s: float) -> tuple[str, float | None]:
    """What a daemon follows that starts at `wall_s`, 100 s after the boot."""
    monkeypatch.setattr(module.time, "time", lambda: wall_s)
    monkeypatch.setattr(module, "since_boot_s", lambda: 100.0)
    with Orders(folder / ORDERS) as orders:
        return ordered(orders)


def test_an_order_to_keep_outlasts_a_reboot_until_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kept_orders({INFO.uuid: KeptOrder("60", for_s=600.0, until_s=5000.0)})
    assert started(tmp_path, monkeypatch, 4900.0) == ("60 %", 100.0)
    assert started(tmp_path, monkeypatch, 5000.0) == ("None", None)
    # Before the clock of a machine is set.
    assert started(tmp_path, monkeypatch, 0.0) == ("60 %", 600.0)
    write_kept_orders({INFO.uuid: KeptOrder("auto")})
    assert started(tmp_path, monkeypatch, 9e9) == ("auto (gpufan sets no duty)", None)
    assert kept_orders_path().stat().st_mode & 0o777 == 0o600
    write_kept_orders({})
    assert not kept_orders_path().exists()


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_orders_to_keep_are_reported_and_delay_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    kept_orders_path().parent.mkdir(parents=True, exist_ok=True)
    kept_orders_path().write_bytes(content)
    assert started(tmp_path, monkeypatch, 5000.0) == ("None", None)
    assert len(caplog.records) == 1


# ---- the card ----


def tick(worker: Worker, order: str | None, seconds: range, left_s: float | None = None) -> None:
    for second in seconds:
        worker.obey(None if order is None else Order.parse(order), left_s)
        worker.tick(second)


def controlled(gpu: FakeGpu, **settings: Any) -> Worker:
    """A worker that follows a curve with as many percent as the card has °C."""
    worker = Worker(gpu, lambda _: CardSettings(curve=Curve.parse("30:30,80:80"), **settings))
    tick(worker, None, range(3))
    gpu.calls.clear()
    return worker


def test_a_steady_card_follows_an_order_at_the_next_tick_and_its_settings_after_it() -> None:
    gpu = FakeGpu()
    worker = controlled(gpu)
    news = worker.news
    tick(worker, "60", range(3, 4), left_s=552)
    assert gpu.written == [60]
    assert worker.news == news + 1
    assert state_sentence(worker.state) == "ordered: 60 %, for another 0:09:12"
    tick(worker, "41", range(4, 6))
    assert worker.state.duty_percent == 41  # although a curve allows no change so small or so fast
    assert state_sentence(worker.state) == "ordered: 41 %, until cleared"
    tick(worker, None, range(6, 8))
    assert (worker.state.order, state_sentence(worker.state)) == (
        "",
        "the curve gives 40 %; a change of less than 3 points is not made",
    )


def test_a_new_order_with_the_same_words_changes_only_the_time() -> None:
    gpu = FakeGpu()
    worker = controlled(gpu)
    tick(worker, "60", range(3, 9), left_s=10)
    tick(worker, "60", range(9, 12), left_s=500)
    assert (gpu.written, worker.instructions.order_left_s) == ([60], 500)


def test_auto_gives_the_fans_to_the_driver() -> None:
    gpu = FakeGpu()
    worker = controlled(gpu)
    tick(worker, "auto", range(3, 6))
    assert gpu.written == ["release"]
    assert (worker.state.control, state_sentence(worker.state)) == (
        "driver",
        "ordered: auto (gpufan sets no duty), until cleared",
    )


def test_settings_that_are_reloaded_leave_the_order_as_it_is() -> None:
    gpu = FakeGpu()
    worker = controlled(gpu)
    tick(worker, "60", range(3, 5))
    worker.follow(lambda _: CardSettings(target_c=70.0))
    tick(worker, "60", range(5, 9))
    assert gpu.written == [60]
    tick(worker, None, range(9, 10))
    assert worker.state.target_c == 70


ORDER = st.sampled_from(["0", "1", "30", "auto", "target 90", "curve 0:auto,110:30", "curve 0:1"])


@given(ORDER, st.sampled_from([91, 95, 120]))
def test_close_to_the_slowdown_threshold_the_fans_run_at_full_speed_whatever_was_ordered(
    order: str, temperature_c: float
) -> None:
    gpu = FakeGpu()
    worker = controlled(gpu)
    tick(worker, order, range(3, 6))
    gpu.temperature_c = temperature_c
    tick(worker, order, range(6, 9))
    assert worker.state.duty_percent == 100
    gpu.temperature_c = 40
    tick(worker, order, range(9, 400))
    assert worker.state.duty_percent is None or worker.state.duty_percent < 100


@given(ORDER, st.sampled_from([None, float("nan"), -40.0, 255.0]))
def test_a_temperature_in_doubt_runs_the_fans_at_full_speed_whatever_was_ordered(
    order: str, temperature_c: float | None
) -> None:
    gpu = FakeGpu()
    worker = controlled(gpu)
    tick(worker, order, range(3, 6))
    gpu.temperature_c = temperature_c
    tick(worker, order, range(6, 12))
    assert (worker.state.duty_percent, worker.state.reason.cause.group) == (100, "fail-safe")


@given(ORDER, st.sampled_from([((0, 100), None, 30), ((23, 100), None, 23), ((0, 100), 45, 45)]))
def test_no_order_sets_a_duty_below_the_lowest_of_the_card(
    order: str, card: tuple[tuple[int, int], int | None, int]
) -> None:
    card_range, min_duty_percent, lowest = card
    gpu = FakeGpu(duty_range=card_range)
    worker = controlled(gpu, min_duty_percent=min_duty_percent)
    tick(worker, order, range(3, 60))
    assert {duty for duty in gpu.written if isinstance(duty, int) and duty < lowest} == set()
    if order == "1":
        assert state_sentence(worker.state).startswith(f"the order gives 1 %; {lowest} % is the lowest duty")
