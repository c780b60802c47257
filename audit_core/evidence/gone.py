"""Events that a purge has destroyed: in the place of their records a bundle has the statements that say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from audit_core.chain.keys import read_keyring
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.evidence.selection import Selection, draw
from audit_core.evidence.spool import Spool
from audit_core.integrity.keyring import Keyring
from audit_core.stores import AuditStore

_MEANWHILE = "A month was purged meanwhile, and what was read before is another trail than what is left: export again."


@contextmanager
def unless_purged_meanwhile(store: AuditStore, keys: Keyring | None) -> Iterator[None]:
    """What is missing accuses nobody where a month was purged since ``keys`` were read: raises ConfigurationError."""
    try:
        yield
    except IntegrityError as error:
        now = read_keyring(store)
        if keys is None or now is None or len(now.purges) == len(keys.purges):
            raise
        raise ConfigurationError(_MEANWHILE) from error


def _is_gone(sequence: int, store: AuditStore, keys: Keyring) -> bool:
    """Whether the event at this place was purged, as a signed statement says."""
    left = store.find_left(sequence)
    return left is not None and keys.is_purged(left.archive)


def statements_of_gone(spool: Spool, selection: Selection, store: AuditStore, keys: Keyring) -> set[int]:
    """The sequences of the statements about what was asked for and is not there: of its archive, and of its purge.

    Raises IntegrityError where an event is missing of which none says so, ConfigurationError where the one that says so
    was sealed after the checkpoint, and is not in its tree.
    """
    size, there = spool.head.size, set(spool.sequences)
    if selection.sample is not None and selection.seed is not None:
        missing = [place for place in draw(selection.seed, size, selection.sample) if place not in there]
        archives = {_archive_of(place, store, keys) for place in missing}
    elif not selection.described():
        gone = [left.archive for left in store.left(0, size) if keys.is_purged(left.archive)]
        if len(gone) != size - len(there):
            raise _missing(_first_missing(there, size, store, keys))
        archives = set(gone)
    else:
        archives = set()
    purges = {keys.purges[number].sequence for number in archives}
    if max(purges, default=0) >= size:
        raise ConfigurationError(_MEANWHILE)
    return archives | purges


def _archive_of(sequence: int, store: AuditStore, keys: Keyring) -> int:
    left = store.find_left(sequence)
    if left is None or not keys.is_purged(left.archive):
        raise _missing(sequence)
    return left.archive


def _first_missing(there: set[int], size: int, store: AuditStore, keys: Keyring) -> int:
    absent = (place for place in range(size) if place not in there and not _is_gone(place, store, keys))
    return next(absent, size)


def _missing(sequence: int) -> IntegrityError:
    return IntegrityError(f"The event {sequence} is missing: run `audit verify`.")
