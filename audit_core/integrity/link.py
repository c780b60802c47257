"""How one record holds on to the next: the leaf hash, which is the chain's link at the same time."""

from __future__ import annotations

from hashlib import sha256

GENESIS_HASH = "0" * 64
"""The `previous_hash` of a chain's first record."""


def leaf_hash(record: bytes) -> bytes:
    """The hash of one record, as a link of the chain and as a leaf of the tree (RFC 9162, 2.1.1).

    The leading zero byte keeps leaves and nodes apart: no record can pass for an inner node.
    """
    return sha256(b"\x00" + record).digest()
