"""What a verifier has seen: enough of a chain to go on from there, and to notice when it was another one.

An attacker who can write where it is kept can have events skipped, or the trail accused: it is the verifier's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.merkle import Frontier
from audit_core.integrity.note import decode_base64, encode_base64, parse_note
from audit_core.integrity.statement import Statement

BEFORE = "whoever verified it before"  # where the checkpoint is kept that was seen last


@dataclass(frozen=True, slots=True)
class Seen:
    """A verified chain, up to one of its checkpoints."""

    note: str  # that checkpoint, signed
    tree: Frontier
    last_hash: str  # ``event_hash`` of the last event
    compared: dict[str, str] = field(default_factory=dict)  # for each anchor, ``digest_of`` what it kept of less
    statements: tuple[Statement, ...] = ()  # that were followed: which keys there were, and which backups

    def to_json(self) -> str:
        """As a file keeps it."""
        found = {
            "checkpoint": self.note,
            "frontier": encode_base64(self.tree.to_bytes()),
            "last_hash": self.last_hash,
            "compared": self.compared,
            "statements": [
                [one.kind, one.sequence, one.previous_hash, {"says": one.says, "signatures": one.signatures}]
                for one in self.statements
            ],
        }
        return json.dumps(found, indent=2) + "\n"

    @classmethod
    def parse(cls, text: str) -> Seen:
        """Read what ``to_json`` wrote. Raises ConfigurationError for anything else."""
        try:
            found = json.loads(text)
            note, last_hash = str(found["checkpoint"]), str(found["last_hash"])
            checkpoint = Checkpoint.parse(parse_note(note)[0])
            compared = {str(where): str(digest) for where, digest in found.get("compared", {}).items()}
            tree = Frontier.from_bytes(checkpoint.size, decode_base64(str(found["frontier"])))
            statements = [_parse_statement(checkpoint.origin, *each) for each in found.get("statements", ())]
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, IntegrityError) as error:
            raise ConfigurationError(f"this is not what `audit verify --state` writes ({error})") from error
        if tree.root() != checkpoint.root:
            raise ConfigurationError("its tree is not that of its checkpoint")
        return cls(note, tree, last_hash, compared, tuple(statements))


def _parse_statement(origin: str, kind: str, sequence: int, previous_hash: str, details: dict[str, Any]) -> Statement:
    signatures = tuple(map(str, details["signatures"]))
    return Statement(origin, str(kind), int(sequence), str(previous_hash), dict(details["says"]), signatures)


def digest_of(checkpoints: Iterable[Checkpoint]) -> str:
    """Tells one set of checkpoints from every other."""
    return sha256("".join(sorted({one.text() for one in checkpoints})).encode()).hexdigest()
