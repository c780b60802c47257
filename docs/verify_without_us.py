"""Checks a copy of an audit trail with nothing of audit-core: written from formats.md alone.

    python verify_without_us.py copy.db clinic.example/audit+0123abcd+AbC...

Needs Python 3.11 and the package `cryptography`. Exit status 0 if all fits, 1 at the first thing that does not.
"""

import base64
import hashlib
import json
import sqlite3
import sys
from itertools import islice
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

COLUMNS = (
    "action actor_id actor_type details event_id ip_address on_behalf_of outcome previous_hash private request_id "
    "resource_id resource_type sequence session_id source tenant_id timestamp user_agent"
).split()


class Wrong(Exception):
    """What does not fit."""


def check(holds, what):
    if not holds:
        raise Wrong(what)


def sha256(data):
    return hashlib.sha256(data).digest()


def to_json(value):
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def open_key(text):
    """Origin, key hash and public key."""
    origin, key_hash, encoded = text.split("+", 2)
    typed = base64.b64decode(encoded, validate=True)
    check(typed[0] == 1 and len(typed) == 33, "the verifier key is not of Ed25519")
    check(sha256(origin.encode() + b"\n" + typed)[:4].hex() == key_hash, "the verifier key was not copied whole")
    return origin, bytes.fromhex(key_hash), Ed25519PublicKey.from_public_bytes(typed[1:])


def leaf_of(event, origin):
    details = json.loads(event["details"])
    check(to_json(details) == event["details"], f"details at {event['sequence']} are not canonical")
    record = to_json({**event, "details": details, "log": origin, "v": 1}).encode()
    check(len(record) <= 65_535, f"the record at {event['sequence']} is too long")
    return sha256(b"\0" + record)


def grow(edge, size, leaf):
    """Add leaf number `size` to the frontier of the tree."""
    while size & 1:
        leaf, size = sha256(b"\1" + edge.pop() + leaf), size >> 1
    edge.append(leaf)


def root_of(edge):
    *larger, root = edge
    for left in reversed(larger):
        root = sha256(b"\1" + left + root)
    return root


def check_signature(text, signature, key_hash, public):
    signed = base64.b64decode(signature, validate=True)
    check(signed[:4] == key_hash, "a checkpoint is signed with another key")
    public.verify(signed[4:], text.encode())


def verify(path, verifier_key):
    """How many events fit."""
    origin, key_hash, public = open_key(verifier_key)
    database = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
    rows = database.execute(f"SELECT event_hash, {', '.join(COLUMNS)} FROM audit_events ORDER BY sequence")
    edge, size, previous = [], 0, "0" * 64
    for tree_size, first, root, signature, frontier in database.execute(
        "SELECT tree_size, first_sequence, root, signature, frontier FROM audit_checkpoints ORDER BY tree_size"
    ):
        check(first == size and tree_size > size, f"there is no checkpoint from {size} on")
        for event_hash, *values in islice(rows, tree_size - size):
            event = dict(zip(COLUMNS, values, strict=True))
            check(event["sequence"] == size, f"the event {size} is missing")
            check(event["previous_hash"] == previous, f"the event {size} does not follow the one before")
            leaf = leaf_of(event, origin)
            check(leaf.hex() == event_hash, f"the event {size} was changed")
            if size == 0:
                created = json.loads(event["details"])
                check((created["origin"], created["key"]) == (origin, verifier_key), "the first record names others")
            grow(edge, size, leaf)
            size, previous = size + 1, event_hash
        check(size == tree_size, f"the event {size} is missing")
        check(base64.b64encode(root_of(edge)).decode() == root, f"the root of the first {size} events is another")
        check(frontier in {None, b"".join(edge)}, f"the frontier of the first {size} events is another")
        check_signature(f"{origin}\n{tree_size}\n{root}\n", signature, key_hash, public)
    check(size > 0, "there is nothing")
    check(next(rows, None) is None, f"no checkpoint covers the event {size}")
    (different,) = database.execute("SELECT count(DISTINCT event_id) FROM audit_events").fetchone()
    check(different == size, "an event is there twice")
    return size


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2].count("+") < 2:
        print(
            "Usage: verify_without_us.py FILE VERIFIER_KEY (the key itself, not a file that holds it)", file=sys.stderr
        )
        sys.exit(2)
    try:
        print(f"{verify(*sys.argv[1:]):,} events fit. Whether the end was cut off only a kept checkpoint can tell.")
    except sqlite3.OperationalError as error:
        print(f"This file cannot be read as a trail: {error}.", file=sys.stderr)
        sys.exit(2)
    except (Wrong, InvalidSignature, ValueError, TypeError, KeyError) as error:
        sys.exit(f"This trail was tampered with: {str(error) or 'a signature does not verify'}.")
