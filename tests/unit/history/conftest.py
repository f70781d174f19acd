"""Fixtures of the history's tests."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.history.recorded import RecordedRun


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    return RecordedRun(tmp_path)


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What gpufan logs, from level INFO on."""
    caplog.set_level(logging.INFO, "gpufan")
    return caplog
