"""Each kind of anchor through a rotation, and through a backup that was put back."""

from datetime import UTC, datetime, timedelta

import pytest

from audit_core.anchors import ask, ask_for, watch
from audit_core.anchors.anchoring import keep_now
from audit_core.anchors.opening import open_anchor
from audit_core.chain.known import Answer, Kept
from audit_core.errors import ConfigurationError
from audit_core.integrity.verify import Result
from audit_core.stores.memory import MemoryStore
from audit_core.testing import make_event, seal
from tests.anchors.kinds import KINDS, an_anchor
from tests.anchors.servers import Witness
from tests.anchors.test_anchors import keep, kinds, verify
from tests.attacks.attacker import put_back, steal
from tests.chain.test_life import FIRST, SECOND, grow, made_by, say_restored, turn, warned


@pytest.fixture
def chain():
    chain = made_by(0, MemoryStore())
    seal(chain, [make_event(n) for n in range(8)])
    return chain


@pytest.fixture(params=KINDS)
def anchor(request, tmp_path):
    with an_anchor(request.param, tmp_path, str(FIRST)) as (anchor, server):
        anchor.server, anchor.kind = server, request.param
        yield anchor


def test_a_trail_whose_key_was_replaced_is_ok_with_each_of_its_keys(chain, anchor):
    keep(chain, anchor)
    new = turn(chain, 1)
    keep(new, anchor)
    grow(new)
    if anchor.kind == "witness":
        (state,) = keep_now(new, [anchor])
        assert "knows another key of this trail: give its operator" in state.trouble
        told = Witness(str(SECOND))
        told.size, told.root = anchor.server.witness.size, anchor.server.witness.root
        anchor.server.answer = told.answer
    keep(new, anchor)
    grow(new)
    for key in (FIRST, SECOND):
        found = verify(new, anchor, key=key)
        assert (found.result, found.findings, found.warnings, found.anchored >= 13) == (Result.OK, (), (), True)


def test_a_backup_that_was_put_back_is_acknowledged_and_anchored_again(chain, anchor):
    backup = steal(chain.store)
    keep(chain, anchor)
    keep(grow(chain), anchor)
    put_back(chain.store, backup)
    chain = made_by(0, chain.store)
    assert "truncated" in kinds(verify(chain, anchor))
    lost = say_restored(chain, [ask(anchor, chain)])
    assert (lost.first, lost.events) == (9, 3)
    grow(chain, 6)
    if anchor.kind == "witness":
        (state,) = keep_now(chain, [anchor])
        assert "has seen another history" in state.trouble
        found = verify(chain, anchor)
        assert (found.result, sorted(warned(found))) == (Result.UNANCHORED, ["anchor.left", "restored"])
        return
    keep(chain, anchor)
    found = verify(chain, anchor)
    assert (found.result, found.anchored, warned(found)) == (Result.OK, 16, ["restored"])


def test_what_is_asked_for_at_the_start_is_what_is_as_large_or_larger(chain, anchor):
    for _ in range(3):
        keep(grow(chain), anchor)
    sizes = [kept.size for kept in ask_for(anchor, chain, 15).kept]
    assert sizes == ([] if anchor.kind == "witness" else [18, 15])


@pytest.mark.parametrize("anchor", ["witness"], indirect=True)
def test_a_witness_stops_no_sealer(chain, anchor):
    backup = steal(chain.store)
    keep(grow(chain), anchor)
    put_back(chain.store, backup)
    assert watch.Watch(chain, [anchor]).ask(anchor) is None


@pytest.mark.parametrize("url", ["witness+https://ada:hunter2@host?key=x", "tsa+https://ada:hunter2@host/tsr"])
def test_what_is_wrong_with_the_url_of_a_service_is_told_without_its_user(url):
    with pytest.raises(ConfigurationError) as told:
        open_anchor(url)
    assert "hunter2" not in str(told.value)


class Timed:
    """An anchor that says of each note for how many hours it has it."""

    def __init__(self, hours):
        self.name, self.hours = "the timed one", hours

    def kept(self, chain):
        now = datetime.now(UTC)
        return (Kept(note, now - timedelta(hours=hours), is_attested=True) for note, hours in self.hours.items())


@pytest.mark.parametrize(("hours", "silent"), [(0, []), (7, ["silent"])])
def test_whether_the_trail_is_alive_is_told_by_what_came_after_the_restored_backup(chain, hours, silent):
    backup = steal(chain.store)
    lost = grow(chain, 9).checkpoint_note()
    put_back(chain.store, backup)
    chain = made_by(0, chain.store)
    say_restored(chain, [Answer("the timed one", [Kept(lost)])])
    seal(chain, [make_event(timestamp=datetime.now(UTC))])
    anchor = Timed({lost: 8, chain.checkpoint_note(): hours})
    assert [one.kind for one in verify(chain, anchor, max_age=timedelta(hours=2)).findings] == silent
