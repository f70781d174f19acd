"""A channel of the motherboard is named once, whichever of its names is used; only cards may share one."""

from pathlib import Path

import pytest

from gpufan.config.mistakes import SettingsError
from gpufan.config.toml_text import parse_settings_text
from gpufan.hwmon.channels import Channel

HOME = Path("/sys/devices/platform/nct6775.656/hwmon")
CHANNELS = [Channel("nct6798", HOME, 2, 2, "CPU Fan"), Channel("nct6798", HOME, 3, 3, "")]
OTHERS = [Channel("it8688", Path(f"/sys/devices/platform/it87.{device}/hwmon"), 1, 1, "", False) for device in (1, 2)]


def cards(*lists: str) -> str:
    return "".join(f'[[gpu]]\nmatch = "{number}"\nfans = [{names}]\n' for number, names in enumerate(lists))


def case_fans(*names: str) -> str:
    return "".join(f"[[fan]]\nname = {name}\n" for name in names)


PWM, LABEL, DEVICE = '"nct6798/pwm2"', '"nct6798/cpu fan"', '"nct6798@nct6775.656/pwm2"'
OTHER = '"nct6798/pwm3"'


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (cards(f"{PWM}, {PWM}"), f"line 3: [[gpu]] 1: fans: {PWM}: this list has this fan already: remove one of them"),
        (
            cards(f"{OTHER}, {PWM}, {LABEL}"),
            f"line 3: [[gpu]] 1: fans: {LABEL}: this list has this fan already as {PWM}: remove one of them",
        ),
        (
            case_fans(PWM, OTHER, PWM),
            f"line 6: [[fan]] 3: name: {PWM}: [[fan]] 1 has this fan already: remove one of them",
        ),
        (
            case_fans(DEVICE, PWM),
            f"line 4: [[fan]] 2: name: {PWM}: [[fan]] 1 has this fan already as {DEVICE}: remove one of them",
        ),
        (
            case_fans(LABEL) + cards(PWM),
            f"line 2: [[fan]] 1: name: {LABEL}: [[gpu]] 1 has this fan already as {PWM}: remove one of them",
        ),
        (
            cards(OTHER, PWM) + case_fans('"nct6798/pwm2/fan5"'),
            'line 8: [[fan]] 1: name: "nct6798/pwm2/fan5": [[gpu]] 2 has this fan already'
            f" as {PWM}: remove one of them",
        ),
    ],
)
def test_a_second_name_of_a_channel_is_refused_with_its_line(text: str, mistake: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_settings_text(text.encode(), lambda: CHANNELS)
    assert str(raised.value) == mistake


@pytest.mark.parametrize("text", [case_fans(DEVICE, PWM), cards(PWM) + case_fans('"nct6798/PWM2/none"')])
def test_names_that_show_it_themselves_are_refused_on_a_box_without_the_chip(text: str) -> None:
    with pytest.raises(SettingsError, match="has this fan already"):
        parse_settings_text(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        cards(PWM, PWM),  # two cards share a fan: the higher duty counts
        cards(PWM, LABEL),
        cards(PWM, OTHER) + case_fans('"it8688@it87.1/pwm1"', '"it8688@it87.2/pwm1"'),
        cards('"nct6798/nothing"') + case_fans('"nct6798/nobody"'),
    ],
)
def test_different_channels_and_a_channel_that_cards_share_are_accepted(text: str) -> None:
    parse_settings_text(text.encode(), lambda: [*CHANNELS, *OTHERS])
