"""The command `gpufan report`: a page in one file, or a PNG."""

import importlib.util
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from gpufan.cli.main import cli
from gpufan.core.curve import Curve
from gpufan.history import plot
from gpufan.history.aggregate import Aggregate
from gpufan.history.card_plots import card_curve_to_plot, card_series, plot_card_on_curve, plot_card_over_time
from gpufan.history.plain_svg import panels_svg, svg_ticks
from gpufan.history.plot import Mark, Panel, Series
from gpufan.history.reader import HistoryReader, TimeRange
from tests.unit.builders import gpu_state
from tests.unit.history.recorded import NOON_S, RecordedRun

pytestmark = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    found = RecordedRun(tmp_path)
    found.seconds(100, settings="curve 50:30,83:100")
    found.seconds(60, settings="curve 50:30,83:100", group="fail-safe", message=f"no temperature {EVIL}")
    found.seconds(40, settings="curve 50:30,83:100", label=EVIL)
    return found


def report(run: RecordedRun, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["report", "--state-dir", str(run.folder), *arguments])


class Elements(HTMLParser):
    """Elements that are open, ids, links and tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values[name] or "" for name in ("src", "href", "xlink:href") if name in values]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = RecordedRun(tmp_path_factory.mktemp("run"))
    other = gpu_state(uuid="GPU-22222222-0000", index=1, label=f"1 {EVIL}", message=EVIL, group="fault")
    for _ in range(100):
        found.second(gpu_state(settings="curve 50:30,83:100"), other)
    result = report(found, "--output", str(found.folder / "report.html"))
    assert result.exit_code == 0, result.output
    return (found.folder / "report.html").read_text()


@pytest.mark.slow
def test_a_page_loads_nothing_and_runs_nothing(page: str) -> None:
    elements = Elements()
    elements.feed(page)
    assert elements.open == []
    assert not elements.tags & {"script", "link", "img", "iframe", "object"}
    assert [link for link in elements.links if not link.startswith("#")] == []
    assert re.findall(r"url\((?!#)", page) == []
    assert "@import" not in page


@pytest.mark.slow
def test_the_plots_of_a_page_do_not_share_ids(page: str) -> None:
    elements = Elements()
    elements.feed(page)
    assert len(elements.ids) == len(set(elements.ids))
    assert {link.removeprefix("#") for link in elements.links} <= set(elements.ids)


@pytest.mark.slow
def test_hostile_text_is_escaped(page: str) -> None:
    assert EVIL not in page
    assert "&lt;script&gt;" in page


@pytest.mark.slow
def test_a_page_has_light_and_dark_colours(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    # The plots have the colours of the page.
    pictures = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.findall("#ffffff|#000000|#0072b2|#d55e00", pictures)


@pytest.mark.slow
def test_a_page_shows_days_events_and_causes(run: RecordedRun) -> None:
    assert report(run, "--output", str(run.folder / "report.html")).output.startswith("wrote ")
    page = (run.folder / "report.html").read_text()
    for words in ("fail-safe", "for 0:00:59", "no temperature &lt;script", "temperature, °C", "sound, dB(A)", "kWh"):
        assert words in page, words


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the copy that the service runs: matplotlib can be neither found nor imported."""
    find = importlib.util.find_spec
    monkeypatch.setattr(plot, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.mark.usefixtures("without_matplotlib")
def test_a_page_needs_no_matplotlib(run: RecordedRun) -> None:
    result = report(run, "--output", str(run.folder / "report.html"))
    assert result.exit_code == 0, result.output
    page = (run.folder / "report.html").read_text()
    elements = Elements()
    elements.feed(page)
    assert elements.open == []
    assert {"svg", "polyline"} <= elements.tags
    assert "script" not in elements.tags
    for words in ("temperature, °C", "fans, %", "power, W", "sound, dB(A)", "12:00:", "gpufan[plot]", "fail-safe"):
        assert words in page
    drawing = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + len("</svg>")])
    for line in drawing.iter("{http://www.w3.org/2000/svg}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 900
            assert 0 <= y <= float(drawing.attrib["viewBox"].split()[3])


@pytest.mark.usefixtures("without_matplotlib")
def test_a_png_names_what_to_install(run: RecordedRun) -> None:
    result = report(run, "--output", str(run.folder / "report.png"))
    assert result.exit_code != 0
    assert "matplotlib 3.7 or newer, which is not installed" in str(result.exception)
    assert "gpufan[plot]" in str(result.exception)


def test_a_value_above_the_limit_of_a_plain_panel_is_drawn_at_its_edge() -> None:
    series = Series("read", [0, 1], [150.0, 104.0])
    svg = panels_svg([Panel("fans", "%", [series], limits=(0, 104))], [], TimeRange(0, 1))
    (y_first, y_second) = re.findall(r",([0-9.]+)", re.findall('<polyline points="([^"]+)"', svg)[0])
    assert y_first == y_second
    assert re.findall(r">([0-9]+)<", svg) == ["0", "50", "100"]


def test_a_plain_line_breaks_where_readings_are_missing() -> None:
    series = Series("read", [0, 1, 2, 3, 4], [50.0, 51.0, None, 53.0, 54.0])
    svg = panels_svg([Panel("temperature", "°C", [series])], [Mark(1, 2, EVIL, "red")], TimeRange(0, 4))
    assert svg.count("<polyline") == 2
    assert EVIL not in svg


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [(0, 104, [0, 50, 100, 150]), (30, 30, [30, 31]), (38.2, 38.4, [38, 39]), (12, 251.5, [0, 100, 200, 300])],
)
def test_a_plain_scale_has_round_numbers(low: float, high: float, numbers: list[int]) -> None:
    assert svg_ticks(low, high) == numbers


@pytest.mark.slow
def test_a_file_that_ends_in_png_is_a_png(run: RecordedRun) -> None:
    assert report(run, "--output", str(run.folder / "report.PNG")).exit_code == 0
    assert (run.folder / "report.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("output", "words"),
    [("report.pdf", r"\.html or \.png"), ("no/report.html", "no such folder")],
)
def test_an_impossible_file_name_is_refused(run: RecordedRun, output: str, words: str) -> None:
    result = report(run, "--output", str(run.folder / output))
    assert result.exit_code == 1  # main() makes it 2
    assert re.search(words, str(result.exception))


def test_without_readings_there_is_an_error_and_no_file(run: RecordedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOON_S + 86400)
    result = report(run, "--last", "1h", "--output", str(run.folder / "report.html"))
    assert "there are no readings since" in str(result.exception)
    assert not (run.folder / "report.html").exists()


def test_a_line_has_the_peaks_and_breaks_at_gaps() -> None:
    values = [(60.0 * n, 60.0, Aggregate(60, 50, 97 if n == 7 else 70)) for n in (*range(10), *range(40, 50))]
    found = card_series(values, "read", 300)
    assert found.times_s == [0, 300, 600, 2400, 2700]
    assert list(found.values) == [60, 60, None, 60, 60]
    assert found.band == ([50, 50, None, 50, 50], [70, 97, None, 70, 70])


def test_a_line_is_weighted_with_time() -> None:
    found = card_series([(0.0, 1.0, Aggregate(0, 0, 0)), (1.0, 3.0, Aggregate(100, 100, 100))], "read", 60)
    assert list(found.values) == [75]


@pytest.mark.parametrize(
    ("settings", "curve", "target_c"),
    [
        ("curve 50:30,83:100", Curve.parse("50:30,83:100"), None),
        ("target 78 °C", None, 78),
        ("target 78.5 °C", None, 78.5),
        ("target 7.8.5 °C", None, None),
        ("curve of another version", None, None),
        ("", None, None),
    ],
)
def test_curve_and_target_are_those_that_the_card_followed_last(
    run: RecordedRun, settings: str, curve: Curve | None, target_c: float | None
) -> None:
    run.seconds(10, settings=settings)
    with HistoryReader(run.folder) as reader:
        assert card_curve_to_plot(reader.cards()[0].settings) == (curve, target_c)


def test_a_card_without_readings_has_events_but_no_plots(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    run.seconds(
        100,
        temperature_c=None,
        power_w=None,
        fans=(),
        duty_percent=None,
        control="lost",
        group="lost",
        message="a call to the card hangs",
    )
    with HistoryReader(run.folder) as reader:
        (card,) = reader.cards()
        minutes = list(reader.minutes(card, reader.time_range()))
        assert minutes
        for periods in (minutes, []):
            assert plot_card_over_time(card, periods, [], reader.time_range(), 60) is None
            assert plot_card_on_curve(card, periods) is None
    assert report(run, "--output", str(tmp_path / "report.html")).exit_code == 0
    assert "a call to the card" in (tmp_path / "report.html").read_text()
