"""Plots: their axes, lines and labels, their formats, and the errors where one cannot be written."""

import os
import re
import sys
import sysconfig
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from gpufan.core.card_settings import DEFAULT_CURVE
from gpufan.core.curve import Curve
from gpufan.errors import GpufanError, InputError, MissingExtra
from gpufan.history import plot
from gpufan.history.plot import (
    Mark,
    Panel,
    Series,
    check_plot_path,
    draw_curve_with_points,
    draw_time_panels,
    render_figure,
    save_figure,
)
from gpufan.system.files import write_output
from tests.unit.core.test_snapshot import disk_with_room_for
from tests.unit.history.recorded import NOON_S

TIMES_S = [0.0, 60.0, 120.0, 180.0]
PANELS = [
    Panel("temperature", "°C", [Series(name, TIMES_S, [40, None, 70, 71]) for name in ("a", "b")], [(80, "limit")]),
    Panel("duty", "%", [Series("b", TIMES_S, [30, 30, 50, 55])]),
]


def texts(svg: bytes) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_axes_and_lines_have_labels() -> None:
    words = texts(render_figure(draw_time_panels(PANELS, title="a title"), "svg"))
    assert {"temperature, °C", "duty, %", "time, min", "a", "b", "limit", "a title"} <= set(words)


@pytest.mark.slow
def test_a_name_is_never_a_formula() -> None:
    name = r"$\foo$ <script>"
    assert name in texts(render_figure(draw_time_panels(PANELS, title=name), "svg"))


def test_marks_are_in_the_legend_and_bands_are_not() -> None:
    panel = Panel("duty", "%", [Series("a", TIMES_S, [30, 30, None, 50], ([20, 25, None, 40], [40, 35, None, 60]))])
    marks = [Mark(60, 90, "fail-safe", "#D81B60"), Mark(120, 120, "fail-safe", "#D81B60")]
    words = texts(render_figure(draw_time_panels([panel], marks=marks), "svg"))
    assert [word for word in words if word in ("a", "fail-safe")] == ["a", "fail-safe"]


def test_more_than_two_hours_are_in_hours() -> None:
    panel = Panel("duty", "%", [Series("a", [0, 3 * 3600], [30, 40])])
    assert "time, h" in texts(render_figure(draw_time_panels([panel]), "svg"))


def test_wall_clock_times_are_dates() -> None:
    panel = Panel("duty", "%", [Series("a", [1.7e9, 1.7e9 + 3600], [30, 40])])
    assert any(
        re.fullmatch(r"\d\d:\d\d", text)
        for text in texts(render_figure(draw_time_panels([panel], wall_clock=True), "svg"))
    )


@pytest.mark.parametrize(
    ("days", "tick", "corner"), [(8, r"\d\d-\d\d", "%Y-%m"), (1, r"\d\d:\d\d|\d\d-\d\d", "%Y-%m-%d")]
)
def test_dates_have_the_format_of_other_outputs(days: int, tick: str, corner: str) -> None:
    panel = Panel("power", "W", [Series("a", [NOON_S - days * 86400, NOON_S], [1, 2])])
    axis = draw_time_panels([panel], wall_clock=True).axes[0].xaxis
    ticks = axis.get_major_formatter().format_ticks(axis.get_ticklocs())
    assert [text for text in ticks if not re.fullmatch(tick, text)] == []
    assert axis.get_major_formatter().get_offset() == time.strftime(corner, time.localtime(NOON_S))


def test_a_line_has_one_colour_in_all_panels() -> None:
    axes = draw_time_panels(PANELS).axes
    assert axes[0].lines[1].get_color() == axes[1].lines[0].get_color() != axes[0].lines[0].get_color()


def test_an_unknown_value_is_a_gap() -> None:
    line = draw_time_panels(PANELS).axes[0].lines[0]
    assert [value == value for value in line.get_ydata()] == [True, False, True, True]


@pytest.mark.slow
def test_the_same_plot_gives_the_same_file() -> None:
    assert render_figure(draw_time_panels(PANELS), "svg") == render_figure(draw_time_panels(PANELS), "svg")


@pytest.mark.parametrize("panels", [[Panel("duty", "%", [])], [Panel("duty", "%", [Series("a", [], [])])]])
def test_without_values_a_panel_is_empty(panels: list[Panel]) -> None:
    assert "duty, %" in texts(render_figure(draw_time_panels(panels), "svg"))


@pytest.mark.slow
def test_a_dot_is_larger_where_the_card_was_longer() -> None:
    figure = draw_curve_with_points(DEFAULT_CURVE, [(70, 46)] * 9 + [(60.4, 38)], title="0 GTX 1080 Ti")
    dots = figure.axes[0].collections[0]
    assert [tuple(point) for point in dots.get_offsets()] == [(70, 46), (60, 38)]
    large, small = dots.get_sizes()
    assert large == pytest.approx(9 * small)
    assert {"temperature, °C", "duty, %", "where the card was", "curve"} <= set(texts(render_figure(figure, "svg")))


def test_the_curve_is_flat_outside_its_points_and_starts_where_auto_ends() -> None:
    flat, auto = (
        draw_curve_with_points(Curve.parse(text), []).axes[0].lines[0] for text in ("50:30,80:90", "0:auto,50:30")
    )
    assert list(flat.get_xdata()) == [20, 50, 80, 95]
    assert list(flat.get_ydata()) == [30, 30, 90, 90]
    assert list(auto.get_xdata()) == [50, 95]


@pytest.mark.parametrize(("name", "begin"), [("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG")])
def test_the_suffix_decides_the_format(tmp_path: Path, name: str, begin: bytes) -> None:
    save_figure(draw_time_panels(PANELS), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begin)


@pytest.mark.parametrize("name", ["a.pdf", "a", "svg", "missing/a.svg", "folder.svg", "pipe.svg"])
def test_an_impossible_path_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.svg").mkdir()
    os.mkfifo(tmp_path / "pipe.svg")
    with pytest.raises(InputError) as error:
        check_plot_path(tmp_path / name)
    assert re.search(
        r"name a file that ends in \.svg or \.png"
        r"|cannot be written: (no such folder: create it, or|it is not a file:) name another --output",
        str(error.value),
    )


@pytest.mark.parametrize("before", [None, b"the last picture"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "a.svg"
    if before is not None:
        path.write_bytes(before)
    with disk_with_room_for(10), pytest.raises(GpufanError, match=r"a\.svg: File too large; (choose|it is unch)"):
        write_output(path, b"x" * 20)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "a.svg").symlink_to("web/a.svg")
    for data in (b"1", b"2"):
        write_output(tmp_path / "a.svg", data)
        assert (tmp_path / "web/a.svg").read_bytes() == data
    assert (tmp_path / "a.svg").is_symlink()


def test_without_matplotlib_the_error_has_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'gpufan\[plot\]'"):
        check_plot_path(tmp_path / "a.svg")


def test_a_matplotlib_that_is_too_old_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot.metadata, "version", lambda name: "3.6.3")
    with pytest.raises(InputError, match=r"^pictures need matplotlib 3\.7 or newer, which is not installed: "):
        check_plot_path(tmp_path / "a.svg")
    monkeypatch.setattr(plot.metadata, "version", lambda name: "3.10.1+dfsg1")
    check_plot_path(tmp_path / "a.svg")


def test_the_remedy_names_the_pip_of_this_installation_or_of_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert "use the gpufan of your clone" in str(MissingExtra("a fit needs", "scipy", "tune"))
    (tmp_path / "pip").touch()
    assert str(MissingExtra("a fit needs", "scipy", "tune")).endswith(f": {tmp_path}/pip install 'gpufan[tune]'")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    for mark, remedy in (
        ("uv-receipt.toml", "uv tool install --force 'gpufan[tune]'"),
        ("pipx_metadata.json", "pipx install --force 'gpufan[tune]'"),
        ("distribution.pth", "install the package python3-scipy of your distribution"),
    ):
        (tmp_path / mark).touch()
        assert str(MissingExtra("a fit needs", "scipy", "tune")).endswith(f", which is not installed: {remedy}")


def test_a_target_is_a_vertical_line() -> None:
    figure = draw_curve_with_points(None, [(78, 60)], target_c=78)
    assert list(figure.axes[0].lines[0].get_xdata()) == [78, 78]
    assert {"target 78 °C", "where the card was"} <= set(texts(render_figure(figure, "svg")))
