"""The page in a browser, in a terminal of root: Apply and Undo with the real daemon over the double of NVML."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.doubles.nvml import NvmlDouble
from tests.integration.harness import Program
from tests.integration.web.browser import Visitor
from tests.integration.web.page import running_page, terminal

pytestmark = pytest.mark.slow
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the settings of the service")


@needs_root
def test_apply_changes_the_file_and_the_daemon_and_undo_puts_the_bytes_back(
    double: NvmlDouble, start: Callable[..., Program], folder: Path, config: Path, visit: Visitor
) -> None:
    start("--config", str(config)).wait_until_it_controls(0, 1)
    before = config.read_bytes()
    arguments = "--runtime-dir", str(folder), "--config", str(config), "--state-dir", str(folder)
    with terminal(*arguments) as found:
        tab = visit(found.page, "shape")
        target = tab.get_by_role("slider", name="Target").last
        expect(target).to_have_value("75")
        target.fill("68")
        tab.get_by_role("button", name="Apply …").click()
        dialog = tab.get_by_role("dialog")
        expect(dialog.locator(".removed")).to_contain_text(["target_c = 75"])
        expect(dialog.locator(".added")).to_contain_text(["target_c = 68"])
        assert config.read_bytes() == before
        dialog.get_by_role("button", name="Apply").click()
        expect(tab.locator(".result")).to_contain_text("gpufan follows it now", timeout=10_000)
        assert b"# mine\ntarget_c = 68" in config.read_bytes()
        tab.get_by_role("button", name="Undo").click()
        expect(tab.locator(".result")).to_contain_text("as it was", timeout=10_000)
        assert config.read_bytes() == before
        tab.locator("#tab-now").click()
        expect(tab.locator(".why").first).to_contain_text("target 75 °C")
        tab.close()


def test_a_page_that_may_not_change_settings_names_the_command_that_may(
    double: NvmlDouble, start: Callable[..., Program], folder: Path, config: Path, visit: Visitor
) -> None:
    start("--config", str(config)).wait_until_it_controls(0, 1)
    arguments = "--runtime-dir", str(folder), "--config", str(config), "--state-dir", str(folder)
    with running_page(*arguments, before=["setsid", "--wait"]) as page:
        tab = visit(page, "shape")
        expect(tab.locator("#shape")).to_contain_text("sudo gpufan web")
        expect(tab.get_by_role("button", name="Apply …")).to_be_hidden()
        expect(tab.locator(".code").first).to_contain_text("target_c = 75")
        tab.close()
