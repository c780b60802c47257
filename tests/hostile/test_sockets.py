"""What attackers send over a WebSocket changes nothing by our being there, and each has its opening and its end."""

import pytest

from audit_fastapi.websocket import Socket
from tests.hostile.frames import TEXT, Attack, closing, each, frame, handshake
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


def test_a_side_that_swallows_an_answer_is_found_out_and_the_next_attack_is_judged_by_itself(pair, monkeypatch):
    talk = Attack((handshake(), frame(TEXT, b"a"), closing(1000)), "waits")
    send = Socket.send

    async def hanging_up(self, message):
        if message["type"] == "websocket.send":
            raise OSError
        await send(self, message)

    with monkeypatch.context() as patch:
        patch.setattr(Socket, "send", hanging_up)
        with pytest.raises(AssertionError, match="Said"):
            pair.check(talk)
    pair.check(talk)
