"""Judges the rest of the box: the clock, rivals, X servers and their files, checks that failed.

The functions use nothing but the facts.
"""

from collections.abc import Iterator
from shlex import quote

from gpufan.core.fan_programs import OTHERS
from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Finding, ok, problem, warning
from gpufan.xorg.coolbits import with_coolbits

_FANS_BIT = 4
"""The bit of Coolbits with which the X server lets programs set fans."""

_JUDGED_ELSEWHERE = {"driver", "systemd", "settings", "published", "writable_paths"}
"""Fields of `Facts` whose errors are reported elsewhere: by `judge_driver`, or with the state of the service."""


def judge_box(facts: Facts) -> Iterator[Finding]:
    """Yield the findings about everything except the driver, the cards and the service."""
    yield from _judge_container(facts)
    yield from _judge_clock(facts)
    yield from _judge_rivals(facts)
    yield _judge_display(facts)
    yield from _judge_coolbits(facts)
    for fact in sorted(facts.errors.keys() - _JUDGED_ELSEWHERE):
        text = f"the check of {fact.replace('_', ' ')} failed: {facts.errors[fact]}"
        yield warning("time", text, "ps -eo pid,stat,wchan:20,args | grep ' D'")


def _judge_container(facts: Facts) -> Iterator[Finding]:
    """Yield a finding that says what gpufan cannot do in a container."""
    if facts.container:
        text = f"{facts.container}: a kill of the container also ends the guardian, and no systemd gives the fans back;"
        yield ok("container", f"{text} they keep their speed until it starts again, so always let it restart")


def _judge_clock(facts: Facts) -> Iterator[Finding]:
    """Yield a warning if the wall clock was set since the running gpufan started."""
    live = facts.live
    if live is None or not live.clock_steps:
        return
    direction = "back" if live.clock_step_s < 0 else "forward"
    times = "once" if live.clock_steps == 1 else f"{live.clock_steps} times"
    text = f"the clock jumped {times} since gpufan started, last {direction} by {abs(live.clock_step_s):.0f} s;"
    text += " gpufan set the fans again each time"
    yield warning("clock", text, "timedatectl status", "sudo timedatectl set-ntp true")


def _judge_rivals(facts: Facts) -> Iterator[Finding]:
    """Yield a finding about each other program that sets fans, and about each file that starts such a program."""
    sets_board = bool(facts.settings.channel_names)
    others = set(OTHERS.values())
    rivals = [rival for rival in facts.rivals if sets_board or not rival.of_board or rival.name in others]
    for rival in rivals:
        name = f"{rival.name} ({rival.unit or f'process {rival.pid}'})"
        if rival.exclusive:
            yield problem("rivals", f"{name} sets the same fans: stop it", rival.stop_command)
        else:
            fans = f"the same fans ({', '.join(facts.settings.channel_names)})" if rival.of_board and sets_board else ""
            text = f"{name} may set {fans or 'the same fans'}: switch off its fan control, or stop it"
            yield warning("rivals", text, rival.stop_command)
    for path in facts.autostarts:
        text = f"{path} starts nvidia-settings with every desktop, and nvidia-settings sets fans"
        yield warning("rivals", text, f"sudo mv {quote(path)} {quote(f'{path}.off')}")
    if not rivals and not facts.autostarts:
        yield ok("rivals", "no other program that sets fans is running")


def _box_needs_x(facts: Facts) -> bool:
    """Return whether gpufan sets the fans of a card over X, or must do so.

    It must if the settings say so, or if the fans of a card cannot be set in another way.
    """
    live = facts.live
    if live is not None and any(gpu.backend == "x11" for gpu in live.gpus):
        return True
    if facts.settings.run_settings().backend == "x11":
        return True
    return any(card.info.fan_count and card.info.uncontrollable_reason for card in facts.driver.cards)


def _judge_display(facts: Facts) -> Finding:
    """Judge the display manager and the X servers that gpufan did not start. They may hold cards that gpufan needs."""
    manager = facts.display_manager
    servers = [server for server in facts.x_servers if not server.ours]
    names = [f"display manager {manager}"] if manager else []
    names += [" ".join(filter(None, ("X server", server.display, f"(process {server.pid})"))) for server in servers]
    if not names:
        return ok("display", "no display manager and no X server except gpufan's own")
    has_own = any(server.ours for server in facts.x_servers)
    if not _box_needs_x(facts) or has_own or facts.settings.run_settings().display is not None:
        return ok("display", f"{', '.join(names)}: does not disturb gpufan")
    text = f"{', '.join(names)} may hold the cards, and gpufan needs its own X server: stop it"
    stop = f"sudo systemctl disable --now {manager}" if manager else f"sudo kill {servers[0].pid}"
    return warning("display", text, stop, f"sudo {facts.command} install-service")


def _judge_coolbits(facts: Facts) -> Iterator[Finding]:
    """Yield findings about the Coolbits options in the configuration files of the user's X server.

    The options matter only if gpufan sets fans over that X server.
    """
    over_x = _box_needs_x(facts)
    matters = over_x and facts.settings.run_settings().display is not None
    for file in facts.xorg_files:
        if file.error is not None:
            yield (problem if matters else warning)("coolbits", file.error, f"sudoedit {quote(file.path)}")
    options = [(file.path, line, value) for file in facts.xorg_files for line, value in file.coolbits]
    found = "; ".join(f"{path}:{line} has {value}" for path, line, value in options)
    if not matters:
        if facts.has_cards:
            why = "gpufan's own X server sets it" if over_x else "not needed, NVML sets the fans"
            yield ok("coolbits", "; ".join(filter(None, (why, found))))
        return
    restart_x = [f"sudo systemctl restart {facts.display_manager}"] if facts.display_manager else []
    incomplete = [file.path for file in facts.xorg_files if file.incomplete]
    weak = [(path, line, value) for path, line, value in options if with_coolbits(value, _FANS_BIT) != value]
    if incomplete or not found:
        place = incomplete[0] if incomplete else "every file of X"
        text = f"Coolbits is missing in {place} for a card, but {facts.config} lets gpufan set fans over this X server"
        yield problem("coolbits", text, f"sudo {facts.command} setup-xorg", *restart_x)
    elif not weak:
        yield ok("coolbits", found)
    else:
        for path, line, value in weak:
            text = f"{path}:{line} sets Coolbits to {value}, without the bit for fans: add {_FANS_BIT} to it"
            yield problem("coolbits", text, f"sudoedit {quote(path)}", *restart_x)
