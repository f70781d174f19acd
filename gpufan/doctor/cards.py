"""Judging driver and cards: does the driver know them, do their fans obey, are they too hot. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import pynvml

from gpufan.control.controller import DEFAULT_SLOWDOWN_C, SLOWDOWN_MARGIN_C
from gpufan.core.gpu import FanReading
from gpufan.core.pci import PciAddress
from gpufan.core.reasons import Cause, Control, Group
from gpufan.core.sentences import reason_sentence
from gpufan.core.snapshot import GpuState
from gpufan.doctor.facts import Card, Facts, PciCard, Proof
from gpufan.doctor.findings import Finding, Level

DRIVER, CARDS = "driver", "cards"

LAST_BRANCH = 580
"""The last branch of the driver that knows Maxwell, Pascal and Volta (NVIDIA's release notes of 590)."""

BEFORE_TURING = range(0x1340, 0x1E00)
"""PCI device ids of Maxwell, Pascal and Volta, by the PCI ID repository; Turing begins at 1e02."""

FULL_PERCENT = 95
"""A fan at such a duty has little left to give."""

_KERNEL_LOG = "sudo dmesg | grep -i -e nvrm -e xid"
_INSTALL = {
    "debian": "sudo apt install nvidia-driver",
    "ubuntu": "sudo ubuntu-drivers install",
    "fedora": "sudo dnf install akmod-nvidia",
    "arch": "sudo pacman -S nvidia-open",
}
"""By ID of /etc/os-release, for cards that the newest branch knows."""

_INSTALL_LAST_BRANCH = {
    "debian": "sudo apt install nvidia-driver",
    "ubuntu": f"sudo apt install nvidia-driver-{LAST_BRANCH}",
    "arch": f"yay -S nvidia-{LAST_BRANCH}xx-dkms",
}
_GO_BACK = {
    **_INSTALL_LAST_BRANCH,
    # Who got a newer branch there has it from NVIDIA's own packages, which are held back like this.
    "debian": f"sudo apt install nvidia-driver-pinning-{LAST_BRANCH} && sudo apt upgrade --allow-downgrades",
}

_INSTALL_X = "sudo apt install xserver-xorg-core xserver-xorg-video-nvidia"
_LOOK_FOR_DRIVER = "lspci -nnk -d 10de:"


def judge_driver(facts: Facts) -> Iterator[Finding]:
    """The driver as a whole."""
    level, text, remedies = _driver(facts)
    yield Finding(DRIVER, "driver", level, text, remedies)
    yield from _rights(facts)
    for card in facts.pci:
        if finding := _on_the_bus(facts, card):
            yield finding
    if not facts.pci and not facts.driver.cards:
        text = "no NVIDIA card on the PCI bus; try gpufan on a simulated one"
        yield Finding(CARDS, "card", "problem", text, (_LOOK_FOR_DRIVER, _simulate(facts)))
    told = [card.persistent for card in facts.driver.cards if card.persistent is not None]
    if told:
        mode = "on" if all(told) else "off; the driver stays loaded while gpufan runs"
        yield Finding(DRIVER, "persistence", "ok", mode)


def _driver(facts: Facts) -> tuple[Level, str, tuple[str, ...]]:
    driver = facts.driver
    module, library = driver.module_version, driver.library_version
    known = f"kernel module {module or 'not told'}, library {library or 'not told'}"
    if driver.error_code == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH or (module and library and module != library):
        return "problem", f"updated but not loaded yet: {known}", ("sudo reboot",)
    if driver.error is None:
        return "ok", f"NVIDIA {library or module}, kernel module and NVML library agree", ()
    if driver.error_code == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        if module:
            return "problem", f"kernel module {module} runs, but the library NVML is missing", (_install(facts),)
        if not facts.pci:
            return "warning", "no NVIDIA driver, and no card that would need it", (_simulate(facts),)
        return "problem", "no NVIDIA driver is installed", (_install(facts),)
    if any(_is_dropped(facts, card) for card in facts.pci):
        text = f"branch {_branch(facts)} knows no card older than Turing, and there is one here"
        return "problem", text, _go_back(facts)
    if driver.error_code == pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return "problem", "the NVIDIA kernel module is not loaded", ("sudo modprobe nvidia", _KERNEL_LOG)
    if driver.error_code == pynvml.NVML_ERROR_NO_PERMISSION:
        text = "no permission to talk to the driver"
        return "problem", text, (f"sudo {facts.command} doctor", "ls -l /dev/nvidia*")
    return "problem", driver.error, (_KERNEL_LOG, "sudo reboot")


def _rights(facts: Facts) -> Iterator[Finding]:
    if facts.user_id == 0 and facts.has_sys_admin is False:
        text = "root here lacks CAP_SYS_ADMIN, without which the driver lets nobody set a fan; run it outside"
        text += " the container, or start that with the capability"
        yield Finding(DRIVER, "rights", "problem", text, ("docker run --cap-add SYS_ADMIN --gpus all ...",))
    elif facts.user_id == 0:
        yield Finding(DRIVER, "rights", "ok", "root, who may set fans")
    elif facts.published.live:
        yield Finding(DRIVER, "rights", "ok", "not root; the gpufan that runs has what it needs")
    elif facts.has_cards:
        text = "not root, who alone may set fans; looking needs no rights"
        yield Finding(DRIVER, "rights", "warning", text, (f"sudo {facts.command} doctor", f"sudo {facts.command} run"))


def _on_the_bus(facts: Facts, card: PciCard) -> Finding | None:
    """What is wrong with a card that NVIDIA's driver does not have; None where nothing is."""
    if card.driver == "vfio-pci":
        return Finding(CARDS, "card", "ok", f"{card.address} is given to a virtual machine")
    if _is_dropped(facts, card):
        text = f"{card.address} (10de:{card.device_id:04x}) is older than Turing: driver branch {_branch(facts)}"
        text += f" does not know it, {LAST_BRANCH} is the last that does"
        return Finding(CARDS, "card", "problem", text, _go_back(facts))
    if card.driver == "nouveau":
        text = f"{card.address} is run by nouveau, which cannot set its fans: install NVIDIA's driver, and reboot"
        return Finding(CARDS, "card", "problem", text, (_install(facts), "sudo reboot"))
    if card.driver is None:
        text = f"{card.address} has no kernel driver"
        return Finding(CARDS, "card", "problem", text, (_LOOK_FOR_DRIVER, _install(facts), _KERNEL_LOG))
    silent = any(not c.info.pci for c in facts.driver.cards)  # that one has a finding of its own
    if facts.driver.error is None and not _is_known(facts, card) and not silent:
        text = f"{card.address} is on the bus, but the driver does not know it"
        return Finding(CARDS, "card", "problem", text, (_KERNEL_LOG, "sudo reboot"))
    return None


def _is_known(facts: Facts, card: PciCard) -> bool:
    return any(known.info.pci and PciAddress.parse(known.info.pci) == card.address for known in facts.driver.cards)


def _is_dropped(facts: Facts, card: PciCard) -> bool:
    """Whether the card is too old for the branch of the driver that is installed."""
    return card.device_id in BEFORE_TURING and _branch(facts) > LAST_BRANCH and not _is_known(facts, card)


def _go_back(facts: Facts) -> tuple[str, ...]:
    return _GO_BACK.get(facts.distribution, _LOOK_FOR_DRIVER), "sudo reboot"


def _branch(facts: Facts) -> int:
    """Branch of the driver, such as 580; 0 where there is none."""
    return int((facts.driver.module_version or facts.driver.library_version or "0").partition(".")[0])


def _install(facts: Facts) -> str:
    old = any(card.device_id in BEFORE_TURING for card in facts.pci)
    return (_INSTALL_LAST_BRANCH if old else _INSTALL).get(facts.distribution, _LOOK_FOR_DRIVER)


def _simulate(facts: Facts) -> str:
    return f"{facts.command} run --simulate --time-scale 60"


# ---- card by card ----


@dataclass(frozen=True)
class _Case:
    """One card, from all who know of it."""

    facts: Facts
    index: int
    label: str
    uuid: str
    card: Card | None
    state: GpuState | None
    proof: Proof | None

    def finding(self, check: str, level: Level, text: str, *remedies: str) -> Finding:
        # One that has never answered has no name yet.
        name = self.label.removeprefix(f"{self.index} ") + ": " if self.uuid else ""
        return Finding(CARDS, check, level, name + text, remedies, self.index, self.uuid or None)

    @property
    def fans(self) -> tuple[FanReading, ...]:
        if self.state is not None and self.state.fans:
            return self.state.fans
        return self.card.reading.fans if self.card and self.card.reading else ()


def judge_cards(facts: Facts) -> Iterator[Finding]:
    """Every card that the driver or a running gpufan knows."""
    for case in _cases(facts):
        is_lost = _lost(case)
        yield is_lost or _fans(case)
        if not is_lost:
            yield _heat(case)


def _cases(facts: Facts) -> list[_Case]:
    live = facts.published.live
    states = {state.index: state for state in live.gpus} if live else {}
    cards = {card.info.index: card for card in facts.driver.cards}
    if live and live.simulated_s is not None:
        cards = {}  # a simulation has cards of its own
    found = []
    for index in sorted({*states, *cards}):
        card, state = cards.get(index), states.get(index)
        if card and state and card.info.uuid and state.uuid and card.info.uuid != state.uuid:
            state = None  # the driver has counted anew since
        uuid = (card.info.uuid if card else "") or (state.uuid if state else "")
        label = state.label if state else card.info.label if card else ""
        proof = next((proof for proof in facts.proofs if proof.uuid == uuid), None)
        found.append(_Case(facts, index, label, uuid, card, state, proof))
    return found


def _lost(case: _Case) -> Finding | None:
    state = case.state
    if state is not None and state.reason.cause is Cause.X_LOST:
        return _x_trouble(case, state.reason.message)
    remedies = [_KERNEL_LOG, "sudo reboot"]
    if state is not None and state.control is Control.LOST:
        text = f"lost: {reason_sentence(state.reason)}; gpufan asks again by itself, but a reboot may be what it takes"
        if case.facts.service_has_the_fans and case.card is not None and case.card.reading is not None:
            remedies.insert(0, "sudo systemctl restart gpufan")  # we reach it, so a new process will
    elif case.card is not None and case.card.reading is None:
        text = "lost: it does not answer the driver; a reboot may bring it back"
    else:
        return None
    return case.finding("fans", "problem", text, *remedies)


def _x_trouble(case: _Case, why: str) -> Finding:
    text = f"its fans can only be set over X, and that fails: {why}"
    log = f"sudo tail -n 30 {case.facts.published.path.parent}/own-xserver/Xorg.log"
    install = [] if case.facts.has_xorg else [_INSTALL_X]
    restart = ["sudo systemctl restart gpufan"] if case.facts.service_has_the_fans else []
    return case.finding("fans", "problem", text, *install, log, *restart)


def _fans(case: _Case) -> Finding:
    if case.proof is not None:
        return _proven(case, case.proof)
    if case.state is not None:
        return _controlled(case, case.state)
    assert case.card is not None  # one of the two there is
    info = case.card.info
    if not info.fan_count:
        return case.finding("fans", "ok", "no fan that the driver knows of: nothing to control")
    if case.facts.published.live:
        return _left_out(case)
    if any(fan.manual for fan in case.fans):
        rivals = case.facts.rivals
        by = ", ".join(rival.name for rival in rivals) or "one that was killed"
        text = f"its fans are in manual mode, and no gpufan keeps them: set by {by}"
        stop_first = [rival.stop for rival in rivals]
        return case.finding("fans", "problem", text, *stop_first, f"sudo {case.facts.command} restore")
    count = "1 fan" if info.fan_count == 1 else f"{info.fan_count} fans"
    prove = f"`sudo {case.facts.command} doctor --try-fans` proves it"
    if info.uncontrollable_reason is None:
        return case.finding("fans", "ok", f"{count}, to be set through NVML; {prove}")
    if not case.facts.has_xorg:
        text = f"{info.uncontrollable_reason}, and no X server is installed"
        return case.finding("fans", "problem", text, _INSTALL_X)
    return case.finding("fans", "ok", f"{count}, to be set over an X server that gpufan starts; {prove}")


def _left_out(case: _Case) -> Finding:
    """A gpufan runs, and this card is not among those that it keeps."""
    if not any(fan.manual for fan in case.fans):
        return case.finding("fans", "ok", "not among the cards that gpufan keeps; its fans are the driver's")
    text = "in manual mode, though not among the cards that gpufan keeps: add it in the config file, or give it back"
    stop_first = f"sudo systemctl stop gpufan; sudo {case.facts.command} restore; sudo systemctl start gpufan"
    return case.finding("fans", "warning", text, case.facts.edit_config, stop_first)


def _proven(case: _Case, proof: Proof) -> Finding:
    if proof.obeyed:
        return case.finding("fans", "ok", f"proven: {proof.text}")
    return case.finding("fans", "problem", f"they do not obey: {proof.text}", _KERNEL_LOG, f"{case.facts.command} list")


def _controlled(case: _Case, state: GpuState) -> Finding:
    """What the running gpufan says."""
    command = case.facts.command
    way = {"nvml": "through NVML", "x11": "over X", "simulated": "simulated"}.get(state.backend, state.backend)
    reason = reason_sentence(state.reason)
    if state.control is Control.RELEASED:
        if state.x_error:
            return _x_trouble(case, state.x_error)
        if state.errors_by_kind.refused:
            text = f"the driver refuses to have them set: {reason}"
            return case.finding("fans", "problem", text, _KERNEL_LOG, f"{command} list")
        text = f"they do not follow: {reason}; see whether something blocks them"
        try_them = f"sudo {command} doctor --try-fans"
        if case.facts.service_has_the_fans:
            try_them = f"sudo systemctl stop gpufan; {try_them}; sudo systemctl start gpufan"
        return case.finding("fans", "problem", text, try_them, _KERNEL_LOG)
    if state.reason.cause.group is Group.FAIL_SAFE:
        text = f"fail-safe: {reason}"
        return case.finding("fans", "warning", text, f"{command} list", _KERNEL_LOG)
    if state.overrides:
        last = f"; last: {reason_sentence(state.fault)}" if state.fault else ""
        text = f"read back {state.overrides} times other than set, and set again{last}"
        return case.finding("fans", "warning", text, f"{command} status", "sudo fuser -v /dev/nvidiactl")
    if state.duty_percent is None or state.control is Control.DRIVER:
        return case.finding("fans", "ok", f"{reason}; left to the driver")
    speeds = " ".join("?" if fan.speed_percent is None else f"{fan.speed_percent} %" for fan in state.fans)
    return case.finding("fans", "ok", f"{way}, set to {state.duty_percent} %, read back {speeds}")


def _heat(case: _Case) -> Finding:
    reading = case.card.reading if case.card else None
    temperature_c = reading.temperature_c if reading else None
    throttle: str | None = reading.throttle if reading else None
    slowdown_c = case.card.info.slowdown_c if case.card else None
    if case.state is not None:
        temperature_c, slowdown_c = case.state.temperature_c, case.state.slowdown_c or slowdown_c
        throttle = case.state.throttle or throttle
    if temperature_c is None:
        text = "no temperature to be had" + (", so gpufan runs the fans at full speed" if case.state else "")
        return case.finding("heat", "problem", text, f"{case.facts.command} list", _KERNEL_LOG)
    at = f"{temperature_c:g} °C"
    if throttle == "heat":
        return _throttled(case, at)
    look = f"nvidia-smi -q -d PERFORMANCE,POWER,TEMPERATURE -i {case.index}"
    if throttle == "power-brake":
        text = f"{at}; the power supply has the clocks lowered: see to it and its cables"
        return case.finding("heat", "warning", text, look)
    if throttle == "hardware":
        return case.finding("heat", "warning", f"{at}; the card has lowered its clocks, for heat or for power", look)
    limit_c = slowdown_c or DEFAULT_SLOWDOWN_C
    full = f"full fans at {limit_c - SLOWDOWN_MARGIN_C}"
    limit = f"slows down at {limit_c} °C" if slowdown_c else f"its limit is not told, {limit_c} °C is assumed"
    return case.finding("heat", "ok", f"{at}; {full}, {limit}")


def _less_power_w(case: _Case) -> int:
    """A power limit somewhat under what the card draws, W."""
    drawn_w = case.state.power_w if case.state else None
    if drawn_w is None and case.card and case.card.reading:
        drawn_w = case.card.reading.power_w
    return int((drawn_w or 250) * 0.85) // 10 * 10


def _throttled(case: _Case, at: str) -> Finding:
    """Clocks are lowered for heat. More air where there is some left, else less power."""
    duty = case.state.duty_percent if case.state else None
    speeds = [fan.speed_percent for fan in case.fans if fan.speed_percent is not None]
    now = duty if duty is not None else max(speeds, default=0)
    text = f"throttled: {at}, clocks lowered for heat"
    less_power = f"sudo nvidia-smi -i {case.index} -pl {_less_power_w(case)}"
    if now >= FULL_PERCENT:
        text += f", with the fans at {now} %: clean it, give it air, or less power (in watts)"
        return case.finding("heat", "problem", text, less_power)
    if case.state is None:
        text += f", with the fans at {now} % and no gpufan running"
        return case.finding("heat", "problem", text, f"sudo {case.facts.command} run", less_power)
    remedy = "choose a lower target" if case.state.target_c is not None else "let the curve rise earlier"
    text += f", with the fans at {now} %: {remedy}"
    return case.finding("heat", "problem", text, case.facts.edit_config, "sudo systemctl reload gpufan", less_power)
