"""What a chain is checked against: which keys, and what is known of it elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from audit_core.chain.keys import named_key, read_keyring
from audit_core.chain.known import Answer, compare
from audit_core.errors import AuditError, ConfigurationError, IntegrityError
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.known_trees import KnownTree
from audit_core.integrity.note import Signer, VerifierKey, key_name_is_valid
from audit_core.integrity.verify import Finding, parse_head
from audit_core.stores import AuditStore, StoredCheckpoint


class Trust(NamedTuple):
    """What the chain is checked against, and why that may be the caller's mistake.

    The doubt counts only if nothing else is wrong: whoever tampers with the first record makes every key and every
    checkpoint look like the wrong one.
    """

    first: VerifierKey  # that the chain begins with
    pinned: VerifierKey | None  # one of its keys, which did not come from the trail
    claimed: Keyring  # what an index tells of its statements
    known: list[KnownTree]
    strange: list[Finding]
    doubt: AuditError | None

    @property
    def origin(self) -> str:
        """Of the chain that it is, or should be."""
        return self.first.name


def find_trust(
    store: AuditStore,
    created: Mapping[str, Any],
    key: VerifierKey | None,
    own: Signer | None,
    answers: Sequence[Answer],
) -> Trust | Finding:
    """The key: the caller's, else this process's, else the one that the trail names; and the checkpoints it signed.

    A key that is not among those that the trail names one after another has to have signed all of it.
    """
    named = named_key(created)
    ring = None if named is None else _claimed(store, named)
    own_key = None if key or own is None else _own_key(store.head(), created, ring, own)
    pinned = key or own_key
    if ring is None or (pinned is not None and pinned not in ring.keys):
        if pinned is None:
            if not created:
                return Finding("empty", None, "a log.created event", "none that can be read")
            return Finding("key", 0, "a verifier key in log.created", str(created.get("key")))
        ring = Keyring.begin(pinned)
    stranger = own if pinned is None else None
    known, strange, doubt = compare(answers, ring, stranger)
    if stranger is not None:
        doubt = ConfigurationError(
            f"The trail is not signed with this process's key, but names {ring.present}. Compare that with the "
            "verifier key that you were handed, and verify with the latter; do not take it from here. If they differ, "
            "the trail was made anew by somebody else."
        )
    return Trust(ring.reigns[0].key, pinned, ring, known, strange, doubt)


def signed_by(head: StoredCheckpoint | None, key: VerifierKey) -> bool:
    """Whether a stored checkpoint is one, and signed with ``key``."""
    try:
        return head is not None and parse_head(head, key.name).is_signed_by(key, head.signature)
    except IntegrityError:
        return False


def _claimed(store: AuditStore, named: VerifierKey) -> Keyring:
    """What an index tells; where that cannot be asked, the walk meets the statements all the same."""
    try:
        return read_keyring(store, named) or Keyring.begin(named)
    except (ConfigurationError, IntegrityError):
        return Keyring.begin(named)


def _own_key(
    head: StoredCheckpoint | None, created: Mapping[str, Any], ring: Keyring | None, own: Signer
) -> VerifierKey | None:
    """The verifier key of this process, if the trail is signed with it or says so."""
    if ring is not None:
        for key in ring.keys:
            if key.public_key == own.public_key:
                return key
    origin = created.get("origin")
    if not isinstance(origin, str) or not key_name_is_valid(origin):
        return None
    candidate = VerifierKey(origin, own.public_key)
    return candidate if signed_by(head, candidate) else None
