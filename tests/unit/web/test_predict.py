"""The model of each card and the prediction of other settings, on hours of history of a simulated box."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.quiet_hours import QuietHours
from gpufan.errors import GpufanError
from gpufan.web import predict
from gpufan.web.card_model import CardModel, NoModel, fit_last_day
from gpufan.web.history_charts import history_chart
from gpufan.web.model import RENEW_S, RETRY_S, SEARCH_S, Models
from gpufan.web.predict import Predictor, Wish
from gpufan.web.simulated_day import write_day
from gpufan.web.worker import Worker
from tests.benchmarks.predict import truth_of
from tests.unit.builders import gpu_state
from tests.unit.history.recorded import NOON_S, RecordedRun

SETTINGS = CardSettings(target_c=78)
KEYS = [f"GPU-00000001-0000-4000-8000-{number:012x}" for number in range(2)]
HOURS = 6
END_S = NOON_S + 3 * 3600


def settings_for(_: object) -> CardSettings:
    return SETTINGS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six hours from the morning to noon, with two cards at work."""
    found = tmp_path_factory.mktemp("day")
    write_day(found, "dual-1080ti", settings_for, END_S, seed=1, seconds=HOURS * 3600)
    return found


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Worker())) for _ in range(3)]


@pytest.fixture(scope="module")
def models(folder: Path, workers: list[Worker]) -> dict[str, CardModel]:
    found = Models(workers[0], folder, wall_clock=lambda: END_S)
    assert {state["state"] for state in found.states(dict.fromkeys(KEYS, ""))["cards"].values()} == {"fitting"}
    found.wait()
    states = found.states({})["cards"]
    assert [state["state"] for state in states.values()] == ["ready", "ready"]
    assert all("learnt from 6.0 h" in state["text"] and 0.3 < state["uncertainty_k"] < 3 for state in states.values())
    return found.ready()


@pytest.fixture(scope="module")
def predictor(workers: list[Worker]) -> Predictor:
    return Predictor(workers[1:])


def wishes(settings: CardSettings, *keys: str) -> dict[str, Wish]:
    return {key: Wish(settings, 93) for key in keys or KEYS}


@pytest.mark.slow
def test_the_present_settings_are_predicted_as_they_were(predictor: Predictor, models: dict[str, CardModel]) -> None:
    answer = predictor.predict(models, wishes(SETTINGS))
    assert answer["hours"] == pytest.approx(HOURS, abs=0.1)
    # A fan of card 0 did not obey for a while, which a prediction does not know.
    card = answer["cards"][KEYS[1]]
    assert card["peak_low_c"] - 0.5 <= card["was"]["peak_c"] <= card["peak_high_c"] + 0.5
    assert card["would"]["sound_db"] == pytest.approx(card["was"]["sound_db"], abs=0.7)
    assert card["would"]["hot_s"] == card["was"]["hot_s"] == 0
    assert answer["together"]["would_sound_db"] > max(card["would"]["sound_db"] for card in answer["cards"].values())


@pytest.mark.slow
def test_what_was_is_what_the_history_says(folder: Path, predictor: Predictor, models: dict[str, CardModel]) -> None:
    cards = history_chart(folder)["cards"]
    for key, card in predictor.predict(models, wishes(SETTINGS))["cards"].items():
        totals = cards[key]["totals"]
        assert card["was"]["peak_c"] == totals["peak_c"]
        assert card["was"]["sound_db"] == pytest.approx(totals["sound_db"], abs=0.1)
        assert card["was"]["swings"] == pytest.approx(totals["swings"], abs=3)
        assert card["was"]["hot_s"] == totals["hot_s"]


@pytest.mark.slow
def test_a_lower_target_is_cooler_and_louder(predictor: Predictor, models: dict[str, CardModel]) -> None:
    warm, cool = (predictor.predict(models, wishes(CardSettings(target_c=target_c), KEYS[1])) for target_c in (80, 68))
    warm_card, cool_card = warm["cards"][KEYS[1]], cool["cards"][KEYS[1]]
    assert set(warm["cards"]) == {KEYS[1]}
    assert cool_card["would"]["peak_c"] < warm_card["would"]["peak_c"] - 5
    assert cool_card["would"]["sound_db"] > warm_card["would"]["sound_db"] + 3
    for card in (warm_card, cool_card):
        assert card["peak_low_c"] < card["would"]["peak_c"] < card["peak_high_c"]
        assert card["peak_high_c"] - card["peak_low_c"] < 6


@pytest.mark.slow
def test_the_lowest_duty_is_that_of_the_card(predictor: Predictor, models: dict[str, CardModel]) -> None:
    for lowest in (23, 35):
        wish = Wish(CardSettings(target_c=78), 93, (lowest, 100))
        (card,) = predictor.predict(models, {KEYS[0]: wish})["cards"].values()
        assert min(card["course"]["duty_percent"]) == lowest


@pytest.mark.slow
def test_a_slow_fan_makes_hot_seconds(predictor: Predictor, models: dict[str, CardModel]) -> None:
    (card,) = predictor.predict(models, wishes(CardSettings(Curve.parse("0:40")), KEYS[0]))["cards"].values()
    assert card["would"]["hot_s"] > 600
    assert card["would"]["swings"] == 0
    assert set(card["course"]["duty_percent"]) == {40}


@pytest.mark.slow
def test_quiet_hours_count_at_their_local_times(
    predictor: Predictor, models: dict[str, CardModel], in_utc: None
) -> None:
    # At 52 % the card stays below the temperature from which the limit rises.
    quiet = CardSettings(target_c=72, quiet_hours=(QuietHours(10 * 60, 12 * 60, frozenset(range(7)), 52),))
    (card,) = predictor.predict(models, wishes(quiet, KEYS[1]))["cards"].values()
    points = list(zip(card["course"]["time_s"], card["course"]["duty_percent"], strict=True))
    begin_s, end_s = NOON_S - 7200, NOON_S
    assert max(duty for time_s, duty in points if begin_s + 120 < time_s < end_s - 120) <= 52
    assert max(duty for time_s, duty in points if not begin_s < time_s < end_s) > 60


@pytest.mark.slow
def test_the_course_has_few_points_in_the_order_of_time(predictor: Predictor, models: dict[str, CardModel]) -> None:
    (card,) = predictor.predict(models, wishes(SETTINGS, KEYS[0]))["cards"].values()
    times_s = card["course"]["time_s"]
    assert times_s == sorted(times_s)
    assert 100 < len(times_s) <= predict._COURSE_POINTS
    assert max(card["course"]["temperature_c"]) == pytest.approx(card["would"]["peak_c"], abs=0.1)


@pytest.mark.slow
def test_cards_without_a_model_are_left_out(predictor: Predictor, models: dict[str, CardModel]) -> None:
    assert set(predictor.predict(models, wishes(SETTINGS, KEYS[0], "GPU-9"))["cards"]) == {KEYS[0]}
    nothing = predictor.predict(models, wishes(SETTINGS, "GPU-9"))
    assert (nothing["cards"], nothing["error"]) == ({}, "the models of these cards are not ready: see their states")


def test_workers_get_models_again_if_some_could_not_be_given() -> None:
    class OddWorker:
        """A worker that fails at its second call."""

        calls = 0

        def call(self, *_: object) -> None:
            self.calls += 1
            if self.calls == 2:
                raise GpufanError("no memory")

    worker = OddWorker()
    predictor = Predictor([worker])  # type: ignore[list-item]  # in place of a Worker
    old, new = {"GPU-1": object()}, {"GPU-1": object()}
    predictor.prepare(old)  # type: ignore[arg-type]  # nothing here looks into a model
    with pytest.raises(GpufanError):
        predictor.prepare(new)  # type: ignore[arg-type]  # the same
    predictor.prepare(old)  # type: ignore[arg-type]  # the same
    assert worker.calls == 3


@pytest.mark.slow
def test_workers_have_new_models_before_the_page_shows_them(folder: Path, workers: list[Worker]) -> None:
    predictor = Predictor(workers[1:])
    models = Models(workers[0], folder, wall_clock=lambda: END_S, on_fitted=predictor.prepare)
    models.renew()
    models.wait()
    ready = models.ready()
    assert workers[1].call(predict.known_keys) == workers[2].call(predict.known_keys) == set(ready) == set(KEYS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 3])
def test_the_real_peak_under_other_settings_is_in_the_predicted_interval(seed: int) -> None:
    for peak in truth_of(seed):
        assert peak.low_c <= peak.real.peak_c <= peak.high_c, peak
        assert peak.would["sound_db"] == pytest.approx(peak.real.sound_db, abs=1)


# Too little to learn from


def record(path: Path, power_w: float | None, minutes: int, begin_s: float = NOON_S) -> None:
    run = RecordedRun(path)
    run.wall_s = begin_s
    for second in range(minutes * 60):
        run.second(gpu_state(power_w=power_w, temperature_c=40.0 + second % 2))
    run.recorder.close()


@pytest.mark.parametrize(
    ("power_w", "minutes", "texts"),
    [
        (200.0, 5, ["only 5 min of readings: let gpufan run for an hour while the card works"]),
        (20.0, 12, ["drew at most 20 W", "so that the fans move"]),
        (None, 12, ["no minute in which temperature, power and fan speed were read"]),
    ],
)
def test_with_too_little_history_the_text_says_what_is_missing(
    tmp_path: Path, power_w: float | None, minutes: int, texts: list[str]
) -> None:
    record(tmp_path, power_w, minutes)
    (model,) = fit_last_day(tmp_path, END_S).values()
    assert isinstance(model, NoModel)
    assert all(text in model.text for text in texts)


def test_readings_that_a_wrong_clock_put_into_the_future_do_not_hide_the_last_day(tmp_path: Path) -> None:
    record(tmp_path, 20.0, 12, NOON_S + 30 * 86400)
    record(tmp_path, 200.0, 5)
    (model,) = fit_last_day(tmp_path, END_S).values()
    assert isinstance(model, NoModel)
    assert "only 5 min of readings" in model.text


def test_case_fans_have_no_models(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    for _ in range(120):
        run.second(gpu_state(), gpu_state(uuid="fan:rear", label="rear", name="rear", power_w=None))
    run.recorder.close()
    assert set(fit_last_day(tmp_path, END_S)) == {gpu_state().uuid}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_without_a_usable_history_there_is_one_sentence(tmp_path: Path, workers: list[Worker]) -> None:
    models = Models(workers[0], tmp_path)
    models.states({})
    models.wait()
    state = models.states({"GPU-1": "0 A"})["cards"]["GPU-1"]
    assert state["state"] == "none"
    assert state["text"].startswith("there is no history (no ")
    assert Models(workers[0], None).states({"GPU-1": "0 A"})["cards"]["GPU-1"]["text"] == (
        "there is no history to learn from"
    )
    simulated = Models(workers[0], tmp_path / "later", is_simulated=True).states({"GPU-1": ""})["cards"]["GPU-1"]
    assert (simulated["state"], simulated["text"]) == ("fitting", "the last day of the simulated cards is being made")


@pytest.mark.slow
@pytest.mark.parametrize(("result", "wait_s"), [("error", SEARCH_S), ("too little", RETRY_S), ("model", RENEW_S)])
def test_a_fit_is_repeated_when_there_is_much_new_history(
    models: dict[str, CardModel], result: str, wait_s: float
) -> None:
    class CountingWorker:
        fits = 0

        def call(self, *_: object) -> object:
            self.fits += 1
            if result == "error":
                raise GpufanError("the history is damaged")
            return {KEYS[0]: models[KEYS[0]] if result == "model" else NoModel(KEYS[0], "", 0, "")}

    clock, worker = Clock(), CountingWorker()
    found = Models(worker, Path("/"), clock)  # type: ignore[arg-type]  # in place of a Worker
    for now_s, fits in ((0, 1), (wait_s - 1, 1), (wait_s + 1, 2), (wait_s + 2, 2)):
        clock.now_s = now_s
        found.ready()
        found.wait()
        assert worker.fits == fits
