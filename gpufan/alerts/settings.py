"""The file alerts.toml: its keys, and their bounds and defaults. Reads and writes the text of this file.

The file holds secrets, so no error message in this module repeats a URL.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from gpufan.alerts.messages import ABOUT, Trouble
from gpufan.errors import InputError
from gpufan.system.files import read_file
from gpufan.system.resources import template

AFTER_S: Mapping[Trouble, float] = {
    Trouble.THROTTLED: 120,
    Trouble.HOT: 60,
    Trouble.LOST: 60,
    Trouble.FAIL_SAFE: 60,
    Trouble.FAN_STILL: 30,
    Trouble.NOT_FOLLOWING: 120,
    Trouble.GIVEN_BACK: 120,
    Trouble.NO_CONTROLLER: 120,
    Trouble.RESTARTS: 0,
    Trouble.SETTINGS_REFUSED: 0,
}
"""The built-in times, s, for how long each trouble must last before its first message. The file may change them."""

REPEAT_AFTER_S = 6 * 3600.0
_AFTER_BOUNDS_S = (0, 86400)
_REPEAT_BOUNDS_S = (600, 30 * 86400)

_KEYS = ("urls", "on_event", "troubles", "repeat_after_s", "after_s")
_TROUBLES = [trouble.value for trouble in Trouble]


@dataclass(frozen=True)
class AlertSettings:
    """The settings in alerts.toml: who receives messages, about what, and when."""

    urls: tuple[str, ...] = field(default=(), repr=False)
    """URLs of receivers, in the form that Apprise understands. They are secret."""
    scripts: tuple[str, ...] = ()
    """Absolute paths of programs to run."""
    after_s: Mapping[Trouble, float] = field(default_factory=lambda: dict(AFTER_S))
    """The troubles to report, and how long each must last before its first message, s."""
    repeat_after_s: float = REPEAT_AFTER_S


def read_alert_settings(path: Path, name: Path | None = None) -> AlertSettings:
    """Return the settings in the file `path`. Errors call this file `name`, or `path` if `name` is None.

    Raises InputError if the file cannot be read, if everybody can read or write it, or if it has mistakes.
    """
    name = name or path
    try:
        content = read_file(path)
        if problem := alert_settings_exposure(path.stat().st_mode):
            raise InputError(f"{problem}: `sudo chmod 640 {path}`")
        return parse_alert_settings(content)
    except FileNotFoundError:
        raise InputError(
            f"{name}: no such file: `sudo gpufan install-service --alerts URL` writes it, --config names another one"
        ) from None
    except PermissionError:
        raise InputError(f"{name}: only root may read it, since it holds secrets: run this with sudo") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}: name another file with --config") from error
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def alert_settings_exposure(mode: int) -> str | None:
    """Return a warning if the file mode `mode` lets everybody read or write the file; else None."""
    if mode & 0o004:
        return "everybody can read it, and it holds secrets"
    return "everybody can write it, and so read what it sends" if mode & 0o002 else None


def parse_alert_settings(data: bytes) -> AlertSettings:
    """Convert the text of the file to settings. Raises InputError, which names all mistakes and their lines."""
    try:
        text = data.decode("utf-8-sig")
        content = msgspec.toml.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # the latter two: not UTF-8, absurd nesting
        raise InputError(f"this is not TOML: {error}") from error
    mistakes = list(_alert_settings_mistakes(content, text))
    if mistakes:
        raise InputError("; ".join(mistakes))
    chosen = content.get("troubles", _TROUBLES)
    after_s = {**AFTER_S, **{Trouble(key): float(value) for key, value in content.get("after_s", {}).items()}}
    return AlertSettings(
        urls=tuple(content.get("urls", ())),
        scripts=tuple(content.get("on_event", ())),
        after_s={trouble: after_s[trouble] for trouble in Trouble if trouble.value in chosen},
        repeat_after_s=float(content.get("repeat_after_s", REPEAT_AFTER_S)),
    )


def render_alert_settings(urls: Sequence[str]) -> str:
    """Return the text of a new settings file for messages to `urls`. Comments in it explain all other keys."""
    return template("templates/alerts.toml.j2").render(
        urls=[msgspec.json.encode(url).decode() for url in urls],
        troubles=[(trouble.value, f"{AFTER_S[trouble]:g}", ABOUT[trouble]) for trouble in Trouble],
        repeat_after_s=f"{REPEAT_AFTER_S:g}",
    )


def urls_key_problem(url: str) -> str | None:
    """Return what is wrong with the form of `url`; None if its form is right. The text does not repeat the URL."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", url):
        return "write a URL such as mailtos://user:password@example.org"
    if not url.isprintable() or " " in url:
        return "it has a space or a control character: write them as %20 and the like"
    return None


def _alert_settings_mistakes(content: Mapping[str, Any], text: str) -> Iterator[str]:
    """Return a message for each mistake in the file, with its line.

    `text` is the text of the file, and `content` has the values in it.
    """
    for key, value in content.items():
        where = _line_of_alerts_key(text, key)
        if key not in _KEYS:
            yield f"{where}unknown key {_alerts_key_unless_secret(key)}: {_similar_alerts_key(key, _KEYS)}"
        elif key == "after_s":
            yield from _after_s_table_mistakes(value, text, where)
        elif problem := _alerts_key_problem(key, value):
            yield f"{where}{key}: {problem}"
    if not (content.get("urls") or content.get("on_event")):
        yield "no receiver: write at least one URL into urls, or one script into on_event"


def _alerts_key_problem(key: str, value: Any) -> str | None:
    """Return what is wrong with `value`, the value of `key`; None if it is right."""
    if key == "repeat_after_s":
        return _seconds_key_problem(value, _REPEAT_BOUNDS_S)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        examples = {"urls": "mailtos://user:password@example.org", "on_event": "/usr/local/bin/script"}
        return f'write a list of texts, such as ["{examples.get(key, Trouble.LOST.value)}"]'
    if key == "troubles":
        unknown = [item for item in value if item not in _TROUBLES]
        if unknown:
            return f"unknown {_alerts_key_unless_secret(unknown[0])}: {_similar_alerts_key(unknown[0], _TROUBLES)}"
        return None if value else f"the list is empty, so nothing would be reported: choose from {', '.join(_TROUBLES)}"
    check = urls_key_problem if key == "urls" else _on_event_key_problem
    for number, item in enumerate(value, 1):
        if problem := check(item):
            return f"entry {number}: {problem}"
    return None


def _on_event_key_problem(script: str) -> str | None:
    """Return what is wrong with the form of `script`, a path of the key `on_event`; None if its form is right."""
    if not script.startswith("/") or not script.isprintable():
        return "write the absolute path of a program, without arguments"
    return None


def _after_s_table_mistakes(value: Any, text: str, where: str) -> Iterator[str]:
    """Return a message for each mistake in `value`, the table `after_s`, with its line.

    `text` is the text of the file. `where` names the line of the table: `line 3: `.
    """
    if not isinstance(value, dict):
        yield f"{where}after_s: write a table, headed [after_s], with lines such as lost = 60"
        return
    for key, seconds in value.items():
        where = _line_of_alerts_key(text, key)
        if key not in _TROUBLES:
            yield f"{where}after_s: unknown {_alerts_key_unless_secret(key)}: {_similar_alerts_key(key, _TROUBLES)}"
        elif problem := _seconds_key_problem(seconds, _AFTER_BOUNDS_S):
            yield f"{where}after_s: {key}: {problem}"


def _seconds_key_problem(value: Any, bounds: tuple[float, float]) -> str | None:
    """Return what is wrong with `value`, a time in seconds; None if it is a number within `bounds`."""
    low, high = bounds
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return f"write a number of seconds from {low:g} to {high:.10g}"
    return None


def _similar_alerts_key(word: str, known: Sequence[str]) -> str:
    """Return what to write instead of the unknown `word`: the most similar word of `known`.

    If no word is similar, return all words of `known`.
    """
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"


def _alerts_key_unless_secret(word: str) -> str:
    """Return `word` in quotes if it looks like a key. Otherwise hide it, since it may be a secret.

    The literal text "word" is returned in place of a hidden word.
    """
    return f"'{word}'" if re.fullmatch(r"[a-z_-]{1,24}", word) else "word"


def _line_of_alerts_key(text: str, key: str) -> str:
    """Return the place of `key` in the file, such as `line 3: `; empty if there is none.

    This is the first line of `text` that sets the key or begins the table with this name.
    """
    quoted = rf"""["']?{re.escape(key)}["']?"""
    pattern = re.compile(rf"\s*(?:\[\s*{quoted}\s*\]|(?:after_s\s*\.\s*)?{quoted}\s*[.=])")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)]
    return f"line {lines[0]}: " if lines else ""
