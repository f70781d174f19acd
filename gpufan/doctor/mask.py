"""Takes out of a text what is nobody's business: each private word becomes a stand-in, the same wherever it occurs.

Repetitions in the patterns have a limit, so that no text, however odd, takes long.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any

_HEX = "[0-9a-fA-F]"
_UUID = rf"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"

_PATTERNS = {
    # In a file of settings the beginning of a UUID will do, so it counts here as well.
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
    r"""((?:serial|password|passwd|secret|token|cookie|api-?key)[\w-]{0,20}\#?(?:\ no|\ number)?
        (?:\\?"?[ \t]{0,9}[=:][ \t]{0,9}\\?"?|\\?"[ \t]{1,9}\\?"))([^\s"',;\\]+)""",
    re.VERBOSE | re.IGNORECASE,
)
"""A name that promises a secret, and its value: `token=..`, `"token": ".."`, `Option "Serial" ".."`; in JSON, quotes
have a backslash before them."""

_TOO_COMMON = {"root", "localhost", "gpu", "nvidia", "gpufan", "linux", "debian", "ubuntu", "user", "host", "home"}
"""Names that say nothing about anybody, and stand in every text for something else."""


class Mask:
    """Masks texts of one box. The same word gets the same stand-in, so that what belongs together can still be seen."""

    def __init__(self, host: str, users: Iterable[str], uuids: Iterable[str] = ()) -> None:
        """`uuids` are those that are known in full, so that their beginnings are recognised."""
        self._stand_ins: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._uuids = [uuid.lower() for uuid in uuids]
        for uuid in self._uuids:
            self._stand_in("GPU", uuid)
        # The long form first, or its beginning would be replaced within it.
        names = [(name, "host") for name in dict.fromkeys((host, host.partition(".")[0])) if _is_telling(name)]
        users = sorted(filter(_is_telling, set(users)), key=lambda user: (-len(user), user))
        names += [(user, self._stand_in("user", user)) for user in users]
        self._names = [(_whole(name), stand_in) for name, stand_in in names]

    def __call__(self, text: str) -> str:
        """Return `text` with all that is private replaced."""
        text = _SECRET.sub(lambda match: match[1] + self._stand_in("secret", match[2]), text)
        for kind, pattern in _PATTERNS.items():
            text = pattern.sub(self._replacement(kind), text)
        text = _IPV6.sub(lambda match: self._ip(match[0]), text)
        for name, stand_in in self._names:
            text = name.sub(stand_in, text)
        return _HOME.sub(self._replacement("user"), text)

    def json(self, value: Any) -> Any:
        """A JSON value with every string masked."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(key): self.json(item) for key, item in value.items()}
        return [self.json(item) for item in value] if isinstance(value, list) else value

    def _replacement(self, kind: str) -> Callable[[re.Match[str]], str]:
        return lambda match: self._stand_in(kind, match[0])

    def _stand_in(self, kind: str, word: str) -> str:
        if word in self._stand_ins.values():  # masked already
            return word
        known = word.lower()
        if kind == "GPU":
            known = next((uuid for uuid in self._uuids if uuid.startswith(known)), known)
        if known not in self._stand_ins:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._stand_ins[known] = f"{kind}-{self._counts[kind]}"
        return self._stand_ins[known]

    def _ip(self, text: str) -> str:
        try:
            ipaddress.IPv6Address(text)
        except ValueError:  # a time, or a place on the PCI bus
            return text
        return self._stand_in("IP", text)


def _whole(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)


def _is_telling(name: str) -> bool:
    return len(name) > 1 and name.lower() not in _TOO_COMMON
