"""Judges how gpufan was installed, and whether the service runs the code of this gpufan.

The functions use nothing but the facts.
"""

import re
from collections.abc import Iterator

from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Finding, ok, warning
from gpufan.service.installation import Installation, Kind

_UPDATES = {Kind.PIPX: ["pipx upgrade gpufan"], Kind.UV: ["uv tool upgrade gpufan"]}
"""The shell command that updates an installation."""


def judge_installation(facts: Facts) -> Iterator[Finding]:
    """Yield the finding about the installation."""
    if facts.installation is not None:
        yield _judge_installation(facts, facts.installation)


def _judge_installation(facts: Facts, own: Installation) -> Finding:
    """Judge the installation `own`, which is that of this gpufan."""
    about = f"gpufan {own.version} {own.kind.value}, {own.folder}"
    service, copy = facts.service, facts.copy
    command = service.command if service is not None and service.exists else ""
    renew = f"sudo {facts.command} install-service"
    if copy is not None and own.kind is not Kind.COPY and facts.service_runs_copy:
        runs = f"the service runs the copy in {copy.folder}"
        if version_numbers(copy.version) < version_numbers(own.version):
            return warning("install", f"{runs}, which is older, gpufan {copy.version}; this is {about}", renew)
        if version_numbers(copy.version) > version_numbers(own.version):
            text = f"{runs}, which is newer, gpufan {copy.version}; this is {about}"
            return warning("install", text, *_UPDATES.get(own.kind, [f"{copy.folder}/bin/gpufan doctor"]))
        if own.kind is Kind.PACKAGE:
            return warning("install", f"{runs}, which no update of the package renews; this is {about}", renew)
        if facts.copy_is_current is False:
            return warning("install", f"{runs}, which has other code of the same version; this is {about}", renew)
        return ok("install", f"{about}; {runs}")
    live = facts.live
    if live is not None and command.startswith(f"{own.folder}/") and live.version != own.version:
        text = f"the service still runs gpufan {live.version}; this is {about}"
        return warning("install", text, "sudo systemctl restart gpufan")
    return ok("install", about)


def version_numbers(version: str) -> list[int]:
    """Return the numbers in `version`, for comparisons: [0, 2, 0] for `0.2.0`."""
    return [int(number) for number in re.findall(r"\d+", version)]
