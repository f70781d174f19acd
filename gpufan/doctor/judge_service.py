"""Judges the service, its companions, its settings, the settings of messages and the published snapshot.

The functions use nothing but the facts.
"""

from collections.abc import Iterator
from shlex import quote

from gpufan.config.settings import DEFAULT_PATH
from gpufan.core.sentences import settings_sentence
from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Finding, ok, problem, warning
from gpufan.doctor.judge_installation import version_numbers
from gpufan.service.units import DROP_IN
from gpufan.system.paths import ALERTS_SETTINGS
from gpufan.system.unit_state import UnitState

_MANY_RESTARTS = 3
"""From this number of restarts on, there is a warning. Fewer are normal: at boot the driver may load late."""

_RESTART = "sudo systemctl restart gpufan"
_STATUS = "systemctl status gpufan"
_EDIT_UNIT = "sudo systemctl edit gpufan"
_LOG = "sudo journalctl -u gpufan -n 30"


def judge_service(facts: Facts) -> Iterator[Finding]:
    """Yield the findings about everything that belongs to the service."""
    yield _judge_gpufan_service(facts)
    for unit in facts.systemd.companions if facts.systemd else ():
        yield _judge_companion(unit)
    yield _judge_config(facts)
    if facts.alerts_exposure:
        text = f"{ALERTS_SETTINGS}: {facts.alerts_exposure}"
        yield warning("messages", text, f"sudo chmod 640 {ALERTS_SETTINGS}")
    yield _judge_snapshot(facts)


def _judge_gpufan_service(facts: Facts) -> Finding:
    """Judge whether the service of gpufan is installed, active and enabled."""
    install, run = f"sudo {facts.command} install-service", f"sudo {facts.command} run"
    unit, by_hand = facts.service, facts.live
    if not facts.has_cards and (unit is None or not unit.exists):
        return ok("service", "not installed; there is no card to control")
    if error := facts.errors.get("systemd"):
        return warning("service", f"its state is unknown: {error}", _STATUS)
    if unit is None and facts.container:
        if by_hand:
            return ok("service", "none: gpufan is the program of this container")
        return warning("service", "no gpufan runs in this container", f"{facts.command} run")
    if unit is None:
        if by_hand:
            return ok("service", "systemd does not run this box; a gpufan was started by hand")
        return warning("service", "systemd does not run this box: start gpufan by hand", run)
    if unit.is_masked:
        return problem("service", "masked, so nothing can start it", "sudo systemctl unmask gpufan", install)
    if not unit.exists:
        text = "a gpufan was started by hand; the service is not installed" if by_hand else "not installed"
        return warning("service", f"{text}, so nothing controls the fans after a reboot", install)
    if unit.load != "loaded":
        return problem("service", f"systemd cannot load the unit: {unit.load}", _STATUS, install)
    if unit.user not in ("", "root", "0"):
        text = f"runs as {unit.user}, who may not set fans: remove User= from {unit.drop_ins or 'the unit'}"
        return problem("service", text, _EDIT_UNIT, _RESTART)
    if unit.capabilities and "cap_sys_admin" not in unit.capabilities:
        text = f"lacks CAP_SYS_ADMIN, so it cannot set fans: change {unit.drop_ins or 'the unit'}"
        return problem("service", text, _EDIT_UNIT, _RESTART)
    if not unit.is_active:
        return _judge_inactive_service(unit)
    if not unit.starts_at_boot:
        return warning("service", "active, but not started at boot", "sudo systemctl enable gpufan")
    if unit.needs_reload:
        text = "active, but its unit files have changed since systemd read them"
        return warning("service", text, f"sudo systemctl daemon-reload && {_RESTART}")
    if unit.restarts >= _MANY_RESTARTS:
        return warning("service", f"active, but systemd had to restart it {unit.restarts} times", _LOG)
    of_user = " ".join(path for path in unit.drop_ins.split() if not path.endswith(DROP_IN))
    changed = f", changed by {of_user}" if of_user else ""
    return ok("service", f"enabled and active{changed}" + (f"; runs {unit.command}" if unit.command else ""))


def _judge_inactive_service(unit: UnitState) -> Finding:
    """Judge the service of gpufan, which is installed but does not run."""
    if unit.active == "inactive" and not unit.has_failed:
        if unit.starts_at_boot:
            return problem("service", "enabled, but stopped", "sudo systemctl start gpufan")
        return warning("service", "installed, but stopped and not enabled", "sudo systemctl enable --now gpufan")
    state = unit.active if unit.sub in ("", unit.active) else f"{unit.active} ({unit.sub})"
    result = "" if unit.result in ("", "success") else f", result {unit.result}"
    return problem("service", f"{state}{result}{_judged_status(unit)}", _LOG, _RESTART)


def _judge_companion(unit: UnitState) -> Finding:
    """Judge a companion service, such as the exporter."""
    if unit.is_active:
        return ok("companions", f"{unit.name} is active")
    text = f"{unit.name} is {unit.active}{_judged_status(unit)}; the fans do not depend on it"
    start, log = f"sudo systemctl enable --now {unit.name}", f"sudo journalctl -u {unit.name} -n 30"
    return warning("companions", text, start, log)


def _judged_status(unit: UnitState) -> str:
    """Return the last status that the unit has sent to systemd, for the end of a finding: `: no card`.

    Returns an empty text if the unit has sent no status.
    """
    return f": {unit.status}" if unit.status else ""


def _judge_config(facts: Facts) -> Finding:
    """Judge the config file, and whether the running gpufan uses its settings."""
    settings, live, edit = facts.settings, facts.live, facts.edit_config
    in_use = None if live is None else settings_sentence(live)
    if error := facts.errors.get("settings"):
        option = "" if facts.config == DEFAULT_PATH else f" --config {quote(str(facts.config))}"
        return problem("config", in_use or error, edit, f"{facts.command} config check{option}")
    if in_use:
        return problem("config", in_use, edit, "sudo systemctl reload gpufan")
    cards = [card.info for card in facts.driver.cards]
    if cards and (unmatched := settings.unmatched_tables(cards)):
        return warning("config", unmatched[0], edit, f"{facts.command} list")
    if indices := settings.index_warnings():
        return warning("config", indices[0], edit, f"{facts.command} list")
    if settings.run_settings().dry_run:
        return warning("config", f"{facts.config}: with dry_run = true gpufan sets no fans", edit)
    if settings.path is None:
        target_c = settings.resolve("target_c").value
        return ok("config", f"{facts.config} does not exist: the built-in target of {target_c:g} °C applies")
    return ok("config", f"{facts.config}: no error")


def _remedies_for_other_version(facts: Facts) -> list[str]:
    """Return the commands that help against a snapshot that cannot be read."""
    own, copy = facts.installation, facts.copy
    if own is None or copy is None or not facts.service_runs_copy or copy.version == own.version:
        return [_RESTART]
    is_older = version_numbers(copy.version) < version_numbers(own.version)
    return [f"sudo {facts.command} install-service" if is_older else f"{copy.folder}/bin/gpufan doctor"]


def _judge_snapshot(facts: Facts) -> Finding:
    """Judge whether a running gpufan writes the snapshot in time."""
    published = facts.published
    run, restore = f"sudo {facts.command} run", f"sudo {facts.command} restore"
    if error := facts.errors.get("published"):
        return problem("snapshot", error, *_remedies_for_other_version(facts))
    if published is None:
        if facts.service is not None and facts.service.is_active:
            text = f"the service is active, but {facts.runtime_folder} has no snapshot"
            return problem("snapshot", text, _LOG, _RESTART)
        # Why no gpufan is running is a finding about the service.
        return ok("snapshot", "no gpufan is running")
    snapshot, age_s = published.snapshot, facts.time_s - published.snapshot.time_s
    if published.orphan:
        text = f"process {snapshot.pid} ended without giving the fans back to the driver"
        is_installed = facts.service is not None and facts.service.load == "loaded"
        return problem("snapshot", text, restore, *([_RESTART] if is_installed else []))
    if published.stale:
        age = f"the snapshot is {age_s:.0f} s old"
        if age_s < 0:
            age = f"the clock was set back: the snapshot is {-age_s:.0f} s from the future"
        end = f"sudo kill -9 {snapshot.pid}"
        then = _RESTART if facts.service_controls_fans else restore
        return problem("snapshot", f"{age}, so process {snapshot.pid} hangs", end, then)
    if snapshot.dry_run:
        return warning("snapshot", f"process {snapshot.pid} makes a dry run: it sets no fans", run)
    does = "is alive" if snapshot.simulated_s is None else "simulates cards"
    every = f"{snapshot.interval_s:g} s"
    return ok("snapshot", f"process {snapshot.pid} {does}; gpufan {snapshot.version} publishes every {every}")
