"""What attackers send changes nothing for them by our being there, and each request of theirs leaves its event."""

import pytest

from tests.hostile.differential import fuzz, paired
from tests.hostile.sites import SITES
from tests.hostile.traffic import HEADERS, plain

EXAMPLES = 60  # for each; `scripts/soak` goes on for hours


@pytest.fixture(scope="module", params=SITES)
def pair(request, tmp_path_factory):
    with paired(request.param, tmp_path_factory.mktemp(request.param)) as pair:
        yield pair


def test_no_header_changes_an_answer_or_keeps_a_request_out_of_the_trail(pair):
    for header in HEADERS:
        pair.check(plain(b"POST", b"/read/7?token=hunter2", header))


def test_no_bytes_change_an_answer_or_keep_a_request_out_of_the_trail(pair):
    fuzz(pair, EXAMPLES, repeatable=True)
    assert pair.events.total() > EXAMPLES, "most of them reached the application"
