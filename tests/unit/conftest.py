"""Hypothesis for the unit tests: modest, the same on every run; `--hypothesis-profile=explore` looks for more.

Also what tests of several rooms share: the command line in this process, and a clock in UTC.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import settings

settings.register_profile("unit", max_examples=30, deadline=None, derandomize=True)
settings.register_profile("explore", max_examples=3000, deadline=None)
settings.load_profile("unit")


class Result(NamedTuple):
    """How a command has ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def gpufan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process."""
    from gpufan.cli.main import main

    monkeypatch.delenv("GPUFAN_RUNTIME_DIR", raising=False)

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["gpufan", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
