"""A header's fan holds a passive card as a fan of its own would."""

import pytest

from gpufan.core.card_settings import DEFAULT_TARGET_C
from tests.benchmarks import header


@pytest.mark.parametrize(
    "load",
    [pytest.param(name, marks=[pytest.mark.slow] * (number > 1)) for number, name in enumerate(header.workloads())],
)
def test_a_headers_fan_has_the_figures_of_a_cards_own_fan(load: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "SECONDS", 1800)
    workload = header.workloads()[load]
    ours, own = header.run(workload, own_fan=False), header.run(workload, own_fan=True)
    assert ours.hot_s == own.hot_s == 0
    assert ours.peak_c == pytest.approx(own.peak_c, abs=0.5)
    assert ours.peak_c < DEFAULT_TARGET_C + header.ABOVE_K
    assert ours.sound_db == pytest.approx(own.sound_db, abs=0.3)
    assert ours.swings <= own.swings + 1  # from the duty of the BIOS to that of gpufan
    assert ours.throttled_percent == pytest.approx(own.throttled_percent, abs=0.2)
