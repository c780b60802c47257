"""Sealed events with the values that are kept outside of their records, as far as they are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import islice
from typing import Any

from audit_core.canonical import decode
from audit_core.chain.keys import read_keyring
from audit_core.event import AuditEvent
from audit_core.integrity.erasure import Erased
from audit_core.private import CHANGED, ERASED, MISSING, KeptValue, fits, parse_commitments, put_back
from audit_core.stores import AuditStore

AT_ONCE = 500  # events whose values one query reads
_NAMES = tuple(field.name for field in fields(AuditEvent))


def fill(events: Iterable[AuditEvent], store: AuditStore) -> Iterator[AuditEvent]:
    """The same events with their values. What was erased reads ``[erased]``, also where somebody has put it back.

    A value that is not the one that was sealed is not shown. Of an event without commitments nothing is asked.
    """
    erased: Erased | None = None
    stream = iter(events)
    while some := list(islice(stream, AT_ONCE)):
        sequences = [event.sequence for event in some if event.private and event.sequence is not None]
        if sequences and erased is None:
            ring = read_keyring(store)
            erased = Erased(ring.erasures if ring else ())
        kept = _kept(store, sequences)
        for event in some:
            yield _filled(event, kept, erased) if event.private and erased is not None else event


def _kept(store: AuditStore, sequences: Sequence[int]) -> dict[tuple[int, str], KeptValue]:
    if not sequences or store.values is None or not store.values.is_created():
        return {}
    return {(value.sequence, value.name): value for value in store.values.of(sequences)}


def _filled(event: AuditEvent, kept: Mapping[tuple[int, str], KeptValue], erased: Erased) -> AuditEvent:
    committed = parse_commitments(event.private)
    if not committed or event.sequence is None:
        return event
    values: dict[str, Any] = {}
    for name, expected in committed.items():
        value = kept.get((event.sequence, name))
        if erased.has(event.sequence, name):
            values[name] = ERASED
        elif value is None:
            values[name] = MISSING
        else:
            values[name] = decode(value.value) if fits(value, expected) else CHANGED
    found = {name: getattr(event, name) for name in _NAMES}
    put_back(found, values)
    return replace(event, **found)
