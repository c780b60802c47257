"""The chain and its sealer at the places where a small mistake would not show at once."""

import sqlite3
from base64 import b64encode

import pytest

from audit_core.canonical import encode_record
from audit_core.chain import AuditChain
from audit_core.chain.proof import Proof
from audit_core.draft import draft_of, place
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.link import GENESIS_HASH, leaf_hash
from audit_core.integrity.note import VerifierKey
from audit_core.keys import LocalSigner
from audit_core.outbox.sqlite import SqliteOutbox
from audit_core.rows import from_row
from audit_core.sqlite import SqliteDatabase
from audit_core.stores.memory import MemoryStore
from audit_core.stores.sqlite import SqliteStore
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from audit_core.writing import sealer as sealer_module
from audit_core.writing.sealer import Sealer
from audit_core.writing.tables import Tables

OURS, STRANGERS = LocalSigner(b"k" * 32), LocalSigner(b"x" * 32)


def test_the_first_record_is_not_later_than_the_event_that_it_was_made_for():
    store = MemoryStore()
    seal(make_chain(store), [make_event()])
    created, first = map(from_row, store.rows())
    assert created.action == "log.created"
    assert created.timestamp <= first.timestamp


def test_a_signed_tree_whose_records_say_another_place_proves_nothing():
    """The operator has the key: only the record itself can say that it stood elsewhere."""
    record = encode_record(place(draft_of(make_event()), 5, GENESIS_HASH), ORIGIN)
    head = Checkpoint(ORIGIN, 1, leaf_hash(record))
    proof = Proof(record.decode(), 0, (), head.note(head.sign(OURS)))
    with pytest.raises(IntegrityError, match="sequence 0"):
        proof.check(VerifierKey(ORIGIN, OURS.public_key))


def test_the_nonce_tells_two_chains_of_one_name_and_key_apart():
    chains = [make_chain(MemoryStore()) for _ in range(2)]
    for chain in chains:
        seal(chain, [])
    nonces = [from_row(chain.store.row(0)).details["nonce"] for chain in chains]
    assert len(set(nonces)) == 2
    assert all(len(bytes.fromhex(nonce)) == 16 for nonce in nonces)


def test_a_checkpoint_holds_the_root_of_all_records_before_its_size():
    chain = make_chain(MemoryStore())
    checkpoint = seal(chain, [])
    (row,) = chain.store.rows()
    assert checkpoint.root == b64encode(leaf_hash(encode_record(row[:-1], ORIGIN))).decode()
    assert (checkpoint.first_sequence, checkpoint.tree_size) == (0, 1)


class TestASealerInTrouble:
    """A process with another key: nothing is sealed, nothing is lost, and nobody is told twice."""

    @pytest.fixture
    def keys(self):
        return [OURS]

    @pytest.fixture
    def sealer(self, tmp_path, keys):
        database = SqliteDatabase(tmp_path / "trail.db")
        store, outbox = SqliteStore(database), SqliteOutbox(database)
        store.create()
        outbox.create()
        sealer = Sealer(AuditChain(store, lambda: keys[0], ORIGIN), [outbox], Tables(store, [outbox]))
        sealer.deliver([make_event(action="before")])
        sealer.chain = AuditChain(store, lambda: keys[0], ORIGIN)
        keys[0] = STRANGERS
        yield sealer
        store.close()

    def change(self, sealer):
        connection = sqlite3.connect(sealer.chain.store.database.path)
        sealer.outboxes[0].put([make_event(action="change")], connection)
        sealer.seal_along(connection)
        connection.commit()
        connection.close()

    def test_it_says_so_once_and_the_changes_wait(self, sealer, caplog, monkeypatch):
        monkeypatch.setattr(sealer_module, "PAUSE_SECONDS", 0)
        for _ in range(3):
            self.change(sealer)
        assert caplog.text.count("Nothing is sealed") == 1
        assert len(sealer.outboxes[0].take(10)) == 3

    def test_it_tries_again_after_a_pause_and_not_before(self, sealer, keys, monkeypatch):
        self.change(sealer)
        keys[0] = OURS
        self.change(sealer)
        assert len(sealer.outboxes[0].take(10)) == 2
        monkeypatch.setattr(sealer, "_next_try", 0.0)
        self.change(sealer)
        assert sealer.outboxes[0].take(10) == []
        assert sealer.trouble is None

    def test_a_command_is_told_at_once(self, sealer):
        self.change(sealer)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="AUDIT_KEY"):
                sealer.seal()

    def test_where_nothing_waits_sealing_does_not_even_ask_for_the_file(self, sealer):
        holder = sqlite3.connect(sealer.chain.store.database.path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        sealer.seal()
        holder.close()
