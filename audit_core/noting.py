"""Reading the trail is itself an event, unless whoever reads has not its key or may not write: an auditor, say."""

from __future__ import annotations

from audit_core.chain import AuditChain
from audit_core.errors import AuditError
from audit_core.signing import SigningKey

NO_OUTBOX = "no outbox is named in which that event could wait"
CANNOT_WRITE = "this user cannot write to it"
NO_KEY = "this user has no signing key"
ANOTHER_KEY = "the signing key of this user is not its own"
NOT_BEGUN = "it has not begun"
NOT_DURABLE = "it could not be written just now"


def why_not_noted(chain: AuditChain, key: SigningKey, *, has_outbox: bool) -> str | None:
    """A clause; None where nothing is in the way.

    Not by one without the key, who would change his evidence, and not where that would begin a trail. Where another
    role seals, whoever may write to the outbox records it, and needs no key.
    """
    if not has_outbox:
        return NO_OUTBOX
    try:
        if not chain.store.is_writable():
            return CANNOT_WRITE
        if not chain.store.may_append() or key.is_named_by(chain):
            return None
        if chain.origin is None:
            return NOT_BEGUN
        return NO_KEY if key.own is None else ANOTHER_KEY
    except AuditError as error:  # a table is missing, or what AUDIT_KEY holds is no key
        return str(error).rstrip(".")


def not_recorded(why: str) -> str:
    """A sentence, of the clause that ``why_not_noted`` or ``AuditTrail.note_reading`` gives."""
    return f"That the trail was read is not recorded in it: {why}."
