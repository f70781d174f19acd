"""A page of a simulated box, which the tests of a file share."""

from collections.abc import Iterator

import pytest

from tests.integration.web.page import Page, running_page


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with running_page("--simulate") as found:
        yield found
