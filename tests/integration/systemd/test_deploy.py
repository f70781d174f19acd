"""The playbook of `gpufan deploy ansible`, run by the real Ansible on a box with the real systemd."""

import re
import zipfile
from pathlib import Path

import pytest

from tests.doubles.nvml import AUTO, MANUAL, wait_for
from tests.integration.systemd.rig import ANSIBLE, GPUFAN, WHEELS, Rig

pytestmark = pytest.mark.systemd
FOLDER = "/srv/deploy"


def play(rig: Rig, *options: str) -> dict[str, int]:
    """Run the playbook on the box itself; number of tasks by result."""
    command = [
        *("env", "ANSIBLE_HOME=/tmp/ansible", "ANSIBLE_REMOTE_TEMP=/tmp/ansible/tmp", "ANSIBLE_PIPELINING=1"),
        *(f"PYTHONPATH={ANSIBLE}", "python3", f"{ANSIBLE}/bin/ansible-playbook", f"{FOLDER}/playbook.yml"),
        *("-i", "box,", "--connection=local", "-e", '{"gpufan_pip_options": "--no-index --find-links /srv/wheels"}'),
        *("-e", "ansible_python_interpreter=/usr/bin/python3", *options),
    ]
    said = rig.run(*command).stdout
    recap = re.search(r"^box +: (.*)$", said, re.MULTILINE)
    assert recap, said
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", recap[1])}


def put_empty_scipy(rig: Rig, folder: Path) -> None:
    """Let pip find an empty scipy in `WHEELS`: the page works without it, and to copy the real one takes long."""
    info = "scipy-1.11.0.dist-info"
    with zipfile.ZipFile(folder / "scipy-1.11.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: scipy\nVersion: 1.11.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "".join(f"{info}/{name},,\n" for name in ("METADATA", "WHEEL", "RECORD")))
    rig.put(folder / "scipy-1.11.0-py3-none-any.whl", f"{WHEELS}/scipy-1.11.0-py3-none-any.whl")


def test_a_playbook_installs_then_updates_then_changes_nothing(rig: Rig, tmp_path: Path):
    put_empty_scipy(rig, tmp_path)
    rig.run(GPUFAN, "deploy", "ansible", "--output", FOLDER)
    rig.run("sed", "-i", "s/^  hosts: gpufan$/  hosts: all/", f"{FOLDER}/playbook.yml")
    rig.run("sh", "-c", f"mv {WHEELS}/gpufan-*.whl {FOLDER}")

    with rig.unchanged():
        assert play(rig, "--check")["failed"] == 0
    assert play(rig)["changed"] > 0
    assert rig.show("gpufan.service", "ActiveState") == "active"
    assert rig.show("gpufan-history.service", "ActiveState") == "active"
    assert [card.fans[0].policy for card in rig.double.cards[:2]] == [MANUAL, MANUAL]

    rig.run("sh", "-c", f"echo 'curve = \"20:50,80:100\"' >{FOLDER}/config.toml")
    assert play(rig, "--check")["changed"] > 0
    with_companions = ("-e", '{"gpufan_exporter": true, "gpufan_web": true}')
    assert play(rig, *with_companions)["changed"] > 0
    wait_for(lambda: rig.double.cards[0].fans[0].target >= 50, 10)
    for companion in ("exporter", "web"):
        assert rig.show(f"gpufan-{companion}.service", "ActiveState") == "active"
    assert "gpufan_gpu_temperature_celsius{" in metrics(rig)

    with rig.unchanged():
        pid = rig.show("gpufan.service", "MainPID")
        assert play(rig, *with_companions)["changed"] == 0
        assert play(rig, *with_companions, "--check")["changed"] == 0
        assert rig.show("gpufan.service", "MainPID") == pid

    rig.run("gpufan", "uninstall-service", "--purge")
    assert [card.fans[0].policy for card in rig.double.cards[:2]] == [AUTO, AUTO]


def metrics(rig: Rig) -> str:
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:10835/metrics').read().decode())"
    return rig.run("python3", "-c", code).stdout
