"""Judges the fans on headers of the motherboard that the settings name: their channels, the sandbox, the case fans.

The functions use nothing but the facts.
"""

from collections.abc import Iterator

from gpufan.core.reasons import Cause, Control, Group
from gpufan.core.sentences import sentence_about
from gpufan.core.snapshot import GpuState
from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Finding, ok, problem, warning
from gpufan.errors import InputError
from gpufan.hwmon.channels import resolve_channel


def judge_headers(facts: Facts) -> Iterator[Finding]:
    """Yield the findings about the fans of the motherboard; none if the settings name no such fan."""
    live = facts.live
    if live is not None and live.simulated_s is not None:
        return
    for name in dict.fromkeys(facts.settings.channel_names):
        yield _judge_channel(facts, name)
    for fan in live.case_fans if live else ():
        yield _judge_case_fan(facts, fan)


def _judge_channel(facts: Facts, name: str) -> Finding:
    """Judge the channel `name` of the settings: whether it is there, and whether the service may write its files."""
    try:
        channel = resolve_channel(name, facts.channels)
    except InputError as error:
        return problem("headers", str(error), f"{facts.command} list --fans", facts.edit_config)
    service = None if "writable_paths" in facts.errors else facts.service
    writable = [path.strip('"').lstrip("-") for path in facts.writable_paths.split()]
    if service is not None and service.exists and str(channel.writable_folder) not in writable:
        text = f"{channel.name}: the sandbox of the service does not open its files"
        return problem("headers", text, f"sudo {facts.command} install-service", "sudo systemctl restart gpufan")
    return ok("headers", f"{channel} is there")


def _judge_case_fan(facts: Facts, fan: GpuState) -> Finding:
    """Judge a case fan that the running gpufan controls. `fan` is its state."""
    reason, status = sentence_about(fan, fan.reason), f"{facts.command} status"
    if fan.control is Control.LOST:
        return problem("headers", f"{fan.label}: {reason}", f"{facts.command} list --fans")
    if fan.fault is not None and fan.fault.cause is Cause.FAN_STILL:
        text = (
            f"{fan.label}: {sentence_about(fan, fan.fault)}: free it, or replace it; if it turns, find its tachometer"
        )
        return problem("headers", text, f"sudo {facts.command} fans identify")
    if fan.control is Control.RELEASED:
        return problem("headers", f"{fan.label} does not follow: {reason}", f"{facts.command} list --fans")
    if fan.reason.cause.group is Group.FAIL_SAFE:
        text = f"{fan.label}: no followed card has a credible temperature, so it runs at full speed"
        return warning("headers", text, status)
    if fan.overrides:
        times = "once" if fan.overrides == 1 else f"{fan.overrides} times"
        setter = f"; another program may set it: {facts.other_setter}" if facts.other_setter else ""
        return warning("headers", f"{fan.label} did not stay as set; gpufan set it again {times}{setter}", status)
    speeds = " ".join(f"{each.speed_rpm} rpm" for each in fan.fans if each.speed_rpm is not None)
    return ok("headers", f"{fan.label}: set to {fan.duty_percent} %" + (f", {speeds}" if speeds else ""))
