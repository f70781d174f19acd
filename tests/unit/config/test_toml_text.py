"""The text of the settings file: what it says of each key, what is read from it, and what is said of a mistake."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.cli.run import run as run_command
from gpufan.config.descriptions import ABOUT, describe_key
from gpufan.config.mistakes import SettingsError
from gpufan.config.schema import (
    DAYS,
    DEFAULTS,
    FAN_EXAMPLE,
    FAN_KEYS,
    NOTHING,
    QUIET_KEYS,
    RUN_KEYS,
    TABLE_KEYS,
    CardTable,
    QuietTable,
    RunKeys,
)
from gpufan.config.settings import Source
from gpufan.config.toml_text import _COMMAND_LINE_ONLY, parse_settings_text, render_settings_text
from gpufan.core.card_settings import DEFAULT_CURVE
from gpufan.core.curve import Curve
from gpufan.errors import InputError

HOURS = "[[quiet]]\nmax_duty_percent = 50\n"
NIGHT = HOURS + 'from = "22:00"\nto = "07:00"\n'
MISTAKES = {
    "target_c = 75,5": "line 1: this is not TOML: write the number with a decimal point",
    '[[gpus]]\nmatch = "0"': "line 1: there are no tables [[gpus]]: write [[gpu]] or [[quiet]] or [[fan]]",
    "curve = 50:30": "line 1: this is not TOML: Expected newline or end of document after a statement",
    "hold_s = 1\nhold_s = 2 ": "line 2: this is not TOML: Cannot overwrite a value",
    "hysterisis = 3": 'line 1: unknown key "hysterisis": did you mean hysteresis_c?',
    "min_duty = 3": 'line 1: unknown key "min_duty": did you mean min_duty_percent?',
    "[[gpu]]\nmatch = 0\ncrve = 1": 'line 3: [[gpu]] 1: unknown key "crve": did you mean curve?',
    "zzz = 1": 'line 1: unknown key "zzz": the keys are target_c, curve, hysteresis_c, hold_s, '
    "min_duty_percent, neighbours, power_limit_w, give_way, gpus, backend, display, interval_s, dry_run, duration_s",
    "hold_s = 9999": "line 1: hold_s = 9999: write a number from 0 to 3600",
    "hold_s = -1": "line 1: hold_s = -1: write a number from 0 to 3600",
    "hold_s = nan": "line 1: hold_s = nan: write a number from 0 to 3600",
    "hold_s = true": "line 1: hold_s = true: write a number from 0 to 3600",
    'interval_s = "1"': 'line 1: interval_s = "1": write a number from 0.1 to 5',
    "min_duty_percent = 30.0": "line 1: min_duty_percent = 30.0: write a whole number from 0 to 100",
    "duration_s = inf": "line 1: duration_s = inf: write a number from 1 to 31536000",
    "dry_run = 1": "line 1: dry_run = 1: write true or false",
    'backend = "nvm"': 'line 1: backend = "nvm": write "auto" or "nvml" or "x11"',
    "display = 0": 'line 1: display = 0: write text such as ":0"',
    'display = "box:0"': 'line 1: display = "box:0": write text such as ":0"',
    'gpus = "0"': 'line 1: gpus = "0": write a list of UUIDs, PCI addresses, indices or names, such as ["0", "GTX '
    '1080 Ti"]',
    "curve = 60": 'line 1: curve = 60: write text such as "50:30,75:50,80:64,83:100"',
    'curve = "60:50,55:70"': "line 1: curve point 2 '55:70': temperatures must rise, and 55 does not come after 60",
    "[gpu]\nmatch = 0": "line 1: gpu: write a table for each card, headed [[gpu]] with two brackets",
    "[[gpu]]\nmatch = 0\n[[gpu]]\nhold_s = 1": "line 3: [[gpu]] 2: no match in it: write a UUID, PCI address,"
    ' index or name, such as match = "GTX 1080 Ti"',
    'gpus = [" "]': 'line 1: gpus = [" "]: write a list of UUIDs, PCI addresses, indices or names,'
    ' such as ["0", "GTX 1080 Ti"]',
    '[[gpu]]\nmatch = ""': 'line 2: [[gpu]] 1: match = "": write a UUID, PCI address, index or name,'
    ' such as match = "GTX 1080 Ti"',
    "[[gpu]]\nmatch = 0\ninterval_s = 1": "line 3: [[gpu]] 1: interval_s is for all cards together: write it"
    " above the first [[gpu]]",
    '[[quiet]]\nto = "07:00"\ntarget_c = 75': "line 1: [[quiet]] 1: no from in it: write a time of day, such as"
    ' from = "22:00"',
    HOURS + 'from = "24:00"\nto = "07:00"': 'line 3: [[quiet]] 1: from = "24:00": write a time of day, such as'
    ' from = "22:00"',
    HOURS + 'from = 22:00:00\nto = "7:00"': 'line 3: [[quiet]] 1: from = "22:00:00": write a time of day, such as'
    ' from = "22:00"; line 4: [[quiet]] 1: to = "7:00": write a time of day, such as to = "07:00"',
    HOURS + 'from = "22:00"\nto = "22:00"': 'line 4: [[quiet]] 1: to = "22:00" is the same time as from:'
    ' for all day, write from = "00:00" and to = "24:00"',
    '[[quiet]]\nfrom = "22:00"\nto = "07:00"': "line 1: [[quiet]] 1: it limits nothing: write max_duty_percent,"
    " target_c or give_way",
    NIGHT + 'days = ["monday"]': 'line 5: [[quiet]] 1: days = ["monday"]: write a list of days, such as'
    ' days = ["fri", "sat"]; the days are mon, tue, wed, thu, fri, sat, sun',
    NIGHT + "days = []": "line 5: [[quiet]] 1: days = []: write a list of days, such as"
    ' days = ["fri", "sat"]; the days are mon, tue, wed, thu, fri, sat, sun',
    'give_way = "fans"': 'line 1: give_way = "fans": write "off" or "power"',
    NIGHT + 'give_way = "off"': 'line 5: [[quiet]] 1: give_way = "off": write "power", or leave it out',
    NIGHT + "power_limit_w = 200": "line 5: [[quiet]] 1: power_limit_w is for all cards together: write it above the"
    " first table",
    "power_limit_w = 9": "line 1: power_limit_w = 9: write a number from 10 to 2000",
    NIGHT + "max_duty = 50": 'line 5: [[quiet]] 1: unknown key "max_duty": did you mean max_duty_percent?',
    NIGHT + "hold_s = 50": "line 5: [[quiet]] 1: hold_s is for all cards together: write it above the first table",
    NIGHT + "match = 0": 'line 5: [[quiet]] 1: unknown key "match": the keys are from, to, days,'
    " max_duty_percent, target_c, give_way",
    '[[quiet]]\nmax_duty_percent = 0\nfrom = "22:00"\nto = "07:00"': "line 2: [[quiet]] 1: max_duty_percent = 0:"
    " write a whole number from 1 to 100",
    "[quiet]\ntarget_c = 75": "line 1: quiet: write a table for each period, headed [[quiet]] with two brackets",
    "max_duty_percent = 50": "line 1: max_duty_percent belongs below a line with [[quiet]]",
    '[[gpu]]\nmatch = 0\nto = "07:00"': "line 3: [[gpu]] 1: to belongs below a line with [[quiet]]",
    "match = 0": "line 1: match belongs below a line with [[gpu]]",
    'simulate = "1080ti"': "line 1: simulate is only an option of the command line, --simulate",
    "runtime_dir = 1": "line 1: runtime_dir is only an option of the command line, --runtime-dir",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.mark.parametrize(("text", "message"), MISTAKES.items())
def test_a_mistake_is_reported_with_file_key_or_line_and_what_is_allowed(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        Source(file, required=True).read()
    assert str(caught.value) == f"{file}: {message}"


@pytest.mark.parametrize("text", [b"\xff", b"a=" + b"[" * 5000, b"a=" + b"9" * 5000])
def test_text_that_is_not_toml_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match="this is not TOML"):
        parse_settings_text(text)


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_settings_text(b"\xef\xbb\xbfhold_s = 1") == parse_settings_text(b"hold_s = 1")


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_text_is_either_read_or_refused(text: bytes) -> None:
    try:
        parse_settings_text(text)
    except InputError as error:
        assert str(error)


FILE_ONLY = {"neighbours", "power_limit_w", "give_way"}
"""These are for one card, or for good."""


def test_every_option_of_run_is_a_key_or_only_for_the_command_line() -> None:
    options = {parameter.name for parameter in run_command.params if parameter.expose_value}
    keys = {*RUN_KEYS, *_COMMAND_LINE_ONLY} - {"debug", "config"}
    assert options - {"config_path"} == keys - FILE_ONLY


@pytest.mark.parametrize("key", RUN_KEYS)
def test_the_file_template_shows_and_explains_every_key(key: str) -> None:
    lines = render_settings_text().splitlines()
    number = next(n for n, line in enumerate(lines) if re.match(rf"#{key} = \S", line))
    assert lines[number - 1].startswith("# ")


def test_the_file_template_sets_nothing_and_fits_80_columns() -> None:
    assert parse_settings_text(render_settings_text().encode()) == (NOTHING, ())
    assert max(len(line) for line in render_settings_text().splitlines()) <= 80


def test_the_file_template_shows_the_built_in_settings() -> None:
    shown = re.sub(r"^#(?=\w+ = |\[\[)", "", render_settings_text(), flags=re.MULTILINE)
    keys, tables = parse_settings_text(shown.encode())
    assert keys == RunKeys(
        **{key: getattr(DEFAULTS, key) for key in RUN_KEYS}
        | {"curve": DEFAULT_CURVE, "min_duty_percent": 30, "display": ":0", "duration_s": 3600.0}
        | {"power_limit_w": 220.0},
        quiet=(QuietTable(begin="22:00", end="07:00", max_duty_percent=50),),
        fan=(msgspec.structs.replace(FAN_EXAMPLE, min_duty_percent=None),),
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
    "quiet": st.lists(
        st.builds(
            QuietTable,
            begin=st.sampled_from(["00:00", "22:15", "23:59"]),
            end=st.sampled_from(["00:01", "07:00", "24:00"]),
            days=st.none() | st.lists(st.sampled_from(DAYS), min_size=1, max_size=3).map(tuple),
            max_duty_percent=st.integers(1, 100),
            target_c=st.none() | st.floats(50, 90),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
}


@given(
    st.fixed_dictionaries({}, optional=RUN_VALUES).map(lambda values: RunKeys(**values)),
    st.lists(
        st.fixed_dictionaries({"match": NAMES}, optional=CARD_VALUES).map(lambda values: CardTable(**values)),
        max_size=3,
    ).map(tuple),
)
def test_settings_that_are_written_are_read_back_the_same(keys: RunKeys, tables: tuple[CardTable, ...]) -> None:
    assert parse_settings_text(render_settings_text(keys, tables).encode()) == (keys, tables)


def test_characters_that_toml_forbids_are_escaped() -> None:
    keys = RunKeys(gpus=('"\\\x7f\n\x00',))
    assert parse_settings_text(render_settings_text(keys).encode()) == (keys, ())


@pytest.mark.parametrize("key", ["match", *TABLE_KEYS, *RUN_KEYS, *QUIET_KEYS, *FAN_KEYS])
def test_every_key_is_explained(key: str) -> None:
    assert describe_key(key).endswith(".")
    assert set(ABOUT) == {"match", *TABLE_KEYS, *RUN_KEYS, *QUIET_KEYS, *FAN_KEYS}


MANY = """hold_s = 9999
curve = 50:30

[[gpu]]
match = "x"
target_c = 95
neighbours = [
  1.5,
]
hold_s = 7

[[gpu]]
min_duty_percent = 500
"""


def test_every_mistake_is_named_with_its_line() -> None:
    with pytest.raises(SettingsError) as raised:
        parse_settings_text(MANY.encode())
    assert [(mistake.line, mistake.text.split(":")[0]) for mistake in raised.value.mistakes] == [
        (1, "hold_s = 9999"),
        (2, "this is not TOML"),
        (6, "[[gpu]] 1"),
        (7, "[[gpu]] 1"),
        (13, "[[gpu]] 2"),
    ]
    assert str(raised.value).endswith("; and 2 more: see `gpufan config check`")
    with pytest.raises(SettingsError) as raised:
        parse_settings_text(MANY.replace("curve = 50:30", "").encode())
    assert (12, "[[gpu]] 2: no match in it") in [
        (mistake.line, mistake.text.rpartition(": write")[0]) for mistake in raised.value.mistakes
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hold_s = 1\n[[gpu]\nmatch = 0\nhold_s = 9999", 2),
        ("hold_s = 1\ngpus = [\n1,\n2\n", 2),
        ('hold_s = 9999\n\ncurve = """\n50:30\n', 3),
    ],
)
def test_behind_a_line_that_cannot_be_left_out_no_mistake_is_invented(text: str, line: int) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_settings_text(text.encode())
    assert [mistake.line for mistake in raised.value.mistakes] == [line]


def test_a_line_is_that_of_its_own_table_where_kinds_of_tables_alternate() -> None:
    text = NIGHT + "[[gpu]]\nmatch = 0\ntarget_c = 1\n" + NIGHT + "target_c = 1\n[[gpu]]\nhold_s = -1\n"
    with pytest.raises(SettingsError) as raised:
        parse_settings_text(text.encode())
    assert [str(mistake).split(":")[:2] for mistake in raised.value.mistakes] == [
        ["line 7", " [[gpu]] 1"],
        ["line 12", " [[quiet]] 2"],
        ["line 13", " [[gpu]] 2"],
        ["line 14", " [[gpu]] 2"],
    ]
