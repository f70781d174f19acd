"""What the doctor says of the way in which gpufan was installed."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Finding, Level
from gpufan.doctor.judge import judge
from gpufan.service.installation import Installation, Kind
from gpufan.system.unit_state import UnitState
from tests.unit.doctor.test_judge import BY_HAND, IDLE, SERVICE, WELL

OPT, PACKAGE = Path("/opt/gpufan"), Path("/usr/lib/gpufan")
PIPX = Installation(Kind.PIPX, Path("/home/a/.local/share/pipx/venvs/gpufan"), "0.10.0")
COMMAND = "$(command -v gpufan)"
RENEW = ("sudo $(command -v gpufan) install-service",)


def found(facts: Facts, check: str = "install") -> Finding:
    (finding,) = (finding for finding in judge(facts).findings if finding.check == check)
    return finding


def box(own: Installation, runs: Path, copy: str | None = None, *, is_current: bool | None = None) -> Facts:
    """A box whose service runs the program in the folder `runs`; `copy` is the version of the copy."""
    service = replace(SERVICE, command=f"{runs}/bin/python3 -I -m gpufan run")
    return replace(
        WELL,
        command=COMMAND,
        installation=own,
        copy=None if copy is None else Installation(Kind.COPY, OPT, copy),
        copy_is_current=is_current,
        systemd=replace(WELL.systemd, service=service),
    )


def test_the_doctor_says_how_gpufan_was_installed() -> None:
    finding = found(replace(IDLE, installation=PIPX))
    assert (finding.level, finding.text) == (Level.OK, f"gpufan 0.10.0 from pipx, {PIPX.folder}")


def test_a_copy_that_is_older_than_what_the_user_has_is_a_warning_with_the_command_that_renews_it() -> None:
    finding = found(box(PIPX, OPT, "0.9.1"))
    assert (finding.level, finding.remedies) == (Level.WARNING, RENEW)
    assert "the service runs the copy in /opt/gpufan, which is older, gpufan 0.9.1" in finding.text


def test_a_copy_with_other_code_of_the_same_version_is_a_warning_too() -> None:
    finding = found(box(PIPX, OPT, "0.10.0", is_current=False))
    assert (finding.level, finding.remedies) == (Level.WARNING, RENEW)
    for is_current in (True, None):
        assert found(box(PIPX, OPT, "0.10.0", is_current=is_current)).level is Level.OK


def test_a_copy_that_is_newer_calls_for_an_update_of_what_the_user_has() -> None:
    assert found(box(PIPX, OPT, "0.11")).remedies == ("pipx upgrade gpufan",)
    assert found(box(replace(PIPX, kind=Kind.UV), OPT, "0.11")).remedies == ("uv tool upgrade gpufan",)


def test_a_copy_in_place_of_a_package_is_a_warning_as_no_update_of_the_package_renews_it() -> None:
    package = Installation(Kind.PACKAGE, PACKAGE, "0.2.0")
    assert found(box(package, OPT, "0.2.0")).remedies == RENEW


def test_a_service_that_runs_the_code_before_an_update_is_to_be_restarted() -> None:
    version = WELL.published.snapshot.version
    package = Installation(Kind.PACKAGE, PACKAGE, version)
    assert found(box(package, PACKAGE)).level is Level.OK
    finding = found(box(replace(package, version="99"), PACKAGE))
    assert finding.remedies == ("sudo systemctl restart gpufan",)
    assert f"still runs gpufan {version}" in finding.text


@pytest.mark.parametrize("path", ["/usr/lib/systemd/system/gpufan.service", "/lib/systemd/system/gpufan.service"])
def test_a_unit_of_a_package_that_nobody_has_started_counts_as_not_installed(path: str) -> None:
    unit = UnitState("gpufan.service", "loaded", "inactive", "dead", "disabled", "success", path=path)
    finding = found(replace(IDLE, systemd=replace(IDLE.systemd, service=unit)), "service")
    assert (finding.level, finding.remedies) == (Level.WARNING, ("sudo gpufan install-service",))
    assert replace(unit, file_state="enabled").exists
    assert replace(unit, active="active").exists
    assert replace(unit, path="/etc/systemd/system/gpufan.service").exists


def test_in_a_container_the_doctor_says_what_a_kill_of_it_does() -> None:
    running = replace(BY_HAND, container="docker")
    assert "they keep their speed until it starts again" in found(running, "container").text
    assert found(running, "service").level is Level.OK
    idle = replace(running, published=None)
    assert found(idle, "service").remedies == ("gpufan run",)
    assert msgspec.json.encode(judge(idle))


@pytest.mark.parametrize(
    ("version", "remedies"),
    [("0.9.1", RENEW), ("0.10.0", ("sudo systemctl restart gpufan",)), ("0.11", ("/opt/gpufan/bin/gpufan doctor",))],
)
def test_a_snapshot_of_another_version_gets_the_remedy_that_replaces_it(
    version: str, remedies: tuple[str, ...]
) -> None:
    facts = replace(box(PIPX, OPT, version), published=None, errors={"published": "of another version"})
    assert found(facts, "snapshot").remedies == remedies
