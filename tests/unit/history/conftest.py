"""Fixtures of the history's tests."""

import logging
from pathlib import Path

import pytest

from tests.unit.history.recorded import RecordedRun


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    return RecordedRun(tmp_path)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What gpufan logs, from level INFO on."""
    caplog.set_level(logging.INFO, "gpufan")
    return caplog
