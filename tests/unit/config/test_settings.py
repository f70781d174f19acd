import dataclasses
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from gpufan.cli import options as cli_options
from gpufan.cli.main import cli
from gpufan.cli.run import run as run_command
from gpufan.config.descriptions import ABOUT, about
from gpufan.config.schema import DEFAULTS, NOTHING, RUN_KEYS, CardTable, RunKeys
from gpufan.config.settings import Settings, Source
from gpufan.config.toml_text import _COMMAND_LINE_ONLY, parse, render
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox

CARD = SimulatedBox(PROFILES["dual-1080ti"], WORKLOADS["idle"]).gpus[1].info
MISTAKES = {
    "curve = 50:30": "this is not TOML: Expected newline or end of document after a statement (at line 1, column 11)",
    "hold_s = 1\nhold_s = 2 ": "this is not TOML: Cannot overwrite a value (at line 2, column 11)",
    "hysterisis = 3": 'unknown key "hysterisis": did you mean hysteresis_c?',
    "min_duty = 3": 'unknown key "min_duty": did you mean min_duty_percent?',
    "[[gpu]]\nmatch = 0\ncrve = 1": '[[gpu]] 1: unknown key "crve": did you mean curve?',
    "zzz = 1": 'unknown key "zzz": the keys are target_c, curve, hysteresis_c, hold_s, min_duty_percent, neighbours,'
    " gpus, backend, display, interval_s, dry_run, duration_s",
    "hold_s = 9999": "hold_s = 9999: write a number from 0 to 3600",
    "hold_s = -1": "hold_s = -1: write a number from 0 to 3600",
    "hold_s = nan": "hold_s = nan: write a number from 0 to 3600",
    "hold_s = true": "hold_s = true: write a number from 0 to 3600",
    'interval_s = "1"': 'interval_s = "1": write a number from 0.1 to 5',
    "min_duty_percent = 30.0": "min_duty_percent = 30.0: write a whole number from 0 to 100",
    "duration_s = inf": "duration_s = inf: write a number from 1 to 31536000",
    "dry_run = 1": "dry_run = 1: write true or false",
    'backend = "nvm"': 'backend = "nvm": write "auto" or "nvml" or "x11"',
    "display = 0": 'display = 0: write text such as ":0"',
    'gpus = "0"': 'gpus = "0": write a list of UUIDs, PCI addresses, indices or names, such as ["0", "GTX 1080 Ti"]',
    "curve = 60": 'curve = 60: write text such as "50:30,75:50,80:64,83:100"',
    'curve = "60:50,55:70"': "curve point 2 '55:70': temperatures must rise, and 55 does not come after 60",
    "[gpu]\nmatch = 0": "gpu: write a table for each card, headed [[gpu]] with two brackets",
    "[[gpu]]\nmatch = 0\n[[gpu]]\nhold_s = 1": "[[gpu]] 2: no match in it: write a UUID, PCI address, index or name,"
    ' such as match = "GTX 1080 Ti"',
    '[[gpu]]\nmatch = ""': '[[gpu]] 1: match = "": write a UUID, PCI address, index or name, such as'
    ' match = "GTX 1080 Ti"',
    "[[gpu]]\nmatch = 0\ninterval_s = 1": "[[gpu]] 1: interval_s is for all cards together: write it above the first"
    " [[gpu]]",
    "match = 0": "match belongs below a line with [[gpu]]",
    'simulate = "1080ti"': "simulate is only an option of the command line, --simulate",
    "runtime_dir = 1": "runtime_dir is only an option of the command line, --runtime-dir",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def settings(text: str, **options: object) -> Settings:
    file, tables = parse(text.encode())
    return Settings(Path("config.toml"), file, tables, RunKeys(**options))


@pytest.mark.parametrize(("text", "message"), MISTAKES.items())
def test_a_mistake_is_reported_with_file_key_or_line_and_what_is_allowed(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        Source(file, required=True).read()
    assert str(caught.value) == f"{file}: {message}"


@pytest.mark.parametrize("text", [b"\xff", b"a=" + b"[" * 5000, b"a=" + b"9" * 5000, b"\xef\xbb\xbfhold_s = 1"])
def test_text_that_is_not_toml_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match="this is not TOML"):
        parse(text)


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_text_is_either_read_or_refused(text: bytes) -> None:
    try:
        parse(text)
    except InputError as error:
        assert str(error)


def test_a_required_file_must_exist(file: Path) -> None:
    with pytest.raises(InputError, match=f"{file}: no such file"):
        Source(file, required=True).read()
    with pytest.raises(InputError, match=f"{file.parent}: cannot be read: Is a directory"):
        Source(file.parent, required=False).read()


def test_without_a_file_the_built_in_settings_are_in_effect(file: Path) -> None:
    read = Source(file, required=False).read()
    assert read.path is None
    assert read.for_card(CARD) == CardSettings()
    assert read.run_settings() == ((), "auto", None, 1.0, False, None)


def test_command_line_overrides_table_overrides_file_overrides_built_in() -> None:
    text = "hold_s = 1\nhysteresis_c = 1\nmin_duty_percent = 31\n[[gpu]]\nmatch = 1\nhold_s = 2\nhysteresis_c = 2"
    assert settings(text, hold_s=3.0).for_card(CARD) == CardSettings(
        hold_s=3, hysteresis_c=2, min_duty_percent=31, curve=DEFAULTS.curve
    )


def test_a_later_matching_table_overrides_an_earlier_one_key_by_key() -> None:
    two = '[[gpu]]\nmatch = "GTX"\nhold_s = 1\nhysteresis_c = 1\n[[gpu]]\nmatch = 1\nhold_s = 2'
    found = settings(two).for_card(CARD)
    assert (found.hold_s, found.hysteresis_c) == (2, 1)


@pytest.mark.parametrize(
    "match", [CARD.uuid, CARD.uuid[:12].upper(), "41:00.0", "PCI:65:0:0", "1", "gtx 1080", "GTX*Ti", "108? Ti", "*"]
)
def test_a_table_matches_by_uuid_address_index_and_name_pattern(match: str) -> None:
    found = Settings(tables=(CardTable(match=match, hold_s=7.0),)).for_card(CARD)
    assert found.hold_s == 7


@pytest.mark.parametrize("match", ["GPU-", "0a:00.0", "0", "RTX", "1080[ ]Ti", " ", "1080?Ti?"])
def test_a_table_for_another_card_changes_nothing_and_is_reported(match: str) -> None:
    found = Settings(Path("f"), tables=(CardTable(match=match, hold_s=7.0),))
    assert found.for_card(CARD).hold_s == DEFAULTS.hold_s
    assert found.unmatched_tables([CARD]) == [f'f: [[gpu]] 1: match = "{match}" matches no card here']


def test_a_missing_neighbour_is_reported() -> None:
    found = Settings(
        Path("f"), RunKeys(neighbours=("GTX 1080 Ti", "nobody")), (CardTable(match=CARD.index, neighbours=(7,)),)
    )
    assert found.unmatched_tables([CARD]) == [
        'f: neighbours: "nobody" matches no card here',
        "f: neighbours: 7 matches no card here",
    ]


def test_every_index_is_reported() -> None:
    tables = (CardTable(match="1", neighbours=("GTX", 7)), CardTable(match="GPU-12345678"), CardTable(match="08:00.0"))
    found = Settings(Path("f"), RunKeys(gpus=(0, "GTX", "2"), neighbours=("0a:00.0",)), tables)
    cards = [
        line.removesuffix(" may be the index of another card after a reboot: use the card's UUID")
        for line in found.index_warnings()
    ]
    assert cards == ["f: gpus: 0", 'f: gpus: "2"', 'f: [[gpu]] 1: match = "1"', "f: neighbours: 7"]
    assert Settings(Path("f"), RunKeys(gpus=("GTX",)), tables[1:]).index_warnings() == []


def test_a_card_that_does_not_answer_matches_no_table() -> None:
    silent = dataclasses.replace(CARD, uuid="", pci="", name="card that does not answer")
    found = Settings(tables=(CardTable(match=CARD.uuid, hold_s=7.0), CardTable(match=CARD.pci, hold_s=8.0)))
    assert found.for_card(silent).hold_s == DEFAULTS.hold_s


def test_an_index_needs_no_quotes() -> None:
    found = settings("gpus = [1]\n[[gpu]]\nmatch = 1\nhold_s = 7")
    assert found.run_settings().gpus == ("1",)
    assert found.for_card(CARD).hold_s == 7


FILE_ONLY = {"neighbours"}
"""An option would say the same of every card."""


def test_every_option_of_run_is_a_key_or_only_for_the_command_line() -> None:
    options = {parameter.name for parameter in run_command.params if parameter.expose_value}
    keys = {*RUN_KEYS, *_COMMAND_LINE_ONLY} - {"debug", "config"}
    assert options - {"config_path"} == keys - FILE_ONLY


@pytest.mark.parametrize("key", RUN_KEYS)
def test_the_file_template_shows_and_explains_every_key(key: str) -> None:
    lines = render().splitlines()
    number = next(n for n, line in enumerate(lines) if re.match(rf"#{key} = \S", line))
    assert lines[number - 1].startswith("# ")


def test_the_file_template_sets_nothing_and_fits_80_columns() -> None:
    assert parse(render().encode()) == (NOTHING, ())
    assert max(len(line) for line in render().splitlines()) <= 80


def test_the_file_template_shows_the_built_in_settings() -> None:
    shown = re.sub(r"^#(?=\w+ = |\[\[)", "", render(), flags=re.MULTILINE)
    keys, tables = parse(shown.encode())
    assert keys == RunKeys(
        **{key: getattr(DEFAULTS, key) for key in RUN_KEYS}
        | {"target_c": 78.0, "min_duty_percent": 30, "display": ":0", "duration_s": 3600.0}
    )
    assert tables[0].match == "GTX 1080 Ti"


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.integers(0, 99)
CARD_VALUES = {
    "curve": st.sampled_from([Curve.parse("50:30"), Curve.parse("0:auto,50.5:30,80:100")]),
    "hysteresis_c": st.floats(0, 30),
    "hold_s": st.floats(0, 3600),
    "min_duty_percent": st.integers(0, 100),
}
RUN_VALUES = CARD_VALUES | {
    "backend": st.sampled_from(["auto", "nvml", "x11"]),
    "display": st.sampled_from([":0", "unix:8"]),
    "gpus": st.lists(NAMES, max_size=3).map(tuple),
    "interval_s": st.floats(0.1, 5),
    "dry_run": st.booleans(),
    "duration_s": st.floats(1, 365 * 86400),
}


@given(
    st.fixed_dictionaries({}, optional=RUN_VALUES).map(lambda values: RunKeys(**values)),
    st.lists(
        st.fixed_dictionaries({"match": NAMES}, optional=CARD_VALUES).map(lambda values: CardTable(**values)),
        max_size=3,
    ).map(tuple),
)
def test_settings_that_are_written_are_read_back_the_same(keys: RunKeys, tables: tuple[CardTable, ...]) -> None:
    assert parse(render(keys, tables).encode()) == (keys, tables)


def test_characters_that_toml_forbids_are_escaped() -> None:
    keys = RunKeys(display='"\\\x7f\n\x00')
    assert parse(render(keys).encode()) == (keys, ())


def test_check_reports_the_mistake_or_that_there_is_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(render())
    assert command("config", "check", "--config", file).output == f"{file}: no mistake found\n"
    file.write_text("hold = 1")
    assert isinstance(command("config", "check", "--config", file).exception, InputError)
    monkeypatch.setattr(cli_options, "DEFAULT_PATH", file.with_name("none"))
    assert command("config", "check").output == (
        f"{file.with_name('none')}: no such file, so the built-in settings are in effect\n"
    )


def test_show_prints_every_setting_and_its_origin(file: Path) -> None:
    file.write_text('hysteresis_c = 4\n[[gpu]]\nmatch = "1080"\nhold_s = 30')
    lines = [line.split() for line in command("config", "show", "--config", file).output.splitlines()]
    every, table = lines[: lines.index([])], lines[lines.index([]) :]
    assert ["file:", str(file)] in every
    everyone = [line for line in table if "[[gpu]]" not in line][: len(RUN_KEYS) + 2]
    assert ["hysteresis_c", "4", "file"] in everyone
    assert ["hold_s", "120", "built-in"] in everyone
    assert ["gpus", "all", "built-in"] in everyone
    assert ["hold_s", "30", "[[gpu]]", "1"] in table
    assert ["hysteresis_c", "4", "file"] in table[len(everyone) :]


def test_show_of_a_key_also_prints_its_meaning(file: Path) -> None:
    file.write_text('hysteresis_c = 4\n[[gpu]]\nmatch = "1080"\nhold_s = 30')
    said = command("config", "show", "--config", file, "interval_s", "min_duty_percent").output
    assert re.search(
        r"^  min_duty_percent  the card's own, or 30 where that is under 20 +built-in$", said, re.MULTILINE
    )
    assert "\ninterval_s: Seconds from one reading to the next. From 0.1 to 5.\n" in said
    assert "hysteresis_c" not in said
    assert "hold" not in command("config", "show", "--config", file, "interval_s").output
    refused = command("config", "show", "hold")
    assert refused.exit_code == 2
    assert "hold_s" in refused.output


@pytest.mark.parametrize("key", ["match", *RUN_KEYS])
def test_every_key_is_explained(key: str) -> None:
    assert about(key).endswith(".")
    assert set(ABOUT) == {"match", *RUN_KEYS}


def test_a_simulation_reads_no_file_except_one_that_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("hold = 1")
    monkeypatch.setattr(cli_options, "DEFAULT_PATH", file)
    quick = ("run", "--simulate", "--duration", "1s", "--time-scale", "max")
    assert command(*quick).exit_code == 0
    assert isinstance(command(*quick, "--config", file).exception, InputError)


def test_a_given_option_overrides_the_file_and_a_default_does_not(file: Path) -> None:
    file.write_text("min_duty_percent = 77\ngpus = [1]")
    quick = ("run", "--simulate", "--duration", "1s", "--time-scale", "max", "--config", file)
    assert "1 GTX 1080 Ti: 77 %" in command(*quick).output
    assert "0 GTX 1080 Ti: 66 %" in command(*quick, "--min-duty", "66", "--gpu", "0").output


def test_an_error_about_a_missing_card_names_the_file(file: Path) -> None:
    file.write_text("gpus = [7]")
    result = command("run", "--simulate", "--duration", "1s", "--config", file)
    assert str(result.exception).startswith(f"{file}: gpus: 7: no such card; this box has 0 GTX 1080 Ti")
