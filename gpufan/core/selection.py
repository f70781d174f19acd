"""Select cards by name, and separate those whose fans can be set."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from gpufan.core.gpu import Gpu
from gpufan.core.pci import PciAddress
from gpufan.errors import InputError

G = TypeVar("G", bound=Gpu)


class NoSuchCard(InputError):
    """A name matches no card of this box."""


def select(gpus: Sequence[G], names: Iterable[str], names_from: str = "--gpu") -> list[G]:
    """The cards that match one of `names`, in the order of `gpus`; all cards if there are no names.

    Raises NoSuchCard for a name that matches no card. `names_from` is the option or key of the names, for the message.
    """
    names = list(names)
    for name in names:
        if not any(matches(gpu.info, name) for gpu in gpus):
            known = ", ".join(f"{gpu.info.label} ({gpu.info.pci or 'not answering'})" for gpu in gpus)
            raise NoSuchCard(f"{names_from} {name}: no such card; this box has {known}")
    return [gpu for gpu in gpus if not names or any(matches(gpu.info, name) for name in names)]


def select_present(gpus: Sequence[G], names: Iterable[str], names_from: str) -> tuple[list[G], list[str]]:
    """As `select`, but with the absent UUIDs and PCI addresses apart if another of `names` matches a card.

    A card that has fallen off the bus must not keep the others from being controlled.
    """
    names = list(names)
    absent = [name for name in names if _is_lasting(name) and not any(matches(gpu.info, name) for gpu in gpus)]
    present = [name for name in names if name not in absent]
    if not present:
        return select(gpus, names, names_from), []
    return select(gpus, present, names_from), absent


def _is_lasting(name: str) -> bool:
    """Whether `name` is a UUID or a PCI address: such names stay right while the card is away."""
    if name.strip().lower().startswith("gpu-"):
        return True
    try:
        PciAddress.parse(name)
    except InputError:
        return False
    return True


class Named(Protocol):
    """A description or a state of a card."""

    @property
    def uuid(self) -> str:
        """See `GpuInfo`."""

    @property
    def pci(self) -> str:
        """See `GpuInfo`."""

    @property
    def index(self) -> int:
        """See `GpuInfo`."""

    @property
    def name(self) -> str:
        """See `GpuInfo`."""


def is_index(text: str) -> bool:
    """Whether a name of cards is an index: a number that depends on the order in which the driver finds the cards.

    No box has a hundred cards, so that a longer number is part of a name: `1080`.
    """
    return text.strip().isdecimal() and len(text.strip()) <= 2


def matches(info: Named, text: str) -> bool:
    """Whether `text` is the UUID of the card or its beginning, its PCI address, its index, or part of its name.

    In a name, * matches any letters and ? any letter.
    """
    text = text.strip()
    if is_index(text):
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


def may_match(info: Named, text: str) -> bool:
    """Whether `text` names the card, or may name it as soon as its UUID, name or address is known."""
    if matches(info, text):
        return True
    if is_index(text):
        return False
    try:
        PciAddress.parse(text)
    except InputError:
        return not info.uuid
    return not info.pci


def split_controllable(gpus: Sequence[G]) -> tuple[list[G], list[str]]:
    """The cards whose fans can be set, and for each other card a line with its label and the reason."""
    controllable = [gpu for gpu in gpus if gpu.info.uncontrollable_reason is None]
    others = [gpu.info for gpu in gpus if gpu.info.uncontrollable_reason is not None]
    return controllable, [f"{info.label}: {info.uncontrollable_reason}" for info in others]
