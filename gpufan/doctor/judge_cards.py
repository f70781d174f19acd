"""Judges each card: whether the card answers, whether its fans obey, and whether it is too hot.

The functions use nothing but the facts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from gpufan.core.gpu import Reading, Throttle
from gpufan.core.reasons import Cause, Control, Group
from gpufan.core.selection import card_matches, is_card_index
from gpufan.core.sentences import h_mm_ss, limits_in_words, reason_sentence
from gpufan.core.snapshot import GpuState
from gpufan.core.thermal import DEFAULT_SLOWDOWN_C, full_speed_from_c
from gpufan.doctor.facts import Card, Facts
from gpufan.doctor.findings import Finding, ok, problem, warning
from gpufan.doctor.judge_driver import KERNEL_LOG

_FULL_PERCENT = 95
"""From this duty on, percent, a higher fan speed hardly cools more."""

_RESTART = "sudo systemctl restart gpufan"
_INSTALL_X = "sudo apt install xserver-xorg-core xserver-xorg-video-nvidia"
_BACKENDS = {"nvml": "through NVML", "x11": "over X", "simulated": "simulated"}


@dataclass(frozen=True)
class _JudgedCard:
    """A card to judge. What is known about it comes from the driver, from the snapshot, or from both."""

    facts: Facts
    index: int
    card: Card | None
    """The card as the driver lists it. None if the driver does not list the card."""
    state: GpuState | None
    """The state of the card in the snapshot. None if no gpufan controls the card."""

    @property
    def uuid(self) -> str:
        """UUID of the card. Empty if the card has not reported its UUID."""
        return (self.card.info.uuid if self.card else "") or (self.state.uuid if self.state else "")

    @property
    def needs_reset(self) -> bool:
        """Whether the card works again only after a reset."""
        if self.state is not None:
            return self.state.reason.cause is Cause.RESET_REQUIRED
        return self.card is not None and self.card.needs_reset

    @property
    def seen(self) -> GpuState | Reading:
        """Temperature, power, fans and throttle of the card.

        They come from gpufan if gpufan controls the card, else from NVML.
        """
        return self.state or (self.card and self.card.reading) or Reading(None, None, ())


def judge_cards(facts: Facts) -> Iterator[Finding]:
    """Yield the findings about each card that the driver lists or that the running gpufan controls."""
    for judged in _judged_cards(facts):
        for finding in _judge_card(judged):
            yield msgspec.structs.replace(
                finding, text=_card_name_and_colon(judged) + finding.text, card=judged.index, uuid=judged.uuid or None
            )


def _judged_cards(facts: Facts) -> Iterator[_JudgedCard]:
    """Yield each card that the driver or the snapshot contains. A card in both is yielded once.

    The cards are ordered by index.
    """
    live = facts.live
    states = list(live.gpus) if live else []
    is_simulated = live is not None and live.simulated_s is not None  # the simulation has its own cards
    judged_cards = []
    for card in () if is_simulated else facts.driver.cards:
        state = next((state for state in states if _is_same_card(card, state)), None)
        if state is not None:
            states.remove(state)
        judged_cards.append(_JudgedCard(facts, card.info.index, card, state))
    judged_cards += [_JudgedCard(facts, state.index, None, state) for state in states]
    yield from sorted(judged_cards, key=lambda judged: judged.index)


def _is_same_card(card: Card, state: GpuState) -> bool:
    """Return whether `card` and `state` are the same card.

    Their UUIDs are compared. If one UUID is unknown, their indices are compared instead, although an index may change.
    """
    if card.info.uuid and state.uuid:
        return card.info.uuid == state.uuid
    return card.info.index == state.index


def _card_name_and_colon(judged: _JudgedCard) -> str:
    """Return the beginning of each finding about the card: `GTX 1080 Ti: `.

    Returns an empty text if the card has never answered.
    """
    if not judged.uuid:
        return ""
    label = judged.state.label if judged.state else judged.card.info.label if judged.card else ""
    return label.removeprefix(f"{label.split()[0]} ") + ": "


def _judge_card(judged: _JudgedCard) -> Iterator[Finding]:
    """Yield the findings about one card.

    If the card is paused, lost, needs a reset or lacks its X server, only this is a finding. Otherwise there are
    findings about the fans, the heat and the limits of the card.
    """
    state, card = judged.state, judged.card
    if state is not None and state.reason.cause is Cause.X_LOST and state.backend == "hwmon":
        yield problem("fans", reason_sentence(state.reason), f"{judged.facts.command} list --fans")
    elif state is not None and state.reason.cause is Cause.X_LOST:
        yield _judge_card_without_x(judged, state.reason.message)
    elif judged.needs_reset:
        yield _judge_card_to_reset(judged)
    elif state is not None and state.reason.cause.group is Group.PAUSED:
        yield ok("fans", f"{reason_sentence(state.reason)}; `sudo {judged.facts.command} resume` ends that")
    elif state is not None and state.control is Control.LOST:
        text = f"lost for {h_mm_ss(state.uncontrolled_s)}: {reason_sentence(state.reason)}; gpufan tries again,"
        text += " but the card may need a reboot"
        # If the card answers this process, it will answer a new process of the service too.
        answers = judged.facts.service_controls_fans and card is not None and card.reading is not None
        yield problem("fans", text, *([_RESTART] if answers else []), KERNEL_LOG, "sudo reboot")
    elif card is not None and card.reading is None:
        text = "lost: the card does not answer the driver; a reboot may bring it back"
        yield problem("fans", text, KERNEL_LOG, "sudo reboot")
    else:
        yield _judge_fans(judged)
        yield _judge_heat(judged)
        if state is not None:
            yield from _judge_limits(judged, state)


def _judge_limits(judged: _JudgedCard, state: GpuState) -> Iterator[Finding]:
    """Yield a finding about the power and temperature limits of a card. `state` is the state of the card.

    Yields nothing if gpufan has neither set a limit nor failed to set one.
    """
    if state.limits_error:
        text = f"a limit could not be set or given back: {state.limits_error}; the fans are controlled all the same"
        yield warning("power", text, f"nvidia-smi -q -d POWER,TEMPERATURE -i {judged.index}", KERNEL_LOG)
    elif limits := limits_in_words(state):
        yield ok("power", limits)


def _judge_card_to_reset(judged: _JudgedCard) -> Finding:
    """Judge a card that needs a reset. During the reset, no process may have the card open."""
    text = "lost: the card needs a reset; end the programs that use it"
    gpufan, uuid = f"sudo {judged.facts.command}", judged.uuid
    commands = [f"sudo nvidia-smi --gpu-reset -i {uuid or judged.index}"]
    if judged.state is not None:
        text += ", then let gpufan close it for a moment"
        commands = [f"{gpufan} pause --gpu {uuid}", *commands, f"{gpufan} resume --gpu {uuid}"]
    return problem("fans", text, *commands, KERNEL_LOG, "sudo reboot")


def _judge_card_without_x(judged: _JudgedCard, error: str) -> Finding:
    """Judge a card whose fans can only be set over X, while X fails. `error` says why X fails."""
    install = [] if judged.facts.has_xorg else [_INSTALL_X]
    # Either the X server of gpufan itself or that of gpufan-xserver.service. Only root can read their folders.
    log = f"sudo sh -c 'tail -n 30 {judged.facts.runtime_folder}*/*xserver/Xorg.log'"
    restart = [_RESTART] if judged.facts.service_controls_fans else []
    return problem("fans", f"its fans can only be set over X, and that fails: {error}", *install, log, *restart)


def _judge_fans(judged: _JudgedCard) -> Finding:
    """Judge the fans of a card. If there is a proof that the fans obey, or that they do not, the proof decides."""
    command = judged.facts.command
    for proof in judged.facts.proofs:
        if proof.uuid == judged.uuid:
            if proof.obeyed:
                return ok("fans", f"proven: {proof.text}")
            return problem("fans", f"its fans do not obey: {proof.text}", KERNEL_LOG, f"{command} list")
    if judged.state is not None:
        return _judge_controlled_fans(judged, judged.state)
    assert judged.card is not None  # without a state it is known from the driver
    info = judged.card.info
    if not info.fan_count:
        return ok("fans", "the driver reports no fan, so there is nothing to control")
    is_manual = any(fan.manual for fan in judged.seen.fans)
    if judged.facts.live:
        return _judge_unselected_fans(judged, is_manual)
    if is_manual and judged.facts.live_is_unknown:
        return ok("fans", "its fans are in manual mode; the snapshot that says who controls them cannot be read")
    if is_manual:
        rivals = judged.facts.rivals
        setter = ", ".join(rival.name for rival in rivals) or "a program that was killed"
        text = f"its fans are in manual mode, but no gpufan controls them; they were set by {setter}"
        return problem("fans", text, *(rival.stop_command for rival in rivals), f"sudo {command} restore")
    count = "1 fan" if info.fan_count == 1 else f"{info.fan_count} fans"
    prove = f"to prove it, run `sudo {command} doctor --try-fans`"
    if info.uncontrollable_reason is None:
        return ok("fans", f"{count}, controllable through NVML; {prove}")
    if not judged.facts.has_xorg:
        return problem("fans", f"{info.uncontrollable_reason}, and no X server is installed", _INSTALL_X)
    return ok("fans", f"{count}, controllable over an X server that gpufan starts; {prove}")


def _judge_unselected_fans(judged: _JudgedCard, is_manual: bool) -> Finding:
    """Judge the fans of a card that the running gpufan does not control.

    `is_manual` says whether a fan of the card is in manual mode.
    """
    if not is_manual and not _is_excluded_card(judged):
        text = "gpufan does not control this card, although its settings include it: it finds a new card within 30 s;"
        return warning("fans", f"{text} if that does not help, restart it", _RESTART)
    if not is_manual:
        return ok("fans", "gpufan does not control this card; the driver controls its fans")
    text = "its fans are in manual mode, but gpufan does not control this card: add it to the config file,"
    text += " or give its fans back to the driver"
    restore = f"sudo systemctl stop gpufan; sudo {judged.facts.command} restore; sudo systemctl start gpufan"
    return warning("fans", text, judged.facts.edit_config, restore)


def _is_excluded_card(judged: _JudgedCard) -> bool:
    """Return whether the settings of the running gpufan may exclude the card.

    If the running gpufan is not the service, its settings are unknown, and the result is True.
    """
    assert judged.card is not None  # a card that gpufan does not control is known from the driver only
    names = judged.facts.settings.run_settings().gpus
    # An index is that of the time when gpufan was started.
    named = any(card_matches(judged.card.info, name) for name in names if not is_card_index(name))
    return not judged.facts.service_controls_fans or bool(names and not named)


def _judge_controlled_fans(judged: _JudgedCard, state: GpuState) -> Finding:
    """Judge the fans of a card that the running gpufan controls. `state` is the state of the card."""
    command = judged.facts.command
    reason = reason_sentence(state.reason)
    fault = "" if state.fault is None else reason_sentence(state.fault)
    if state.fault is not None and state.fault.cause is Cause.FAN_STILL:
        text = f"{fault}, so the others of the card run at full speed: free it, or replace it"
        return problem("fans", text, f"{command} status")
    if state.control is Control.RELEASED:
        if state.release_error:
            text = f"nobody controls its fans: {reason}; giving them back to the driver fails: {state.release_error}"
            return problem("fans", text, *([_RESTART] if judged.facts.service_controls_fans else []), KERNEL_LOG)
        if state.x_error:
            return _judge_card_without_x(judged, state.x_error)
        if state.reason.cause is Cause.REFUSED:
            return problem("fans", f"the driver refuses to set its fans: {reason}", KERNEL_LOG, f"{command} list")
        try_fans = f"sudo {command} doctor --try-fans"
        if judged.facts.service_controls_fans:
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
        setter = f"; another program may set them: {judged.facts.other_setter}" if judged.facts.other_setter else ""
        now = f"; now: {fault}" if fault else ""
        text = f"its fans did not stay as set; gpufan set them again {times}{setter}{now}"
        stops = (rival.stop_command for rival in judged.facts.rivals)
        return warning("fans", text, *stops, f"{command} status", "sudo fuser -v /dev/nvidiactl")
    if state.duty_percent is None or state.control is Control.DRIVER:
        return ok("fans", f"the driver controls its fans: {reason}")
    speeds = " ".join("?" if fan.speed_percent is None else f"{fan.speed_percent} %" for fan in state.fans)
    backend = _BACKENDS.get(state.backend, state.backend)
    return ok("fans", f"{backend}: set to {state.duty_percent} %, read back {speeds}" + (fault and f"; {fault}"))


def _judge_heat(judged: _JudgedCard) -> Finding:
    """Judge the temperature of a card. If the card lowers its clocks, judge why."""
    seen, throttle = judged.seen, judged.seen.throttle
    if seen.temperature_c is None:
        text = "its temperature cannot be read" + (", so gpufan runs its fans at full speed" if judged.state else "")
        return problem("heat", text, f"{judged.facts.command} list", KERNEL_LOG)
    at = f"{seen.temperature_c:g} °C"
    if throttle == Throttle.HEAT:
        return _judge_throttled_card(judged, at)
    details = f"nvidia-smi -q -d PERFORMANCE,POWER,TEMPERATURE -i {judged.index}"
    if throttle == Throttle.POWER_BRAKE:
        text = f"{at}; the power supply makes the card lower its clocks: check the power supply and its cables"
        return warning("heat", text, details)
    if throttle == Throttle.HARDWARE:
        return warning("heat", f"{at}; the card lowers its clocks because of heat or power", details)
    slowdown_c = (judged.state and judged.state.slowdown_c) or (judged.card and judged.card.info.slowdown_c)
    limit_c = slowdown_c or DEFAULT_SLOWDOWN_C
    limit = f"the card slows down at {limit_c} °C" if slowdown_c else f"its limit is unknown, {limit_c} °C is assumed"
    return ok("heat", f"{at}; full fans at {full_speed_from_c(limit_c):g} °C, {limit}")


def _judge_throttled_card(judged: _JudgedCard, at: str) -> Finding:
    """Judge a card that lowers its clocks because of heat. `at` is the temperature of the card as text: `91 °C`.

    The remedy is more fan speed, or less power if the fans are at full speed.
    """
    duty_percent = judged.state.duty_percent if judged.state else None
    speeds = [fan.speed_percent for fan in judged.seen.fans if fan.speed_percent is not None]
    fans_percent = duty_percent if duty_percent is not None else max(speeds, default=0)
    text = f"throttled: {at}, the card lowers its clocks because of heat, with the fans at {fans_percent} %"
    lower_w = int((judged.seen.power_w or 250) * 0.85) // 10 * 10
    less_power = f"sudo nvidia-smi -i {judged.index} -pl {lower_w}"
    if fans_percent >= _FULL_PERCENT:
        return problem("heat", f"{text}: clean it, give it more air, or lower its power limit (in W)", less_power)
    if judged.facts.live_is_unknown:
        return problem("heat", text, less_power)
    if judged.state is None:
        return problem("heat", f"{text} and no gpufan running", f"sudo {judged.facts.command} run", less_power)
    change = "choose a lower target" if judged.state.target_c is not None else "let the curve rise earlier"
    edit = judged.facts.edit_config
    return problem("heat", f"{text}: {change}", edit, "sudo systemctl reload gpufan", less_power)
