"""The snapshot as metrics, read anew each time that they are asked for.

Names and units follow prometheus.io/docs/practices/naming: base units, ratios of 1, counters that end with `_total`.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gpufan import __version__
from gpufan.core.gpu import THROTTLES
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon import snapshot_file as snapshot
from gpufan.errors import GpufanError

CARD_LABELS = ("uuid", "index", "name", "pci")

CONTROLS = ("ours", "driver", "released", "lost")
KINDS = (
    *("start", "curve", "target", "hold", "brake", "shared", "limit", "auto", "full"),
    *("fail-safe", "fault", "lost", "hang", "obstacle"),
)
"""Classes of reasons that are always told, with 0 where they do not hold."""


def registry(path: Path) -> CollectorRegistry:
    """A registry of the metrics of the gpufan whose snapshot is `path`, and of no others."""
    made = CollectorRegistry()
    made.register(SnapshotCollector(path))
    return made


class SnapshotCollector(Collector):
    """Makes the metrics. It never fails: without a fresh snapshot `gpufan_up` is 0, and of the cards nothing is told.

    A temperature of which nobody knows whether it still holds had better be missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def collect(self) -> Iterator[Metric]:
        """Every metric now."""
        try:
            taken = snapshot.read(self._path)
        except GpufanError:
            taken = None
        is_fresh = taken is not None and snapshot.stale_s(taken) is None
        yield _gauge("gpufan_up", "Whether gpufan runs and has written its snapshot in time.", is_fresh)
        yield from _of_the_run(taken)
        if taken is not None and is_fresh:
            yield from _of_the_cards(taken)

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time."""
        return ()


def _of_the_run(taken: Snapshot | None) -> Iterator[Metric]:
    version = {"version": "" if taken is None else taken.version, "exporter_version": __version__}
    yield InfoMetricFamily("gpufan_build", "Versions of the gpufan that runs and of this exporter.", version)
    if taken is None:
        return
    yield _gauge("gpufan_snapshot_age_seconds", "Time since the snapshot was written.", time.time() - taken.time_s)
    if taken.started_s is not None:
        yield _gauge("gpufan_start_time_seconds", "When the run began, since the epoch.", taken.started_s)
    yield _gauge("gpufan_interval_seconds", "Time between two readings of a card.", taken.interval_s)
    yield _gauge("gpufan_dry_run", "Whether nothing is set.", taken.dry_run)
    clock_steps = CounterMetricFamily("gpufan_clock_steps", "Times that the clock on the wall was set.")
    clock_steps.add_metric((), taken.clock_steps)
    yield clock_steps
    refused = taken.reload_refused is not None
    yield _gauge("gpufan_reload_refused", "Whether the settings were wrong at the last reload.", refused)


def _of_the_cards(taken: Snapshot) -> Iterator[Metric]:
    config = InfoMetricFamily("gpufan_gpu_config", "What sets the fans, and what they follow.", labels=CARD_LABELS)
    for gpu in taken.gpus:
        config.add_metric(_labels(gpu), {"backend": gpu.backend, "settings": gpu.settings})
    yield config
    yield from _readings(taken)
    yield from _states(taken)
    yield from _counts(taken)


def _readings(taken: Snapshot) -> Iterator[Metric]:
    temperature = _per_card("gpufan_gpu_temperature_celsius", "Temperature of the die.")
    slowdown = _per_card("gpufan_gpu_slowdown_temperature_celsius", "Temperature at which the card slows itself down.")
    power = _per_card("gpufan_gpu_power_watts", "Power that the card draws.")
    duty = _per_card("gpufan_gpu_duty_ratio", "Duty that was set, of full speed; absent while the driver decides.")
    target = _per_card("gpufan_fan_target_ratio", "Duty that the fan reports as its target, of full speed.", "fan")
    speed = _per_card("gpufan_fan_speed_ratio", "Speed that the fan reports, of full speed.", "fan")
    rpm = _per_card("gpufan_fan_speed_rpm", "Speed that the fan reports, turns per minute.", "fan")
    for gpu in taken.gpus:
        labels = _labels(gpu)
        _add(temperature, labels, gpu.temperature_c)
        _add(slowdown, labels, gpu.slowdown_c)
        _add(power, labels, gpu.power_w)
        _add(duty, labels, _ratio(gpu.duty_percent))
        for number, fan in enumerate(gpu.fans):
            of_fan = [*labels, str(number)]
            _add(target, of_fan, _ratio(fan.target_percent))
            _add(speed, of_fan, _ratio(fan.speed_percent))
            _add(rpm, of_fan, fan.speed_rpm)
    yield from (temperature, slowdown, power, duty, target, speed, rpm)


def _states(taken: Snapshot) -> Iterator[Metric]:
    control = _per_card("gpufan_gpu_control", "Whose the fans are: 1 for one state, 0 for the others.", "state")
    reason = _per_card("gpufan_gpu_reason", "Class of the reason for the duty: 1 for one, 0 for the others.", "kind")
    throttle = _per_card(
        "gpufan_gpu_throttle", "What lowers the clocks: 1 for the gravest, 0 for the others.", "reason"
    )
    for gpu in taken.gpus:
        labels = _labels(gpu)
        _add_one_of(control, labels, CONTROLS, gpu.control)
        _add_one_of(reason, labels, KINDS, gpu.kind)
        if gpu.throttle is not None:
            _add_one_of(throttle, labels, ("none", *THROTTLES), gpu.throttle)
    yield from (control, reason, throttle)


def _counts(taken: Snapshot) -> Iterator[Metric]:
    overrides = _counter("gpufan_gpu_overrides", "Times that something else changed the fans and was set right.")
    errors = _counter("gpufan_gpu_errors", "Times that the card refused or did not answer.", "kind")
    fail_safe = _counter("gpufan_gpu_fail_safe_seconds", "Time in the fail-safe, its temperature being in doubt.")
    throttled = _counter("gpufan_gpu_throttled_seconds", "Time in which heat has lowered the clocks.")
    for gpu in taken.gpus:
        labels = _labels(gpu)
        overrides.add_metric(labels, gpu.overrides)
        for kind, count in msgspec.structs.asdict(gpu.errors_by_kind).items():
            errors.add_metric([*labels, kind.replace("_", "-")], count)
        fail_safe.add_metric(labels, gpu.fail_safe_s)
        throttled.add_metric(labels, gpu.throttled_s)
    yield from (overrides, errors, fail_safe, throttled)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _per_card(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=(*CARD_LABELS, *labels))


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=(*CARD_LABELS, *labels))


def _labels(gpu: GpuState) -> list[str]:
    return [gpu.uuid, str(gpu.index), gpu.name, gpu.pci]


def _add(metric: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    if value is not None:
        metric.add_metric(labels, value)


def _add_one_of(metric: GaugeMetricFamily, labels: list[str], known: tuple[str, ...], now: str) -> None:
    for state in dict.fromkeys((*known, now)):
        metric.add_metric([*labels, state], float(state == now))


def _ratio(percent: int | None) -> float | None:
    return None if percent is None else percent / 100
