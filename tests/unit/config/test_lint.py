"""What is allowed in a settings file but surely not meant is named with its line."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpufan.cli.main import cli
from gpufan.config.lint import lint_settings
from gpufan.config.settings import DEFAULT_PATH, Settings
from gpufan.config.toml_text import parse_settings_text, render_settings_text
from gpufan.core.gpu import GpuInfo
from tests.unit.builders import FakeGpu

UPPER = replace(FakeGpu().info, slowdown_c=95)
LOWER = replace(UPPER, uuid="GPU-22222222-2222-3333-4444-555555555555", pci="00000000:0B:00.0", index=1)
LIMITED = replace(UPPER, power_range_w=(125.0, 300.0))
FANLESS = replace(LOWER, fan_count=0)
LOW = replace(UPPER, duty_range=(0, 100), slowdown_c=None)


NIGHT = '[[quiet]]\nfrom = "22:00"\nto = "07:00"\nmax_duty_percent = 50\n'


def found(text: str, *cards: GpuInfo, path: Path = Path("f")) -> list[str]:
    file, tables = parse_settings_text(text.encode())
    return [str(each) for each in lint_settings(Settings(path, file, tables), text.encode(), cards)]


@pytest.mark.parametrize(
    ("text", "cards", "warnings"),
    [
        ("\ntarget_c = 90", (UPPER,), ["line 2: target_c = 90 is cut to 86 °C on 0 GTX 1080 Ti"]),
        ("target_c = 86", (UPPER,), []),
        (
            "target_c = 90",
            (),
            ["line 1: target_c = 90 is cut to 81 °C on a card whose slowdown threshold is not known"],
        ),
        (
            'curve = "50:0,83:100"',
            (UPPER,),
            ["line 1: curve: its lowest duty, 0 %, is raised to 23 % on 0 GTX 1080 Ti"],
        ),
        (
            'curve = "50:25,83:100"',
            (LOW,),
            ["line 1: curve: its lowest duty, 25 %, is raised to 30 % on 0 GTX 1080 Ti"],
        ),
        ('curve = "50:25,83:100"', (UPPER,), []),
        ('curve = "50:0,83:100"\nmin_duty_percent = 0', (LOW,), []),
        (
            'curve = "50:0,83:100"',
            (),
            ["line 1: curve: its lowest duty, 0 %, is raised to 20 % or more, depending on the card"],
        ),
        ("min_duty_percent = 10", (UPPER,), ["line 1: min_duty_percent = 10 becomes 23 % on 0 GTX 1080 Ti"]),
        ("min_duty_percent = 40", (UPPER,), []),
        (
            "power_limit_w = 350",
            (LIMITED,),
            ["line 1: power_limit_w = 350 becomes 300 W on 0 GTX 1080 Ti, which accepts 125 to 300 W"],
        ),
        (
            '[[gpu]]\nmatch = "1080"\npower_limit_w = 100.5',
            (LIMITED,),
            ["line 3: [[gpu]] 1: power_limit_w = 100.5 becomes 125 W on 0 GTX 1080 Ti, which accepts 125 to 300 W"],
        ),
        ("power_limit_w = 300", (LIMITED,), []),
        (
            'power_limit_w = 300\ngive_way = "power"',
            (LIMITED, FANLESS),
            [
                f"line {line}: {key} has no effect on 1 GTX 1080 Ti: gpufan does not control a card without fans"
                for line, key in ((1, "power_limit_w"), (2, "give_way"))
            ],
        ),
        (f'give_way = "off"\n[[gpu]]\nmatch = "{UPPER.uuid}"\npower_limit_w = 300', (LIMITED, FANLESS), []),
        ("power_limit_w = 350", (UPPER,), []),
        ("power_limit_w = 350", (), []),
        (
            "hold_s = 60\nhysteresis_c = 4",
            (),
            [
                "line 1: hold_s has no effect: it is for a curve, and a target is held",
                "line 2: hysteresis_c has no effect: it is for a curve, and a target is held",
            ],
        ),
        (
            '[[gpu]]\nmatch = "1080 Ti"\nhold_s = 60',
            (UPPER,),
            ["line 3: [[gpu]] 1: hold_s has no effect: it is for a curve, and a target is held"],
        ),
        ('hold_s = 60\n[[gpu]]\nmatch = "1080 Ti"\ncurve = "50:30"', (UPPER,), []),
        (
            'target_c = 75\ncurve = "50:30"',
            (UPPER,),
            ["line 2: curve has no effect, since target_c is set too: remove one of them"],
        ),
        ("", (replace(UPPER, slowdown_c=80),), []),
        (
            '[[gpu]]\nmatch = "1080 Ti"\n\n[[gpu]]\nmatch = "2080 Ti"\nmin_duty_percent = 40',
            (UPPER, LOWER),
            ["line 1: [[gpu]] 1: this table sets nothing", 'line 5: [[gpu]] 2: match: "2080 Ti" matches no card here'],
        ),
        ('gpus = ["GTX 1080 Ti", "RTX"]', (UPPER,), ['line 1: gpus: "RTX" matches no card here']),
        ('neighbours = [\n"RTX"\n]', (UPPER,), ['line 1: neighbours: "RTX" matches no card here']),
        (
            f'[[gpu]]\nmatch = "{UPPER.uuid}"\nneighbours = ["0a:00.0"]',
            (UPPER, LOWER),
            ['line 3: [[gpu]] 1: neighbours: "0a:00.0" is the card itself: name the cards that it warms'],
        ),
        (
            '[[gpu]]\nmatch = "GPU-11111111"\nneighbours = ["gpu-11111111"]',
            (),
            ['line 3: [[gpu]] 1: neighbours: "gpu-11111111" is the card itself: name the cards that it warms'],
        ),
        ('[[gpu]]\nmatch = "1080 Ti"\nneighbours = ["1080 Ti"]', (UPPER, LOWER), []),
        (f'[[gpu]]\nmatch = "{UPPER.uuid}"\nneighbours = ["0b:00.0"]', (UPPER, LOWER), []),
        (NIGHT, (UPPER, LOWER), []),
        (
            NIGHT.replace("50", "20"),
            (LOWER, LOW),
            ["line 4: [[quiet]] 1: max_duty_percent = 20 is raised to 23 % on 1 GTX 1080 Ti"],
        ),
        (
            f"min_duty_percent = 60\n{NIGHT}",
            (),
            ["line 5: [[quiet]] 1: max_duty_percent = 50 is raised to 60 % or more, depending on the card"],
        ),
        (
            f"{NIGHT}target_c = 90",
            (UPPER,),
            ["line 5: [[quiet]] 1: target_c = 90 is cut to 86 °C on 0 GTX 1080 Ti"],
        ),
        (
            f'{NIGHT}[[quiet]]\nfrom = "06:59"\nto = "08:00"\ntarget_c = 75',
            (),
            ["line 5: [[quiet]] 2: it overlaps [[quiet]] 1: at such times the lowest values count"],
        ),
        (f'{NIGHT}[[quiet]]\nfrom = "07:00"\nto = "08:00"\ntarget_c = 75', (), []),
        (f'[[quiet]]\nfrom = "00:00"\nto = "24:00"\nmax_duty_percent = 80\n{NIGHT}', (), []),
        (f'{NIGHT}[[quiet]]\nfrom = "00:00"\nto = "24:00"\nmax_duty_percent = 80', (), []),
        (
            f'{NIGHT}days = ["sun"]\n[[quiet]]\nfrom = "00:00"\nto = "08:00"\ndays = ["mon"]\ntarget_c = 75',
            (),
            ["line 6: [[quiet]] 2: it overlaps [[quiet]] 1: at such times the lowest values count"],
        ),
        (
            f'{NIGHT}days = ["mon"]\n[[quiet]]\nfrom = "00:00"\nto = "08:00"\ndays = ["mon"]\ntarget_c = 75',
            (),
            [],
        ),
        (render_settings_text(), (UPPER, LOWER), []),
        ("", (), []),
    ],
)
def test_a_setting_that_is_surely_not_meant_is_named(
    text: str, cards: tuple[GpuInfo, ...], warnings: list[str]
) -> None:
    assert found(text, *cards) == warnings


def test_a_service_that_would_not_do_its_work_is_named() -> None:
    text = "dry_run = true\nduration_s = 60"
    assert found(text) == []
    assert [line.split(":")[0] for line in found(text, path=DEFAULT_PATH)] == ["line 1", "line 2"]


def test_an_index_is_named() -> None:
    assert found('gpus = ["0"]\n[[gpu]]\nmatch = 1\nmin_duty_percent = 40', UPPER, LOWER) == [
        f"{place} may be the index of another card after a reboot: use the card's UUID, see `gpufan list`"
        for place in ('line 1: gpus: "0"', 'line 3: [[gpu]] 1: match: "1"')
    ]


def test_check_prints_every_mistake_and_every_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.daemon.known_cards.known_cards", lambda _: [UPPER])
    file = tmp_path / "config.toml"
    file.write_text("hold_s = 9999\ntarget_c = 20\n")
    result = CliRunner().invoke(cli, ["config", "check", "--config", str(file)])
    assert result.output == (
        f"{file}: line 1: hold_s = 9999: write a number from 0 to 3600\n"
        f"{file}: line 2: target_c = 20: write a number from 50 to 90\n"
    )
    assert (str(result.exception), getattr(result.exception, "exit_status", None)) == (f"{file}: 2 mistakes", 2)
    file.write_text("target_c = 90\n")
    result = CliRunner().invoke(cli, ["config", "check", "--config", str(file)])
    assert result.output == (
        f"{file}: no mistake found\nwarning: {file}: line 1: target_c = 90 is cut to 86 °C on 0 GTX 1080 Ti\n"
    )
    assert result.exit_code == 0
