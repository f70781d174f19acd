"""What stands in for hardware at the lowest boundary there is, so that everything above it is real."""

import os
import shutil

import pytest


def require(program: str, package: str) -> str:
    """Path of `program`. Where it is missing the test is skipped, and fails in CI, where everything must run."""
    path = shutil.which(program)
    if path:
        return path
    message = f"{program} is missing; install it with: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
