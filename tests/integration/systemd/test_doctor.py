"""`gpufan doctor` under the real systemd: what that says of the service is understood."""

import json
from typing import Any

import pytest

from tests.doubles.nvml import wait_for
from tests.integration.systemd.rig import GPUFAN, Rig

pytestmark = pytest.mark.systemd


def doctor(rig: Rig) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status, and what is not ok by check."""
    done = rig.run(GPUFAN, "doctor", "--json", check=False)
    assert done.stderr == ""
    return done.returncode, {
        found["check"]: found for found in json.loads(done.stdout)["findings"] if found["remedies"]
    }


def test_a_service_that_was_installed_is_well(installed: Rig) -> None:
    assert doctor(installed) == (0, {})


def test_a_drop_in_that_takes_the_rights_away_is_found(installed: Rig) -> None:
    installed.write("etc/systemd/system/gpufan.service.d/user.conf", "[Service]\nUser=user\n")
    installed.run("systemctl", "daemon-reload")
    status, found = doctor(installed)
    installed.run("rm", "/etc/systemd/system/gpufan.service.d/user.conf")
    installed.run("systemctl", "daemon-reload")
    assert (status, found["service"]["remedies"][0]) == (1, "sudo systemctl edit gpufan")
    assert "user.conf" in found["service"]["text"]


def test_a_service_that_cannot_start_says_why(installed: Rig) -> None:
    before = installed.run("cat", "/etc/gpufan/config.toml").stdout
    installed.run("rm", "/var/lib/gpufan/last-good-settings.json")
    installed.write("etc/gpufan/config.toml", 'gpus = ["GPU-of-another-box"]\n')
    installed.run("systemctl", "restart", "--no-block", "gpufan")
    wait_for(lambda: installed.show("gpufan.service", "StatusErrno") == "125", 20)
    status, found = doctor(installed)
    installed.write("etc/gpufan/config.toml", before)
    installed.run("systemctl", "restart", "gpufan")
    assert installed.show("gpufan.service", "StatusErrno") == "0"
    assert status == 1
    assert "GPU-of-another-box" in found["service"]["text"]


def test_a_service_that_is_stopped_is_found(installed: Rig) -> None:
    installed.run("systemctl", "stop", "gpufan")
    _, found = doctor(installed)
    installed.run("systemctl", "start", "gpufan")
    assert found["service"]["remedies"] == ["sudo systemctl start gpufan"]


def test_what_is_said_of_a_masked_service_brings_it_back(installed: Rig) -> None:
    installed.run("systemctl", "stop", "gpufan")
    installed.run("ln", "-sf", "/dev/null", "/etc/systemd/system/gpufan.service")
    installed.run("systemctl", "daemon-reload")
    status, found = doctor(installed)
    assert status == 1
    for remedy in found["service"]["remedies"]:
        command = remedy.removeprefix("sudo ").split()
        installed.run(*command, *(["--yes"] if command[-1] == "install-service" else []))
    assert doctor(installed) == (0, {})


def test_a_rival_is_found_with_its_unit(installed: Rig) -> None:
    installed.write("usr/local/bin/coolgpus", "#!/bin/bash\nsleep 100\ntrue\n", mode="755")
    installed.run("systemd-run", "--unit=rival", "/usr/local/bin/coolgpus")
    wait_for(lambda: "coolgpus" in installed.run("ps", "-eo", "args").stdout, 5)
    status, found = doctor(installed)
    installed.run("systemctl", "stop", "rival")
    assert (status, found["rivals"]["remedies"]) == (1, ["sudo systemctl disable --now rival.service"])
