"""`gpufan list --fans`: the fans on headers of the motherboard, and who sets them. Nothing is set here."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from gpufan.daemon.restore import live_snapshot_to_list
from gpufan.hwmon.channels import Channel, find_channels
from gpufan.hwmon.chip_files import ChipHangs
from gpufan.hwmon.fan import MANUAL, Chip, percent_of_raw
from gpufan.hwmon.sysfs import SysfsChip
from gpufan.system.background import call_all

READ_TIMEOUT_S = 2.0
"""Time limit for reading all channels at the same time, s. A chip may hang."""


class ListedChannel(NamedTuple):
    """A channel of the motherboard. A value that cannot be read is None."""

    name: str
    label: str
    rpm: int | None
    duty_percent: int | None
    mode: int | None
    """The number in `pwmN_enable`."""
    owner: str
    """Who sets the fan, for people."""


def channels_to_list(runtime_folder: Path, profile: str | None) -> list[ListedChannel]:
    """Return all channels of this box, or those of the simulated box `profile`.

    The snapshot in `runtime_folder` says which of them a running gpufan sets.
    """
    if profile is not None:
        from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox

        chip = SimulatedBox(PROFILES[profile], WORKLOADS["idle"]).chip
        return [_listed_channel(channel, chip, {}) for channel in chip.find_channels()]
    owners: dict[str, str] = {}
    if (snapshot := live_snapshot_to_list(runtime_folder)) is not None:
        for state in snapshot.states:
            for name in state.channels:
                text = "as a case fan" if state in snapshot.case_fans else f"for {state.label}"
                owners.setdefault(name, f"gpufan (process {snapshot.pid}), {text}")
    channels = find_channels()
    reads = [partial(_listed_channel, channel, SysfsChip(channel), owners) for channel in channels]
    return [
        listed
        if isinstance(listed, ListedChannel)
        else ListedChannel(channel.name, channel.label, None, None, None, f"unknown: {listed}")
        for channel, listed in zip(channels, call_all(READ_TIMEOUT_S, reads), strict=True)
    ]


def _listed_channel(channel: Channel, chip: Chip, owners: dict[str, str]) -> ListedChannel:
    """Read a channel. `owners` has the channels that gpufan sets, and a text that says so. Raises ChipHangs."""

    def read(file: str) -> int | None:
        try:
            return chip.read(file)
        except ChipHangs:
            raise
        except OSError:
            return None

    raw, mode = read(f"pwm{channel.number}"), read(f"pwm{channel.number}_enable")
    rpm = None if channel.tachometer is None else read(f"fan{channel.tachometer}_input")
    duty_percent = None if raw is None else percent_of_raw(raw)
    owner = owners.get(channel.name) or _mode_in_words(mode, duty_percent)
    if not channel.is_settable:
        owner = "the chip: its driver lets nobody set it"
    return ListedChannel(channel.name, channel.label, rpm, duty_percent, mode, owner)


def _mode_in_words(mode: int | None, duty_percent: int | None) -> str:
    """Return who sets a channel that gpufan does not set."""
    if mode is None:
        return "unknown: the driver shows no mode"
    if mode == 0:
        return "nobody: full speed"
    if mode == MANUAL:
        return f"the BIOS or another program: {duty_percent} % in manual mode"
    return f"the chip, in its automatic mode {mode}"
