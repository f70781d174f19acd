"""Finds the cards that a name stands for, and the cards whose fans can be set."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from gpufan.core.gpu import Gpu
from gpufan.core.pci import PciAddress
from gpufan.errors import InputError

G = TypeVar("G", bound=Gpu)


class NoSuchCard(InputError):
    """Raised for a name that matches no card of this box."""


def select_cards(gpus: Sequence[G], names: Iterable[str], names_from: str = "--gpu") -> list[G]:
    """Return the cards that match one of `names`, in the order of `gpus`; all cards if there are no names.

    Raises NoSuchCard for a name that matches no card. Its message begins with `names_from`: the option or the key of
    the settings that has the names.
    """
    names = list(names)
    for name in names:
        if not any(card_matches(gpu.info, name) for gpu in gpus):
            known = ", ".join(f"{gpu.info.label} ({gpu.info.pci or 'not answering'})" for gpu in gpus)
            raise NoSuchCard(f"{names_from} {name}: no such card; this box has {known}")
    return [gpu for gpu in gpus if not names or any(card_matches(gpu.info, name) for name in names)]


def select_present_cards(gpus: Sequence[G], names: Iterable[str], names_from: str) -> tuple[list[G], list[str]]:
    """Return the cards that match one of `names`, and the names that match no card. No names stand for all cards.

    Only a UUID or a PCI address may match no card. So a card that has fallen off the bus does not prevent control of
    the other cards. Raises NoSuchCard if another name matches no card, or if none of `names` matches a card. The
    message begins with `names_from`, as in `select_cards`.
    """
    names = list(names)
    absent = [
        name for name in names if _is_lasting_name(name) and not any(card_matches(gpu.info, name) for gpu in gpus)
    ]
    present = [name for name in names if name not in absent]
    if not present:
        return select_cards(gpus, names, names_from), []
    return select_cards(gpus, present, names_from), absent


def _is_lasting_name(name: str) -> bool:
    """Whether `name` is a UUID or a PCI address. Such a name stays valid while the card does not answer."""
    if name.strip().lower().startswith("gpu-"):
        return True
    try:
        PciAddress.parse(name)
    except InputError:
        return False
    return True


class NamedCard(Protocol):
    """A card that a name can select: its properties (`GpuInfo`) or its published state (`GpuState`)."""

    @property
    def uuid(self) -> str:
        """The UUID of the card; empty if it is unknown."""

    @property
    def pci(self) -> str:
        """The PCI address of the card; empty if it is unknown."""

    @property
    def index(self) -> int:
        """The index of the card, as NVML counts."""

    @property
    def name(self) -> str:
        """The model of the card."""


def is_card_index(text: str) -> bool:
    """Whether `text`, a name of a card, is an index. The order in which the driver finds the cards decides the index.

    No box has a hundred cards. So a number of three digits or more, such as `1080`, is a part of a model name.
    """
    return re.fullmatch(r"[0-9]{1,2}", text.strip()) is not None


def card_matches(info: NamedCard, text: str) -> bool:
    """Whether `text` names the card.

    `text` may be the UUID of the card or the beginning of the UUID, its PCI address, its index, or a part of its model
    name. In a model name, `*` matches any characters, and `?` matches one character.
    """
    text = text.strip()
    if is_card_index(text):
        return info.index == int(text)
    # `GPU-` alone would match every card.
    if text.lower().startswith("gpu-") and len(text) >= 8:
        return info.uuid.lower().startswith(text.lower())
    try:
        address = PciAddress.parse(text)
    except InputError:
        pattern = text.lower().replace("[", "[[]")
        return bool(text) and fnmatchcase(info.name.lower(), f"*{pattern}*")
    # A card that does not answer, or that comes from a recording, may have no address.
    return bool(info.pci) and address == PciAddress.parse(info.pci)


def card_may_match(info: NamedCard, text: str) -> bool:
    """Whether `text` names the card, or may prove to name it once its UUID, model or address is known."""
    if card_matches(info, text):
        return True
    if is_card_index(text):
        return False
    try:
        PciAddress.parse(text)
    except InputError:
        return not info.uuid
    return not info.pci


def split_controllable_cards(gpus: Sequence[G]) -> tuple[list[G], list[str]]:
    """Return the cards whose fans can be set, and a line for each other card.

    The line has the label of the card, and says why its fans cannot be set.
    """
    controllable = [gpu for gpu in gpus if gpu.info.uncontrollable_reason is None]
    others = [gpu.info for gpu in gpus if gpu.info.uncontrollable_reason is not None]
    return controllable, [f"{info.label}: {info.uncontrollable_reason}" for info in others]
