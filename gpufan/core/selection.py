"""Which cards a person means: by UUID, PCI address, index or name."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from gpufan.core.gpu import Gpu, GpuInfo
from gpufan.core.pci import PciAddress
from gpufan.errors import InputError

G = TypeVar("G", bound=Gpu)


def select(gpus: Sequence[G], wanted: Iterable[str], wanted_by: str = "--gpu") -> list[G]:
    """The cards that `wanted` names, each once and in the order of `gpus`; all of them when it names none.

    Raises InputError for a name that fits no card; `wanted_by` says there who named it.
    """
    chosen: set[int] = set()
    named = False
    for text in wanted:
        named = True
        found = [gpu.info.index for gpu in gpus if matches(gpu.info, text)]
        if not found:
            known = ", ".join(f"{gpu.info.label} ({gpu.info.pci or 'not answering'})" for gpu in gpus)
            raise InputError(f"{wanted_by} {text}: no such card; this box has {known}")
        chosen.update(found)
    return [gpu for gpu in gpus if not named or gpu.info.index in chosen]


def matches(info: GpuInfo, text: str) -> bool:
    """Whether `text` names the card: UUID or its beginning, PCI address, index, or part of the name with * and ?."""
    text = text.strip()
    if text.isdecimal() and len(text) < 10:
        return info.index == int(text)
    # Long enough a beginning of a UUID is as good as all of it; `GPU-` alone would be every card.
    if text.lower().startswith("gpu-") and len(text) >= 8:
        return info.uuid.lower().startswith(text.lower())
    try:
        address = PciAddress.parse(text)
    except InputError:
        pattern = text.lower().replace("[", "[[]")
        return bool(text) and fnmatchcase(info.name.lower(), f"*{pattern}*")
    # Of a card that does not answer, or that was recorded, it is not known.
    return bool(info.pci) and address == PciAddress.parse(info.pci)


def split_controllable(gpus: Sequence[G]) -> tuple[list[G], list[str]]:
    """The cards whose fans can be set, and for each of the others a line: its label and why not."""
    usable = [gpu for gpu in gpus if gpu.info.uncontrollable_reason is None]
    others = [
        f"{gpu.info.label}: {gpu.info.uncontrollable_reason}"
        for gpu in gpus
        if gpu.info.uncontrollable_reason is not None
    ]
    return usable, others
