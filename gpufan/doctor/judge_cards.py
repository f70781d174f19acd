"""Judge each card: whether it answers, whether its fans obey, and whether it is too hot. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from gpufan.core.gpu import Reading, Throttle
from gpufan.core.reasons import Cause, Control, Group
from gpufan.core.selection import is_index, matches
from gpufan.core.sentences import h_mm_ss, reason_sentence
from gpufan.core.snapshot import GpuState
from gpufan.core.thermal import DEFAULT_SLOWDOWN_C, full_speed_from_c
from gpufan.doctor.facts import Card, Facts
from gpufan.doctor.findings import Finding, ok, problem, warning
from gpufan.doctor.judge_driver import KERNEL_LOG

_FULL_PERCENT = 95
"""From this duty on, a higher fan speed hardly cools more."""

_RESTART = "sudo systemctl restart gpufan"
_INSTALL_X = "sudo apt install xserver-xorg-core xserver-xorg-video-nvidia"
_BACKENDS = {"nvml": "through NVML", "x11": "over X", "simulated": "simulated"}


@dataclass(frozen=True)
class _Case:
    """All facts about one card: from the driver, from the snapshot, or from both."""

    facts: Facts
    index: int
    card: Card | None
    """None if the driver does not list it."""
    state: GpuState | None
    """None if no gpufan controls it."""

    @property
    def uuid(self) -> str:
        return (self.card.info.uuid if self.card else "") or (self.state.uuid if self.state else "")

    @property
    def needs_reset(self) -> bool:
        if self.state is not None:
            return self.state.reason.cause is Cause.RESET_REQUIRED
        return self.card is not None and self.card.needs_reset

    @property
    def seen(self) -> GpuState | Reading:
        """Temperature, power, fans and throttle: from gpufan, or else from the driver."""
        return self.state or (self.card and self.card.reading) or Reading(None, None, ())


def judge_cards(facts: Facts) -> Iterator[Finding]:
    """Findings about every card that the driver lists or a gpufan controls."""
    for case in _cases(facts):
        for finding in _judge_card(case):
            yield msgspec.structs.replace(
                finding, text=_card_name(case) + finding.text, card=case.index, uuid=case.uuid or None
            )


def _cases(facts: Facts) -> Iterator[_Case]:
    live = facts.live
    states = list(live.gpus) if live else []
    is_simulated = live is not None and live.simulated_s is not None  # the simulation has its own cards
    cases = []
    for card in () if is_simulated else facts.driver.cards:
        state = next((state for state in states if _is_same(card, state)), None)
        if state is not None:
            states.remove(state)
        cases.append(_Case(facts, card.info.index, card, state))
    cases += [_Case(facts, state.index, None, state) for state in states]
    yield from sorted(cases, key=lambda case: case.index)


def _is_same(card: Card, state: GpuState) -> bool:
    """Whether both are the same card: by UUID, or by index if a UUID is unknown, since an index may change."""
    if card.info.uuid and state.uuid:
        return card.info.uuid == state.uuid
    return card.info.index == state.index


def _card_name(case: _Case) -> str:
    """The name of the card and a colon, for the beginning of its findings; empty if the card has never answered."""
    if not case.uuid:
        return ""
    label = case.state.label if case.state else case.card.info.label if case.card else ""
    return label.removeprefix(f"{label.split()[0]} ") + ": "


def _judge_card(case: _Case) -> Iterator[Finding]:
    state, card = case.state, case.card
    if state is not None and state.reason.cause is Cause.X_LOST:
        yield _x_has_failed(case, state.reason.message)
    elif case.needs_reset:
        yield _reset_card(case)
    elif state is not None and state.reason.cause.group is Group.PAUSED:
        yield ok("fans", f"{reason_sentence(state.reason)}; `sudo {case.facts.command} resume` ends that")
    elif state is not None and state.control is Control.LOST:
        text = f"lost for {h_mm_ss(state.uncontrolled_s)}: {reason_sentence(state.reason)}; gpufan tries again,"
        text += " but the card may need a reboot"
        # If the card answers this process, it will answer a new process of the service too.
        answers = case.facts.service_controls_fans and card is not None and card.reading is not None
        yield problem("fans", text, *([_RESTART] if answers else []), KERNEL_LOG, "sudo reboot")
    elif card is not None and card.reading is None:
        text = "lost: the card does not answer the driver; a reboot may bring it back"
        yield problem("fans", text, KERNEL_LOG, "sudo reboot")
    else:
        yield _judge_fans(case)
        yield _judge_heat(case)


def _reset_card(case: _Case) -> Finding:
    """The card needs a reset. During the reset no process may have it open."""
    text = "lost: the card needs a reset; end the programs that use it"
    gpufan, uuid = f"sudo {case.facts.command}", case.uuid
    commands = [f"sudo nvidia-smi --gpu-reset -i {uuid or case.index}"]
    if case.state is not None:
        text += ", then let gpufan close it for a moment"
        commands = [f"{gpufan} pause --gpu {uuid}", *commands, f"{gpufan} resume --gpu {uuid}"]
    return problem("fans", text, *commands, KERNEL_LOG, "sudo reboot")


def _x_has_failed(case: _Case, error: str) -> Finding:
    install = [] if case.facts.has_xorg else [_INSTALL_X]
    # The server is gpufan's own or that of gpufan-xserver.service. Only root can read its folder.
    log = f"sudo sh -c 'tail -n 30 {case.facts.runtime_folder}*/*xserver/Xorg.log'"
    restart = [_RESTART] if case.facts.service_controls_fans else []
    return problem("fans", f"its fans can only be set over X, and that fails: {error}", *install, log, *restart)


def _judge_fans(case: _Case) -> Finding:
    command = case.facts.command
    for proof in case.facts.proofs:
        if proof.uuid == case.uuid:
            if proof.obeyed:
                return ok("fans", f"proven: {proof.text}")
            return problem("fans", f"its fans do not obey: {proof.text}", KERNEL_LOG, f"{command} list")
    if case.state is not None:
        return _controlled_fans(case, case.state)
    assert case.card is not None  # a case has a card, a state or both
    info = case.card.info
    if not info.fan_count:
        return ok("fans", "the driver reports no fan, so there is nothing to control")
    is_manual = any(fan.manual for fan in case.seen.fans)
    if case.facts.live:
        return _unselected_fans(case, is_manual)
    if is_manual:
        rivals = case.facts.rivals
        setter = ", ".join(rival.name for rival in rivals) or "a program that was killed"
        text = f"its fans are in manual mode, but no gpufan controls them; they were set by {setter}"
        return problem("fans", text, *(rival.stop_command for rival in rivals), f"sudo {command} restore")
    count = "1 fan" if info.fan_count == 1 else f"{info.fan_count} fans"
    prove = f"to prove it, run `sudo {command} doctor --try-fans`"
    if info.uncontrollable_reason is None:
        return ok("fans", f"{count}, controllable through NVML; {prove}")
    if not case.facts.has_xorg:
        return problem("fans", f"{info.uncontrollable_reason}, and no X server is installed", _INSTALL_X)
    return ok("fans", f"{count}, controllable over an X server that gpufan starts; {prove}")


def _unselected_fans(case: _Case, is_manual: bool) -> Finding:
    """The fans of a card that the running gpufan does not control."""
    if not is_manual and not _is_excluded(case):
        text = "gpufan does not control this card, although its settings include it: it finds a new card within 30 s;"
        return warning("fans", f"{text} if that does not help, restart it", _RESTART)
    if not is_manual:
        return ok("fans", "gpufan does not control this card; the driver controls its fans")
    text = "its fans are in manual mode, but gpufan does not control this card: add it to the config file,"
    text += " or give its fans back to the driver"
    restore = f"sudo systemctl stop gpufan; sudo {case.facts.command} restore; sudo systemctl start gpufan"
    return warning("fans", text, case.facts.edit_config, restore)


def _is_excluded(case: _Case) -> bool:
    """Whether the settings exclude the card. A gpufan that is not the service may have any settings."""
    assert case.card is not None  # a card that gpufan does not control is known from the driver only
    names = case.facts.settings.run_settings().gpus
    # An index names a card of the time when gpufan was started.
    named = any(matches(case.card.info, name) for name in names if not is_index(name))
    return not case.facts.service_controls_fans or bool(names and not named)


def _controlled_fans(case: _Case, state: GpuState) -> Finding:
    """The fans of a card that the running gpufan controls."""
    command = case.facts.command
    reason = reason_sentence(state.reason)
    fault = "" if state.fault is None else reason_sentence(state.fault)
    if state.fault is not None and state.fault.cause is Cause.FAN_STILL:
        text = f"{fault}, so the others of the card run at full speed: free it, or replace it"
        return problem("fans", text, f"{command} status")
    if state.control is Control.RELEASED:
        if state.release_error:
            text = f"nobody controls its fans: {reason}; giving them back to the driver fails: {state.release_error}"
            return problem("fans", text, *([_RESTART] if case.facts.service_controls_fans else []), KERNEL_LOG)
        if state.x_error:
            return _x_has_failed(case, state.x_error)
        if state.reason.cause is Cause.REFUSED:
            return problem("fans", f"the driver refuses to set its fans: {reason}", KERNEL_LOG, f"{command} list")
        try_fans = f"sudo {command} doctor --try-fans"
        if case.facts.service_controls_fans:
            try_fans = f"sudo systemctl stop gpufan; {try_fans}; sudo systemctl start gpufan"
        text = f"its fans do not follow: {reason}; check whether something blocks them"
        return problem("fans", text, try_fans, KERNEL_LOG)
    if state.reason.cause.group is Group.FAIL_SAFE:
        return warning("fans", f"fail-safe: {reason}", f"{command} list", KERNEL_LOG)
    if state.fault is not None and state.fault.cause is Cause.FAN_SLOW:
        x_error = f"; over X it fails too: {state.x_error}" if state.x_error else ""
        text = f"{fault}: dust, a limit of the card, or a broken fan{x_error}"
        return warning("fans", text, f"{command} status")
    if state.overrides:
        times = "once" if state.overrides == 1 else f"{state.overrides} times"
        setter = f"; another program may set them: {case.facts.other_setter}" if case.facts.other_setter else ""
        now = f"; now: {fault}" if fault else ""
        text = f"its fans did not stay as set; gpufan set them again {times}{setter}{now}"
        stops = (rival.stop_command for rival in case.facts.rivals)
        return warning("fans", text, *stops, f"{command} status", "sudo fuser -v /dev/nvidiactl")
    if state.duty_percent is None or state.control is Control.DRIVER:
        return ok("fans", f"the driver controls its fans: {reason}")
    speeds = " ".join("?" if fan.speed_percent is None else f"{fan.speed_percent} %" for fan in state.fans)
    backend = _BACKENDS.get(state.backend, state.backend)
    return ok("fans", f"{backend}: set to {state.duty_percent} %, read back {speeds}" + (fault and f"; {fault}"))


def _judge_heat(case: _Case) -> Finding:
    seen, throttle = case.seen, case.seen.throttle
    if seen.temperature_c is None:
        text = "its temperature cannot be read" + (", so gpufan runs its fans at full speed" if case.state else "")
        return problem("heat", text, f"{case.facts.command} list", KERNEL_LOG)
    at = f"{seen.temperature_c:g} °C"
    if throttle == Throttle.HEAT:
        return _throttled(case, at)
    details = f"nvidia-smi -q -d PERFORMANCE,POWER,TEMPERATURE -i {case.index}"
    if throttle == Throttle.POWER_BRAKE:
        text = f"{at}; the power supply makes the card lower its clocks: check the power supply and its cables"
        return warning("heat", text, details)
    if throttle == Throttle.HARDWARE:
        return warning("heat", f"{at}; the card lowers its clocks because of heat or power", details)
    slowdown_c = (case.state and case.state.slowdown_c) or (case.card and case.card.info.slowdown_c)
    limit_c = slowdown_c or DEFAULT_SLOWDOWN_C
    limit = f"the card slows down at {limit_c} °C" if slowdown_c else f"its limit is unknown, {limit_c} °C is assumed"
    return ok("heat", f"{at}; full fans at {full_speed_from_c(limit_c):g} °C, {limit}")


def _throttled(case: _Case, at: str) -> Finding:
    """Judge a card that lowers its clocks because of heat. First more fan speed helps, then less power."""
    duty_percent = case.state.duty_percent if case.state else None
    speeds = [fan.speed_percent for fan in case.seen.fans if fan.speed_percent is not None]
    fans_percent = duty_percent if duty_percent is not None else max(speeds, default=0)
    text = f"throttled: {at}, the card lowers its clocks because of heat, with the fans at {fans_percent} %"
    lower_w = int((case.seen.power_w or 250) * 0.85) // 10 * 10
    less_power = f"sudo nvidia-smi -i {case.index} -pl {lower_w}"
    if fans_percent >= _FULL_PERCENT:
        return problem("heat", f"{text}: clean it, give it more air, or lower its power limit (in W)", less_power)
    if case.state is None:
        return problem("heat", f"{text} and no gpufan running", f"sudo {case.facts.command} run", less_power)
    change = "choose a lower target" if case.state.target_c is not None else "let the curve rise earlier"
    edit = case.facts.edit_config
    return problem("heat", f"{text}: {change}", edit, "sudo systemctl reload gpufan", less_power)
