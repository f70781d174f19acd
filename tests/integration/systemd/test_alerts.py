"""The service for messages under the real systemd: its rights, its secrets, and a mail to a real server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.nvml import wait_for
from tests.integration.systemd.rig import GPUFAN, Rig

pytestmark = pytest.mark.systemd
pytest.importorskip("aiosmtpd")

UNIT = "gpufan-alerts.service"
FILE = "/etc/gpufan/alerts.toml"
URL = "mailto://127.0.0.1:2525?from=gpufan@example.org&to=me@example.org&name=hunter2"
AT_ONCE = "\n[after_s]\nno-controller = 0\n"


@pytest.fixture
def mails(rig: Rig, tmp_path: Path) -> Iterator[Path]:
    """The folder of new mails of a server that listens in the network of the rig."""
    folder = tmp_path / "mail"
    arguments = ["-n", "-l", "127.0.0.1:2525", "-c", "aiosmtpd.handlers.Mailbox", str(folder)]
    command = ["nsenter", "--target", rig._init, "--net", sys.executable, "-m", "aiosmtpd", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for((folder / "new").exists, 20)
            yield folder / "new"
        finally:
            server.kill()


def subjects(mails: Path) -> str:
    return "\n".join(file.read_text() for file in mails.iterdir())


def test_a_mail_says_that_gpufan_was_stopped_and_no_secret_leaves_the_file(rig: Rig, mails: Path):
    assert f"write {FILE}, which only root can read" in rig.install("--alerts", URL)
    assert rig.show(UNIT, "ActiveState") == "active", rig.journal(UNIT)
    assert rig.run("stat", "-c", "%a %U", FILE).stdout == "640 root\n"
    pid = rig.show(UNIT, "MainPID")
    user = rig.run("stat", "-c", "%u", f"/proc/{pid}").stdout.strip()
    assert int(user) >= 61184, "no dynamic user"
    assert "CapEff:\t0000000000000000" in rig.run("cat", f"/proc/{pid}/status").stdout

    rig.run("gpufan", "alerts", "test")
    wait_for(lambda: "test message" in subjects(mails), 20)

    text = rig.run("cat", FILE).stdout
    rig.write(FILE, text + AT_ONCE, "640")
    rig.run("systemctl", "restart", UNIT)
    wait_for(lambda: "messages go to" in rig.journal(UNIT), 20)
    rig.run("systemctl", "stop", "gpufan.service")
    wait_for(lambda: "no gpufan controls the" in subjects(mails), 30)
    assert "systemctl restart gpufan" in subjects(mails)

    everywhere = (
        rig.journal(UNIT) + rig.run("systemctl", "status", UNIT).stdout + rig.run("systemctl", "cat", UNIT).stdout
    )
    assert "mailto://127.0.0.1" in everywhere
    assert "hunter2" not in everywhere
    as_user = ("setpriv", "--reuid=user", "--regid=user", "--init-groups")
    for secret in (FILE, f"/run/credentials/{UNIT}/alerts.toml"):
        assert rig.run(*as_user, "cat", secret, check=False).returncode != 0
    rig.run("gpufan", "doctor", "--bundle", "/tmp/bundle.tar.gz", check=False)
    assert "hunter2" not in rig.run("sh", "-c", "gzip -dc /tmp/bundle.tar.gz").stdout

    rig.run("gpufan", "uninstall-service", "--purge")
    assert rig.run("ls", FILE, check=False).returncode != 0


def test_a_mistake_in_the_file_stops_the_service_until_it_is_mended(rig: Rig, mails: Path):
    rig.install("--alerts", URL)
    good = rig.run("cat", FILE).stdout
    rig.write(FILE, good.replace("urls", "url"), "640")
    rig.run("systemctl", "restart", UNIT)
    wait_for(lambda: rig.show(UNIT, "ActiveState") == "failed", 20)
    line = good[: good.index("\nurls = ")].count("\n") + 2
    assert f"gpufan: {FILE}: line {line}: unknown key 'url': did you mean urls?" in rig.journal(UNIT)
    assert rig.show(UNIT, "NRestarts") == "0"
    rig.write(FILE, good, "640")
    rig.run("systemctl", "restart", UNIT)
    wait_for(lambda: rig.journal(UNIT).count("messages go to") == 2, 20)


def test_without_its_extra_the_install_says_what_to_install(rig: Rig):
    rig.run("sh", "-c", "rm -r /home/user/venv/lib/python3*/site-packages/apprise")
    with rig.unchanged():
        done = rig.run(GPUFAN, "install-service", "--yes", "--alerts", URL, check=False)
    assert done.returncode == 2
    assert "messages need apprise, which is not installed" in done.stderr
