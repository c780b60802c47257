"""The link: one hash for the chain and for the tree."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from audit_core.integrity.link import GENESIS_HASH, leaf_hash
from audit_core.integrity.merkle import node_hash


def test_the_first_record_links_to_64_zeros() -> None:
    assert GENESIS_HASH == "0000000000000000000000000000000000000000000000000000000000000000"


def test_the_empty_leaf_has_the_hash_that_certificate_transparency_publishes() -> None:
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


@given(st.binary())
def test_the_link_is_sha256_over_a_zero_byte_and_the_record(record: bytes) -> None:
    assert leaf_hash(record) == sha256(b"\x00" + record).digest()


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_record_made_of_two_hashes_does_not_pass_for_their_parent(left: bytes, right: bytes) -> None:
    assert leaf_hash(left + right) != node_hash(left, right)
    assert leaf_hash(b"\x01" + left + right) != node_hash(left, right)
