"""Check which keys signed, and that each was named by the one before it: see "Statement" in docs/formats.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from audit_core.errors import IntegrityError
from audit_core.evidence.checked import Checking, SigningKey, lines_of, read_json
from audit_core.integrity.keyring import Keyring, Reign
from audit_core.integrity.note import VerifierKey, spelled
from audit_core.integrity.statement import Statement

_MALFORMED = (IntegrityError, LookupError, TypeError, ValueError, AttributeError)


def read_keys(checking: Checking) -> None:
    """Which key signs checkpoints of which sizes. Raises IntegrityError where that is not said."""
    for line in lines_of(checking.bundle.text("keys.jsonl")):
        try:
            entry = read_json(line)
            one = SigningKey(VerifierKey.parse(entry["key"]), entry["from"], entry["event"])
        except _MALFORMED as error:
            raise IntegrityError(f"it cannot be read ({error})") from None
        _check_form(one, checking.keys[-1] if checking.keys else None)
        if one.key.name != checking.about["origin"]:
            raise IntegrityError(f"a key is of {one.key.name}, and not of {checking.about['origin']}")
        checking.keys.append(one)
    if not checking.keys:
        raise IntegrityError("it names no key")
    checking.rotations = {one.event: {} for one in checking.keys if one.event is not None}


def _check_form(one: SigningKey, before: SigningKey | None) -> None:
    if type(one.start) is not int or one.start < 1 or (before is None and one.start > 1):
        raise IntegrityError(f"a key begins at {one.start}, where the first begins at 1")
    if before is not None and one.start < before.start:  # one that was lost may have signed nothing
        raise IntegrityError(f"a key begins at {one.start}, and the one before it at {before.start}")
    if type(one.event) is not int if before else one.event is not None:
        raise IntegrityError("every key but the first was named by an event")


def check_keys(checking: Checking, trusted: Sequence[VerifierKey]) -> None:
    """That the events which named them did so, and whether one of those that are ``trusted`` leads to the signer."""
    ring = Keyring.begin(checking.keys[0].key)
    for one in checking.keys[1:]:
        statement = statement_of(checking.rotations.get(one.event or 0, {}), checking.about["origin"])
        if statement is None or not ring.follow(statement) or ring.present != one.key:
            raise IntegrityError(f"the event {one.event} does not name the key {one.key} in place of the one before")
        if ring.reigns[-1].first != one.start:
            raise IntegrityError(f"the key that the event {one.event} names signs from {ring.reigns[-1].first} on")
    _check_trust(checking, ring, trusted)


def _check_trust(checking: Checking, ring: Keyring, trusted: Sequence[VerifierKey]) -> None:
    key, origin, found = checking.key_for(checking.head.size), checking.head.origin, checking.found
    place = ring.keys.index(key)
    vouching = set(_vouching(ring.reigns[: place + 1]))
    found.key, found.trusted = str(key), any(each in vouching for each in trusted)
    found.replaced = found.trusted and key not in trusted
    found.is_before = not found.trusted and any(each in ring.keys[place + 1 :] for each in trusted)
    if trusted and all(each.name != origin for each in trusted):
        checking.ask(
            f"The bundle is of the trail {spelled(origin)}, and the key that you gave of {spelled(trusted[0].name)}. "
            "If you asked for one of the key's trail, you were given another. Only if you meant the other trail, give "
            "the key that you were handed for that."
        )
    elif trusted and not (found.trusted or found.is_before):
        given = ", ".join(map(str, trusted))
        checking.fault("key", f"the checkpoint is signed with {key}, and not with what you gave: {given}")


def _vouching(reigns: Sequence[Reign]) -> Iterable[VerifierKey]:
    """Those up to the signer after which no key was lost: each of them has named the next one itself.

    None that came after the signer: its statement covers what was before it, and not the tree that the signer made up
    around that. Whoever has stolen the signer's key could do so.
    """
    for reign in reversed(reigns):
        yield reign.key
        if reign.after_loss:
            return


def statement_of(record: dict[str, Any], origin: str) -> Statement | None:
    """What a record says of the trail, if it has the form of that."""
    if (record.get("resource_type"), record.get("resource_id")) != ("trail", origin):
        return None
    details = json.dumps(record.get("details"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    place = str(record.get("action")), int(str(record["sequence"])), str(record.get("previous_hash"))
    return Statement.parse(origin, *place, details)
