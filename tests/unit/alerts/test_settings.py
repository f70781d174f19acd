"""The file alerts.toml: what it may say, and how mistakes in it are named, without its secrets."""

import re
from pathlib import Path

import pytest

from gpufan.alerts.messages import Trouble
from gpufan.alerts.settings import (
    AFTER_S,
    AlertSettings,
    parse_alert_settings,
    read_alert_settings,
    render_alert_settings,
)
from gpufan.errors import InputError

MAIL = "mailto://me:hunter2@example.org"


def test_the_text_of_a_new_file_sets_the_urls_and_nothing_else():
    odd = 'json://x.org/a"b\\cäd'
    text = render_alert_settings([MAIL, odd])
    assert parse_alert_settings(text.encode()) == AlertSettings(urls=(MAIL, odd))
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith('    "'))


def test_the_comments_of_a_new_file_show_the_built_in_values():
    lines = [re.sub(r"""^#(?=[\]\w[]| {4}")""", "", line) for line in render_alert_settings([MAIL]).splitlines()]
    assert sum(line.startswith("#on_event") for line in lines) == 0
    shown = "\n".join(line for line in lines if not line.startswith("on_event"))
    assert parse_alert_settings(shown.encode()) == AlertSettings(urls=(MAIL,))


def test_all_keys_are_read():
    text = f"""
urls = ["{MAIL}"]
on_event = ["/usr/local/bin/script"]
troubles = ["lost", "throttled"]
repeat_after_s = 3600
[after_s]
lost = 5
hot = 7
"""
    found = parse_alert_settings(text.encode("utf-8-sig"))
    assert (found.urls, found.scripts, found.repeat_after_s) == ((MAIL,), ("/usr/local/bin/script",), 3600)
    assert found.after_s == {Trouble.THROTTLED: AFTER_S[Trouble.THROTTLED], Trouble.LOST: 5}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "no receiver: write at least one URL into urls, or one script into on_event"),
        ("urls = []", "no receiver: "),
        ("urls = [", "this is not TOML: "),
        ('\n\nurl = ["x://y"]', "line 3: unknown key 'url': did you mean urls?"),
        ('urls = "x://y"', "line 1: urls: write a list of texts"),
        ("urls = [3]", "line 1: urls: write a list of texts"),
        ('urls = ["x://y", "example.org"]', "line 1: urls: entry 2: write a URL such as mailtos://"),
        ('urls = ["x://y z"]', "line 1: urls: entry 1: it has a space"),
        ('on_event = ["script"]', "line 1: on_event: entry 1: write the absolute path"),
        ('troubles = ["lsot"]', "line 1: troubles: unknown 'lsot': did you mean lost?"),
        ("troubles = []", "line 1: troubles: the list is empty"),
        ("repeat_after_s = 599", "line 1: repeat_after_s: write a number of seconds from 600 to 2592000"),
        ("repeat_after_s = nan", "line 1: repeat_after_s: write a number of seconds"),
        ("repeat_after_s = true", "line 1: repeat_after_s: write a number of seconds"),
        ('repeat_after_s = "1h"', "line 1: repeat_after_s: write a number of seconds"),
        ("after_s = 3", "line 1: after_s: write a table"),
        ("[after_s]\nlost = -1", "line 2: after_s: lost: write a number of seconds from 0 to 86400"),
        ("[after_s]\nlots = 1", "line 2: after_s: unknown 'lots': did you mean lost?"),
        ("after_s.lost = 90000", "line 1: after_s: lost: write a number"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, mistake: str):
    with pytest.raises(InputError) as error:
        parse_alert_settings(text.encode())
    assert mistake in str(error.value)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(InputError) as error:
        parse_alert_settings(b"url = 3\nrepeat_after_s = 1\n[after_s]\nlost = -1\n")
    assert [part.split(":")[0] for part in str(error.value).split("; ")] == [
        "line 1",
        "line 2",
        "line 4",
        "no receiver",
    ]


@pytest.mark.parametrize(
    "text",
    [
        'urls = ["hunter2"]',
        'urls = "slack://hunter2/hunter2"',
        'urls = ["slack://hunter2/hunter2 x"]',
        'on_event = ["slack://hunter2/hunter2"]',
        'troubles = ["slack://hunter2"]',
        'repeat_after_s = "slack://hunter2"',
        'after_s = "slack://hunter2"',
        '[after_s]\nlost = "slack://hunter2"',
        '"slack://hunter2" = 1',
        'urls = ["slack://hunter2',
        "urls = [slack://hunter2]",
        "slack://hunter2",
        'urls = ["slack://hunter2"]\nurls = ["slack://hunter2"]',
    ],
)
def test_no_mistake_repeats_a_secret(text: str):
    with pytest.raises(InputError) as error:
        parse_alert_settings(text.encode())
    assert "hunter2" not in str(error.value)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path):
    file = tmp_path / "alerts.toml"
    with pytest.raises(InputError, match=f"^{file}: no such file: .*--alerts URL"):
        read_alert_settings(file)
    file.write_text(f'urls = ["{MAIL}"]')
    with pytest.raises(InputError, match=f"^{file}: everybody can read it, .*: `sudo chmod 640 {file}`"):
        read_alert_settings(file)
    file.chmod(0o640)
    assert read_alert_settings(file).urls == (MAIL,)
    file.write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"^/etc/gpufan/alerts\.toml: this is not TOML"):
        read_alert_settings(file, Path("/etc/gpufan/alerts.toml"))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_alert_settings(tmp_path)


def test_the_settings_do_not_show_their_secrets_in_a_traceback():
    assert "hunter2" not in repr(AlertSettings(urls=(MAIL,)))
