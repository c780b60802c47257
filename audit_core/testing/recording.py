"""What was recorded while a test ran, by whichever trail, also where nothing ever commits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, overload

from audit_core import watching
from audit_core.compose import Resource, split_resource
from audit_core.event import AuditEvent
from audit_core.normalise import clean_text
from audit_core.orm.changes import field_value


class Recorded(Sequence[AuditEvent]):
    """The events, oldest first, without those that were rolled back.

    Sees this process alone, and not what triggers in the database write.
    """

    def __init__(self) -> None:
        self._events: dict[str, AuditEvent] = {}
        self._open: dict[int, _Transaction] = {}

    def assert_recorded(
        self,
        action: str,
        resource: Resource = None,
        *,
        changes: Mapping[str, tuple[object, object]] | None = None,
        actor: object = None,
    ) -> AuditEvent:
        """The one event of this kind, or the newest of several; else AssertionError, which shows what there is.

        ``resource`` is ``"invoice:42"``, ``("invoice", 42)``, or ``"invoice"`` for any of them. ``changes`` holds
        the old and the new value of some fields, ``{"total": (1, 2)}``: the event may have more of them.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        wanted = _Wanted(action, resource, changes, actor)
        found = [event for event in self if wanted.fits(event)]
        if not found:
            raise AssertionError(f"There is no event {wanted}, but {self!r}")
        return found[-1]

    def clear(self) -> None:
        """Forget what there is: what a test has prepared is not what it asks for."""
        self._events.clear()

    @overload
    def __getitem__(self, place: int) -> AuditEvent: ...
    @overload
    def __getitem__(self, place: slice) -> list[AuditEvent]: ...
    def __getitem__(self, place: int | slice) -> AuditEvent | list[AuditEvent]:
        return list(self._events.values())[place]

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        lines = [f"\n  {_told(event)}" for event in self]
        return f"{len(lines)} recorded:{''.join(lines)}" if lines else "nothing recorded"

    # -- what a watcher is told ---------------------------------------------------------------------------------

    def recorded(self, event: AuditEvent) -> None:
        """See ``watching.Watcher``, here and below."""
        self._events[event.event_id] = event

    def carried(self, events: Sequence[AuditEvent], connection: Any) -> None:
        """Noted, and kept in mind until the transaction ends."""
        self._events.update((event.event_id, event) for event in events)
        self._transaction(connection).events += (event.event_id for event in events)

    def savepoint(self, connection: Any, name: str) -> None:
        """The events from here on go with it."""
        transaction = self._transaction(connection)
        transaction.savepoints[name] = len(transaction.events)

    def undone(self, connection: Any, name: str | None) -> None:
        """Nothing of them was recorded."""
        transaction = self._transaction(connection)
        begin = transaction.savepoints.get(name, 0) if name is not None else 0
        for event_id in transaction.events[begin:]:
            self._events.pop(event_id, None)
        del transaction.events[begin:]
        if name is None:
            self.committed(connection)

    def committed(self, connection: Any) -> None:
        """What there is stays."""
        self._open.pop(id(connection), None)

    def _transaction(self, connection: Any) -> _Transaction:
        return self._open.setdefault(id(connection), _Transaction(connection))


@contextmanager
def recording() -> Iterator[Recorded]:
    """What is recorded in the block, in every thread of this process; its value goes on being filled until its end."""
    recorded = Recorded()
    with ExitStack() as stack:
        for follow in watching.followers:
            stack.enter_context(follow(recorded))
        watching.watchers.append(recorded)
        stack.callback(watching.watchers.remove, recorded)
        yield recorded


class _Transaction:
    def __init__(self, connection: Any) -> None:
        self.connection = connection  # keeps its id from being another's
        self.events: list[str] = []
        self.savepoints: dict[str, int] = {}


class _Wanted:
    """What an event is asked to be; values are compared as they are written."""

    def __init__(
        self, action: str, resource: Resource, changes: Mapping[str, tuple[object, object]] | None, actor: object
    ) -> None:
        kind, identifier = split_resource(resource)
        fields = {"action": action, "resource_type": kind, "resource_id": identifier, "actor_id": actor}
        self._fields = {name: clean_text(str(value)) for name, value in fields.items() if value is not None}
        pairs = (changes or {}).items()
        self._changes = {name: {"old": field_value(old), "new": field_value(new)} for name, (old, new) in pairs}

    def fits(self, event: AuditEvent) -> bool:
        """Whether this is such an event."""
        if any(getattr(event, name) != value for name, value in self._fields.items()):
            return False
        told = event.details.get("changes", {})
        return all(told.get(name) == change for name, change in self._changes.items())

    def __str__(self) -> str:
        named = dict(self._fields)
        actor, action = named.pop("actor_id", None), repr(named.pop("action"))
        words = [action, "of " + ":".join(named.values()) if named else "", f"by {actor}" if actor else ""]
        return " ".join([*filter(None, words), *(["with", _listed(self._changes)] if self._changes else [])])


def _told(event: AuditEvent) -> str:
    resource = ":".join(filter(None, (event.resource_type, event.resource_id)))
    words = [repr(event.action), resource and f"of {resource}", f"by {event.actor_id or event.actor_type}"]
    if event.outcome != "success":
        words.append(f"({event.outcome})")
    details = dict(event.details)
    words.append(_listed(details.pop("changes", {})))
    return " ".join([*filter(None, words), *([repr(details)] if details else [])])


def _listed(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {one['old']!r} -> {one['new']!r}" for name, one in changes.items())
