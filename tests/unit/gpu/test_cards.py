"""Which backend sets a card's fans: NVML and NV-CONTROL side by side, with one plant."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pynvml
import pytest

from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.sentences import state_sentence
from gpufan.daemon.worker import Worker
from gpufan.errors import GpuError, GpuLost, InputError
from gpufan.gpu.cards import Cards, open_cards
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from tests.doubles import nvcontrol_server as x
from tests.doubles.nvcontrol_server import ABSENT, BAD_VALUE, NvControlServer
from tests.doubles.nvml import AUTO, DRIVER, IGNORES, JAMS, MANUAL, Card, Kind, NvmlDouble
from tests.doubles.xorg import mapped_box

OLD = "470.256"
"""A driver that cannot set fans through NVML."""

SETTINGS = CardSettings(Curve.parse("40:40,80:80"), hysteresis_c=0, hold_s=0, slew_percent_per_s=100, step_percent=1)
"""The duty in percent equals the temperature in °C."""

DRIVERS = [None, None]


def fans(double: NvmlDouble, card: int) -> list[int | None]:
    """The duties that the fans of a card were set to, percent; None if the driver controls them."""
    return [None if fan.policy == AUTO else fan.target for fan in double.cards[card].fans[:2]]


def nvml_sets(double: NvmlDouble, card: int) -> int:
    """The number of calls to set a fan of a card through NVML."""
    return sum(call.operation == Kind.SET_FAN for call in double.log() if call.card == card)


class Bench:
    """The cards of a box, a worker for each with a tick per second, and an X server with NV-CONTROL."""

    def __init__(self, double: NvmlDouble, cards: Cards, server: NvControlServer) -> None:
        self.double, self.cards, self.server = double, cards, server
        self.workers = [Worker(gpu, lambda _: SETTINGS) for gpu in cards.gpus]
        self.now_s = 1000.0

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.now_s += 1
            self.double.advance(1)
            for worker in self.workers:
                worker.tick(self.now_s)

    def states(self) -> list[tuple[str, str]]:
        """Backend and control of each card."""
        return [(worker.state.backend, worker.state.control) for worker in self.workers]


Open = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens a box of two cards with two fans each, at 60 °C until a test changes it."""
    with ExitStack() as stack:

        def start(driver: str = DRIVER, backend: str = "auto", spoil: Callable[[Card], None] | None = None) -> Bench:
            double = NvmlDouble(tmp_path, SimulatedBox(PROFILES["dual-1080ti-open-air"], lambda t: 150.0), driver)
            for card in double.cards:
                card.by_hand, card.temperature, card.power_mw = 1, 60, 150_000
            if spoil is not None:
                spoil(double.cards[0])
            stack.enter_context(double.install())
            server = stack.enter_context(NvControlServer(mapped_box(double.map), tmp_path, order=[1, 0]))
            monkeypatch.setenv("XAUTHORITY", str(server.authority))
            cards = open_cards(backend, server.name, tmp_path / "x")
            stack.callback(cards.close)
            return Bench(double, cards, server)

        yield start


def stuck(how: int) -> Callable[[Card], None]:
    def spoil(card: Card) -> None:
        for fan in card.fans:
            fan.stuck = how

    return spoil


def refusing(card: Card) -> None:
    card.error[Kind.SET_FAN] = pynvml.NVML_ERROR_NOT_SUPPORTED


def passive(card: Card) -> None:
    card.fan_count = 0


# ---- which backend ----


def test_if_nvml_works_no_x_server_is_used(bench: Open) -> None:
    box = bench()
    box.tick(20)
    assert box.states() == [("nvml", "ours")] * 2
    assert box.server.connections == 0
    assert [fans(box.double, card) for card in (0, 1)] == [[60, 60]] * 2


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (stuck(IGNORES), "another program gave fan 0 back to the driver"),
        (stuck(JAMS), r"fan 0 stays at \d+ % although it is set to 60 %"),
        (refusing, "the driver refused: Not Supported"),
    ],
    ids=["ignores", "jams", "refuses"],
)
def test_a_card_that_nvml_does_not_move_is_controlled_over_x_and_says_why(
    bench: Open, spoil: Callable[[Card], None], why: str
) -> None:
    box = bench(spoil=spoil)
    box.tick(20)
    state = box.workers[0].state
    assert (state.backend, state.control, fans(box.double, 0)) == ("x11", "ours", [60, 60])
    assert re.fullmatch(f"NVML does not move its fans: {why}", state.backend_reason)
    box.tick(20)
    assert (state.backend, box.workers[0].state.control) == ("x11", "ours")
    assert [fan.speed for fan in box.double.cards[0].fans[:2]] == [60, 60]
    assert (box.workers[1].state.backend, box.workers[1].state.backend_reason) == ("nvml", "")


def test_the_backend_is_switched_after_exactly_three_failed_read_backs(bench: Open) -> None:
    box = bench(spoil=stuck(IGNORES))
    seen = []
    for _ in range(5):
        box.tick()
        seen.append((*box.states()[0], nvml_sets(box.double, 0) // 2))
    assert seen == [
        ("nvml", "ours", 1),
        ("nvml", "ours", 2),
        ("nvml", "ours", 3),
        ("x11", "released", 4),
        ("x11", "ours", 4),
    ]


def test_an_old_driver_is_controlled_over_x_from_the_first_tick(bench: Open) -> None:
    box = bench(OLD)
    box.tick()
    assert box.states() == [("x11", "ours")] * 2
    assert box.workers[0].state.backend_reason.startswith("driver 470.256 cannot set fans through NVML")
    assert [fans(box.double, card) for card in (0, 1)] == [[60, 60]] * 2
    assert box.workers[0].state.power_w == 150, "still sensed through NVML"


def test_backend_x11_sets_nothing_through_nvml(bench: Open) -> None:
    box = bench(backend="x11")
    box.tick(20)
    for worker in box.workers:
        worker.stop()
    assert box.states() == [("x11", "ours")] * 2
    assert (box.double.log(), fans(box.double, 0)) == ([], DRIVERS)


def test_backend_nvml_rejects_a_display(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--display goes with --backend auto or x11"):
        open_cards("nvml", ":0", tmp_path)


@pytest.mark.parametrize("driver", [OLD, DRIVER])
@pytest.mark.parametrize("backend", ["auto", "x11"])
def test_a_card_without_fans_is_not_set_and_the_other_is_controlled(bench: Open, driver: str, backend: str) -> None:
    box = bench(driver, backend, passive)
    box.tick(2)
    assert [state.control for state in (worker.state for worker in box.workers)] == ["driver", "ours"]
    assert state_sentence(box.workers[0].state) == "the driver reports no fan"
    assert all(number == 0 for kind, number, *_ in box.server.sets if kind == x.GPU), "the server's GPU 0 is card 1"
    assert nvml_sets(box.double, 0) == 0


def test_a_card_of_a_server_without_coolbits_reports_what_is_missing(bench: Open) -> None:
    box = bench(spoil=stuck(IGNORES))
    box.server.coolbits = False
    box.tick(5)
    state = box.workers[0].state
    assert (state.backend, state.control, state.reason.cause.group) == ("nvml", "released", "fault")
    assert 'over X it fails too: its X server does not let fans be set: put Option "Coolbits" "4"' in state_sentence(
        state
    )
    assert box.states()[1] == ("nvml", "ours")


def test_a_temperature_that_nvml_cannot_read_is_read_over_x(bench: Open) -> None:
    box = bench(OLD)
    box.double.cards[0].error[Kind.TEMPERATURE] = pynvml.NVML_ERROR_UNKNOWN
    box.tick(5)
    assert (box.workers[0].state.temperature_c, box.workers[0].state.reason.cause.group) == (60, "curve")


# ---- the X server ends ----


def test_without_its_x_server_a_card_is_lost_and_with_the_next_one_controlled_again(
    bench: Open, tmp_path: Path
) -> None:
    box = bench(spoil=stuck(IGNORES))
    box.tick(5)
    number = box.server.number
    box.server.close()
    box.tick(2)
    assert box.states() == [("x11", "lost"), ("nvml", "ours")]
    assert f"no X server runs on display :{number}" in state_sentence(box.workers[0].state)
    with NvControlServer(mapped_box(box.double.map), tmp_path, numbers=[number]):
        box.double.cards[0].temperature = 70
        box.tick(5)
        assert box.states() == [("x11", "ours"), ("nvml", "ours")]
        assert fans(box.double, 0) == [70, 70]


def test_without_its_x_server_a_card_is_given_back_through_nvml(bench: Open) -> None:
    box = bench(spoil=stuck(JAMS))
    box.tick(30)
    assert fans(box.double, 0) == [60, 60]
    box.server.close()
    box.workers[0].stop()
    assert (box.states()[0][0], fans(box.double, 0)) == ("x11", DRIVERS)


def test_a_card_released_through_nvml_is_set_again_over_the_next_server(bench: Open, tmp_path: Path) -> None:
    box = bench(spoil=stuck(JAMS))
    box.tick(30)
    gpu, number = box.cards.gpus[0], box.server.number
    box.server.close()
    gpu.release()
    assert [fan.manual for fan in gpu.read().fans] == [False, False]
    assert gpu.sense() == (60, 150)
    with NvControlServer(mapped_box(box.double.map), tmp_path, numbers=[number]) as again:
        gpu.set_duty(80)
        assert fans(box.double, 0) == [80, 80]
        again.drop()
    for read in (gpu.read, gpu.sense):
        with pytest.raises(GpuLost, match=r"no X server|has gone|does not answer"):
            read()


def test_a_card_that_nvml_cannot_give_back_either_is_reported(bench: Open) -> None:
    box = bench(spoil=stuck(IGNORES))
    box.tick(5)
    box.server.close()
    with pytest.raises(GpuError, match="fan 0 is still in manual mode after it was given back"):
        box.workers[0].stop()


def test_without_its_x_server_a_card_of_an_old_driver_cannot_be_given_back(bench: Open) -> None:
    box = bench(OLD)
    box.tick()
    box.server.close()
    with pytest.raises(GpuLost, match=r"no X server|has gone|does not answer"):
        box.workers[0].stop()


# ---- errors over X ----


@pytest.mark.parametrize("error", [BAD_VALUE, ABSENT], ids=["X error", "declined by status"])
def test_a_set_refused_over_x_three_times_gives_the_card_back_and_is_tried_again(bench: Open, error: int) -> None:
    box = bench(OLD)
    box.tick()
    box.server.failures[x.LEVEL, 0] = error  # a cooler of card 0
    box.double.cards[0].temperature = 70
    box.tick(3)
    state = box.workers[0].state
    assert (state.control, state.reason.cause.group, fans(box.double, 0)) == ("released", "fault", DRIVERS)
    assert "THERMAL_COOLER_LEVEL of COOLER 0" in state_sentence(state)
    assert "trying again after 5 s" in state_sentence(state)
    assert box.states()[1] == ("x11", "ours")
    box.server.failures.clear()
    box.tick(6)
    assert (box.states()[0], fans(box.double, 0)) == (("x11", "ours"), [70, 70])


def test_a_release_refused_over_x_is_reported(bench: Open) -> None:
    box = bench(OLD)
    box.tick()
    box.server.failures[x.MANUAL, 1] = BAD_VALUE
    with pytest.raises(GpuError, match="GPU_COOLER_MANUAL_CONTROL of GPU 1: BadValue"):
        box.workers[0].stop()
    box.workers[1].stop()
    assert fans(box.double, 1) == DRIVERS


def test_a_change_by_another_program_over_x_is_corrected_within_a_tick(bench: Open) -> None:
    box = bench(OLD)
    box.tick()
    for fan in box.double.cards[0].fans:
        fan.policy = AUTO
    box.tick()
    assert (fans(box.double, 0), box.workers[0].state.overrides) == ([60, 60], 1)


# ---- one plant, two backends ----


def trace(folder: Path, driver: str, seconds: int) -> list[tuple[int | None, float | None]]:
    """Duty and temperature of both cards of a box under load, second by second, and after their release."""
    folder.mkdir()
    double = NvmlDouble(folder, SimulatedBox(PROFILES["dual-1080ti"], WORKLOADS["sweep"]), driver)
    seen = []
    with double.install(), NvControlServer(mapped_box(double.map), folder) as server, pytest.MonkeyPatch.context() as m:
        m.setenv("XAUTHORITY", str(server.authority))
        cards = open_cards("auto", server.name, folder)
        workers = [Worker(gpu, lambda _: CardSettings()) for gpu in cards.gpus]
        for second in range(seconds):
            for worker in workers:
                worker.tick(second)
                seen.append((worker.state.duty_percent, worker.state.temperature_c))
            double.advance(1)
        assert {worker.state.backend for worker in workers} == {"x11" if driver == OLD else "nvml"}
        for worker in workers:
            worker.stop()
        seen += [(fan.target if fan.policy == MANUAL else None, None) for fan in (c.fans[0] for c in double.cards[:2])]
        cards.close()
    return seen


def test_the_same_plant_gets_the_same_duties_over_nvml_and_over_x(tmp_path: Path) -> None:
    over_nvml = trace(tmp_path / "nvml", DRIVER, 300)
    assert trace(tmp_path / "x", OLD, 300) == over_nvml
    assert len({duty for duty, _ in over_nvml}) > 5
