"""How a trail is: what ``trail.status()`` and ``audit status`` show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from audit_core.canonical import format_timestamp
from audit_core.errors import AuditError, ConfigurationError, IntegrityError
from audit_core.event import AuditEvent
from audit_core.integrity.verify import as_text
from audit_core.signing import SigningKey
from audit_core.stores import AuditStore
from audit_core.writing.sealer import Sealer


def describe(url: str, sealer: Sealer, key: SigningKey, waiting: Iterable[AuditEvent]) -> dict[str, Any]:
    """Size, head, what waits and since when, who seals, with which key."""
    chain, store = sealer.chain, sealer.chain.store
    head, note, trouble = store.head(), None, sealer.trouble
    count, oldest = _count(waiting)
    try:
        note = chain.checkpoint_note()
    except IntegrityError as error:
        trouble = trouble or str(error)
    try:
        sealed_by = _sealed_by(store)
    except ConfigurationError as error:
        sealed_by, trouble = "nobody by this role", trouble or str(error)
    return {
        "url": url,
        "store": store.name,
        "origin": chain.origin,
        "size": head.tree_size if head else 0,
        "root": as_text(head.root) if head else None,
        "checkpoint": note,
        "sealed_at": as_text(head.sealed_at) if head else None,
        "waiting": count,
        "oldest_waiting": oldest,
        "queue": _describe_queue(sealer),
        "sealed_by": sealed_by,
        "key": chain.named_key,
        "key_is_ours": key.is_of(chain),
        "key_place": key.place,
        "next_key": str(key.next_place) if key.next_place else None,
        "trouble": trouble,
    }


def _count(waiting: Iterable[AuditEvent]) -> tuple[int, str | None]:
    count, oldest = 0, None
    for event in waiting:
        count, oldest = count + 1, min(oldest or event.timestamp, event.timestamp)
    return count, None if oldest is None else format_timestamp(oldest)


def _describe_queue(sealer: Sealer) -> dict[str, Any] | None:
    """How many events wait there, if it can be asked."""
    if sealer.drain is None:
        return None
    count, trouble = None, None
    try:
        count = sum(1 for _ in sealer.drain.waiting())
    except AuditError as error:
        trouble = str(error)
    return {"name": sealer.drain.queue.name, "waiting": count, "trouble": trouble}


def _sealed_by(store: AuditStore) -> str:
    if store.seals_in_transaction:
        return "the transaction that carries an event"
    return "any process whose role may (the one with the lock)" if store.may_append() else "another role's process"
