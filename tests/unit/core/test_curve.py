"""The curve: what may be written down, what the line between the points is, and what a wrong point is told."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.core.curve import Curve
from gpufan.errors import InputError
from tests.unit.builders import curves


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "curve point 1 '': write it as temperature:duty, for example 60:50"),
        ("60:50,", "curve point 2 '': write it as temperature:duty, for example 60:50"),
        ("60", "curve point 1 '60': write it as temperature:duty, for example 60:50"),
        ("60-50", "curve point 1 '60-50': write it as temperature:duty, for example 60:50"),
        ("60:", "curve point 1 '60:': '' is not a number"),
        ("50:%", "curve point 1 '50:%': '' is not a number"),
        ("50:30%%", "curve point 1 '50:30%%': '30%' is not a number"),
        ("50 F:30", "curve point 1 '50 F:30': '50 F' is not a number"),
        ("hot:50", "curve point 1 'hot:50': 'hot' is not a number"),
        ("60:50:70", "curve point 1 '60:50:70': '50:70' is not a number"),
        ("60:nan", "curve point 1 '60:nan': 'nan' is not a number"),
        ("inf:50", "curve point 1 'inf:50': 'inf' is not a number"),
        ("60:5_0", "curve point 1 '60:5_0': '5_0' is not a number"),
        ("60:\u0665\u0660", "curve point 1 '60:\u0665\u0660': '\u0665\u0660' is not a number"),
        ("-1:50", "curve point 1 '-1:50': the temperature must lie within 0..110 °C"),
        ("50:30,111:50", "curve point 2 '111:50': the temperature must lie within 0..110 °C"),
        ("50:-1", "curve point 1 '50:-1': the duty must lie within 0..100 %"),
        ("50:30,60:101", "curve point 2 '60:101': the duty must lie within 0..100 %"),
        ("60:50,55:70", "curve point 2 '55:70': temperatures must rise, and 55 does not come after 60"),
        ("60:50,60:70", "curve point 2 '60:70': temperatures must rise, and 60 does not come after 60"),
        ("60:50,70:49", "curve point 2 '70:49': duties must never fall, and 49 is below 50"),
        ("0:auto,60:50,70:49", "curve point 3 '70:49': duties must never fall, and 49 is below 50"),
        ("50:30,60:auto,70:50", "curve point 2 '60:auto': 'auto' may stand only at the first point"),
        ("0:auto", "the curve needs at least one point with a duty, for example 60:50"),
    ],
)
def test_a_wrong_curve_is_told_by_its_point_and_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Curve.parse(text)
    assert str(caught.value) == message


def test_a_curve_without_points_is_refused() -> None:
    with pytest.raises(InputError, match="at least one point"):
        Curve(())


@pytest.mark.parametrize("point", [(math.nan, 50.0), (50.0, math.nan), (math.inf, 50.0), (50.0, math.inf)])
def test_a_point_that_is_no_number_is_refused_however_it_comes(point: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="curve point 1"):
        Curve((point,))


@pytest.mark.parametrize(
    "text",
    ["0:0,110:100", "60:50", "60:50,70:50", "0:auto,50:30", " 50 : 30 , 60:\t40 ", "5e1:30"],
)
def test_what_is_within_the_rules_is_taken(text: str) -> None:
    assert Curve.parse(text).points


@pytest.mark.parametrize("text", ["50:30%,83:100 %", "50 °C:30, 83°c:100%", "50C:30%,83 C:100", "50°:30,83 °:100"])
def test_units_behind_the_numbers_are_skipped(text: str) -> None:
    assert str(Curve.parse(text)) == "50:30,83:100"


@pytest.mark.parametrize(
    ("temperature_c", "duty"),
    [(-40, 30), (49.9, 30), (50, 30), (55, 35), (60, 40), (65, 70), (70, 100), (110, 100), (math.inf, 100)],
)
def test_duty_is_linear_between_points_and_flat_outside(temperature_c: float, duty: float) -> None:
    assert Curve.parse("50:30,60:40,70:100").duty_at(temperature_c) == pytest.approx(duty)


@pytest.mark.parametrize(
    ("temperature_c", "duty"), [(-5, None), (30, None), (45, None), (49.999, None), (50, 30), (60, 40), (math.nan, 40)]
)
def test_auto_reaches_up_to_the_second_point(temperature_c: float, duty: float | None) -> None:
    assert Curve.parse("40:auto,50:30,60:40").duty_at(temperature_c) == duty


@pytest.mark.parametrize(("text", "lowest"), [("50:30,60:40", 30), ("0:auto,50:35,60:40", 35), ("0:0,60:40", 0)])
def test_the_lowest_duty_is_that_of_the_first_point_with_a_number(text: str, lowest: float) -> None:
    assert Curve.parse(text).lowest_duty == lowest


@given(curves())
def test_not_a_number_counts_as_hot(curve: Curve) -> None:
    assert curve.duty_at(math.nan) == curve.points[-1][1]


@given(curves(), st.floats())
def test_any_temperature_has_a_duty_within_the_points(curve: Curve, temperature_c: float) -> None:
    duty = curve.duty_at(temperature_c)
    if duty is None:
        assert curve.points[0][1] is None
        assert temperature_c < curve.points[1][0]
    else:
        highest = curve.points[-1][1]
        assert highest is not None
        assert curve.lowest_duty - 1e-9 <= duty <= highest + 1e-9


@given(curves(auto=False), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_hotter_is_never_less_duty(curve: Curve, one_c: float, other_c: float) -> None:
    cooler, hotter = curve.duty_at(min(one_c, other_c)), curve.duty_at(max(one_c, other_c))
    assert cooler is not None
    assert hotter is not None
    assert cooler <= hotter + 1e-9


@given(curves())
def test_every_point_lies_on_its_curve(curve: Curve) -> None:
    for temperature_c, duty in curve.points:
        assert curve.duty_at(temperature_c) == duty


@given(curves())
def test_a_curve_written_out_reads_back_as_itself(curve: Curve) -> None:
    assert Curve.parse(str(curve)) == curve


@given(
    st.lists(st.floats(0, 110), min_size=1, max_size=4, unique=True).map(sorted),
    st.lists(st.floats(0, 100), min_size=4, max_size=4).map(sorted),
)
def test_a_curve_written_out_keeps_every_digit(temperatures: list[float], duties: list[float]) -> None:
    curve = Curve(tuple(zip(temperatures, duties, strict=False)))
    assert Curve.parse(str(curve)) == curve


@given(st.text(alphabet="0123456789.,:-+einfauto _°", max_size=30))
def test_any_text_is_a_curve_or_an_error_for_people(text: str) -> None:
    try:
        curve = Curve.parse(text)
    except InputError as error:
        assert str(error).startswith(("curve point", "the curve needs"))
    else:
        assert curve.points
