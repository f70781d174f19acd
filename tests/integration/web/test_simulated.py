"""`gpufan web --simulate` and its temporary folder: after each end of the page, and with a mistake in its settings."""

import signal
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.integration.web.browser import Visitor
from tests.integration.web.page import running_page

pytestmark = pytest.mark.slow


@pytest.fixture
def temporary_files(open_folder: Path) -> Path:
    """The folder for temporary files, also of the user without rights."""
    open_folder.chmod(0o1777)
    return open_folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_after_a_signal_nothing_is_left_even_if_it_comes_twice(temporary_files: Path, number: int) -> None:
    with running_page("--simulate", env={"TMPDIR": str(temporary_files)}) as page, page.events() as stream:
        stream.next()
        assert len(list(temporary_files.iterdir())) == 1
        page.process.send_signal(number)
        page.end(number)
        assert page.process.stdout is not None
        assert page.process.stdout.read().splitlines()[-1].startswith("next link: ")  # no traceback follows
    assert page.process.returncode == 0
    assert list(temporary_files.iterdir()) == []


def test_after_a_kill_the_next_page_removes_the_folder_but_not_that_of_a_page_that_runs(temporary_files: Path) -> None:
    env = {"TMPDIR": str(temporary_files)}
    with running_page("--simulate", env=env):
        (of_running,) = temporary_files.iterdir()
        with running_page("--simulate", env=env) as page:
            (of_killed,) = set(temporary_files.iterdir()) - {of_running}
            page.process.kill()
            page.process.wait()
        assert of_killed.is_dir()
        with running_page("--simulate", env=env):
            assert of_running.is_dir()
            assert not of_killed.exists()


def test_a_settings_file_that_becomes_wrong_is_named_and_the_page_goes_on(
    temporary_files: Path, visit: Visitor
) -> None:
    with running_page("--simulate", env={"TMPDIR": str(temporary_files)}) as page:
        (file,) = temporary_files.glob("*/settings/config.toml")
        file.write_text("target_c = 'warm'")
        mistake = f"{file}: line 1: target_c"
        tab = visit(page, "shape")
        expect(tab.locator("#state-text")).to_contain_text("target_c")
        expect(tab.locator("#shape .notice")).to_contain_text(mistake)
        tab.locator("#tab-then").click()
        expect(tab.locator(".time-area .main-svg").first).to_be_attached(timeout=200_000)
        expect(tab.locator("#then .notice")).to_contain_text(mistake)
        tab.locator("#tab-shape").click()
        file.write_text("target_c = 71")
        expect(tab.get_by_role("slider", name="Target").last).to_have_value("71")
        expect(tab.locator("#shape .notice")).to_be_hidden()
        tab.close()
        visit.complaints.clear()  # of the answers that name the mistake
