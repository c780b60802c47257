"""What the trail says of itself under a signature: of its keys, of backups that were put back, of erased values.

A statement is an event whose details are what it says, and signatures over that and over its place in the chain. It
stands nowhere else: its text holds the hash of the event before.

Trust: whoever lacks the key can write an event that looks like one, and nobody follows it. Whoever has stolen the key
can make any that the key could make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit_core.canonical import RECORD_COLUMNS, decode, encode
from audit_core.errors import IntegrityError
from audit_core.integrity.note import Signer, VerifierKey, sign_text, split_signature

ROTATED, REVOKED, RESTORED = "key.rotated", "key.revoked", "trail.restored"
ARCHIVED, PURGED, HELD, LIFTED = "trail.archived", "trail.purged", "hold.added", "hold.lifted"
ERASED = "trail.erased"
STATEMENTS = frozenset({ROTATED, REVOKED, RESTORED, ARCHIVED, PURGED, HELD, LIFTED, ERASED})
"""Actions of the events that are one, if their signatures hold."""
ABOUT = "trail"  # the type of the resource that they are about, whose id is the origin
SIGNATURES_AT_MOST = 8

# A space: what begins with it is no checkpoint, whose first line is an origin.
_FIRST_LINE = "audit-core statement v1"
_ACTION, _DETAILS, _SEQUENCE, _PREVIOUS, _TYPE, _ID = map(
    RECORD_COLUMNS.index, ("action", "details", "sequence", "previous_hash", "resource_type", "resource_id")
)


@dataclass(frozen=True, slots=True)
class Statement:
    """An event that looks like a statement, and its place. What it says counts once a signature of the right key holds.

    ``says`` is JSON of the restricted domain.
    """

    origin: str
    kind: str
    sequence: int
    previous_hash: str
    says: Mapping[str, Any]
    signatures: tuple[str, ...] = ()

    def text(self) -> str:
        """What is signed: six lines, of which the last is the canonical JSON of what it says."""
        place = f"{_FIRST_LINE}\n{self.origin}\n{self.kind}\n{self.sequence}\n{self.previous_hash}\n"
        return f"{place}{encode(dict(self.says)).decode()}\n"

    def sign(self, signers: Sequence[Signer]) -> dict[str, Any]:
        """The details of its event. Raises IntegrityError for a signer that makes no Ed25519 signature."""
        return {
            "says": dict(self.says),
            "signatures": [sign_text(self.text(), self.origin, signer) for signer in signers],
        }

    def is_signed_by(self, key: VerifierKey) -> bool:
        """Whether one of the signatures is by this key, and holds."""
        if key.name != self.origin:
            return False
        try:
            message = self.text().encode()
        except ValueError:  # a column with what has no UTF-8
            return False
        return any(_holds(signature, key, message) for signature in self.signatures)

    @classmethod
    def of_row(cls, row: Sequence[Any], origin: str) -> Statement | None:
        """What the columns of a record, of which any may be anything, say; None where that is no statement."""
        if not claims_to_be_one(row, origin) or type(row[_SEQUENCE]) is not int:
            return None
        return cls.parse(origin, row[_ACTION], row[_SEQUENCE], row[_PREVIOUS], row[_DETAILS])

    @classmethod
    def parse(cls, origin: str, kind: str, sequence: int, previous_hash: str, details: str) -> Statement | None:
        """What the event at this place says; None where that is no statement."""
        try:
            found = decode(details)
            says, signatures = found["says"], found["signatures"]
            is_canonical = encode(found).decode() == details  # which every reader reads alike
        except (ValueError, TypeError, LookupError):
            return None
        if not (is_canonical and len(found) == 2 and isinstance(says, dict) and isinstance(signatures, list)):
            return None
        return cls(origin, kind, sequence, previous_hash, says, tuple(map(str, signatures[:SIGNATURES_AT_MOST])))


def claims_to_be_one(row: Sequence[Any], origin: str) -> bool:
    """Whether an event looks like one: an application may have keys of its own that are rotated."""
    return row[_ACTION] in STATEMENTS and (row[_TYPE], row[_ID]) == (ABOUT, origin)


def _holds(signature: str, key: VerifierKey, message: bytes) -> bool:
    try:
        key_hash, raw = split_signature(signature)
    except IntegrityError:
        return False
    return key_hash == key.key_hash and key.verifies(message, raw)
