"""What the life of a key means for what it has signed: that it was lost or stolen, and that a backup was put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from audit_core.integrity.keyring import Keyring, Revocation
from audit_core.integrity.known_trees import KnownTree
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.verify import Finding


def check_keys(ring: Keyring, pinned: VerifierKey | None) -> Iterator[Finding]:
    """The pinned key has to be one of the chain's. It vouches for what is under it, and for what it leads to."""
    place = None if pinned is None else ring.place_of(pinned)
    if pinned is not None and place is None:
        yield Finding("key", 0, str(pinned), ", ".join(map(str, ring.keys)))
        return
    for number, reign in enumerate(ring.reigns):
        if reign.after_loss:
            before, vouched = ring.reigns[number - 1].key, place is None or number <= place
            expected = f"a rotation that is signed with the key before, {before}"
            yield Finding("key.lost", reign.sequence, expected, f"one by {reign.key} alone", warning=vouched)


def check_life(ring: Keyring, known: Sequence[KnownTree], pinned: VerifierKey | None) -> Iterator[Finding]:
    """Warnings: of events that a stolen key has signed, and of those that a restored backup lacks."""
    for revocation in {one._replace(sequence=0): one for one in ring.revocations}.values():  # each once
        yield from _check_revocation(ring, revocation, known, pinned)
    told = set()
    for one in ring.restorations:
        if (what := one[2:]) not in told:  # a long list of checkpoints takes several statements
            told.add(what)
            same = f"the first {one.same} are known to be as they were"
            expected = f"{one.lost} events from sequence {one.lost_from} on; {same}"
            yield Finding("restored", one.sequence, expected, f"a backup without them: {one.reason}", warning=True)


def _check_revocation(
    ring: Keyring, revocation: Revocation, known: Sequence[KnownTree], pinned: VerifierKey | None
) -> Iterator[Finding]:
    """From where on nobody vouches for what the key has signed, up to the rotation that ended its reign."""
    place = ring.keys.index(revocation.key)
    last = ring.reigns[place + 1].sequence
    safe = _vouched_by_the_key_before(ring, place, pinned)
    for one in known:
        if one.since and one.since <= revocation.since:
            safe = max(safe, one.size)
    if safe <= last:
        expected = f"a checkpoint of events {safe} to {last} that was anchored before {revocation.since}"
        got = f"the word of {revocation.key}, which was revoked: {revocation.reason}"
        yield Finding("key.revoked", safe, expected, got, warning=True)


def _vouched_by_the_key_before(ring: Keyring, place: int, pinned: VerifierKey | None) -> int:
    """Up to its rotation, if the verifier has pinned it or one that leads to it: the thief has not got that one.

    It names the key after it over the hash of all that was before.
    """
    before = None if pinned is None else ring.place_of(pinned)
    is_earlier = before is not None and before < place
    return ring.reigns[place].sequence + 1 if is_earlier else 0
