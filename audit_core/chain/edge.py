"""Where the next event goes, as far as what is stored there fits what is signed."""

from __future__ import annotations

from typing import Any, NamedTuple

from audit_core.canonical import encode_record
from audit_core.chain.keys import read_keyring
from audit_core.chain.trust import signed_by
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.keyring import is_after_loss, new_key_of
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.merkle import Frontier
from audit_core.integrity.note import VerifierKey, encode_base64
from audit_core.integrity.statement import Statement
from audit_core.rows import from_row
from audit_core.stores import AuditStore, StoredCheckpoint

LEAVES_AT_ONCE = 10_000


class Edge(NamedTuple):
    """Where the next event goes. Immutable: a transaction that rolls back leaves nothing to undo."""

    checkpoint: StoredCheckpoint | None
    tree: Frontier
    last_hash: str


def sound_created(store: AuditStore, connection: Any) -> dict[str, Any]:
    """What the first record says. Raises IntegrityError when it is not the one that was sealed."""
    row = store.row(0, connection)
    try:
        created = from_row(row).details if row else {}
        if row and leaf_hash(encode_record(row[:-1], str(created["origin"]))).hex() == row[-1]:
            return created
    except (IntegrityError, LookupError, ValueError, TypeError):
        pass
    raise IntegrityError(
        "The first event was changed or removed: nothing is sealed after it; run `audit verify`. Events wait in "
        "the outbox."
    )


def check_key(store: AuditStore, head: StoredCheckpoint, own: VerifierKey, connection: Any) -> None:
    """Raise unless it is for this key to sign what comes next: ConfigurationError; IntegrityError for a forged head."""
    if is_next(store, head, own, connection):
        return
    ring = read_keyring(store)
    if ring is not None and ring.present == own:
        raise IntegrityError(
            f"The checkpoint of {head.tree_size} events is not signed with the trail's key: nothing is sealed "
            "on top of it; run `audit verify`. Events wait in the outbox."
        )
    if ring is not None and own in ring.keys:
        after = ring.reigns[ring.keys.index(own) + 1]
        raise ConfigurationError(
            f"This process's signing key was replaced by event {after.sequence:,} (`audit key rotate`): give it the "
            "new one, in AUDIT_KEY or in the file of its key; until then its events wait in the outbox."
        )
    raise ConfigurationError(
        "This process's signing key is not the trail's: set AUDIT_KEY to the key that the trail was "
        "made with, or to the one that replaced it; until then its events wait in the outbox."
    )


def is_next(store: AuditStore, head: StoredCheckpoint, own: VerifierKey, connection: Any) -> bool:
    """By the newest checkpoint and the last event alone, which may be a rotation."""
    row = store.row(head.tree_size - 1, connection)
    statement = Statement.of_row(row, own.name) if row else None
    new = new_key_of(statement) if statement else None
    if statement is None or new is None:
        return signed_by(head, own)
    try:
        old = VerifierKey.parse(str(statement.says.get("old")))
    except IntegrityError:
        return signed_by(head, own)
    if is_after_loss(statement) or not statement.is_signed_by(old):
        return signed_by(head, own)
    return new == own and signed_by(head, old)


def read_edge(store: AuditStore, head: StoredCheckpoint, confirmed: Edge | None, connection: Any) -> Edge:
    """The chain's end under this checkpoint. Raises IntegrityError where the events are others."""
    try:
        edge = _rebuild_edge(store, head, confirmed, connection)
        if edge.tree.size == head.tree_size and encode_base64(edge.tree.root()) == head.root:
            return edge
    except (IntegrityError, LookupError, ValueError, TypeError):  # whatever stands in the columns
        pass
    raise IntegrityError(
        f"The events before sequence {head.tree_size} are not those of their checkpoint: nothing is "
        "sealed on top of them; run `audit verify`. Events wait in the outbox."
    )


def _rebuild_edge(store: AuditStore, head: StoredCheckpoint, confirmed: Edge | None, connection: Any) -> Edge:
    """From what this process has sealed itself, if it has, so that the chain is seen to extend that."""
    if confirmed is not None:
        tree = confirmed.tree.copy()
    else:
        kept = store.kept_frontier(head.tree_size, connection)
        tree = Frontier.from_bytes(kept.tree_size, kept.frontier or b"") if kept else Frontier()
    while tree.size < head.tree_size:
        stop = min(tree.size + LEAVES_AT_ONCE, head.tree_size)
        hashes = store.leaf_hashes(tree.size, stop, connection)
        if len(hashes) != stop - tree.size:
            raise IntegrityError("events are missing")
        tree.extend(map(bytes.fromhex, hashes))
    return Edge(head, tree, store.leaf_hashes(head.tree_size - 1, head.tree_size, connection)[0])
