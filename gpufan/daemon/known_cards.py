"""Finds the cards of this box for commands that change or check settings. No card is controlled here."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from gpufan.core.gpu import GpuInfo
from gpufan.core.pci import PciAddress
from gpufan.core.selection import NamedCard, card_matches, is_card_index
from gpufan.daemon import snapshot_file
from gpufan.errors import GpufanError, InputError
from gpufan.system.paths import SNAPSHOT


def lasting_name_of_known_card(name: str, runtime_folder: Path) -> str:
    """Convert `name` to the UUID of a card, if `name` is an index or a PCI address. Return any other `name` unchanged.

    Digits that match several cards are returned unchanged too. If no driver answers, the snapshot in `runtime_folder`
    says which cards there are. Raises InputError if there is no such card, or if the UUID of the card is unknown.
    """
    if not is_card_index(name) and not _names_known_card_by_address(name):
        return name
    cards = _known_or_published_cards(runtime_folder)
    named = [card for card in cards if card_matches(card, name)]
    if len(named) == 1 and named[0].uuid:
        return named[0].uuid
    if len(named) > 1:  # digits in the name of several cards
        return name
    raise InputError(f"{name}: the UUID of this card is not known here: `gpufan list` shows it, if a driver runs")


def _known_or_published_cards(runtime_folder: Path) -> Sequence[NamedCard]:
    """Return the cards that the driver knows. If no driver answers, return the cards in the last snapshot.

    The result is empty if there is no snapshot either.
    """
    if cards := known_cards(()):
        return cards
    try:
        return snapshot_file.read_snapshot(runtime_folder / SNAPSHOT).gpus
    except GpufanError:
        return []


def known_cards(names: Sequence[str]) -> list[GpuInfo]:
    """Return the properties of all cards of this box; empty if no driver answers.

    If `names` is not empty, open and return only the cards that could match one of these names.
    """
    from gpufan.gpu.cards import open_cards  # loads the driver's library

    try:
        with (
            TemporaryDirectory(prefix="gpufan-") as folder,
            closing(open_cards("nvml", None, Path(folder), names)) as cards,
        ):
            return [gpu.info for gpu in cards.gpus]
    except GpufanError:
        return []


def _names_known_card_by_address(name: str) -> bool:
    """Whether `name` is a PCI address."""
    try:
        PciAddress.parse(name)
    except InputError:
        return False
    return True
