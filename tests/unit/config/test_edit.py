"""Single keys of a settings file are changed, and all else stays as it is."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.config.change import changed_keys
from gpufan.config.edit import (
    edited_lines,
    edited_value,
    text_with_key,
    text_with_quiet_tables,
    text_without_key,
)
from gpufan.config.schema import EXAMPLES, QUIET_EXAMPLE, RUN_KEYS, QuietTable
from gpufan.config.toml_text import parse_settings_text, render_settings_text, toml
from gpufan.errors import InputError

MINE = """\
# Under the desk.
curve = "50:30,83:100"  # quiet

# The upper card.
[[gpu]]
match = "1080 Ti"   # both
target_c = 70 # hot

# end
"""


@pytest.mark.parametrize("key", RUN_KEYS)
def test_a_key_of_the_explained_file_is_set_where_it_is_explained(key: str) -> None:
    value = {"gpus": ["GPU-a"], "neighbours": ["GPU-a"]}.get(key, str(EXAMPLES.curve) if key == "curve" else None)
    value = getattr(EXAMPLES, key) if value is None else value
    before = render_settings_text()
    after = text_with_key(before, key, value)
    assert len(edited_lines(before, after)) <= 4
    assert [line for line in after.splitlines() if line not in before.splitlines()] == [f"{key} = {toml(value)}"]
    again = text_without_key(after, key)
    assert parse_settings_text(again.encode()) == parse_settings_text(before.encode())
    assert text_with_key(again, key, value) == after


def test_comments_and_order_of_a_file_of_the_user_survive() -> None:
    text = text_with_key(MINE, "curve", "60:40,83:100")
    assert text == MINE.replace("50:30,83:100", "60:40,83:100")
    assert text_with_key(text, "hold_s", 60) == text.replace("# quiet\n", "# quiet\nhold_s = 60\n")
    assert text_with_key(MINE, "target_c", 75, "1080 ti") == MINE.replace("70 # hot", "75 # hot")
    assert text_with_key(MINE, "hold_s", 5, "GPU-1") == MINE + '\n[[gpu]]\nmatch = "GPU-1"\nhold_s = 5\n'
    assert text_without_key(MINE, "target_c", "1080 Ti") == MINE.replace("target_c = 70 # hot", "# target_c = 70 # hot")
    assert text_without_key(MINE, "curve") == MINE.replace("curve =", "# curve =")


NIGHT = '[[quiet]]\nfrom = "22:00"\nto = "07:00"\nmax_duty_percent = 50'


@pytest.mark.parametrize("text", ["", "\n", "# only this", "hold_s = 5", '[[gpu]]\nmatch = "x"', NIGHT])
def test_a_key_is_added_to_any_file(text: str) -> None:
    for match in (None, "x", "GPU-1"):
        file, tables = parse_settings_text(text_with_key(text, "target_c", 75, match).encode())
        assert 75 in (file.target_c, *(table.target_c for table in tables))


def test_a_line_of_a_list_that_looks_like_a_comment_is_not_mistaken_for_one() -> None:
    text = 'gpus = [\n"a",\n#hold_s = 5\n]\n'
    assert parse_settings_text(text_with_key(text, "hold_s", 7).encode())[0].hold_s == 7


def test_a_table_written_on_one_line_is_changed_too() -> None:
    text = 'gpu = [{match = "x", target_c = 70}]\n'
    assert text_with_key(text, "target_c", 75, "x") == text.replace("70", "75")
    with pytest.raises(InputError, match=re.escape("headed [[gpu]]")):
        text_with_key(text, "target_c", 75, "y")


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [
        ("target_c", "75C", 75),
        ("target_c", "75.5 °C", 75.5),
        ("min_duty_percent", "40%", 40),
        ("interval_s", "2 s", 2),
        ("power_limit_w", "200W", 200),
    ],
)
def test_the_unit_of_a_key_may_follow_the_number(key: str, word: str, value: float) -> None:
    assert edited_value(key, [word]) == value


@pytest.mark.parametrize(
    ("key", "words", "match", "message"),
    [
        ("target_c", ["75 F"], None, "target_c = 75 F: write a number from 50 to 90"),
        ("target_c", ["warm"], None, "target_c = warm: write a number from 50 to 90"),
        ("target_c", ["95"], None, "target_c = 95: write a number from 50 to 90"),
        ("target_c", ["nan"], None, "target_c = nan: write a number from 50 to 90"),
        ("target_c", ["1e999"], None, "target_c = 1e999: write a number from 50 to 90"),
        ("target_c", ["70", "80"], None, "target_c: write one value, a number from 50 to 90"),
        ("min_duty_percent", ["30.5"], None, "min_duty_percent = 30.5: write a whole number from 0 to 100"),
        ("dry_run", ["yes"], None, 'dry_run = "yes": write true or false'),
        ("curve", ["60:50,55:70"], None, "curve point 2 '55:70'"),
        ("interval_s", ["1"], "0", "interval_s is for all cards together: leave out --gpu"),
        ("target_c", ["75"], "", '[[gpu]] 2: match = "": write'),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(key: str, words: list[str], match: str | None, message: str) -> None:
    with pytest.raises(InputError) as raised:
        text_with_key(MINE, key, edited_value(key, words), match)
    assert message in str(raised.value)


def test_a_file_with_a_mistake_is_not_changed() -> None:
    for text in ("hold = 1\n", "= 5", "[[gpu]]\nhold_s = 1"):
        with pytest.raises(InputError):
            text_with_key(text, "target_c", 75)
        with pytest.raises(InputError):
            text_without_key(text, "target_c")


def test_removing_a_key_that_is_not_set_changes_nothing() -> None:
    assert text_without_key(MINE, "hold_s") == MINE
    with pytest.raises(InputError, match=r"no \[\[gpu\]\] table with match"):
        text_without_key(MINE, "hold_s", "GPU-1")


def test_the_keys_that_differ_are_known() -> None:
    assert changed_keys(MINE, text_with_key(MINE, "gpus", ["0"])) == {"gpus"}
    assert changed_keys(MINE, text_with_key(MINE, "hold_s", 9, "1080 Ti")) == {"gpu"}
    assert changed_keys(MINE, MINE + NIGHT) == {"quiet"}


def test_quiet_hours_stay_as_they_are() -> None:
    assert text_with_key(f"{NIGHT}\n{MINE[MINE.index('[[gpu]]') :]}", "target_c", 75, "1080 Ti").startswith(
        f"{NIGHT}\n"
    )
    assert text_with_key(f'curve = "50:30"\n\n{NIGHT}\ntarget_c = 78\n', "target_c", 75) == (
        f'curve = "50:30"\ntarget_c = 75\n\n{NIGHT}\ntarget_c = 78\n'
    )


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20), st.integers(50, 90))
def test_any_comment_and_any_name_survive(text: str, target_c: int) -> None:
    file = f"hold_s = 5\n# {text}\n" if text.isprintable() else "hold_s = 5\n"
    changed = text_with_key(file, "target_c", target_c)
    assert changed.startswith(file.split("\n")[0])
    assert f"# {text}\n" in changed or not text.isprintable()
    if text.strip():
        assert parse_settings_text(text_with_key(file, "target_c", target_c, text).encode())[1][0].match == text


# ---- quiet hours ----

NOON = QuietTable(begin="12:00", end="13:00", target_c=80.0)
LATE = QuietTable(begin="22:00", end="07:00", max_duty_percent=50)
tables = st.lists(
    st.sampled_from((NOON, LATE, QUIET_EXAMPLE, msgspec.structs.replace(LATE, days=("sat",)))), max_size=4
)


@given(before=tables, after=tables, base=st.sampled_from(("", MINE, render_settings_text())))
def test_quiet_hours_become_the_wanted_ones_and_all_else_stays(
    before: list[QuietTable], after: list[QuietTable], base: str
) -> None:
    first = text_with_quiet_tables(base, before)
    second = text_with_quiet_tables(first, after)
    for text, wanted in ((first, before), (second, after)):
        file, cards = parse_settings_text(text.encode())
        assert sorted(file.quiet or (), key=repr) == sorted(wanted, key=repr)
        assert cards == parse_settings_text(base.encode())[1]
        assert msgspec.structs.replace(file, quiet=None) == parse_settings_text(base.encode())[0]
        assert [line for line in base.splitlines() if "#" in line and line not in text.splitlines()] == []
    assert text_with_quiet_tables(second, after) == second


def test_quiet_hours_with_a_mistake_are_refused() -> None:
    with pytest.raises(InputError, match="limits nothing"):
        text_with_quiet_tables(MINE, [QuietTable(begin="12:00", end="13:00")])
