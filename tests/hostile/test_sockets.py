"""What attackers send over a WebSocket changes nothing by our being there, and each has its opening and its end."""

from functools import partial

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


async def hanging_up(send):
    raise OSError


async def saying_it_twice(send):
    await send()
    await send()


@pytest.mark.parametrize(("wrong", "then"), [(hanging_up, [closing(1000)]), (saying_it_twice, [])])
def test_a_side_that_answers_otherwise_is_found_out_and_the_next_attack_is_judged_by_itself(
    pair, wrong, then, monkeypatch
):
    talk = Attack((handshake(), frame(TEXT, b"a"), *then), "waits")
    send = Socket.send

    async def sending(self, message):
        right = partial(send, self, message)
        await (wrong(right) if message["type"] == "websocket.send" else right())

    with monkeypatch.context() as patch:
        patch.setattr(Socket, "send", sending)
        with pytest.raises(AssertionError, match="Said"):
            pair.check(talk)
    pair.check(talk)
