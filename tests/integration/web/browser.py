"""The page in a real Chromium, driven by Playwright."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.integration.web.page import REPOSITORY
from tests.integration.web.page import Page as Served

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PICTURES = Path(REPOSITORY, ".ci", "artifacts")
"""The folder of the screenshots; git ignores it."""

expect.set_options(timeout=20_000)  # a machine that runs other tests at the same time is slow

HOSTILE = "<img src=x onerror=alert(1)>"
"""A name that is a picture and a script to a page that does not show it as text."""


class Visitor:
    """Opens pages, each in a browser context of its own, and collects what their consoles complain about."""

    def __init__(self, browser: Browser, stack: ExitStack) -> None:
        self._browser = browser
        self._stack = stack
        self.complaints: list[str] = []

    def __call__(
        self, served: Served, view: str = "now", before: Callable[[Page], object] | None = None, **options: Any
    ) -> Page:
        """The view `view` of a page. `before` is called before it is loaded. `options` are those of the context."""
        options = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", **options}
        context = self._browser.new_context(**options)
        self._stack.callback(context.close)
        name, _, value = served.cookie.partition("=")
        address = f"http://{served.host}"
        context.add_cookies([{"name": name, "value": value, "url": address}])
        page = context.new_page()
        self._stack.callback(lambda: page.is_closed() or page.unroute_all(behavior="ignoreErrors"))
        page.on("console", lambda message: message.type in ("error", "warning") and self._complain(message.text))
        page.on("pageerror", lambda error: self._complain(str(error)))
        if before:
            before(page)
        page.goto(f"{address}/#{view}")
        return page

    def _complain(self, text: str) -> None:
        self.complaints.append(text)


def touch(page: Page, paths: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Put a finger on the beginning of each path, move all fingers at the same time to the ends, and lift them."""
    session = page.context.new_cdp_session(page)

    def dispatch(kind: str, points: Sequence[tuple[float, float]]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    dispatch("touchStart", [path[0] for path in paths])
    for step in range(1, 7):
        share = step / 6
        dispatch("touchMove", [(x + (to_x - x) * share, y + (to_y - y) * share) for (x, y), (to_x, to_y) in paths])
    dispatch("touchEnd", [])
