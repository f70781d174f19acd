"""`install-service --alerts`: the file with the receiver, its mode, and where its secrets do not appear."""

import io
import stat
import sys
from pathlib import Path

import pytest

from gpufan.alerts import deliver, receivers, settings
from tests.unit.service.conftest import Box

pytest.importorskip("apprise")


@pytest.fixture(autouse=True)
def apprise_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check URLs without a process of its own, in which Apprise needs half a second to load."""
    monkeypatch.setattr(receivers, "_deliver_to_url_receivers", deliver.deliver_request)


URL = "json://me:hunter2@127.0.0.1:1/hunter2"


def alerts_file(box: Box) -> Path:
    return box.root / "etc/alerts.toml"


def test_the_receiver_is_written_where_only_root_reads_it(box: Box, capfd: pytest.CaptureFixture[str]):
    box.call("install-service", "--yes", "--alerts", URL)
    file = alerts_file(box)
    assert settings.read_alert_settings(file).urls == (URL,)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert (box.root / "active/gpufan-alerts.service").exists()
    assert "LoadCredential=" in (box.root / "units/gpufan-alerts.service").read_text()
    said = "".join(capfd.readouterr())
    assert f"write {file}, which only root can read" in said
    assert "sudo gpufan alerts test" in said
    assert "hunter2" not in said
    others = [path for path in box.root.rglob("*") if path.is_file() and path != file]
    assert not [path for path in others if b"hunter2" in path.read_bytes()]


def test_a_url_that_is_not_in_the_command_line_is_read_from_standard_input(box: Box, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{URL}\n"))
    box.call("install-service", "--yes", "--alerts", "-")
    assert settings.read_alert_settings(alerts_file(box)).urls == (URL,)


def test_the_receivers_stay_until_the_service_is_purged(box: Box, capfd: pytest.CaptureFixture[str]):
    box.call("install-service", "--yes", "--alerts", URL)
    before = alerts_file(box).read_bytes()
    capfd.readouterr()
    box.call("install-service", "--yes", "--alerts", URL)
    box.call("install-service", "--yes")
    assert "restart" not in capfd.readouterr().out
    assert (box.root / "active/gpufan-alerts.service").exists()
    box.call("install-service", "--yes", "--no-alerts")
    assert not (box.root / "units/gpufan-alerts.service").exists()
    box.call("uninstall-service")
    assert alerts_file(box).read_bytes() == before
    box.call("uninstall-service", "--purge")
    assert not alerts_file(box).exists()


def test_a_file_with_other_receivers_is_not_changed(box: Box):
    alerts_file(box).parent.mkdir()
    alerts_file(box).write_text('urls = ["json://localhost"]')
    alerts_file(box).chmod(0o640)
    said = box.refused("install-service", "--yes", "--alerts", URL)
    assert (
        said
        == f"{alerts_file(box)} exists already, without this URL: add it to urls in that file, or move the file away"
    )


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("hunter2", "--alerts: write a URL such as mailtos://user:password@example.org"),
        ("nothing://hunter2", "--alerts: nothing://... is no URL that Apprise understands"),
        ("", "--alerts: write a URL"),
    ],
)
def test_a_wrong_url_is_refused_without_repeating_it(box: Box, url: str, problem: str):
    said = box.refused("install-service", "--yes", "--alerts", url)
    assert said.startswith(problem)
    assert "hunter2" not in said


def test_a_receiver_and_no_receivers_exclude_each_other(box: Box):
    assert "--alerts and --no-alerts exclude" in box.refused("install-service", "--alerts", URL, "--no-alerts")


def test_an_install_that_fails_leaves_no_receivers(box: Box):
    (box.root / "broken").write_text("no driver")
    assert "no driver" in box.refused("install-service", "--yes", "--alerts", URL)
    assert not alerts_file(box).exists()


def test_an_install_that_is_killed_while_it_writes_the_receivers_leaves_no_secret(box: Box):
    box.call("install-service", "--yes")
    (box.root / "etc/.alerts.toml.gpufan-abcdefgh").write_text(URL)  # as files.replace names it
    box.call("uninstall-service")
    assert not list((box.root / "etc").glob(".alerts.toml*"))
