"""Finds the private words of the box, and masks them in texts: names, addresses, UUIDs, serial numbers, passwords.

Repetitions in the patterns are limited, so that masking is fast for any text.
"""

import getpass
import ipaddress
import os
import pwd
import re
import socket
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Report

_HEX = "[0-9a-fA-F]"
_UUID = rf"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"

_PATTERNS = {
    # The config file accepts the beginning of a UUID, so that is masked too.
    "GPU": re.compile(rf"\b(?:GPU|MIG)-{_HEX}{{4}}[0-9a-fA-F-]{{0,32}}", re.IGNORECASE),
    "UUID": re.compile(rf"\b{_UUID}\b"),
    "mail": re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,9}"),
    "MAC": re.compile(rf"\b{_HEX}{{2}}(?:[:-]{_HEX}{{2}}){{5}}\b"),
    "ID": re.compile(rf"\b{_HEX}{{32}}\b"),
    "IP": re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"),
}
_IPV6 = re.compile(rf"(?<![\w:]){_HEX}{{0,4}}(?::{_HEX}{{0,4}}){{2,7}}(?![\w:])")
_HOME = re.compile(r"(?<=/home/)[^/\s\"':,;]+")
_SECRET = re.compile(
    r"""((?:serial|password|passwd|secret|token|cookie|api[_-]?key)[\w-]{0,20}\#?(?:\ no|\ number)?
        (?:\\?"?[ \t]{0,9}[=:][ \t]{0,9}\\?"?|\\?"[ \t]{1,9}\\?"))([^\s"',;\\]+)""",
    re.VERBOSE | re.IGNORECASE,
)
"""Finds name and value of a secret: `token=..`, `"token": ".."`, `Option "Serial" ".."`. Quotes may be escaped."""

_SECRET_NAME = r"[\w-]{0,40}(?:key|pass|passphrase|passwd|password|pwd|token|secret|credentials?)(?:[_-][\w-]{0,40})?"
_VARIABLE = re.compile(
    rf"""(?<=")({_SECRET_NAME}=)([^"\n]+) | (?<=')({_SECRET_NAME}=)([^'\n]+)
        | (?<![\w-])({_SECRET_NAME}=|--{_SECRET_NAME}[ \t])("[^"\n]+"|'[^'\n]+'|[^\s"']+)""",
    re.VERBOSE | re.IGNORECASE,
)
"""Finds a variable or an option with a secret: `"API_KEY=a b"`, `API_KEY="a b"`, `--db-pass x`.

Quotes may be around the value, or around name and value together.
"""

_TOO_COMMON = {"root", "localhost", "gpu", "nvidia", "gpufan", "linux", "debian", "ubuntu", "user", "host", "home"}
"""Names that are not masked: they identify nobody, and are common words in the texts."""

_FIRST_PERSON = 1000
"""The lowest user id of a person. Lower ids belong to programs."""


class Mask:
    """Masks private words in the texts of one box.

    A word gets the same replacement in all texts. For example, the name of a user becomes `user-1`.
    """

    def __init__(self, host: str, users: Iterable[str], uuids: Iterable[str] = ()) -> None:
        """Make a mask for the host name `host`, the user names `users` and the UUIDs `uuids` of the cards.

        If a text contains only the beginning of a UUID, the beginning gets the replacement of the complete UUID.
        """
        self._replacements: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._uuids = [uuid.lower() for uuid in uuids]
        for uuid in self._uuids:
            self._replace("GPU", uuid)
        # Longer names first, since they may contain shorter names.
        users = sorted(filter(_is_private_name, set(users)), key=lambda user: (-len(user), user))
        names = [(name, "host") for name in (host, host.partition(".")[0]) if _is_private_name(name)]
        names += [(user, self._replace("user", user)) for user in users]
        self._names = [(_pattern_to_mask(name), replacement) for name, replacement in names]

    @classmethod
    def of_box(cls, facts: Facts) -> "Mask":
        """Make the mask for the name of this host, the names of its users, and the cards in `facts`."""
        states = facts.published.snapshot.gpus if facts.published else ()
        uuids = [*(card.info.uuid for card in facts.driver.cards), *(state.uuid for state in states)]
        return cls(socket.gethostname(), _private_users(), [uuid for uuid in dict.fromkeys(uuids) if uuid])

    def __call__(self, text: str) -> str:
        """Return `text` with a replacement in place of each private word."""
        text = _VARIABLE.sub(self._replace_variable, text)
        text = _SECRET.sub(lambda match: match[1] + self._replace("secret", match[2]), text)
        for kind, pattern in _PATTERNS.items():
            text = pattern.sub(partial(self._replace_match, kind), text)
        text = _IPV6.sub(lambda match: self._replace_ipv6(match[0]), text)
        for name, replacement in self._names:
            text = name.sub(replacement, text)
        return _HOME.sub(partial(self._replace_match, "user"), text)

    def json(self, value: Any) -> Any:
        """Return the JSON value `value` with all its strings masked."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(key): self.json(item) for key, item in value.items()}
        return [self.json(item) for item in value] if isinstance(value, list) else value

    def report(self, report: Report) -> Report:
        """Return `report` with all its texts masked.

        Mask the report before its texts are broken into lines. A word that a line break divides would not be masked.
        """
        findings = [
            replace(f, text=self(f.text), remedies=tuple(map(self, f.remedies)), uuid=f.uuid and self(f.uuid))
            for f in report.findings
        ]
        return replace(report, findings=tuple(findings))

    def _replace_variable(self, match: re.Match[str]) -> str:
        name, value = filter(None, match.groups())
        return f"{name}{self._replace('secret', value)}"

    def _replace_match(self, kind: str, match: re.Match[str]) -> str:
        return self._replace(kind, match[0])

    def _replace(self, kind: str, word: str) -> str:
        """Return the replacement of the private word `word`: `kind` and a number.

        If `word` is a replacement already, it is returned unchanged.
        """
        if word in self._replacements.values():  # it is masked already
            return word
        known = word.lower()
        if kind == "GPU":
            known = next((uuid for uuid in self._uuids if uuid.startswith(known)), known)
        if known not in self._replacements:
            self._counts[kind] += 1
            self._replacements[known] = f"{kind}-{self._counts[kind]}"
        return self._replacements[known]

    def _replace_ipv6(self, text: str) -> str:
        """Return the replacement of `text` if `text` is an IPv6 address. Otherwise return `text` unchanged."""
        try:
            ipaddress.IPv6Address(text)
        except ValueError:  # a time, or a PCI address
            return text
        return self._replace("IP", text)


def _private_users() -> set[str]:
    """Return the names of all people with an account and of the present user, and the names of their home folders."""
    names = {os.environ.get(variable, "") for variable in ("SUDO_USER", "USER", "LOGNAME")}
    for user in pwd.getpwall():
        if user.pw_uid >= _FIRST_PERSON:
            names |= {user.pw_name, Path(user.pw_dir).name}
    with suppress(KeyError, OSError):
        names.add(getpass.getuser())
    return names - {"nobody", "nonexistent"}


def _pattern_to_mask(name: str) -> re.Pattern[str]:
    """Return a pattern that finds `name`, but not as a part of a longer word."""
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)


def _is_private_name(name: str) -> bool:
    """Return whether `name`, a host or user name, must be masked."""
    return len(name) > 1 and name.lower() not in _TOO_COMMON
