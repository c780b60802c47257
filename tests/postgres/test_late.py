"""The cursor of the outbox against a model of transactions that take ids and end in any order."""

import random

import pytest

from audit_core.outbox.late import GRACE_SECONDS, Cursor, Snapshot


class Model:
    """Ids are handed out before commit; a row is visible when its transaction has committed."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.now, self.next_id, self.next_xid, self.last_ended = 0.0, 1, 100, 99
        self.running, self.visible, self.owner = {}, set(), {}
        self.taken, self.looked_at = [], 0
        self.cursor = Cursor()

    def begin(self):
        self.running[self.next_xid] = []
        self.next_xid += 1

    def insert(self, xid):
        self.running[xid].append(self.next_id)
        self.owner[self.next_id] = xid
        self.next_id += 1

    def end(self, xid, *, commit):
        ids = self.running.pop(xid)
        self.last_ended = max(self.last_ended, xid)
        if commit:
            self.visible.update(ids)

    def holes(self):
        """How many ids the cursor still asks for, or would."""
        return sum(len(missed.ids) for missed in self.cursor._missed)

    def snapshot(self):
        """As PostgreSQL has it: whoever has begun after all that have ended is not named."""
        end = self.last_ended + 1
        return Snapshot(end, frozenset(xid for xid in self.running if xid < end))

    def own_xid(self):
        """What a transaction of the sealer's gets."""
        self.begin()
        xid = max(self.running)
        self.end(xid, commit=False)
        return xid

    def look(self, limit, between=lambda: None):
        """What the outbox does with one statement, or two if a transaction has ended between deciding and looking."""
        if self.cursor.is_endless(self.now):
            self.cursor.began(self.own_xid(), self.now)
        while True:
            probes = self.cursor.probes(self.now)
            between()
            snapshot = self.snapshot()
            found = sorted(i for i in self.visible if i > self.cursor.high or i in probes)[:limit]
            self.looked_at += len(probes)
            if not self.cursor.overlooked(snapshot):
                break
        self.cursor.advance(snapshot, found, self.now, cut=len(found) == limit)
        self.visible -= set(found)
        self.taken += found


def play(seed, steps=400):
    model = Model(seed)
    chance = model.chance
    for _ in range(steps):
        model.now += chance.choice((0.0, 0.1, GRACE_SECONDS))
        act = chance.random()
        if act < 0.2 or not model.running:
            model.begin()
        elif act < 0.55:
            model.insert(chance.choice(list(model.running)))
        elif act < 0.75:
            model.end(chance.choice(list(model.running)), commit=chance.random() < 0.8)
        else:
            model.look(chance.choice((1, 3, 100)), lambda: end_one(model) if chance.random() < 0.3 else None)
    for xid in list(model.running):
        model.end(xid, commit=True)
    for _ in range(3):
        model.look(10_000)
    return model


def end_one(model):
    if model.running:
        model.end(model.chance.choice(list(model.running)), commit=True)


@pytest.mark.parametrize("seed", range(150))
def test_whatever_commits_late_is_found_once_and_in_the_order_of_its_transaction(seed):
    model = play(seed)
    assert model.visible == set()
    assert len(model.taken) == len(set(model.taken))
    for xid in set(model.owner.values()):
        own = [id_ for id_ in model.taken if model.owner[id_] == xid]
        assert own == sorted(own)


def test_ids_that_were_rolled_back_are_forgotten_once_nobody_can_bring_them():
    model = Model(1)
    for _ in range(100):
        model.begin()
        model.insert(max(model.running))
        model.end(max(model.running), commit=model.chance.random() < 0.5)
        model.look(100)
    assert model.holes() > 20
    model.begin()  # nobody can tell that it was not there when they were missed
    model.now += GRACE_SECONDS
    model.look(100)
    assert model.holes() > 20
    model.end(max(model.running), commit=False)
    model.look(100)
    assert model.holes() == 0


def test_those_who_begin_later_keep_nothing_from_being_forgotten():
    model = Model(1)
    for commit in (False, False, True):
        model.begin()
        model.insert(max(model.running))
        model.end(max(model.running), commit=commit)
    model.look(100)
    assert model.holes() == 2
    model.now += GRACE_SECONDS
    model.look(100)
    model.begin()
    model.look(100)
    assert model.holes() == 0


def test_a_transaction_that_stays_open_does_not_make_every_look_longer():
    model = Model(2)
    model.begin()
    (old,) = model.running
    model.insert(old)
    for _ in range(500):
        model.begin()
        xid = max(model.running)
        model.insert(xid)
        model.end(xid, commit=model.chance.random() < 0.5)
        model.now += GRACE_SECONDS / 10
        model.look(100)
    holes, before = model.holes(), model.looked_at
    assert holes > 200  # any of them may still be the old transaction's
    for _ in range(10):
        model.look(100)
    assert model.looked_at - before < 20 * 10
    model.end(old, commit=True)
    model.look(100)
    assert model.taken[-1] == 1
    model.look(100)
    assert model.holes() < 20


def test_a_snapshot_says_which_transactions_run():
    assert Snapshot.parse("10:20:10,14") == Snapshot(20, frozenset({10, 14}))
    assert Snapshot.parse("20:20:") == Snapshot(20, frozenset())
