"""The keys of a chain, as it names them itself: whoever can rewrite the chain can rewrite them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit_core.chain.created import created_details
from audit_core.errors import IntegrityError
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.statement import ABOUT, STATEMENTS, Statement
from audit_core.query import EventQuery
from audit_core.stores import AuditStore


def named_key(created: Mapping[str, Any]) -> VerifierKey | None:
    """What the first record names, if it is a key."""
    try:
        return VerifierKey.parse(str(created.get("key")))
    except IntegrityError:
        return None


def read_keyring(store: AuditStore, first: VerifierKey | None = None) -> Keyring | None:
    """The ``first`` key, or the one that the first record names, and all that followed it; None where there is none.

    An index may hide a statement: only a verification that reads every event knows all of them.
    """
    if (first := first or named_key(created_details(store))) is None:
        return None
    return Keyring.begin(first, read_statements(store, first.name))


def read_statements(store: AuditStore, origin: str) -> list[Statement]:
    """What looks like one, in the order of the chain."""
    about = [EventQuery(action=action, resource_type=ABOUT, resource_id=origin) for action in STATEMENTS]
    rows = (row for query in about for row in store.select(query))
    statements = filter(None, (Statement.of_row(row, origin) for row in rows))
    return sorted(statements, key=lambda statement: statement.sequence)
