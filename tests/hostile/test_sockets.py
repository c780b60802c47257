"""What attackers send over a WebSocket changes nothing by our being there, and each has its opening and its end."""

import pytest

from tests.hostile.frames import each
from tests.hostile.sockets import SITES, fuzz, paired

EXAMPLES = 40  # for each; `scripts/soak` goes on for hours


@pytest.fixture(scope="module", params=SITES)
def pair(request):
    with paired(request.param) as pair:
        yield pair


def test_no_frame_and_no_handshake_keeps_an_opening_or_an_end_out_of_the_trail(pair):
    for attack in each():
        pair.check(attack)
    assert pair.arrived[True] > len(each()) / 2, "most were accepted"
    assert pair.codes[4000], "the application's own code, whatever its server says then"


def test_no_frames_in_any_order_keep_an_opening_or_an_end_out_of_the_trail(pair):
    before = pair.arrived[True]
    fuzz(pair, EXAMPLES, repeatable=True)
    assert pair.arrived[True] - before > EXAMPLES / 4
