"""Judging what is around the cards: service, settings, snapshot, rivals, X. Pure."""

from collections.abc import Callable, Iterator
from shlex import quote

from gpufan.config.settings import DEFAULT_PATH
from gpufan.doctor.facts import Facts, Unit
from gpufan.doctor.findings import Finding, Level
from gpufan.xorg.config import with_bits

SERVICE, BOX = "service", "box"

MANY_RESTARTS = 3
"""Fewer are well explained by a driver that was late at boot."""

_FANS_BIT = 4
_LOG = "sudo journalctl -u gpufan -n 30"


def judge_service(facts: Facts) -> Iterator[Finding]:
    """The service, its settings and what it publishes."""
    yield _service(facts)
    yield from _companions(facts)
    yield _config(facts)
    yield _snapshot(facts)
    yield from _clock(facts)


def judge_box(facts: Facts) -> Iterator[Finding]:
    """Who else has a hand on the fans, and X."""
    yield from _rivals(facts)
    yield from _display(facts)
    yield from _xorg(facts)
    if facts.silent:
        text = f"not found out in time: {', '.join(facts.silent)}"
        yield Finding(BOX, "time", "warning", text, ("ps -eo pid,stat,wchan:20,args | grep ' D'",))


# ---- gpufan ----


def _service(facts: Facts) -> Finding:
    def finding(level: Level, text: str, *remedies: str) -> Finding:
        return Finding(SERVICE, "service", level, text, remedies)

    install = f"sudo {facts.command} install-service"
    unit = facts.systemd.service if facts.systemd else None
    if not facts.has_cards and (unit is None or unit.load == "not-found"):
        return finding("ok", "not installed, and no card to keep")
    if facts.systemd is None:
        if facts.published.live:
            return finding("ok", "systemd does not run this box; a gpufan runs by hand")
        return finding("warning", "systemd does not run this box: run gpufan by hand", f"sudo {facts.command} run")
    if unit is None:
        return finding("warning", f"systemd: {facts.systemd.error}", "systemctl status gpufan")
    if "masked" in (unit.load, unit.file_state):
        return finding("problem", "masked, so it cannot be started", "sudo systemctl unmask gpufan", install)
    if unit.load == "not-found":
        by_hand = "a gpufan runs by hand; " if facts.published.live else ""
        return finding("warning", f"{by_hand}not installed, so nothing keeps the cards after a reboot", install)
    if unit.load != "loaded":
        return finding("problem", f"systemd cannot read the unit: {unit.load}", "systemctl status gpufan", install)
    if unit.user not in ("", "root", "0"):
        text = f"runs as {unit.user}, who may not set fans: take User= out of {unit.drop_ins or 'the unit'}"
        return finding("problem", text, "sudo systemctl edit gpufan", "sudo systemctl restart gpufan")
    if unit.capabilities and "cap_sys_admin" not in unit.capabilities.split():
        text = f"lacks CAP_SYS_ADMIN, without which nobody may set fans: see {unit.drop_ins or 'the unit'}"
        return finding("problem", text, "sudo systemctl edit gpufan", "sudo systemctl restart gpufan")
    if unit.active not in ("active", "reloading"):
        return _not_running(finding, unit)
    if unit.file_state not in ("enabled", "enabled-runtime"):
        return finding("warning", "active, but does not start at boot", "sudo systemctl enable gpufan")
    if unit.needs_reload:
        text = "active, but its unit was changed since it was started"
        return finding("warning", text, "sudo systemctl daemon-reload && sudo systemctl restart gpufan")
    if unit.restarts >= MANY_RESTARTS:
        return finding("warning", f"active, but had to be started anew {unit.restarts} times", _LOG)
    changed = f", changed by {unit.drop_ins}" if unit.drop_ins else ""
    return finding("ok", f"enabled and active{changed}" + (f"; runs {unit.command}" if unit.command else ""))


def _not_running(finding: Callable[..., Finding], unit: Unit) -> Finding:
    if unit.active == "inactive" and unit.result in ("", "success"):
        if unit.file_state == "enabled":
            return finding("problem", "enabled, but stopped", "sudo systemctl start gpufan")
        return finding("warning", "installed, but stopped and not enabled", "sudo systemctl enable --now gpufan")
    state = unit.active if unit.sub in ("", unit.active) else f"{unit.active} ({unit.sub})"
    result = "" if unit.result in ("", "success") else f", result {unit.result}"
    return finding("problem", f"{state}{result}{_said(unit)}", _LOG, "sudo systemctl restart gpufan")


def _companions(facts: Facts) -> Iterator[Finding]:
    for name, unit in facts.systemd.companions if facts.systemd else ():
        if unit.active == "active":
            yield Finding(SERVICE, "companions", "ok", f"{name} is active")
            continue
        text = f"{name}: {unit.active}{_said(unit)}; the fans do not depend on it"
        look = f"sudo journalctl -u {name} -n 30"
        yield Finding(SERVICE, "companions", "warning", text, (f"sudo systemctl enable --now {name}", look))


def _said(unit: Unit) -> str:
    """What the daemon said last, as the end of a sentence."""
    text = unit.status or (unit.log[-1] if unit.log else "")
    return f": {text}" if text else ""


def _config(facts: Facts) -> Finding:
    taken = facts.published.live
    edit, check = facts.edit_config, f"{facts.command} config check"
    if facts.config != DEFAULT_PATH:
        check += f" --config {quote(str(facts.config))}"
    if facts.config_error is not None:
        return Finding(SERVICE, "config", "problem", facts.config_error, (edit, check))
    if taken is not None and taken.reload_refused is not None:
        text = f"the last reload was refused, the settings before stay: {taken.reload_refused}"
        return Finding(SERVICE, "config", "problem", text, (edit, "sudo systemctl reload gpufan"))
    idle = facts.settings.unmatched_tables([card.info for card in facts.driver.cards]) if facts.driver.cards else []
    if idle:
        return Finding(SERVICE, "config", "warning", idle[0], (edit, f"{facts.command} list"))
    if facts.settings.run_settings().dry_run:
        return Finding(SERVICE, "config", "warning", f"{facts.config}: dry_run keeps gpufan from setting fans", (edit,))
    if facts.settings.path is None:
        return Finding(SERVICE, "config", "ok", f"no {facts.config}: what is built in holds")
    return Finding(SERVICE, "config", "ok", f"{facts.config}: no mistake found")


def _snapshot(facts: Facts) -> Finding:
    def finding(level: Level, text: str, *remedies: str) -> Finding:
        return Finding(SERVICE, "snapshot", level, text, remedies)

    published = facts.published
    taken = published.snapshot
    restart = "sudo systemctl restart gpufan"
    restore = f"sudo {facts.command} restore"
    unit = facts.systemd.service if facts.systemd else None
    if published.error is not None:
        return finding("problem", published.error, restart)
    if taken is None and not facts.has_cards:
        return finding("ok", "no gpufan is running")
    if taken is None:
        if unit is not None and unit.active == "active":
            return finding("problem", f"the service is active, but there is no {published.path}", _LOG, restart)
        return finding("warning", "no gpufan is running: the fans are the driver's", f"sudo {facts.command} run")
    if published.orphan:
        text = f"process {taken.pid} ended without giving the fans back"
        return finding("problem", text, restore, *([restart] if unit and unit.load == "loaded" else []))
    if published.stale:
        text = f"{published.age_s:.0f} s old: process {taken.pid} hangs"
        if published.age_s < 0:
            text = f"{-published.age_s:.0f} s from the future: the clock was set back, and process {taken.pid} hangs"
        return finding("problem", text, *_end_hung(facts, taken.pid, restart, restore))
    if taken.dry_run:
        return finding("warning", f"process {taken.pid} makes a dry run: nothing is set", f"sudo {facts.command} run")
    what = f"process {taken.pid} simulates cards" if taken.simulated_s is not None else f"process {taken.pid} is alive"
    return finding("ok", f"{what}, every {taken.interval_s:g} s; gpufan {taken.version}")


def _end_hung(facts: Facts, pid: int, restart: str, restore: str) -> tuple[str, ...]:
    if facts.service_has_the_fans:
        return (f"sudo kill -9 {pid}", restart)
    return (f"sudo kill -9 {pid}", restore)


def _clock(facts: Facts) -> Iterator[Finding]:
    taken = facts.published.live
    if taken is None or not taken.clock_steps:
        return
    way = "back" if taken.clock_step_s < 0 else "on"
    times = "once" if taken.clock_steps == 1 else f"{taken.clock_steps} times"
    text = f"the clock jumped {times} since the start, last {way} by {abs(taken.clock_step_s):.0f} s;"
    text += " the fans were set anew each time"
    yield Finding(BOX, "clock", "warning", text, ("timedatectl status", "sudo timedatectl set-ntp true"))


# ---- the rest of the box ----


def _rivals(facts: Facts) -> Iterator[Finding]:
    for rival in facts.rivals:
        where = rival.unit or f"process {rival.pid}"
        if rival.exclusive:
            text = f"{rival.name} ({where}) sets the same fans"
            yield Finding(BOX, "rivals", "problem", text, (rival.stop,))
        else:
            text = f"{rival.name} ({where}) may set the same fans: turn that off in it, or stop it"
            yield Finding(BOX, "rivals", "warning", text, (rival.stop,))
    for path in facts.autostarts:
        text = f"{path} starts nvidia-settings, which sets fans, with every desktop"
        yield Finding(BOX, "rivals", "warning", text, (f"sudo mv {quote(path)} {quote(f'{path}.off')}",))
    if not facts.rivals and not facts.autostarts:
        yield Finding(BOX, "rivals", "ok", "nothing else that sets fans is running")


def _needs_x(facts: Facts) -> bool:
    """Whether any card here has its fans set over X."""
    live = facts.published.live
    if live is not None and any(gpu.backend == "x11" for gpu in live.gpus):
        return True
    if facts.settings.run_settings().backend == "x11":
        return True
    return any(card.info.fan_count and card.info.uncontrollable_reason for card in facts.driver.cards)


def _display(facts: Facts) -> Iterator[Finding]:
    manager = facts.systemd.display_manager if facts.systemd else None
    servers = [server for server in facts.x_servers if not server.ours]
    names = [f"display manager {manager}"] if manager else []
    names += [f"X server {server.display or ''} (process {server.pid})" for server in servers]
    display = facts.settings.run_settings().display
    if not names:
        yield Finding(BOX, "display", "ok", "no display manager and no X server but gpufan's own")
    elif _needs_x(facts) and display is None and not any(server.ours for server in facts.x_servers):
        text = f"{', '.join(names)} may hold the cards, and gpufan needs an X server of its own: stop it"
        remedy = f"sudo systemctl disable --now {manager}" if manager else f"sudo kill {servers[0].pid}"
        yield Finding(BOX, "display", "warning", text, (remedy, f"sudo {facts.command} install-service"))
    else:
        yield Finding(BOX, "display", "ok", f"{', '.join(names)}; no hindrance")


def _xorg(facts: Facts) -> Iterator[Finding]:
    """The files that the user's own X server reads. They count only where the fans are set over that."""
    counts = _needs_x(facts) and facts.settings.run_settings().display is not None
    bad: Level = "problem" if counts else "warning"
    setup = f"sudo {facts.command} setup-xorg"
    for file in facts.xorg_files:
        if file.error is not None:
            yield Finding(BOX, "coolbits", bad, file.error, (f"sudoedit {quote(file.path)}",))
    told = "; ".join(f"{file.path}:{line} has {value}" for file in facts.xorg_files for line, value in file.coolbits)
    if not counts:
        if facts.has_cards:
            why = "gpufan's own X server has its own" if _needs_x(facts) else "not needed, NVML sets the fans"
            yield Finding(BOX, "coolbits", "ok", "; ".join(filter(None, (why, told))))
        return
    lacking = [file.path for file in facts.xorg_files if file.incomplete]
    weak = list(_without_fans(facts))
    if lacking or not told:
        where = lacking[0] if lacking else "every file of X"
        text = f"Coolbits is missing in {where} for a card, and display = in {facts.config} sets its fans over that X"
        yield Finding(BOX, "coolbits", "problem", text, (setup, *_restart_x(facts)))
    elif not weak:
        yield Finding(BOX, "coolbits", "ok", told)
    for path, line, value in weak if not lacking else ():
        text = f"{path}:{line} sets Coolbits to {value}, without the bit for fans: add {_FANS_BIT} to it"
        yield Finding(BOX, "coolbits", "problem", text, (f"sudoedit {quote(path)}", *_restart_x(facts)))


def _restart_x(facts: Facts) -> tuple[str, ...]:
    manager = facts.systemd.display_manager if facts.systemd else None
    return (f"sudo systemctl restart {manager}",) if manager else ()


def _without_fans(facts: Facts) -> Iterator[tuple[str, int, str]]:
    """File, line and value of each Coolbits that does not let fans be set."""
    for file in facts.xorg_files:
        for line, value in file.coolbits:
            if with_bits(value, _FANS_BIT) != value:
                yield file.path, line, value
