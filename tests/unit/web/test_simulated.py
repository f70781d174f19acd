"""The simulated box of the page."""

from pathlib import Path

from gpufan.config.settings import Source
from gpufan.core.reasons import Control
from gpufan.web.simulated import SimulatedDaemon


def daemon(profile: str, folder: Path) -> SimulatedDaemon:
    return SimulatedDaemon(profile, "epochs", Source(folder / "config.toml", required=False), folder)


def test_a_fan_on_a_header_cools_its_simulated_card(tmp_path: Path) -> None:
    (card,) = daemon("p40-header", tmp_path).before[-1].gpus
    assert card.control is Control.OURS
    assert card.temperature_c is not None and card.temperature_c < 84
    assert card.fans and card.fans[0].speed_rpm


def test_a_simulated_box_has_its_case_fan_in_the_snapshot(tmp_path: Path) -> None:
    (fan,) = daemon("dual-1080ti-case", tmp_path).before[-1].case_fans
    assert fan.label == "nct6798/pwm2"
    assert fan.control is Control.OURS
