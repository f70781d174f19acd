"""Doubles of the hardware at the lowest possible boundary, so that everything above it is real."""

import os
import shutil


def require(program: str, package: str) -> str:
    """Path of `program`. Where it is missing the test is skipped, and fails in CI, where everything must run."""
    path = shutil.which(program)
    if path:
        return path
    import pytest  # not above: the stand-ins that are programs start faster without

    message = f"{program} is missing; install it with: apt-get install {package}"
    raise (pytest.fail if os.environ.get("CI") else pytest.skip).Exception(message)


def without_coverage() -> dict[str, str]:
    """The environment for a program whose lines nobody measures: it starts in half of the time."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS_")}
