"""Judges the NVIDIA driver, the right to set fans, and cards on the PCI bus that the driver does not list.

The functions use nothing but the facts.
"""

from collections.abc import Iterator

import pynvml

from gpufan.core.pci import PciAddress
from gpufan.doctor.facts import Facts, PciCard
from gpufan.doctor.findings import Finding, ok, problem, warning

LAST_BRANCH = 580
"""The last driver branch that supports Maxwell, Pascal and Volta cards (NVIDIA's release notes of branch 590)."""

BEFORE_TURING = range(0x1340, 0x1E00)
"""PCI device ids of Maxwell, Pascal and Volta cards (PCI ID repository). The ids of Turing cards start at 1e02."""

KERNEL_LOG = "sudo dmesg | grep -i -e nvrm -e xid"

_INSTALL = {
    "debian": "sudo apt install nvidia-driver",
    "ubuntu": "sudo ubuntu-drivers install",
    "fedora": "sudo dnf install akmod-nvidia",
    "arch": "sudo pacman -S nvidia-open",
}
"""The command that installs the newest driver branch, by the ID of the distribution in /etc/os-release."""

_INSTALL_LAST_BRANCH = {
    "debian": "sudo apt install nvidia-driver",
    "ubuntu": f"sudo apt install nvidia-driver-{LAST_BRANCH}",
    "arch": f"yay -S nvidia-{LAST_BRANCH}xx-dkms",
}
_GO_BACK = {
    **_INSTALL_LAST_BRANCH,
    # A newer branch on Debian is from NVIDIA's own packages. This pins them to the last branch.
    "debian": f"sudo apt install nvidia-driver-pinning-{LAST_BRANCH} && sudo apt upgrade --allow-downgrades",
}
_LIST_CARDS = "lspci -nnk -d 10de:"


def judge_driver(facts: Facts) -> Iterator[Finding]:
    """Yield the findings about the driver, the right to set fans, and cards that the driver does not list."""
    yield _judge_driver_state(facts)
    yield from _judge_rights(facts)
    for card in facts.pci:
        yield from _judge_card_on_bus(facts, card)
    if not facts.pci and not facts.driver.cards:
        text = "there is no NVIDIA card on the PCI bus; try gpufan with a simulated card"
        yield problem("card", text, _LIST_CARDS, f"{facts.command} run --simulate --time-scale 60")


def _judge_driver_state(facts: Facts) -> Finding:
    """Judge whether the driver is installed and loaded, and whether this user may use it.

    Its kernel module and its library must also have the same version.
    """
    driver, unknown = facts.driver, facts.errors.get("driver")
    if unknown is not None:
        return problem("driver", f"the state of the driver is unknown: {unknown}", KERNEL_LOG, "sudo reboot")
    module, library = driver.module_version, driver.library_version
    if driver.error_code == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH or (module and library and module != library):
        text = f"the kernel module has version {module or 'unknown'}, the library has {library or 'another'}:"
        return problem("driver", f"{text} reboot to load the new driver", "sudo reboot")
    if driver.error is None:
        return ok("driver", f"NVIDIA {library or module}; kernel module and library have the same version")
    if driver.error_code == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        if module:
            text = f"kernel module {module} is loaded, but the NVML library is missing"
            return problem("driver", text, _install_driver_command(facts))
        if not facts.pci:
            return ok("driver", "no NVIDIA driver is installed, and no card needs one")
        return problem("driver", "no NVIDIA driver is installed", _install_driver_command(facts))
    if any(_driver_dropped(facts, card) for card in facts.pci):
        text = f"driver branch {_driver_branch(facts)} supports no card older than Turing, and this box has one"
        return problem("driver", text, *_install_last_driver_branch(facts))
    if driver.error_code == pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return problem("driver", "the NVIDIA kernel module is not loaded", "sudo modprobe nvidia", KERNEL_LOG)
    if driver.error_code == pynvml.NVML_ERROR_NO_PERMISSION:
        text = "this user has no permission to use the driver"
        return problem("driver", text, f"sudo {facts.command} doctor", "ls -l /dev/nvidia*")
    return problem("driver", driver.error, KERNEL_LOG, "sudo reboot")


def _judge_rights(facts: Facts) -> Iterator[Finding]:
    """Yield a finding about the right of this process to set fans.

    Yields nothing if the user is not root and the box has no cards.
    """
    if facts.user_id == 0 and facts.has_sys_admin is False:
        text = "root lacks CAP_SYS_ADMIN here, so the driver refuses to set fans: run gpufan outside the container,"
        text += " or give the container this capability"
        yield problem("rights", text, "docker run --cap-add SYS_ADMIN --gpus all ...")
    elif facts.user_id == 0:
        yield ok("rights", "root, who may set fans")
    elif facts.live:
        yield ok("rights", "not root; the gpufan that runs has the rights it needs")
    elif facts.has_cards:
        text = "not root: only root may set fans; reading needs no rights"
        yield warning("rights", text, f"sudo {facts.command} doctor", f"sudo {facts.command} run")


def _judge_card_on_bus(facts: Facts, card: PciCard) -> Iterator[Finding]:
    """Yield a finding about a card on the PCI bus.

    Yields nothing if the driver lists the card, or if the finding about the driver explains why it does not.
    """
    if card.driver == "vfio-pci":
        yield ok("card", f"{card.address} belongs to a virtual machine")
    elif _driver_dropped(facts, card):
        text = f"{card.address} (10de:{card.device_id:04x}) is older than Turing: driver branch {_driver_branch(facts)}"
        text += f" does not support it, {LAST_BRANCH} is the last branch that does"
        yield problem("card", text, *_install_last_driver_branch(facts))
    elif card.driver == "nouveau":
        text = f"the nouveau driver drives {card.address}, and cannot set its fans: install NVIDIA's driver, and reboot"
        yield problem("card", text, _install_driver_command(facts), "sudo reboot")
    elif facts.driver.error is not None or "driver" in facts.errors:
        return  # the finding about the driver is enough for all cards
    elif card.driver is None:
        text = f"{card.address} has no kernel driver"
        yield problem("card", text, _LIST_CARDS, _install_driver_command(facts), KERNEL_LOG)
    elif not _driver_lists(facts, card) and all(listed.info.pci for listed in facts.driver.cards):
        # A listed card without an address may be this card: it does not answer, and has a finding of its own.
        text = f"{card.address} is on the PCI bus, but the driver does not list it"
        yield problem("card", text, KERNEL_LOG, "sudo reboot")


def _driver_lists(facts: Facts, card: PciCard) -> bool:
    """Return whether the driver lists `card`. The PCI addresses are compared."""
    return any(known.info.pci and PciAddress.parse(known.info.pci) == card.address for known in facts.driver.cards)


def _driver_dropped(facts: Facts, card: PciCard) -> bool:
    """Return whether `card` is too old for the installed driver branch."""
    return card.device_id in BEFORE_TURING and _driver_branch(facts) > LAST_BRANCH and not _driver_lists(facts, card)


def _install_last_driver_branch(facts: Facts) -> tuple[str, ...]:
    """Return the commands that replace a newer driver by `LAST_BRANCH`, the last branch that supports old cards."""
    return _GO_BACK.get(facts.distribution, _LIST_CARDS), "sudo reboot"


def _driver_branch(facts: Facts) -> int:
    """Return the branch of the installed driver, such as 580. Returns 0 if no driver is installed."""
    return int((facts.driver.module_version or facts.driver.library_version or "0").partition(".")[0])


def _install_driver_command(facts: Facts) -> str:
    """Return the command that installs the newest driver branch that supports all cards on the PCI bus."""
    old = any(card.device_id in BEFORE_TURING for card in facts.pci)
    return (_INSTALL_LAST_BRANCH if old else _INSTALL).get(facts.distribution, _LIST_CARDS)
