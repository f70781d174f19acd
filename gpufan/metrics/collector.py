"""Makes Prometheus metrics from the snapshot. The snapshot is read again at each request.

Names and units follow prometheus.io/docs/practices/naming: base units, ratios from 0 to 1 instead of percent, names of
counters that end with `_total`.
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
from gpufan.core.gpu import Throttle
from gpufan.core.reasons import Control, Group
from gpufan.core.severity import FAULT_CAUSES
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon import snapshot_file
from gpufan.errors import GpufanError

CARD_LABELS = ("uuid", "index", "name", "pci")

CONTROLS = tuple(control.value for control in Control)
KINDS = tuple(group.value for group in Group)
"""The kinds of reasons. Each kind is always exported; its value is 0 if it does not apply."""


def metrics_registry(path: Path) -> CollectorRegistry:
    """Return a registry with the metrics of the snapshot file `path`, and with no other metrics."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(path))
    return registry


class SnapshotCollector(Collector):
    """Makes the metrics of the snapshot file. It never fails.

    If the snapshot is missing or too old, `gpufan_up` is 0, and there are no metrics of cards. An old temperature would
    mislead: the card may be hotter now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def collect(self) -> Iterator[Metric]:
        """Read the snapshot, and yield every metric."""
        try:
            snapshot = snapshot_file.read_snapshot(self._path)
        except GpufanError:
            snapshot = None
        is_fresh = snapshot is not None and snapshot_file.snapshot_stale_s(snapshot) is None
        yield GaugeMetricFamily("gpufan_up", "Whether gpufan runs and has written its snapshot in time.", is_fresh)
        versions = {"version": "" if snapshot is None else snapshot.version, "exporter_version": __version__}
        yield InfoMetricFamily("gpufan_build", "Versions of the running gpufan and of this exporter.", versions)
        if snapshot is not None:
            yield from _run_metrics(snapshot)
        if snapshot is not None and is_fresh:
            yield from _reading_metrics(snapshot)
            yield from _state_metrics(snapshot)
            yield from _count_metrics(snapshot)
            yield from _case_fan_metrics(snapshot)

    def describe(self) -> Iterable[Metric]:
        """Return no metrics. The snapshot decides which metrics exist, so they are unknown before it is read."""
        return ()


def _run_metrics(run: Snapshot) -> Iterator[Metric]:
    """Yield the metrics of gpufan itself: age of the snapshot, start, interval, clock steps, refused settings."""
    age_s = time.time() - run.time_s
    yield GaugeMetricFamily("gpufan_snapshot_age_seconds", "Time since the snapshot was written.", age_s)
    if run.started_s is not None:
        yield GaugeMetricFamily("gpufan_start_time_seconds", "Start of the run, since the epoch.", run.started_s)
    yield GaugeMetricFamily("gpufan_interval_seconds", "Time between two readings of a card.", run.interval_s)
    yield GaugeMetricFamily("gpufan_dry_run", "Whether gpufan only shows what it would set.", run.dry_run)
    yield CounterMetricFamily("gpufan_clock_steps", "Times that the wall clock was set.", run.clock_steps)
    is_refused = run.reload_refused is not None or run.settings_refused is not None
    about = "Whether the settings of the start or of the last reload were refused."
    yield GaugeMetricFamily("gpufan_reload_refused", about, is_refused)


def _reading_metrics(run: Snapshot) -> Iterator[Metric]:
    """Yield the metrics of the readings of all cards: temperature, power, duty and fans."""
    temperature = _gauge("gpufan_gpu_temperature_celsius", "Temperature of the die.")
    slowdown = _gauge("gpufan_gpu_slowdown_temperature_celsius", "Temperature from which the card lowers its clocks.")
    power = _gauge("gpufan_gpu_power_watts", "Power that the card draws.")
    duty = _gauge("gpufan_gpu_duty_ratio", "Duty that was set, of full speed; absent while the driver has the fans.")
    target = _gauge("gpufan_fan_target_ratio", "Target that the fan reports, of full speed.", "fan")
    speed = _gauge("gpufan_fan_speed_ratio", "Speed that the fan reports, of full speed.", "fan")
    rpm = _gauge("gpufan_fan_speed_rpm", "Speed that the fan reports, revolutions per minute.", "fan")
    power_limit = _gauge("gpufan_gpu_power_limit_watts", "Power limit that gpufan has set; absent if it set none.")
    temperature_limit = _gauge("gpufan_gpu_temperature_limit_celsius", "Temperature limit that gpufan has set.")
    held_back = _gauge("gpufan_gpu_power_held_back_watts", "Power that these limits hold back, an estimate.")
    for gpu in run.gpus:
        labels = _metric_labels(gpu)
        _add_known_metric(power_limit, labels, gpu.power_limit_w)
        _add_known_metric(temperature_limit, labels, gpu.temperature_limit_c)
        _add_known_metric(held_back, labels, gpu.held_back_w)
        _add_known_metric(temperature, labels, gpu.temperature_c)
        _add_known_metric(slowdown, labels, gpu.slowdown_c)
        _add_known_metric(power, labels, gpu.power_w)
        _add_known_metric(duty, labels, _metric_ratio(gpu.duty_percent))
        for number, fan in enumerate(gpu.fans):
            fan_labels = [*labels, str(number)]
            _add_known_metric(target, fan_labels, _metric_ratio(fan.target_percent))
            _add_known_metric(speed, fan_labels, _metric_ratio(fan.speed_percent))
            _add_known_metric(rpm, fan_labels, fan.speed_rpm)
    yield from (temperature, slowdown, power, power_limit, temperature_limit, held_back, duty, target, speed, rpm)


def _state_metrics(run: Snapshot) -> Iterator[Metric]:
    """Yield the metrics of the states of all cards: settings, control, reason, fault and throttle."""
    config = InfoMetricFamily("gpufan_gpu_config", "Backend, settings and fan headers of the card.", labels=CARD_LABELS)
    control = _gauge("gpufan_gpu_control", "Who controls the fans: 1 for one state, 0 for the others.", "state")
    reason = _gauge("gpufan_gpu_reason", "Kind of reason for the duty: 1 for one kind, 0 for the others.", "kind")
    fault = _gauge("gpufan_gpu_fault", "Whether the fans have this fault.", "cause")
    uncontrolled = _gauge("gpufan_gpu_uncontrolled_seconds", "Time since the card was last under control.")
    throttle = _gauge("gpufan_gpu_throttle", "Main cause of low clocks: 1 for one cause, 0 for the others.", "reason")
    for gpu in run.gpus:
        labels = _metric_labels(gpu)
        headers = {"headers": ", ".join(gpu.channels)} if gpu.channels else {}
        config.add_metric(labels, {"backend": gpu.backend, "settings": gpu.settings, **headers})
        _add_state_metrics(control, labels, CONTROLS, gpu.control.value)
        _add_state_metrics(reason, labels, KINDS, gpu.reason.cause.group.value)
        _add_fault_metrics(fault, labels, gpu)
        uncontrolled.add_metric(labels, gpu.uncontrolled_s)
        if gpu.throttle is not None:
            _add_state_metrics(throttle, labels, tuple(reason.value for reason in Throttle), gpu.throttle)
    yield from (config, control, reason, fault, uncontrolled, throttle)


def _count_metrics(run: Snapshot) -> Iterator[Metric]:
    """Yield the metrics that count events and seconds of all cards since the start."""
    overrides = _counter("gpufan_gpu_overrides", "Times that another program set the fans and gpufan set them again.")
    errors = _counter("gpufan_gpu_errors", "Requests that the card refused or did not answer.", "kind")
    fail_safe = _counter("gpufan_gpu_fail_safe_seconds", "Time in fail-safe, without a plausible temperature.")
    throttled = _counter("gpufan_gpu_throttled_seconds", "Time during which heat lowered the clocks.")
    held_back = _counter("gpufan_gpu_energy_held_back_joules", "Energy that limits have held back, an estimate.")
    for gpu in run.gpus:
        labels = _metric_labels(gpu)
        held_back.add_metric(labels, gpu.held_back_j or 0.0)
        overrides.add_metric(labels, gpu.overrides)
        _add_error_metrics(errors, labels, gpu)
        fail_safe.add_metric(labels, gpu.fail_safe_s)
        throttled.add_metric(labels, gpu.throttled_s)
    yield from (overrides, errors, fail_safe, throttled, held_back)


def _case_fan_metrics(run: Snapshot) -> Iterator[Metric]:
    """Yield the metrics of all case fans; none if there are no case fans. Their label is the name in the settings."""
    if not run.case_fans:
        return
    temperature = _case_fan_gauge("temperature_celsius", "Temperature of the card that the case fan follows.")
    duty = _case_fan_gauge("duty_ratio", "Duty that was set, of full speed.")
    rpm = _case_fan_gauge("speed_rpm", "Speed, revolutions per minute.")
    config = InfoMetricFamily("gpufan_case_fan_config", "What the case fan follows.", labels=("name",))
    control = _case_fan_gauge("control", "Who controls the case fan: 1 for one state, 0 for the others.", "state")
    reason = _case_fan_gauge("reason", "Kind of reason for the duty: 1 for one kind, 0 for the others.", "kind")
    fault = _case_fan_gauge("fault", "Whether the case fan has this fault.", "cause")
    uncontrolled = _case_fan_gauge("uncontrolled_seconds", "Time since the case fan was last under control.")
    errors = CounterMetricFamily(
        "gpufan_case_fan_errors", "Requests that the chip refused or did not answer.", labels=("name", "kind")
    )
    overrides = CounterMetricFamily(
        "gpufan_case_fan_overrides", "Times that another program set the fan and gpufan set it again.", labels=("name",)
    )
    for fan in run.case_fans:
        labels = [fan.name]
        _add_known_metric(temperature, labels, fan.temperature_c)
        _add_known_metric(duty, labels, _metric_ratio(fan.duty_percent))
        _add_known_metric(rpm, labels, next((each.speed_rpm for each in fan.fans), None))
        config.add_metric(labels, {"settings": fan.settings})
        _add_state_metrics(control, labels, CONTROLS, fan.control.value)
        _add_state_metrics(reason, labels, KINDS, fan.reason.cause.group.value)
        _add_fault_metrics(fault, labels, fan)
        uncontrolled.add_metric(labels, fan.uncontrolled_s)
        _add_error_metrics(errors, labels, fan)
        overrides.add_metric(labels, fan.overrides)
    yield from (temperature, duty, rpm, config, control, reason, fault, uncontrolled, errors, overrides)


def _case_fan_gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """Return a gauge with the name of a case fan and with `labels`. `text` is its help text."""
    return GaugeMetricFamily(f"gpufan_case_fan_{name}", text, labels=("name", *labels))


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """Return a gauge with the labels of a card and with `labels`. `text` is its help text."""
    return GaugeMetricFamily(name, text, labels=(*CARD_LABELS, *labels))


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    """Return a counter with the labels of a card and with `labels`. `text` is its help text."""
    return CounterMetricFamily(name, text, labels=(*CARD_LABELS, *labels))


def _metric_labels(gpu: GpuState) -> list[str]:
    """Return the values of `CARD_LABELS` for a card."""
    return [gpu.uuid, str(gpu.index), gpu.name, gpu.pci]


def _add_known_metric(metric: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    """Add `value` with `labels` to the metric. If `value` is None, it is unknown, and nothing is added."""
    if value is not None:
        metric.add_metric(labels, value)


def _add_state_metrics(metric: GaugeMetricFamily, labels: list[str], known: tuple[str, ...], now: str) -> None:
    """Add a value for each state to the metric: 1 for the state `now`, 0 for the other `known` states."""
    for state in dict.fromkeys((*known, now)):
        metric.add_metric([*labels, state], float(state == now))


def _add_fault_metrics(metric: GaugeMetricFamily, labels: list[str], state: GpuState) -> None:
    """Add a value for each fault to the metric: 1 if the fans in `state` have this fault, else 0."""
    present = {state.reason.cause, state.fault and state.fault.cause}
    for cause in FAULT_CAUSES:
        metric.add_metric([*labels, cause.value], cause in present)


def _add_error_metrics(metric: CounterMetricFamily, labels: list[str], state: GpuState) -> None:
    """Add the number of errors of each kind to the metric."""
    for kind, count in msgspec.structs.asdict(state.errors_by_kind).items():
        metric.add_metric([*labels, kind.replace("_", "-")], count)


def _metric_ratio(percent: int | None) -> float | None:
    """Convert `percent` to a ratio: 50 gives 0.5. Returns None if `percent` is None."""
    return None if percent is None else percent / 100
