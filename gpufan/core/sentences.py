"""Short texts that several reports share."""

from gpufan.core.snapshot import GpuState


def duty_text(gpu: GpuState) -> str:
    """`62 %`, `auto` while the driver decides, `lost`."""
    if gpu.control == "lost":
        return "lost"
    return "auto" if gpu.duty_percent is None else f"{gpu.duty_percent} %"


def line(gpu: GpuState) -> str:
    """The state in one line: `0 GTX 1080 Ti: 62 % at 74 °C: curve says 58, holding for hysteresis`."""
    at = "" if gpu.temperature_c is None else f" at {gpu.temperature_c:g} °C"
    return f"{gpu.label}: {duty_text(gpu)}{at}: {gpu.reason}"


def notes(gpu: GpuState) -> list[str]:
    """What has not gone smoothly since the start: `read back wrong 3x`, `errors 4`, `throttled by heat 0:01:05`."""
    found = []
    if gpu.overrides:
        found.append(f"read back wrong {gpu.overrides}x")
    if gpu.errors:
        found.append(f"errors {gpu.errors}")
    if gpu.throttle == "heat" or gpu.throttled_s:
        found.append(f"throttled by heat {'now, ' if gpu.throttle == 'heat' else ''}{clock(gpu.throttled_s)}")
    return found


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: `1:05:09`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
