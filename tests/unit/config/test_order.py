"""What `gpufan set` accepts as an order."""

import pytest

from gpufan.config.order import Order, order_of_words
from gpufan.core.card_settings import CardSettings
from gpufan.errors import InputError


@pytest.mark.parametrize(
    ("words", "text", "shown"),
    [
        (["60"], "60", "60 %"),
        (["60%"], "60", "60 %"),
        (["60", "%"], "60", "60 %"),
        (["max"], "100", "100 %"),
        (["0"], "0", "0 %"),
        (["auto"], "auto", "auto (gpufan sets no duty)"),
        (["target", "75.5"], "target 75.5", "target 75.5 °C"),
        (["target", "75°C"], "target 75", "target 75 °C"),
        (["target", "75C"], "target 75", "target 75 °C"),
        (["curve", "50:30%,", "83:100%"], "curve 50:30,83:100", "curve 50:30,83:100"),
        (["curve", "50:30,", "83:100"], "curve 50:30,83:100", "curve 50:30,83:100"),
    ],
)
def test_an_order_is_read_and_read_again_from_its_own_text(words: list[str], text: str, shown: str) -> None:
    order = order_of_words(words)
    assert (order.text, str(order)) == (text, shown)
    assert Order.parse(order.text) == order


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fast"], "'fast' is not a number: order 60, auto, max, `target 75` or `curve 50:30,83:100`"),
        (["target"], "nothing is ordered after target: write it as `target 75`"),
        ([" target "], "nothing is ordered after target: write it as `target 75`"),
        (["curve"], "nothing is ordered after curve: write it as `curve 50:30,83:100`"),
        (["target", "warm"], "'warm' is not a number"),
        (["target", "95"], "target 95: order a number from 50 to 90 °C"),
        (["target", "nan"], "'nan' is not a number"),
        (["101"], "101: order a number from 0 to 100 %"),
        (["nan"], "'nan' is not a number"),
        (["60", "70"], "'60 70' is not a number"),
        (["curve", "60"], "curve point 1 '60': write it as temperature:duty"),
        (["curve", "60:50,55:70"], "curve point 2"),
        (["auto", "60"], "'auto 60' is not a number"),
    ],
)
def test_what_is_no_order_is_refused_with_what_to_write(words: list[str], message: str) -> None:
    with pytest.raises(InputError) as raised:
        order_of_words(words)
    assert message in str(raised.value)


def test_an_order_changes_only_curve_and_target() -> None:
    settings = CardSettings(target_c=70.0, min_duty_percent=40, neighbours=("1",))
    applied = Order.parse("curve 50:30,83:100").applied_to(settings)
    assert (applied.target_c, str(applied), applied.min_duty_percent, applied.neighbours) == (
        None,
        "curve 50:30,83:100",
        40,
        ("1",),
    )
    assert Order.parse("target 75").applied_to(settings) == CardSettings(
        target_c=75.0, min_duty_percent=40, neighbours=("1",)
    )
