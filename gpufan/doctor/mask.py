"""Replace private words in texts: host and user names, addresses, UUIDs, serial numbers, passwords.

Repetitions in the patterns are limited, so that masking is fast for any text.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

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
"""Name and value of a secret: `token=..`, `"token": ".."`, `Option "Serial" ".."`. Quotes may be escaped."""

_SECRET_NAME = r"[\w-]{0,40}(?:key|pass|passphrase|passwd|password|pwd|token|secret|credentials?)(?:[_-][\w-]{0,40})?"
_VARIABLE = re.compile(
    rf"""(?<=")({_SECRET_NAME}=)([^"\n]+) | (?<=')({_SECRET_NAME}=)([^'\n]+)
        | (?<![\w-])({_SECRET_NAME}=|--{_SECRET_NAME}[ \t])("[^"\n]+"|'[^'\n]+'|[^\s"']+)""",
    re.VERBOSE | re.IGNORECASE,
)
"""A variable or an option with a secret, with quotes around the value or around all: `"API_KEY=a b"`, `--db-pass x`."""

_TOO_COMMON = {"root", "localhost", "gpu", "nvidia", "gpufan", "linux", "debian", "ubuntu", "user", "host", "home"}
"""Names that are not masked: they identify nobody, and are common words in the texts."""


class Mask:
    """Masks the texts of one box. The same word has the same replacement everywhere, such as `user-1`."""

    def __init__(self, host: str, users: Iterable[str], uuids: Iterable[str] = ()) -> None:
        """`uuids` are the UUIDs of the cards. The beginning of one has the same replacement as the complete UUID."""
        self._replacements: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._uuids = [uuid.lower() for uuid in uuids]
        for uuid in self._uuids:
            self._replace("GPU", uuid)
        # Longer names first, since they may contain shorter names.
        users = sorted(filter(_is_private, set(users)), key=lambda user: (-len(user), user))
        names = [(name, "host") for name in (host, host.partition(".")[0]) if _is_private(name)]
        names += [(user, self._replace("user", user)) for user in users]
        self._names = [(_name_pattern(name), replacement) for name, replacement in names]

    def __call__(self, text: str) -> str:
        """Return `text` without private words."""
        text = _VARIABLE.sub(self._replace_variable, text)
        text = _SECRET.sub(lambda match: match[1] + self._replace("secret", match[2]), text)
        for kind, pattern in _PATTERNS.items():
            text = pattern.sub(partial(self._replace_match, kind), text)
        text = _IPV6.sub(lambda match: self._replace_ipv6(match[0]), text)
        for name, replacement in self._names:
            text = name.sub(replacement, text)
        return _HOME.sub(partial(self._replace_match, "user"), text)

    def json(self, value: Any) -> Any:
        """A JSON value with every string masked."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(key): self.json(item) for key, item in value.items()}
        return [self.json(item) for item in value] if isinstance(value, list) else value

    def _replace_variable(self, match: re.Match[str]) -> str:
        name, value = filter(None, match.groups())
        return f"{name}{self._replace('secret', value)}"

    def _replace_match(self, kind: str, match: re.Match[str]) -> str:
        return self._replace(kind, match[0])

    def _replace(self, kind: str, word: str) -> str:
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
        try:
            ipaddress.IPv6Address(text)
        except ValueError:  # a time, or a PCI address
            return text
        return self._replace("IP", text)


def _name_pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)


def _is_private(name: str) -> bool:
    return len(name) > 1 and name.lower() not in _TOO_COMMON
