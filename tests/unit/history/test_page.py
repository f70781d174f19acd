"""The report: a page that needs nothing beside it and says what happened, or a picture."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gpufan.cli.main import cli
from gpufan.core.curve import Curve
from gpufan.history.chart import card_on_its_curve, card_over_time, curve_of, line, target_of
from gpufan.history.reader import Mean, Past, Span
from tests.unit.builders import gpu_state
from tests.unit.history.kept import NOON_S, Kept

pytest.importorskip("matplotlib")

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    found = Kept(tmp_path)
    found.seconds(100, settings="curve 50:30,83:100")
    found.seconds(60, settings="curve 50:30,83:100", group="fail-safe", message=f"no temperature {EVIL}")
    found.seconds(40, settings="curve 50:30,83:100", label=EVIL)
    return found


def report(kept: Kept, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["report", "--state-dir", str(kept.folder), *arguments])


class Elements(HTMLParser):
    """What a browser would load or run, and whether every element is closed."""

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
    found = Kept(tmp_path_factory.mktemp("kept"))
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
def test_the_pictures_of_a_page_do_not_share_names(page: str) -> None:
    elements = Elements()
    elements.feed(page)
    assert len(elements.ids) == len(set(elements.ids))
    assert {link.removeprefix("#") for link in elements.links} <= set(elements.ids)


@pytest.mark.slow
def test_what_others_wrote_is_text_on_the_page(page: str) -> None:
    assert EVIL not in page
    assert "&lt;script&gt;" in page


@pytest.mark.slow
def test_a_page_follows_the_colours_of_its_reader(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    # What the pictures are drawn in is written in the page's own terms.
    pictures = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.findall("#ffffff|#000000|#0072b2|#d55e00", pictures)


@pytest.mark.slow
def test_a_page_tells_days_events_and_reasons(kept: Kept) -> None:
    assert report(kept, "--output", str(kept.folder / "report.html")).output.startswith("wrote ")
    page = (kept.folder / "report.html").read_text()
    for words in ("fail-safe", "for 0:00:59", "no temperature &lt;script", "temperature, °C", "sound, dB(A)", "kWh"):
        assert words in page, words


@pytest.mark.slow
def test_a_picture_is_a_png(kept: Kept) -> None:
    assert report(kept, "--output", str(kept.folder / "report.PNG")).exit_code == 0
    assert (kept.folder / "report.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("output", "words"),
    [("report.pdf", r"\.html or \.png"), ("no/report.html", "no such folder"), (".", r"\.html or \.png")],
)
def test_a_file_that_cannot_be_is_refused_before_anything_is_read(kept: Kept, output: str, words: str) -> None:
    result = report(kept, "--output", str(kept.folder / output))
    assert result.exit_code == 1  # main() makes it 2
    assert re.search(words, str(result.exception))


def test_a_time_of_which_nothing_is_kept_is_told_and_no_file_is_written(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: NOON_S + 86400)
    result = report(kept, "--last", "1h", "--output", str(kept.folder / "report.html"))
    assert "nothing was kept from" in str(result.exception)
    assert not (kept.folder / "report.html").exists()


def test_a_line_keeps_peaks_and_breaks_at_gaps() -> None:
    values = [(60.0 * n, 60.0, Mean(60, 50, 97 if n == 7 else 70)) for n in (*range(10), *range(40, 50))]
    found = line(values, "read", 300)
    assert found.times_s == [0, 300, 600, 2400, 2700]
    assert list(found.values) == [60, 60, None, 60, 60]
    assert found.band == ([50, 50, None, 50, 50], [70, 97, None, 70, 70])


def test_a_line_weighs_with_time() -> None:
    found = line([(0.0, 1.0, Mean(0, 0, 0)), (1.0, 3.0, Mean(100, 100, 100))], "read", 60)
    assert list(found.values) == [75]


@pytest.mark.parametrize(
    ("settings", "curve"),
    [
        ("curve 50:30,83:100", Curve.parse("50:30,83:100")),
        ("target 78 °C", None),
        ("", None),
        ("curve of another version", None),
    ],
)
def test_the_curve_is_the_one_that_the_card_followed_last(kept: Kept, settings: str, curve: Curve | None) -> None:
    kept.seconds(10, settings=settings)
    with Past(kept.folder) as past:
        assert curve_of(past.cards()[0]) == curve


@pytest.mark.parametrize(
    ("settings", "target_c"),
    [("target 78.5 °C", 78.5), ("target 78 °C", 78), ("target 7.8.5 °C", None), ("curve 50:30,83:100", None)],
)
def test_the_target_is_the_one_that_the_card_was_held_at_last(
    kept: Kept, settings: str, target_c: float | None
) -> None:
    kept.seconds(10, settings=settings)
    with Past(kept.folder) as past:
        assert target_of(past.cards()[0]) == target_c


def test_a_card_that_tells_nothing_has_no_pictures_but_its_events(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.seconds(
        100,
        temperature_c=None,
        power_w=None,
        fans=(),
        duty_percent=None,
        control="lost",
        group="lost",
        message="a call to the card hangs",
    )
    with Past(kept.folder) as past:
        (card,) = past.cards()
        assert card_over_time(past, card, past.span(), []) is None
        assert card_on_its_curve(past, card, past.span()) is None
        assert card_over_time(past, card, Span(0, 1), []) is None
    assert report(kept, "--output", str(tmp_path / "report.html")).exit_code == 0
    assert "a call to the card" in (tmp_path / "report.html").read_text()
