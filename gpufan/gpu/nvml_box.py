"""Loads NVML, loads it again, and finds the cards that NVML knows. A single card is in `nvml.py`."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue

import pynvml
from pynvml import NVMLError

from gpufan.core.gpu import GpuInfo
from gpufan.core.pci import PciAddress
from gpufan.core.selection import card_matches, is_card_index
from gpufan.errors import DriverError, NoAnswer
from gpufan.gpu.kernel_cards import kernel_driven_addresses
from gpufan.gpu.nvml import NvmlGpu
from gpufan.gpu.nvml_errors import nvml_driver_error
from gpufan.system.background import BackgroundCall
from gpufan.system.printable import printable

OPEN_TIMEOUT_S = 2.0
"""All cards open at the same time. The wait for them ends when none has answered for this time, s."""

FIRST_RETRY_S, RETRY_S = 2.0, 10.0
"""A card that has not opened is opened again after `FIRST_RETRY_S`, s. This time doubles with each attempt, up to
`RETRY_S`."""


class NvmlBox:
    """NVML while it is loaded, and all cards that the driver knows.

    Only named cards are opened, since NVML cannot close a single card again. The kernel lists the address of each card,
    and the UUID and the model of each card that was in use before. If a card may be a named one, it is opened.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        """Load NVML, and open the cards that match `names`; all cards if there are no names. Raises DriverError.

        If cards hang, this lasts 2 s. They may answer later.
        """
        self._names = names
        self._loading = threading.Lock()
        self.driver_version, self._count = _load_nvml()
        if self._count == 0:
            raise DriverError("the NVIDIA driver runs but knows no card: look at `lspci -d 10de:` and `dmesg`")
        self._driven = kernel_driven_addresses()
        self._has_all = len(self._driven) == self._count
        """Whether NVML has all cards of the kernel. In a container, it may have only some of them."""
        addresses = [address.nvml for address in self._driven] if self._has_all else [""] * self._count
        self.gpus = [NvmlGpu(index, pci) for index, pci in enumerate(addresses)]
        _open_named_in_nvml_box(self.gpus, names)
        self._unopened = [
            gpu for gpu in self.gpus if not gpu.is_open and gpu.may_be(names) and not _is_named_in_nvml_box(gpu, names)
        ]
        """Cards that have not opened yet, and may turn out to be named ones."""
        self._retry_s = min(FIRST_RETRY_S, RETRY_S)
        self._retry_at_s = time.monotonic() + self._retry_s

    @property
    def addresses(self) -> list[PciAddress]:
        """The addresses of the cards that are open and match the names; of all open cards if there are no names."""
        return [
            PciAddress.parse(gpu.info.pci)
            for gpu in self.gpus
            if gpu.is_open and _is_named_in_nvml_box(gpu, self._names)
        ]

    def find_new(self) -> list[NvmlGpu]:
        """Open and return the named cards that have appeared since the last call. May last 2 s.

        A card that has come back is not new, even at another address. It opens again at its next call. NVML may have to
        be loaded again before it knows a new card. An index in the names never means a new card, since an index is the
        number of a card at the start.
        """
        names = [name for name in self._names if not is_card_index(name)]
        if self._names and not names:
            return []
        appeared = self._appeared()
        if not appeared and (not self._unopened or time.monotonic() < self._retry_at_s):
            return []
        self._retry_s = min(FIRST_RETRY_S if appeared else 2 * self._retry_s, RETRY_S)
        self._retry_at_s = time.monotonic() + self._retry_s
        candidates = [*self._unopened, *appeared]
        self._unopened = [gpu for gpu in candidates if self._may_be_foreign(gpu, names)]
        candidates = [gpu for gpu in candidates if gpu not in self._unopened]
        _open_named_in_nvml_box(candidates, names)
        new: list[NvmlGpu] = []
        for gpu in candidates:
            same = [known for known in self.gpus if _is_same_card_in_nvml_box(known.info, gpu.info)]
            if same and gpu not in same:
                same[0].move(gpu.info.pci)
            elif gpu.info.pci and _is_named_in_nvml_box(gpu, names):
                # Its index is its place among the cards that are there now. Another card had this place at the start.
                others = [each for each in (*self.gpus, *new) if each is not gpu]
                used = [each.info.index for each in others if _is_named_in_nvml_box(each, self._names)]
                if gpu.info.index in used:
                    gpu.info = replace(gpu.info, index=max(used) + 1)
                new.append(gpu)
            elif not gpu.is_open and gpu.may_be(names):
                self._unopened.append(gpu)
        self.gpus += [gpu for gpu in new if gpu not in self.gpus]
        return new

    def _appeared(self) -> list[NvmlGpu]:
        """Return the cards that the driver did not list at the last call. Forget unopened cards that have gone.

        If the addresses of NVML's cards are unknown, return all its cards if a card has appeared, else none.
        """
        before, self._driven = self._driven, kernel_driven_addresses() or self._driven
        appeared = [NvmlGpu(i, address.nvml) for i, address in enumerate(self._driven) if address not in before]
        if self._has_all:
            driven = [address.nvml for address in self._driven]
            self._unopened = [gpu for gpu in self._unopened if gpu.info.pci in driven]
            return appeared
        count = self._count
        with suppress(NVMLError):
            self._count = pynvml.nvmlDeviceGetCount()
        if self._count <= count and not appeared:
            return []
        self._unopened = []
        return [NvmlGpu(index) for index in range(self._count)]

    def _may_be_foreign(self, gpu: NvmlGpu, names: Sequence[str]) -> bool:
        """Whether a card without a name in `names` was at the address of `gpu`, and `gpu` may be the same card.

        The kernel may not know the UUID of `gpu` before somebody uses it.
        """
        return (
            gpu.may_be(names)
            and not gpu.info.uuid
            and any(
                known.info.pci == gpu.info.pci and known.info.uuid and not _is_named_in_nvml_box(known, names)
                for known in self.gpus
            )
        )

    def reload(self) -> None:
        """Shut NVML down and load it again. Every card opens again at its next call.

        Raises DriverError, or NoAnswer at once if another thread is still loading NVML.
        """
        if not self._loading.acquire(blocking=False):
            raise NoAnswer("the NVIDIA driver does not answer: NVML is still being loaded anew")
        try:
            with suppress(NVMLError):
                while True:  # NVML counts how often it was loaded
                    pynvml.nvmlShutdown()
            _load_nvml()
        finally:
            for gpu in self.gpus:
                gpu.reopen()
            self._loading.release()

    def close(self) -> None:
        """Unload NVML."""
        with suppress(NVMLError):  # after a restart of the driver it may be unloaded already
            pynvml.nvmlShutdown()


def _load_nvml() -> tuple[str, int]:
    """Load NVML. Returns the version of the driver, and the number of its cards. Raises DriverError."""
    try:
        pynvml.nvmlInit()
        return printable(pynvml.nvmlSystemGetDriverVersion()), pynvml.nvmlDeviceGetCount()
    except NVMLError as error:
        raise nvml_driver_error(error) from error


def _open_named_in_nvml_box(gpus: Sequence[NvmlGpu], names: Sequence[str]) -> None:
    """Open the cards of `gpus` that `names` may mean, all at the same time. If `names` is empty, open all cards.

    Returns when all cards have answered, or when no card has answered for 2 s.
    """
    answers: SimpleQueue[None] = SimpleQueue()

    def open_named_card(gpu: NvmlGpu) -> None:
        try:
            if gpu.may_be(names):
                gpu.open()
        finally:  # an error is raised again by the first read
            answers.put(None)

    for gpu in gpus:
        BackgroundCall(partial(open_named_card, gpu))
    with suppress(Empty):
        for _ in gpus:
            answers.get(timeout=OPEN_TIMEOUT_S)


def _is_named_in_nvml_box(gpu: NvmlGpu, names: Sequence[str]) -> bool:
    """Whether one of `names` matches the card `gpu`. True if `names` is empty."""
    return not names or any(card_matches(gpu.info, name) for name in names)


def _is_same_card_in_nvml_box(known: GpuInfo, found: GpuInfo) -> bool:
    """Whether `known` and `found` have the same UUID. If one UUID is unknown, whether both have the same address."""
    if known.uuid and found.uuid:
        return known.uuid == found.uuid
    return bool(found.pci) and known.pci == found.pci
