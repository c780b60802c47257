"""What others have written from the same specifications says the same of our records, proofs, checkpoints and tiles.

Time stamps against `openssl ts` are in tests/anchors/test_anchors.py.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
import tamperlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint, ConsistencyProof, InclusionProof

from audit_core.evidence.tiles import export_tiles
from audit_core.integrity.cosignature import CosignerKey, cosigned_text, open_cosignature
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.note import VerifierKey, encode_base64
from audit_core.keys import LocalSigner
from audit_core.stores.memory import MemoryStore
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from tests.evidence.reader import files_in, tree_root, verify

KEY = VerifierKey(ORIGIN, LocalSigner(b"k" * 32).public_key)
SIZE = 291
PLACES = [0, 1, 2, 7, 254, 255, 256, 257, 289, 290]
OLDER = [1, 2, 3, 128, 255, 256, 257, 290, 291]


@pytest.fixture(scope="module")
def chain():
    chain = make_chain(MemoryStore())
    for count in (7, 250, SIZE - 258):
        seal(chain, [make_event(n, details={"name": "Ärztin ☤"}) for n in range(count)])
    return chain


@pytest.fixture(scope="module")
def folder(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("others") / "tiles"
    assert export_tiles(chain, folder).size == SIZE
    return folder


@pytest.fixture(scope="module")
def records(folder):
    return verify(files_in(folder).__getitem__, str(KEY))


def head(chain):
    found = Checkpoint.from_text(chain.checkpoint_note())
    found.verify(Vkey.from_string(str(KEY)))
    return found


# --- sha256sum


def test_sha256sum_of_each_exported_record_is_its_hash(chain, records, tmp_path):
    for number, record in enumerate(records):
        (tmp_path / f"{number:03d}").write_bytes(b"\0" + record)
    names = sorted(path.name for path in tmp_path.iterdir())
    run = subprocess.run(["sha256sum", *names], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in run.stdout.splitlines()] == [row[-1] for row in chain.store.rows()]


# --- tamperlog


def test_tamperlog_takes_our_inclusion_proofs_and_makes_the_same(chain, records):
    leaves = [leaf_hash(record) for record in records]
    root = head(chain).root_hash
    for place in PLACES:
        proof = chain.prove(place)
        assert proof.record.encode() == records[place]
        tamperlog.verify_inclusion(place, SIZE, tamperlog.hash_leaf(records[place]), list(proof.hashes), root)
        assert list(proof.hashes) == tamperlog.inclusion_proof(place, leaves)
        with pytest.raises(tamperlog.TamperlogError):
            tamperlog.verify_inclusion(place, SIZE, leaf_hash(b"another"), list(proof.hashes), root)


def test_tamperlog_takes_our_consistency_proofs_and_makes_the_same(chain, records):
    leaves = [leaf_hash(record) for record in records]
    for old in OLDER:
        proof = list(chain.prove_consistency(old, SIZE))
        tamperlog.verify_consistency(old, tree_root(leaves[:old]), SIZE, head(chain).root_hash, proof)
        assert proof == tamperlog.consistency_proof(old, leaves)


# --- tlog-scales


def test_tlog_scales_reads_our_key_and_our_checkpoint_and_no_other(chain):
    key, found = Vkey.from_string(str(KEY)), head(chain)
    assert key.serialize() == str(KEY)
    assert (found.origin, found.size, found.serialize()) == (ORIGIN, SIZE, chain.checkpoint_note())
    for forged in (replace(found, size=SIZE - 1), replace(found, root_hash=bytes(32)), replace(found, origin="x")):
        with pytest.raises(InvalidSignature):
            forged.verify(key)


def test_tlog_scales_reads_our_tiles_and_makes_our_proofs_from_them(chain, folder, records):
    reader = TilesReader(LocalBackend(folder))
    found = reader.get_checkpoint()
    found.verify(Vkey.from_string(str(KEY)))
    assert reader.calculate_root_hash() == found.root_hash
    assert [reader.get_entry(place) for place in range(SIZE)] == records
    for place in PLACES:
        ours = list(chain.prove(place).hashes)
        assert reader.get_inclusion_proof(place, SIZE).node_hashes == ours
        InclusionProof(place, SIZE, ours).check(leaf_hash(records[place]), found.root_hash)
    for old in OLDER:
        ours = list(chain.prove_consistency(old, SIZE))
        assert reader.get_consistency_proof(old, SIZE).node_hashes == ours
        ConsistencyProof(old, SIZE, ours).check(chain.stored_root(old), found.root_hash)


def test_tlog_scales_takes_a_cosignature_as_we_read_it_and_no_other(chain):
    witness = Ed25519PrivateKey.generate()
    key = CosignerKey("witness.example/w1", witness.public_key().public_bytes_raw())
    text = chain.checkpoint_note().rpartition("\n\n")[0] + "\n"
    signature = encode_base64(key.key_hash + (7).to_bytes(8) + witness.sign(cosigned_text(text, 7)))
    note = f"{text}\n— {key.name} {signature}\n"
    theirs = Vkey.from_string(str(key))
    assert (theirs.key_id.to_bytes(4), open_cosignature(note, key)) == (key.key_hash, 7)
    found = Checkpoint.from_text(note)
    found.verify(theirs)
    with pytest.raises(InvalidSignature):
        replace(found, size=SIZE - 1).verify(theirs)


# --- aics-tlog, which wants Python 3.12


def test_aics_tlog_audits_our_tiles_and_takes_our_checkpoint(chain, folder, records):
    aics = pytest.importorskip("aics_tlog", reason="it wants Python 3.12")
    note = aics.parse_note((folder / "checkpoint").read_bytes())
    found = aics.verify_checkpoint(note, aics.parse_vkey(str(KEY)), expected_origin=ORIGIN)
    assert found.ok
    root = chain.stored_root(SIZE)
    report = aics.audit_tiles(aics.FileSystemTileReader(folder), SIZE, root)
    assert (report.size, report.tiles, report.bundles) == (SIZE, 3, 2)
    for place in PLACES:
        assert aics.verify_leaf_inclusion(records[place], place, SIZE, chain.prove(place).hashes, root)
    for old in OLDER:
        proof = chain.prove_consistency(old, SIZE)
        assert aics.verify_consistency(old, SIZE, chain.stored_root(old), root, proof)


def test_we_take_a_cosignature_of_aics_tlog(chain):
    aics = pytest.importorskip("aics_tlog", reason="it wants Python 3.12")
    witness = Ed25519PrivateKey.generate()
    key = CosignerKey("witness.example/w1", witness.public_key().public_bytes_raw())
    assert aics.format_vkey(aics.cosignature_vkey(key.name, key.public_key)) == str(key)
    found = head(chain)
    _, line = aics.sign_cosignature(witness, key.name, 1_700_000_000, ORIGIN, SIZE, found.root_hash)
    note = aics.parse_note(chain.checkpoint_note())
    cosigned = aics.Note(text=note.text, signatures=(*note.signatures, line))
    assert open_cosignature(cosigned.serialise(), key) == 1_700_000_000
