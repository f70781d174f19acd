"""What `gpufan list --fans` prints: the fans on headers of the motherboard."""

from collections.abc import Sequence

import msgspec

from gpufan.daemon.channels import ListedChannel
from gpufan.hwmon.channels import NO_CHANNELS


def print_channels(channels: Sequence[ListedChannel], *, as_json: bool) -> None:
    """Print a row for each of `channels`, or all of them as JSON."""
    if as_json:
        print(msgspec.json.encode([channel._asdict() for channel in channels]).decode())
        return
    if not channels:
        print(NO_CHANNELS)
        return
    rows = [("fan", "label", "rpm", "duty", "set by")]
    rows += [
        (
            channel.name,
            channel.label or "-",
            "-" if channel.rpm is None else str(channel.rpm),
            "-" if channel.duty_percent is None else f"{channel.duty_percent} %",
            channel.owner,
        )
        for channel in channels
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, label, rpm, duty, owner in rows:
        print(f"{name:{widths[0]}}  {label:{widths[1]}}  {rpm:>{widths[2]}}  {duty:>{widths[3]}}  {owner}")
