"""Sealed events with the values that are kept outside of their records, as far as they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from audit_core.canonical import decode
from audit_core.chain.keys import read_keyring
from audit_core.errors import AuditError
from audit_core.event import AuditEvent
from audit_core.integrity.erasure import Erased
from audit_core.private import CHANGED, ERASED, MISSING, KeptValue, fits, parse_commitments, put_back
from audit_core.stores import AuditStore

AT_ONCE = 500  # events whose values one query reads; the first ones fewer, as many do not want more
_NAMES = tuple(field.name for field in fields(AuditEvent))


def fill(events: Iterable[AuditEvent], store: AuditStore) -> Iterator[AuditEvent]:
    """The same events with their values. What was erased reads ``[erased]``, also where somebody has put it back.

    A value that is not the one that was sealed is not shown. Of an event without commitments nothing is asked.
    """
    reader, some, wanted = _Reader(store), list[AuditEvent](), 1
    try:
        for event in events:
            if not (some or event.private):
                yield event
                continue
            some.append(event)
            if len(some) == wanted:
                ready, some, wanted = some, [], min(2 * wanted, AT_ONCE)
                yield from reader.filled(ready)
    except AuditError:  # of an archive that cannot be had: what came before it is shown
        yield from reader.filled(some)
        raise
    yield from reader.filled(some)


class _Reader:
    """Reads the values of some events at a time; and what was erased once, unless more seems to be gone."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._erased: Erased | None = None
        self._is_new = False  # read after the values

    def filled(self, events: Sequence[AuditEvent]) -> Iterator[AuditEvent]:
        sequences = [event.sequence for event in events if event.private and event.sequence is not None]
        kept, self._is_new = _kept(self._store, sequences), False
        for event in events:
            yield _filled(event, kept, self._is_erased) if event.private else event

    def _is_erased(self, place: tuple[int, str], *, is_there: bool) -> bool:
        if self._erased is None or not (is_there or self._is_new or self._erased.has(*place)):
            ring = read_keyring(self._store)
            self._erased, self._is_new = Erased(ring.erasures if ring else ()), True
        return self._erased.has(*place)


def _kept(store: AuditStore, sequences: Sequence[int]) -> dict[tuple[int, str], KeptValue]:
    if not sequences or store.values is None or not store.values.is_created():
        return {}
    return {(value.sequence, value.name): value for value in store.values.of(sequences)}


def _filled(event: AuditEvent, kept: Mapping[tuple[int, str], KeptValue], is_erased: Callable[..., bool]) -> AuditEvent:
    committed = parse_commitments(event.private)
    if not committed or event.sequence is None:
        return event
    values: dict[str, Any] = {}
    for name, expected in committed.items():
        value = kept.get(place := (event.sequence, name))
        if is_erased(place, is_there=value is not None):
            values[name] = ERASED
        elif value is None:
            values[name] = MISSING
        else:
            values[name] = decode(value.value) if fits(value, expected) else CHANGED
    found = {name: getattr(event, name) for name in _NAMES}
    put_back(found, values)
    return replace(event, **found)
