"""Which cards are opened, how long cards that hang delay the others, and cards that appear later."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pynvml
import pytest

from gpufan.core.gpu import Gpu
from gpufan.doctor.look_driver import look_at_driver
from gpufan.errors import GpuLost, NoAnswer
from gpufan.gpu import cards, kernel_cards, nvml_box
from gpufan.gpu.cards import Cards, open_cards
from gpufan.gpu.simulated import WORKLOADS, Plant, Profile, SimulatedBox
from tests.doubles.nvml import MANUAL, Kind, NvmlDouble, wait_for
from tests.integration.harness import fans

OPENING_OR_READING = pytest.mark.parametrize("kind", [Kind.HANDLE, Kind.TEMPERATURE], ids=lambda kind: kind.name)
LIMIT_S = 3.0
"""The healthy cards are served within this time."""


@pytest.fixture
def eight(tmp_path: Path) -> Iterator[NvmlDouble]:
    """A box of eight cards, every fan in manual mode at 30 %."""
    box = SimulatedBox(Profile("NVIDIA GeForce GTX 1080 Ti", (Plant(),) * 8), WORKLOADS["idle"])
    double = NvmlDouble(tmp_path, box)
    for number, card in enumerate(double.cards[:8]):
        card.pci = f"00000000:{number + 1:02X}:00.0".encode()
        card.fans[0].policy, card.fans[0].target = MANUAL, 30
    with double.install():
        yield double


@pytest.fixture
def opened(double: NvmlDouble, tmp_path: Path) -> Iterator[Callable[..., Cards]]:
    """Opens the cards of `double` by NVML alone, for some names."""
    found: list[Cards] = []

    def open_them(*names: str) -> Cards:
        found.append(open_cards("nvml", None, tmp_path, names))
        return found[-1]

    yield open_them
    for one in found:
        one.close()


def _case(hung: int, limit_s: float, *marks: pytest.MarkDecorator) -> object:
    return pytest.param((hung, limit_s), id=f"{hung} of 8 hang, limit {limit_s:g} s", marks=marks)


@pytest.fixture(params=[_case(5, 0.7), *(_case(hung, 2, pytest.mark.slow) for hung in (1, 3, 5))])
def hung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of cards that hang. In the fast case all limits are shorter, but 5 times the limit is still late."""
    count, limit_s = request.param
    monkeypatch.setattr("gpufan.gpu.nvml_box.OPEN_TIMEOUT_S", limit_s)
    monkeypatch.setattr(cards, "READ_TIMEOUT_S", limit_s)
    return count


Listing = Callable[..., None]


@pytest.fixture
def kernel_lists(double: NvmlDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listing:
    """Lets the kernel list some cards, and describe those that it knows to be in use."""
    driven, described = tmp_path / "driven", tmp_path / "described"
    driven.mkdir()
    (driven / "new_id").touch()
    monkeypatch.setattr(kernel_cards, "DRIVER_FOLDER", driven)
    monkeypatch.setattr(kernel_cards, "CARDS_FOLDER", described)

    def put(*numbers: int, in_use: bool = True) -> None:
        for link in driven.glob("*:*"):
            link.unlink()
        for number in numbers:
            card = double.cards[number]
            name = card.pci.decode()[4:].lower()
            (driven / name).touch()
            (described / name).mkdir(parents=True, exist_ok=True)
            uuid = card.uuid.decode() if in_use else "GPU-????????-????-????-????-????????????"
            text = f"Model: \t\t {card.name.decode()}\nIRQ:   \t\t 38\nGPU UUID: \t {uuid}\n"
            (described / name / "information").write_text(text)

    return put


def hang(double: NvmlDouble, count: int, kind: Kind) -> list[int]:
    """Let every call of `kind` hang on `count` cards; returns the numbers of the others."""
    hung = [7, 0, 3, 4, 6][:count]
    for number in hung:
        double.cards[number].hang[kind] = 1
    return [number for number in range(8) if number not in hung]


def called(double: NvmlDouble) -> set[int]:
    """The cards that any call has reached."""
    return {number for number in range(double.map.card_count) if any(double.calls(number).values())}


def answers(gpu: Gpu) -> bool:
    try:
        return gpu.sense().temperature_c is not None
    except GpuLost:
        return False


# ---- cards that hang ----


def test_healthy_cards_are_open_in_time_and_the_others_may_answer_later(
    eight: NvmlDouble, tmp_path: Path, hung: int
) -> None:
    healthy = hang(eight, hung, Kind.HANDLE)
    began_s = time.monotonic()
    with closing(open_cards("auto", None, tmp_path)) as box:
        assert time.monotonic() - began_s < LIMIT_S
        assert [gpu.info.index for gpu in box.gpus if gpu.info.uuid] == healthy
        assert [gpu.info.index for gpu in box.gpus if answers(gpu)] == healthy
        assert {gpu.info.name for gpu in box.gpus if not gpu.info.uuid} == {"card that does not answer"}
        eight.let_go()
        wait_for(lambda: all(answers(gpu) for gpu in box.gpus))
        assert [gpu.info.uuid for gpu in box.gpus] == [card.uuid.decode() for card in eight.cards[:8]]


@pytest.mark.parametrize("kind", [Kind.HANDLE, Kind.SET_DEFAULT], ids=lambda kind: kind.name)
def test_restore_gives_healthy_cards_back_in_time(
    eight: NvmlDouble,
    gpufan: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    hung: int,
    kind: Kind,
) -> None:
    monkeypatch.setattr("gpufan.daemon.restore.CARD_TIMEOUT_S", 0.2)
    healthy = hang(eight, hung, kind)
    began_s = time.monotonic()
    status, _, err = gpufan("restore")
    assert time.monotonic() - began_s < LIMIT_S
    assert [number for number in range(8) if fans(eight, number) == [None]] == healthy
    assert (status, err.count(";") + 1) == (1, hung)


@OPENING_OR_READING
def test_list_shows_all_cards_in_time(
    eight: NvmlDouble, gpufan: Callable[..., tuple[int, str, str]], hung: int, kind: Kind
) -> None:
    hang(eight, hung, kind)
    began_s = time.monotonic()
    status, out, _ = gpufan("list")
    assert time.monotonic() - began_s < LIMIT_S
    assert (status, out.count("it does not answer"), out.count("°C, ")) == (0, hung, 8 - hung)


@OPENING_OR_READING
def test_doctor_reads_healthy_cards_in_time(eight: NvmlDouble, hung: int, kind: Kind) -> None:
    healthy = hang(eight, hung, kind)
    began_s = time.monotonic()
    driver = look_at_driver()
    assert time.monotonic() - began_s < LIMIT_S
    assert [card.info.index for card in driver.cards if card.reading is not None] == healthy
    assert len(driver.cards) == 8


def test_cards_that_open_slowly_one_after_the_other_are_waited_for(
    eight: NvmlDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpufan.gpu.nvml_box.OPEN_TIMEOUT_S", 0.5)
    for number, card in enumerate(eight.cards[:4]):
        card.delay_us[Kind.HANDLE] = 200_000 * number
    with closing(open_cards("nvml", None, tmp_path)) as box:
        assert all(gpu.info.uuid for gpu in box.gpus)


def test_restore_gives_a_card_back_that_opens_slowly(
    double: NvmlDouble, gpufan: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpufan.gpu.nvml_box.OPEN_TIMEOUT_S", 0.05)
    double.cards[0].delay_us[Kind.HANDLE] = 300_000
    double.cards[0].fans[0].policy = MANUAL
    assert gpufan("restore")[0] == 0
    assert fans(double, 0) == [None, None]


# ---- hands off ----


@pytest.mark.parametrize("name", ["1", "41:00.0", "GPU-00000001-0000-4000-8000-000000000001", "titan"])
def test_no_call_reaches_a_card_that_is_not_named(
    double: NvmlDouble, opened: Callable[..., Cards], kernel_lists: Listing, name: str
) -> None:
    double.cards[1].name = b"NVIDIA TITAN Xp"
    kernel_lists(0, 1)
    box = opened(name)
    assert (called(double), answers(box.gpus[1])) == ({1}, True)


def test_a_card_that_was_not_in_use_is_opened_for_a_uuid_but_not_for_an_address(
    double: NvmlDouble, opened: Callable[..., Cards], kernel_lists: Listing
) -> None:
    kernel_lists(0, 1, in_use=False)
    opened("41:00.0")
    assert called(double) == {1}
    opened(double.cards[1].uuid.decode())
    assert called(double) == {0, 1}


def test_where_the_kernel_lists_other_cards_than_nvml_only_an_index_spares_a_card(
    double: NvmlDouble, opened: Callable[..., Cards], kernel_lists: Listing
) -> None:
    kernel_lists(0)
    opened("1")
    assert called(double) == {1}
    assert [gpu.info.pci for gpu in opened("41:00.0").gpus] == ["00000000:0A:00.0", "00000000:41:00.0"]


@pytest.mark.parametrize("command", ["run", "restore", "list"])
def test_no_command_opens_a_card_that_is_not_named(
    double: NvmlDouble, gpufan: Callable[..., tuple[int, str, str]], command: str
) -> None:
    options = ("--duration", "0.1s") if command == "run" else ()
    assert gpufan(command, "--gpu", "1", *options)[0] == 0
    assert called(double) == {1}


# ---- cards that come and go ----


@pytest.fixture(params=["kernel", "count"])
def lists(request: pytest.FixtureRequest, double: NvmlDouble) -> Listing:
    """Lets NVML, and the kernel in one of two cases, list some cards."""
    kernel = request.getfixturevalue("kernel_lists") if request.param == "kernel" else lambda *_: None

    def put(*numbers: int) -> None:
        for number in range(double.map.card_count):
            double.cards[number].absent = number not in numbers
        kernel(*numbers)

    return put


def test_a_card_that_appears_is_found_once(double: NvmlDouble, opened: Callable[..., Cards], lists: Listing) -> None:
    lists(1)
    box = opened()
    assert box.find_new() == []
    lists(0, 1)
    (new,) = box.find_new()
    assert (new.info.uuid, new.sense().temperature_c) == (double.cards[0].uuid.decode(), 60)
    assert (box.find_new(), answers(box.gpus[0]), [gpu.info.index for gpu in box.gpus]) == ([], True, [0, 1])


@pytest.mark.parametrize("name", ["0", "41:00.0", "GPU-00000001-0000-4000-8000-000000000001", "titan"])
def test_a_card_that_appears_is_left_alone_if_it_is_not_named(
    double: NvmlDouble, opened: Callable[..., Cards], lists: Listing, name: str
) -> None:
    double.cards[1].name = b"NVIDIA TITAN Xp"
    lists(1)
    box = opened(name)
    lists(0, 1)
    assert box.find_new() == []
    assert answers(box.gpus[0])


def test_a_card_that_comes_back_is_the_card_that_it_was(
    double: NvmlDouble, opened: Callable[..., Cards], lists: Listing
) -> None:
    lists(0, 1)
    box = opened()
    lists(1)
    assert box.find_new() == []
    assert not answers(box.gpus[0])
    lists(0, 1)
    assert box.find_new() == []
    assert (answers(box.gpus[0]), len(box.gpus)) == (True, 2)


def test_a_card_that_comes_back_at_another_address_is_the_card_that_it_was(
    double: NvmlDouble, opened: Callable[..., Cards], lists: Listing
) -> None:
    lists(0, 1)
    box = opened()
    lists(1)
    box.find_new()
    double.cards[0].pci = b"00000000:42:00.0"
    lists(0, 1)
    assert box.find_new() == []
    assert (answers(box.gpus[0]), box.gpus[0].info.pci) == (True, "00000000:42:00.0")


def test_a_card_that_nvml_knows_only_after_it_is_loaded_anew_answers_then(
    double: NvmlDouble, opened: Callable[..., Cards], kernel_lists: Listing
) -> None:
    pynvml.nvmlShutdown()  # that of the fixture
    double.map.list_at_init, double.cards[1].absent = 1, 1
    kernel_lists(0)
    box = opened()
    double.cards[1].absent = 0
    kernel_lists(0, 1)
    (new,) = box.find_new()
    assert not answers(new)
    box.reload_driver()
    assert all(answers(gpu) for gpu in box.gpus)


def test_a_card_that_appears_but_does_not_open_at_once_is_found_when_it_does(
    double: NvmlDouble, opened: Callable[..., Cards], kernel_lists: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml_box, "RETRY_S", 0)
    kernel_lists(0)
    double.cards[1].absent = 1
    box = opened(*(card.uuid.decode() for card in double.cards[:2]))
    kernel_lists(0, 1, in_use=False)
    double.cards[1].absent, double.cards[1].error[Kind.HANDLE] = 0, pynvml.NVML_ERROR_UNKNOWN
    assert box.find_new() == []
    double.cards[1].error[Kind.HANDLE] = 0
    (new,) = box.find_new()
    assert (new.info.uuid, box.find_new()) == (double.cards[1].uuid.decode(), [])


def test_a_card_that_does_not_open_at_the_start_is_found_when_it_does(
    double: NvmlDouble, opened: Callable[..., Cards], kernel_lists: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml_box, "RETRY_S", 0)
    kernel_lists(0, 1, in_use=False)
    double.cards[1].error[Kind.HANDLE] = pynvml.NVML_ERROR_UNKNOWN
    box = opened(*(card.uuid.decode() for card in double.cards[:2]))
    assert box.find_new() == []
    double.cards[1].error[Kind.HANDLE] = 0
    (new,) = box.find_new()
    assert (new.info.uuid, box.find_new(), len(called(double))) == (double.cards[1].uuid.decode(), [], 2)


def test_a_card_of_a_container_that_replaces_another_is_found(
    double: NvmlDouble, opened: Callable[..., Cards], kernel_lists: Listing
) -> None:
    def list_with_a_card_that_the_container_lacks(number: int) -> None:
        double.cards[number].absent, double.cards[1 - number].absent = 0, 1
        kernel_lists(number)
        (kernel_cards.DRIVER_FOLDER / "0000:99:00.0").touch()

    list_with_a_card_that_the_container_lacks(0)
    box = opened()
    list_with_a_card_that_the_container_lacks(1)
    (new,) = box.find_new()
    assert (new.info.uuid, box.find_new()) == (double.cards[1].uuid.decode(), [])


def test_a_card_of_a_container_that_does_not_open_at_once_is_found_when_it_does(
    double: NvmlDouble, opened: Callable[..., Cards], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml_box, "RETRY_S", 0)
    double.cards[1].absent = 1
    box = opened()
    double.cards[1].absent, double.cards[1].error[Kind.HANDLE] = 0, pynvml.NVML_ERROR_UNKNOWN
    assert box.find_new() == []
    double.cards[1].error[Kind.HANDLE] = 0
    (new,) = box.find_new()
    assert (new.info.uuid, box.find_new()) == (double.cards[1].uuid.decode(), [])


def test_a_card_that_does_not_open_is_opened_again_soon_and_then_after_longer_waits(
    double: NvmlDouble, opened: Callable[..., Cards], kernel_lists: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr(nvml_box, "time", SimpleNamespace(monotonic=lambda: now_s))
    kernel_lists(0)
    double.cards[1].absent = 1
    box = opened(*(card.uuid.decode() for card in double.cards[:2]))
    kernel_lists(0, 1, in_use=False)
    double.cards[1].absent, double.cards[1].error[Kind.HANDLE] = 0, pynvml.NVML_ERROR_UNKNOWN
    opened_s = []
    for second in range(40):
        now_s, calls = float(second), double.calls(1)[Kind.HANDLE]
        assert box.find_new() == []
        if double.calls(1)[Kind.HANDLE] > calls:
            opened_s.append(second)
    assert opened_s == [0, 2, 6, 14, 24, 34]


def test_a_card_that_does_not_open_at_the_start_is_opened_again_soon(
    double: NvmlDouble, opened: Callable[..., Cards], kernel_lists: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr(nvml_box, "time", SimpleNamespace(monotonic=lambda: now_s))
    kernel_lists(0, 1, in_use=False)
    double.cards[1].error[Kind.HANDLE] = pynvml.NVML_ERROR_UNKNOWN
    box = opened(*(card.uuid.decode() for card in double.cards[:2]))
    double.cards[1].error[Kind.HANDLE] = 0
    assert box.find_new() == []
    now_s = 2.0
    assert len(box.find_new()) == 1


def test_a_card_that_is_not_named_stays_closed_after_a_restart_of_the_driver(
    double: NvmlDouble, opened: Callable[..., Cards], kernel_lists: Listing
) -> None:
    kernel_lists(0, 1)
    box = opened(double.cards[0].uuid.decode())
    kernel_lists(0)
    box.find_new()
    kernel_lists(0, 1, in_use=False)
    assert box.find_new() == []
    assert called(double) == {0}


# ---- the driver starts again ----


def test_a_reload_that_hangs_is_left_behind_and_not_started_twice(
    double: NvmlDouble, opened: Callable[..., Cards], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = opened()
    double.restart()
    monkeypatch.setattr(cards, "RELOAD_TIMEOUT_S", 0.05)
    load, may_go = pynvml.nvmlInit, Event()
    loads: list[None] = []

    def hang() -> None:
        loads.append(may_go.wait())
        load()

    monkeypatch.setattr(pynvml, "nvmlInit", hang)
    for _ in range(2):
        with pytest.raises(NoAnswer):
            box.reload_driver()
    may_go.set()
    wait_for(lambda: answers(box.gpus[0]))
    assert len(loads) == 1
