"""Browsers, and a page of evidence in one of them."""

import pytest

from tests.evidence.browser import KINDS, running
from tests.evidence.bundles import KEY, page_of


@pytest.fixture(scope="module", params=KINDS)
def browser(request, tmp_path_factory):
    with running(request.param, tmp_path_factory.mktemp(request.param)) as page:
        yield page


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with running("chromium", tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def opened(browser, tmp_path):
    """Open a page with this data in it, and give it what an auditor has."""

    def open_(data, key=str(KEY), kept=None):
        (tmp_path / "evidence.html").write_bytes(data if isinstance(data, bytes) else page_of(data))
        return browser.open(tmp_path / "evidence.html", key, kept)

    return open_
