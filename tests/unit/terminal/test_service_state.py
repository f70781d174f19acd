"""The state of the service in one line, whatever systemd answers."""

from pathlib import Path

import pytest

from gpufan.errors import GpufanError
from gpufan.terminal.service_state import ServiceState, service_state
from gpufan.terminal.tables import print_status
from tests.unit.builders import put_systemctl


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (
            "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=0\n"
            "StateChangeTimestamp=Sun 2026-11-22 16:10:03 UTC",
            ServiceState("gpufan.service: active (running), since Sun 2026-11-22 16:10:03 UTC", True),
        ),
        (
            "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\nNRestarts=3\n"
            "StateChangeTimestamp=",
            ServiceState("gpufan.service: activating (auto-restart), restarts: 3, last result: exit-code", False),
        ),
        ("LoadState=not-found\nActiveState=inactive", None),
        ("LoadState=masked\nActiveState=inactive", ServiceState("gpufan.service: masked", False)),
    ],
)
def test_the_unit_is_described_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, properties: str, expected: ServiceState | None
) -> None:
    put_systemctl(monkeypatch, tmp_path, f"cat <<'END'\n{properties}\nEND")
    assert service_state() == expected


def test_a_slow_systemd_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gpufan.terminal.service_state._LIMIT_S", 0.05)
    put_systemctl(monkeypatch, tmp_path, "exec sleep 10")
    assert "has not answered for 0.05 s" in service_state().text


def test_a_broken_systemctl_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_systemctl(monkeypatch, tmp_path, "")
    (tmp_path / "systemctl").write_text("no program")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "systemctl cannot be run: Exec format error" in service_state().text


def test_without_systemd_there_is_no_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert service_state() is None


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (
            "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code",
            "gpufan.service: failed (failed), last result: exit-code; `sudo journalctl -u gpufan -n 30` shows why,"
            " `sudo systemctl restart gpufan` tries again",
        ),
        (
            "LoadState=loaded\nActiveState=inactive\nSubState=dead\nResult=success\nStateChangeTimestamp=Sun",
            "gpufan.service: inactive (dead), since Sun; start it with `sudo systemctl start gpufan`",
        ),
        (
            "LoadState=loaded\nActiveState=activating\nSubState=start\nStatusText=the NVIDIA driver is not loaded",
            "gpufan.service: activating (start): the NVIDIA driver is not loaded;"
            " `sudo journalctl -u gpufan -n 30` shows more",
        ),
        ("LoadState=masked\nActiveState=inactive", "gpufan.service: masked; `sudo systemctl unmask gpufan`"),
    ],
)
def test_status_without_a_snapshot_says_what_the_unit_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, properties: str, expected: str
) -> None:
    put_systemctl(monkeypatch, tmp_path, f"cat <<'END'\n{properties}\nEND")
    with pytest.raises(GpufanError) as raised:
        print_status(tmp_path / "state.json", as_json=False, of_service=True)
    assert str(raised.value) == f"no gpufan is running: {expected}"
    with pytest.raises(GpufanError, match=r"start it with `sudo gpufan run`"):
        print_status(tmp_path / "state.json", as_json=False)


def test_status_without_a_unit_says_how_to_start_gpufan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_systemctl(monkeypatch, tmp_path, "echo LoadState=not-found")
    with pytest.raises(GpufanError, match=r"start it with `sudo gpufan run`"):
        print_status(tmp_path / "state.json", as_json=False, of_service=True)
