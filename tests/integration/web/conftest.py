"""A page of a simulated box, which the tests of a file share, and a browser."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.doubles import require
from tests.integration.web.browser import FLAGS, Visitor
from tests.integration.web.page import Page, running_page


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with running_page("--simulate") as found:
        yield found


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can look into. Those of pytest belong to one user only."""
    with TemporaryDirectory(prefix="gpufan-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def folder(open_folder: Path) -> Path:
    """The runtime folder of every `gpufan` that the test starts."""
    return open_folder / "run"


@pytest.fixture
def config(open_folder: Path) -> Path:
    """A settings file with a comment."""
    path = open_folder / "config.toml"
    path.write_text("# mine\ntarget_c = 75  # quiet\n")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Each file has its own, since an event loop runs in the thread as long as the browser does."""
    chromium = require("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visitor]:
    """Opens pages. At the end no console may have complained; a test removes expected `complaints`."""
    with ExitStack() as stack:
        visitor = Visitor(browser, stack)
        yield visitor
    assert visitor.complaints == []
